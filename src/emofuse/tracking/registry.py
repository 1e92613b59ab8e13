"""Trained models in the tracker's registry, as ``emofuse-<task>-<encoders>-<model>``.

Of each model the run that is best on dev is registered, and the alias ``best-on-dev`` is on its version. A version is a
run's network: it is found again by the run's key, and its files lie with the run, as the artifact ``model``. They are
written again, in their place, when the number of runs or the task's scores have changed, which its card tells. Where a
later training, or another seed, is better on dev, the alias moves and the earlier version stays.
"""

import tempfile
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from emofuse.core.files import digest
from emofuse.core.params import ParamsError
from emofuse.tracking.runs_in_tracker import RunsInTracker
from emofuse.tracking.runs_on_disk import DEV_F1, EXPERIMENT, KEY, Card, Model

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run
    from mlflow.entities.model_registry import ModelVersion

__all__ = ["Registry", "best_on_dev"]

_ALIAS, _PREFIX, _ARTIFACT = "best-on-dev", "emofuse-", "model"

_CONTENTS = "emofuse.complete"
"""Tag with the digest of what a version's card tells."""

_FORMAT = 2
"""Of the bundles: versions that hold an earlier one are written again."""


def best_on_dev(model: Model) -> Card:
    """Return the run of a model with the best weighted F1 on dev, among equals the first."""
    return max(model.runs, key=lambda card: card.metrics[DEV_F1])


class Registry:
    """The registry of a tracker.

    Args:
        client: of the tracker

    Attributes:
        done: names of the models that :meth:`show` ``registered``, or a line that says why it ``refused`` one
    """

    def __init__(self, client: "MlflowClient") -> None:
        self.done: dict[str, list[str]] = {"registered": [], "refused": []}
        self._client = client

    def show(self, model: Model, runs: RunsInTracker) -> None:
        """Bring the versions of a model and its alias in line.

        What DVC's experiments try is not registered: the alias is the project's. Nor is a model without a network or
        weights, such as the majority.
        """
        best, tags = best_on_dev(model), model.parent.tags
        if EXPERIMENT in best.tags or not any(model.folder.glob("*/config.json")):
            return
        name = f"{_PREFIX}{tags['task']}-{tags['encoders']}-{tags['model']}".translate({ord("+"): "-", ord("/"): "-"})
        run = runs.of(best)
        found = self._found(name, best.key, run)
        contents = digest([_FORMAT, best.key, len(model.runs), model.parent.metrics])
        if not found or found.tags.get(_CONTENTS) != contents:
            if not self._log(model, run):
                return
            if found:
                self._client.set_model_version_tag(name, found.version, _CONTENTS, contents)
            else:
                found = self._make(name, best, run, contents)
        elif _ALIAS in self._client.get_model_version(name, found.version).aliases:
            return
        self._client.set_registered_model_alias(name, _ALIAS, found.version)
        self.done["registered"].append(name)

    def _found(self, name: str, key: str, run: "Run") -> "ModelVersion | None":
        """The version of a run; those go that two machines made at once, and those of runs that are deleted."""
        listed = self._client.search_model_versions(f"name = '{name}'")
        versions = sorted((each for each in listed if each.tags.get(KEY) == key), key=lambda each: int(each.version))
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
                save(bundle_of_model(model.folder), Path(folder) / _ARTIFACT)
            except (BundleError, ParamsError) as error:
                self.done["refused"].append(f"{model.parent.name}: {error}")
                return False
            self._client.log_artifacts(run.info.run_id, str(Path(folder) / _ARTIFACT), _ARTIFACT)
        return True

    def _make(self, name: str, best: Card, run: "Run", contents: str) -> "ModelVersion":
        """A new version, which says which run it is and how good that is on dev."""
        from mlflow.exceptions import MlflowException

        tags = {each: best.tags[each] for each in (KEY, "task", "encoders", "model", "seed", "fold")}
        tags |= {"run": best.name, DEV_F1: f"{best.metrics[DEV_F1]:.4f}", _CONTENTS: contents}
        with suppress(MlflowException):  # It is there; if it is not, the next call says why.
            self._client.create_registered_model(name)
        source = f"{run.info.artifact_uri}/{_ARTIFACT}"
        return self._client.create_model_version(name, source, run.info.run_id, tags=tags)
