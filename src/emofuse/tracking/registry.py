"""Trained models in the tracker's registry, as ``emofuse-<task>-<encoders>-<model>``.

Of each model the run that is best on dev is registered, and the alias ``best-on-dev`` is on its version. A version is a
run's network: it is found again by the run's key, and its files lie with the run, as the artifact ``model``. They are
written again, in their place, when the number of runs or the task's scores have changed, which its card tells. Where a
later training, or another seed, is better on dev, the alias moves and the earlier version stays.
"""

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from emofuse.core.files import digest
from emofuse.core.params import ParamsError
from emofuse.tracking.results import DEV_F1, EXPERIMENT, KEY, Model
from emofuse.tracking.runs import Runs, all_pages

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run
    from mlflow.entities.model_registry import ModelVersion

__all__ = ["ALIAS", "Registry"]

ALIAS = "best-on-dev"
"""Alias of the version whose run has the best weighted F1 on dev."""

PREFIX, ARTIFACT = "emofuse-", "model"

_CONTENTS = "emofuse.complete"
"""Tag with the digest of what a version's card tells."""

_FORMAT = 2
"""Of the bundles: versions that hold an earlier one are written again."""


class Registry:
    """The registry of a tracker.

    Args:
        client: of the tracker

    Attributes:
        registered: names of the models of which :meth:`show` added a version, changed one, or moved the alias
        refused: why a model could not be registered, one line a model
    """

    def __init__(self, client: "MlflowClient") -> None:
        self.registered: list[str] = []
        self.refused: list[str] = []
        self._client = client
        query = f"name LIKE '{PREFIX}%'"
        models = all_pages(client.search_registered_models, query, max_results=1000)
        self._aliases = {model.name: model.aliases for model in models}
        self._versions: dict[tuple[str, str], list[ModelVersion]] = {}
        for each in all_pages(client.search_model_versions, query, max_results=1000):
            self._versions.setdefault((each.name, each.tags.get(KEY, "")), []).append(each)

    def show(self, model: Model, runs: Runs) -> None:
        """Bring the versions of a model and its alias in line.

        What DVC's experiments try is not registered: the alias is the project's. Nor is a model without a network or
        weights, such as the majority.
        """
        best, name = model.best, _name(model)
        if EXPERIMENT in best.tags or not any(model.folder.glob("*/config.json")):
            return
        run = runs.of(best)
        found = self._found(name, best.key, run)
        contents = digest([_FORMAT, best.key, len(model.runs), model.scored])
        if found and found.tags.get(_CONTENTS) == contents:
            if str(self._aliases[name].get(ALIAS)) == str(found.version):
                return
        elif not self._log(model, run):
            return
        elif found:
            self._client.set_model_version_tag(name, found.version, _CONTENTS, contents)
        else:
            found = self._make(name, model, run, contents)
        self._client.set_registered_model_alias(name, ALIAS, found.version)
        self.registered.append(name)

    def _found(self, name: str, key: str, run: "Run") -> "ModelVersion | None":
        """The version of a run; those go that two machines made at once, and those of runs that are deleted."""
        versions = sorted(self._versions.get((name, key), []), key=lambda each: int(each.version))
        found = next((each for each in versions if each.run_id == run.info.run_id), None)
        for each in versions:
            if each is not found:
                self._client.delete_model_version(name, each.version)
        return found

    def _log(self, model: Model, run: "Run") -> bool:
        """Log the best run's network as an artifact; False where something that it needs is not there."""
        from emofuse.inference.bundle import BundleError
        from emofuse.inference.project import bundle_of_model
        from emofuse.inference.serving import save

        with tempfile.TemporaryDirectory(prefix="emofuse-") as folder:
            try:
                save(bundle_of_model(model.folder), Path(folder) / ARTIFACT)
            except (BundleError, ParamsError) as error:
                self.refused.append(f"{model.parent.name}: {error}")
                return False
            self._client.log_artifacts(run.info.run_id, str(Path(folder) / ARTIFACT), ARTIFACT)
        return True

    def _make(self, name: str, model: Model, run: "Run", contents: str) -> "ModelVersion":
        """A new version, which says which run it is and how good that is on dev."""
        from mlflow.exceptions import MlflowException

        best = model.best
        tags = {each: best.tags[each] for each in (KEY, "task", "encoders", "model", "seed", "fold")}
        tags |= {"run": best.name, DEV_F1: f"{best.metrics[DEV_F1]:.4f}", _CONTENTS: contents}
        try:
            self._client.create_registered_model(name)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
        return self._client.create_model_version(
            name, f"{run.info.artifact_uri}/{ARTIFACT}", run.info.run_id, tags=tags
        )


def _name(model: Model) -> str:
    """Name in the registry, where an ablation's slash may not be."""
    tags = model.parent.tags
    return f"{PREFIX}{tags['task']}-{tags['encoders'].replace('+', '-')}-{tags['model'].replace('/', '-')}"
