"""The experiment in the tracker, and its default view."""

import json
from typing import TYPE_CHECKING

from emofuse.tracking.address import TrackingConfig, TrackingError, database, public
from emofuse.tracking.runs_on_disk import CURRENT, DEV_F1, LEVEL, TEST

if TYPE_CHECKING:
    from mlflow import MlflowClient

__all__ = ["experiment_of", "view"]

_VIEW = "models"

_VIEW_TAG = f"mlflow.sharedViewState.{_VIEW}"
"""The experiment's tag in which MLflow keeps what `Share view` of its pages makes."""

_NAME, _F1 = "attributes.`Run Name`", f"{TEST}weighted_f1"

_SCORES = (DEV_F1, f"{TEST}accuracy", _F1, f"{_F1}_sd", f"{_F1}_low", f"{_F1}_high")
"""Columns of the view; it is sorted by the first."""


def experiment_of(client: "MlflowClient", uri: str, config: TrackingConfig) -> str:
    """Return the id of the experiment, made if it is not there, with a view of its models.

    Raises:
        TrackingError: it was deleted
    """
    found = client.get_experiment_by_name(config.name)
    if found is None:
        _make(client, uri, config.name)
        return experiment_of(client, uri, config)
    if found.lifecycle_stage == "deleted":
        raise TrackingError(
            f"tracker {public(uri)}: the experiment {config.name!r} was deleted; restore it with "
            f"`mlflow experiments restore -x {found.experiment_id}`, or name another one in tracking.experiment"
        )
    # Current models alone, without their seeds, the best on dev first.
    scores = [f"metrics.`{each}`" for each in _SCORES]
    state = {
        "searchFilter": f"tags.{LEVEL} = 'model' AND tags.`{CURRENT}` = 'true'",
        "orderByKey": scores[0],
        "orderByAsc": False,
        "selectedColumns": scores,
        "columnOrder": [_NAME, *scores],
        "columnWidths": {_NAME: 280, **dict.fromkeys(scores, 140)},
    }
    if found.tags.get(_VIEW_TAG) != json.dumps(state):
        _show(client, found.experiment_id, json.dumps(state))
    return found.experiment_id


def view(experiment: str) -> str:
    """Return the address of that view, after the server's."""
    return f"/#/experiments/{experiment}/runs?workflowType=machine_learning&viewStateShareKey={_VIEW}"


def _show(client: "MlflowClient", experiment: str, state: str) -> None:
    """Set the view, as another machine may at the same moment: the database then refuses one of two equal rows."""
    from mlflow.exceptions import MlflowException

    try:
        client.set_experiment_tag(experiment, _VIEW_TAG, state)
    except MlflowException:
        if client.get_experiment(experiment).tags.get(_VIEW_TAG) != state:
            raise


def _make(client: "MlflowClient", uri: str, name: str) -> None:
    """Make it, as another machine may at the same moment; artifacts of a SQLite tracker lie beside its file."""
    from mlflow.exceptions import MlflowException

    file = database(uri)
    try:
        client.create_experiment(name, (file.parent / "mlartifacts").as_uri() if file else None)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
