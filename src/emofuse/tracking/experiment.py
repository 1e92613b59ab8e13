"""The experiment in the tracker, and its default view."""

import json
import socket
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

from emofuse.core.files import digest
from emofuse.tracking.address import TrackingConfig, TrackingError, database, public
from emofuse.tracking.results import CURRENT, DEV_F1, LEVEL, TEST
from emofuse.tracking.runs import MACHINE

if TYPE_CHECKING:
    from mlflow import MlflowClient

__all__ = ["experiment_of", "share_view", "tags_of_machine", "view"]

_VIEWS = "mlflow.sharedViewState."
"""Prefix of an experiment's tags in which MLflow keeps what `Share view` of its pages makes."""

_VIEW = "models"

_NAME = "attributes.`Run Name`"

_F1 = f"{TEST}weighted_f1"

_SCORES = (DEV_F1, f"{TEST}accuracy", _F1, f"{_F1}_sd", f"{_F1}_low", f"{_F1}_high")
"""Columns of the view; it is sorted by the first."""


def experiment_of(client: "MlflowClient", uri: str, config: TrackingConfig) -> str:
    """Return the id of the experiment, made if it is not there; artifacts of a SQLite tracker lie beside its file.

    Raises:
        TrackingError: it was deleted
    """
    from mlflow.exceptions import MlflowException

    name, file = config.name, database(uri)
    found = client.get_experiment_by_name(name)
    if found is None:
        try:
            return client.create_experiment(name, (file.parent / "mlartifacts").as_uri() if file else None)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
            return experiment_of(client, uri, config)  # Another machine made it at the same moment.
    if found.lifecycle_stage == "deleted":
        raise TrackingError(
            f"tracker {public(uri)}: the experiment {name!r} was deleted; restore it with "
            f"`mlflow experiments restore -x {found.experiment_id}`, or name another one in tracking.experiment"
        )
    return found.experiment_id


def share_view(client: "MlflowClient", experiment: str) -> None:
    """Leave a view in the experiment: current models alone, without their seeds, the best on dev first."""
    scores = [f"metrics.`{each}`" for each in _SCORES]
    state = {
        "searchFilter": f"tags.{LEVEL} = 'model' AND tags.`{CURRENT}` = 'true'",
        "orderByKey": scores[0],
        "orderByAsc": False,
        "selectedColumns": scores,
        "columnOrder": [_NAME, *scores],
        "columnWidths": {_NAME: 280, **dict.fromkeys(scores, 140)},
    }
    text = json.dumps(state)
    if client.get_experiment(experiment).tags.get(_VIEWS + _VIEW) != text:
        client.set_experiment_tag(experiment, _VIEWS + _VIEW, text)


def view(experiment: str) -> str:
    """Return the address of that view, after the server's."""
    return f"/#/experiments/{experiment}/runs?workflowType=machine_learning&viewStateShareKey={_VIEW}"


def tags_of_machine(root: Path) -> dict[str, str]:
    """Return the tags of new runs that say which machine and project made them, and at which of git's commits."""
    made = {MACHINE: digest([socket.gethostname(), str(root.resolve())])[:16]}
    # Also where somebody else owns the checkout, as in a container: reading a commit's name runs nothing of theirs.
    command = ["git", "-c", "safe.directory=*", "-C", str(root), "rev-parse", "--verify", "--quiet", "HEAD"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return made
    commit = done.stdout.strip()
    return {**made, "mlflow.source.git.commit": commit} if done.returncode == 0 else made
