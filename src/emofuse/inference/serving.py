"""A trained model as an MLflow model: what the registry holds, and what ``mlflow models serve`` answers requests with.

A request has a row a turn, with the columns ``audio`` (a sound file in base64), ``text``, ``speaker`` and
``conversation`` (a name; turns of one name are each other's context, in the order of the rows). All are optional, but a
turn has audio or text::

    {"dataframe_records": [{"speaker": "Ann", "text": "You are late."}, {"speaker": "Ben", "text": "Sorry!"}]}

The answer has as many, ``{"predictions": [{"emotion": "angry", "probabilities": {...}, "model": ..., ...}, ...]}``.
What is wrong with a request is told with status 400, a body that is not declared as JSON or CSV with 415.
"""

import base64
import os
import re
import sys
import tempfile
import warnings
from importlib.metadata import requires
from math import isnan
from pathlib import Path
from typing import Any

import mlflow.pyfunc
import pandas as pd
from mlflow.exceptions import MlflowException
from mlflow.models import ModelSignature
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE
from mlflow.pyfunc.model import PythonModel, PythonModelContext
from mlflow.types import ColSpec, DataType, Schema
from mlflow.types.schema import Array, Map

from emofuse.audio.source import Sound, read_sound
from emofuse.core.files import replace_directory
from emofuse.inference.bundle import Bundle, BundleError, write_bundle
from emofuse.inference.conversation import ConversationError, Turn
from emofuse.inference.model import Model
from emofuse.inference.sources import load

__all__ = ["Served", "save"]

COLUMNS = ("conversation", "speaker", "text", "audio")

SIGNATURE = ModelSignature(
    inputs=Schema([ColSpec("string", name, required=False) for name in COLUMNS]),
    outputs=Schema(
        [
            ColSpec("string", "emotion"),
            ColSpec(Map(DataType.double), "probabilities"),
            ColSpec(Array(DataType.string), "notes"),
            ColSpec("string", "model"),
            ColSpec("string", "remark", required=False),
        ]
    ),
)
"""What a row of a request and a row of an answer may have."""


def save(bundle: Bundle, out: Path) -> None:
    """Write a trained model as an MLflow model, without pickles: the bundle is an artifact, the code this package's.

    Args:
        bundle: the trained model
        out: folder for it, which appears whole or not at all

    Raises:
        BundleError: there is something under that name already
    """
    if out.exists() and not (out / "MLmodel").exists():
        raise BundleError(f"{out}: there is something else already; name a new folder")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    with tempfile.TemporaryDirectory(prefix="emofuse-") as temporary:
        write_bundle(bundle, Path(temporary) / "bundle")
        with replace_directory(out) as folder, warnings.catch_warnings():
            # An example of a request would load the whole model here, only to be written down.
            warnings.filterwarnings("ignore", message=".*input example was not provided")
            mlflow.pyfunc.save_model(
                folder,
                python_model=str(Path(__file__).with_name("served.py")),
                artifacts={"bundle": str(Path(temporary) / "bundle")},
                signature=SIGNATURE,
                pip_requirements=_requirements(),
            )


class Served(PythonModel):
    """The model behind ``/invocations``; see the module's docstring."""

    def load_context(self, context: PythonModelContext) -> None:
        """Load networks and encoders, so that a model that cannot answer does not start."""
        self._model: Model = load(context.artifacts["bundle"])
        self._model.load_encoders()
        _blame_the_request()

    def predict(  # type: ignore[override]
        self, context: PythonModelContext, model_input: pd.DataFrame, params: dict[str, Any] | None = None
    ) -> list[dict[str, Any]]:
        """Answer a request.

        Raises:
            MlflowException: something is wrong with the request, which becomes status 400
        """
        del context, params
        try:
            return self._answer(model_input)
        except (ConversationError, OSError) as error:
            raise MlflowException(str(error), error_code=INVALID_PARAMETER_VALUE) from error

    def _answer(self, table: pd.DataFrame) -> list[dict[str, Any]]:
        rows = [_cells(f"turn {index}", row) for index, row in enumerate(table.to_dict("records"), start=1)]
        if not rows:
            # MLflow drops columns that it does not know, and rows without any column are none.
            raise ConversationError(f"no turns; expected at least one row, with some of the columns {list(COLUMNS)}")
        places: dict[str, list[int]] = {}
        for index, row in enumerate(rows):
            places.setdefault(row.get("conversation", ""), []).append(index)
        turns = [_turn(f"turn {index}", row) for index, row in enumerate(rows, start=1)]
        answers = self._model.predict_all([[turns[index] for index in indices] for indices in places.values()])
        said: dict[int, dict[str, Any]] = {}
        for indices, answer in zip(places.values(), answers, strict=True):
            for index, each in zip(indices, answer.turns, strict=True):
                said[index] = {
                    "emotion": each.emotion,
                    "probabilities": each.probabilities,
                    "notes": list(each.notes),
                    "model": answer.model,
                    "remark": answer.remark,
                }
        return [said[index] for index in range(len(rows))]


def _blame_the_request() -> None:
    """Have MLflow's server, if this process is one, answer with a reason where it takes for granted what may not be.

    That is a header Content-Type, and a body that is not nested without end; it answers 500 otherwise.
    """
    server = sys.modules.get("mlflow.pyfunc.scoring_server")
    if server is None:
        return
    answer = server.invocations

    def invocations(body: bytes, kind: str | None, *rest: Any) -> Any:
        try:
            return answer(body, kind or "none", *rest)
        except RecursionError as error:
            raise MlflowException("the body is nested too deeply", error_code=INVALID_PARAMETER_VALUE) from error

    server.invocations = invocations  # type: ignore[attr-defined]


def _cells(where: str, row: dict[str, Any]) -> dict[str, str]:
    """What a row has; pandas fills up what it has not."""
    given = {
        name: each for name, each in row.items() if not (each is None or (isinstance(each, float) and isnan(each)))
    }
    for name, each in given.items():
        if not isinstance(each, str):
            raise ConversationError(f"{where}: {name}: {each!r}; expected a string")
    return given


def _turn(where: str, row: dict[str, str]) -> Turn:
    text = " ".join(row.get("text", "").split()) or None
    if text is None and not row.get("audio"):
        raise ConversationError(f"{where}: neither audio nor text")
    return Turn(_sound(where, row["audio"]) if row.get("audio") else None, text, row.get("speaker"))


def _sound(where: str, encoded: str) -> Sound:
    try:
        # Line ends are what the command `base64` puts in.
        return read_sound(base64.b64decode(re.sub(r"\s", "", encoded), validate=True), f"{where}: audio")
    except ValueError as error:  # binascii.Error is one, and letters beyond ASCII give another
        raise ConversationError(f"{where}: audio: not base64: {error}") from error


def _requirements() -> list[str]:
    """This package's own requirements: no index has the package itself, and one might have another of its name."""
    return [each for each in requires("emofuse") or () if "extra ==" not in each]
