"""Trained models in the tracker's registry, as ``emofuse-<task>-<encoders>-<model>``.

Of each model the run that is best on dev is registered, and the alias ``best-on-dev`` is on its version. A version is a
run's network: it is found again by the run's key, and its files lie with the run, as the artifact ``model``. They are
written again, in their place, when the number of runs or the task's scores have changed, which its card tells. Where a
later training, or another seed, is better on dev, the alias moves and the earlier version stays.
"""

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from emofuse.core.files import digest
from emofuse.core.params import ParamsError
from emofuse.tracking.results import EXPERIMENT, KEY, Card, Model
from emofuse.tracking.runs import COMPLETE, Runs, all_pages

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run
    from mlflow.entities.model_registry import ModelVersion

__all__ = ["ALIAS", "Registry"]

ALIAS = "best-on-dev"
"""Alias of the version whose run has the best weighted F1 on dev."""

PREFIX, ARTIFACT = "emofuse-", "model"

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
        self._best = {
            model.name: str(model.aliases[ALIAS])
            for model in all_pages(client.search_registered_models, f"name LIKE '{PREFIX}%'", max_results=1000)
            if ALIAS in model.aliases
        }
        self._versions: dict[tuple[str, str], list[ModelVersion]] = {}
        for each in all_pages(client.search_model_versions, f"name LIKE '{PREFIX}%'", max_results=1000):
            self._versions.setdefault((each.name, each.tags.get(KEY, "")), []).append(each)

    def show(self, model: Model, runs: Runs) -> None:
        """Bring the versions of a model and its alias in line.

        What DVC's experiments try is not registered: the alias is the project's. Nor is a model without a network or
        weights, such as the majority, nor one whose run another machine is logging just then, which registers it too.
        """
        best, name = model.best, _name(model)
        run = runs.of(best)
        if EXPERIMENT in best.tags or not any(model.folder.glob("*/config.json")) or run is None:
            return
        contents = digest([_FORMAT, best.key, len(model.runs), model.scored])
        found = self._found(name, best.key, run)
        if found is None or found.tags.get(COMPLETE) != contents:
            if not self._log(model, str(found.run_id) if found else run.info.run_id):
                return
            found = self._written(name, found, {**_tags(best), COMPLETE: contents}, run)
        elif self._best.get(name) == str(found.version):
            return
        self._client.set_registered_model_alias(name, ALIAS, found.version)
        self.registered.append(name)

    def _found(self, name: str, key: str, run: "Run") -> "ModelVersion | None":
        """The first version of a result; one whose run was deleted has lost its files, and goes."""
        found = sorted(self._versions.get((name, key), []), key=_number)
        alive = [each for each in found if each.run_id == run.info.run_id or self._alive(each.run_id)]
        for each in found:
            if each not in alive:
                self._client.delete_model_version(name, each.version)
        return alive[0] if alive else None

    def _alive(self, run_id: str | None) -> bool:
        from mlflow.exceptions import MlflowException

        try:
            return run_id is not None and self._client.get_run(run_id).info.lifecycle_stage == "active"
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            return False

    def _log(self, model: Model, run_id: str) -> bool:
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
            self._client.log_artifacts(run_id, str(Path(folder) / ARTIFACT), ARTIFACT)
        return True

    def _written(self, name: str, found: "ModelVersion | None", tags: Mapping[str, str], run: "Run") -> "ModelVersion":
        """The version of what was logged: a new one, or the one that was there."""
        if found is not None:
            self._client.set_model_version_tag(name, found.version, COMPLETE, tags[COMPLETE])
            return found
        self._make(name)
        source = f"{run.info.artifact_uri}/{ARTIFACT}"
        made = self._client.create_model_version(name, source, run.info.run_id, tags=dict(tags))
        versions = all_pages(self._client.search_model_versions, f"name = '{name}'", max_results=1000)
        first = min((each for each in versions if each.tags.get(KEY) == tags[KEY]), key=_number)
        if _number(first) != _number(made):
            # Another machine was faster; versions are numbered by the tracker, so that it sees the same.
            self._client.delete_model_version(name, made.version)
        return first

    def _make(self, name: str) -> None:
        from mlflow.exceptions import MlflowException

        try:
            self._client.create_registered_model(name)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise


def _name(model: Model) -> str:
    """Name in the registry, where an ablation's slash may not be."""
    tags = model.parent.tags
    return f"{PREFIX}{tags['task']}-{tags['encoders'].replace('+', '-')}-{tags['model'].replace('/', '-')}"


def _tags(best: Card) -> dict[str, str]:
    """What a version says of itself: which run it is, and how good that is on dev."""
    own = {name: best.tags[name] for name in (KEY, "task", "encoders", "model", "seed", "fold")}
    return own | {"run": best.name, "dev/weighted_f1": f"{best.metrics['dev/weighted_f1']:.4f}"}


def _number(version: "ModelVersion") -> int:
    return int(version.version)
