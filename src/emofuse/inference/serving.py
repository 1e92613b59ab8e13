"""A trained model as an MLflow model, for the registry and for ``mlflow models serve``.

A request has a row a turn, with the columns ``audio`` (a sound file in base64), ``text``, ``speaker`` and
``conversation`` (a name; turns of one name are each other's context, in the order of the rows). All are optional, but a
turn has audio or text::

    {"dataframe_records": [{"speaker": "Ann", "text": "You are late."}, {"speaker": "Ben", "text": "Sorry!"}]}

The answer has as many, ``{"predictions": [{"emotion": "angry", "probabilities": {...}, "model": ..., ...}, ...]}``. A
turn in which there is nothing to hear or read has no emotion.

Or a request is one row with the column ``recording``, a sound file in base64 with several turns in it. They are found
by voice activity, and their words by the packaged recogniser, of English. The answer has one row a turn, with
``start_s``, ``end_s``, ``text`` and ``speaker``::

    {"dataframe_records": [{"recording": "UklGRi..."}], "params": {"channels": true}}

``channels`` makes each channel of the recording a speaker. ``transcribe`` says where missing words are transcribed: in
``recordings``, the default; in ``all`` turns with sound; or ``none``. For a model that reads no text nothing is
transcribed, and the answer says so.

Where its turns are known, each has a row with ``start_s`` and ``end_s`` in seconds, and ``speaker`` and ``text`` where
there are some; the first row has the recording::

    {"dataframe_records": [{"recording": "UklGRi...", "start_s": 0.5, "end_s": 1.75, "speaker": "Ann"},
                           {"start_s": 1.5, "end_s": 3.5, "speaker": "Ben", "text": "Sorry!"}]}

A wrong request is answered with status 400 and the reason, a body that is not declared as JSON or CSV with 415, one of
more than :data:`emofuse.inference.requests.MAX_BODY` bytes with 413. What a request may ask for is bounded by the
constants of :mod:`emofuse.inference.requests`, so that none takes the memory and the time of all.
MLFLOW_SCORING_SERVER_REQUEST_TIMEOUT bounds the time, 60 s: then the answer is 504, and no more of the request is
transcribed or encoded. What fails in the server and not in the request is answered with 500; why is in the server's log
alone.
"""

import logging
import math
import os
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from importlib.metadata import requires
from pathlib import Path
from typing import TYPE_CHECKING, Any

import mlflow.pyfunc
import numpy as np
import pandas as pd
from mlflow.environment_variables import MLFLOW_SCORING_SERVER_REQUEST_TIMEOUT
from mlflow.exceptions import MlflowException
from mlflow.models import ModelSignature
from mlflow.protos.databricks_pb2 import DEADLINE_EXCEEDED, INTERNAL_ERROR, INVALID_PARAMETER_VALUE
from mlflow.pyfunc.model import PythonModel, PythonModelContext
from mlflow.types import ColSpec, DataType, ParamSchema, ParamSpec, Schema
from mlflow.types.schema import Array, Map

from emofuse.core.files import replace_directory
from emofuse.core.schema import SAMPLE_RATE
from emofuse.corpora.base import shown
from emofuse.inference.bundle import Bundle, BundleError, write_bundle
from emofuse.inference.conversation import Conversation, ConversationError
from emofuse.inference.model import Model, Prediction, TurnPrediction, in_parts
from emofuse.inference.models_on_disk import find
from emofuse.inference.requests import COLUMNS, TIMES, read_request
from emofuse.inference.scoring_server import bound_bodies, explain_errors, refuse_unknown
from emofuse.inference.segments import SegmentError
from emofuse.inference.transcripts import recogniser
from emofuse.inference.voice_activity import WINDOW, find_turns
from emofuse.inference.whisper import PACKAGED

if TYPE_CHECKING:
    from emofuse.inference.hearing import Transcriber

__all__ = ["Served", "save"]

_TRANSCRIBE = ("recordings", "all", "none")
"""Where missing words are transcribed."""

_NOT_TRANSCRIBED = "missing words are not transcribed, since the model reads no text"
"""The remark where they would be with another model."""

_TRANSCRIBED_AT_ONCE = 60 * SAMPLE_RATE
"""Samples that are transcribed before others have their turn: a few seconds of two processors."""

SIGNATURE = ModelSignature(
    inputs=Schema([ColSpec("double" if name in TIMES else "string", name, required=False) for name in COLUMNS]),
    outputs=Schema(
        [
            ColSpec("string", "speaker", required=False),
            ColSpec("string", "text", required=False),
            ColSpec("string", "emotion", required=False),
            ColSpec(Map(DataType.double), "probabilities"),
            ColSpec("double", "start_s", required=False),
            ColSpec("double", "end_s", required=False),
            ColSpec(Array(DataType.string), "notes"),
            ColSpec("string", "model"),
            ColSpec("string", "remark", required=False),
            ColSpec("string", "trained_on"),
        ]
    ),
    params=ParamSchema([ParamSpec("channels", "boolean", False), ParamSpec("transcribe", "string", _TRANSCRIBE[0])]),
)
"""What a row of a request and a row of an answer may have, and the parameters of a request."""

_logger = logging.getLogger(__name__)


def save(bundle: Bundle, out: Path) -> None:
    """Write a trained model as an MLflow model, without pickles: the bundle is an artifact, the code this package's.

    Args:
        bundle: the trained model
        out: folder for it, which appears whole or not at all

    Raises:
        BundleError: there is something under that name already
    """
    if out.exists() and not (out / "MLmodel").exists():
        raise BundleError(f"{out}: already exists and is something else; name a new folder")
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

    def __init__(self) -> None:
        self._recogniser: Transcriber | None = None
        # A part has all processors, so one thread transcribes. It takes the parts of all requests in the order in which
        # they come, so that a large one does not keep others waiting.
        self._transcribing = ThreadPoolExecutor(1, "transcribing")

    def load_context(self, context: PythonModelContext) -> None:
        """Load all that answers take, so that a model that cannot answer does not start."""
        self._model = Model(find(context.artifacts["bundle"]), _refuse_when_late)
        self._model.load_encoders()
        self._recogniser = recogniser() if self._model.reads("text") else None
        find_turns(np.zeros(WINDOW, np.float32))
        server = sys.modules.get("mlflow.pyfunc.scoring_server")
        if server is not None:
            bound_bodies(server)
            refuse_unknown(server)
            explain_errors(server)

    def predict(  # type: ignore[override]
        self, context: PythonModelContext, model_input: pd.DataFrame, params: dict[str, Any] | None = None
    ) -> list[dict[str, Any]]:
        """Answer a request.

        Raises:
            MlflowException: something is wrong with the request, which becomes status 400; it took too long, 504; or
                the server fails, 500
        """
        del context
        _limit.end = time.monotonic() + (MLFLOW_SCORING_SERVER_REQUEST_TIMEOUT.get() or math.inf)
        try:
            return self._answer(model_input, **(params or {}))
        except (ConversationError, SegmentError) as error:
            raise MlflowException(str(error), error_code=INVALID_PARAMETER_VALUE) from error
        except MlflowException:
            raise
        except Exception as error:  # whatever it says of this machine is for its owner
            _logger.exception("a request could not be answered")
            message = f"the server cannot answer: {type(error).__name__}; its log says why"
            raise MlflowException(message, error_code=INTERNAL_ERROR) from error
        finally:
            del _limit.end  # The thread has no limit between two requests.

    def _answer(
        self, table: pd.DataFrame, channels: bool = False, transcribe: str = _TRANSCRIBE[0]
    ) -> list[dict[str, Any]]:
        if transcribe not in _TRANSCRIBE:
            raise ConversationError(f"transcribe: {shown(transcribe)}; expected one of {list(_TRANSCRIBE)}")
        request = read_request(table, channels, _refuse_when_late)
        conversations: Sequence[Conversation] = request.conversations
        wanted = transcribe == "all" or (transcribe == "recordings" and all(each.sound for each in conversations))
        if wanted and self._recogniser is None:
            conversations = [_not_transcribed(each) for each in conversations]
        transcriber = self._transcribe if wanted and self._recogniser else None
        rows: dict[int, dict[str, Any]] = {}
        for places, prediction in zip(request.places, self._model.predict_all(conversations, transcriber), strict=True):
            rows |= zip(places, (_row(prediction, each) for each in prediction.turns), strict=True)
        return [rows[place] for place in sorted(rows)]

    def _transcribe(self, clips: Sequence[np.ndarray]) -> list[str]:
        end, texts = _end(), list[str]()

        def transcribe(part: Sequence[int]) -> Sequence[str]:
            _refuse_after(end)
            return self._recogniser([clips[index] for index in part])  # type: ignore[misc]

        for part in in_parts(range(len(clips)), [len(each) for each in clips], _TRANSCRIBED_AT_ONCE):
            texts += self._transcribing.submit(transcribe, part).result()
        return texts

    _transcribe.name = PACKAGED  # type: ignore[attr-defined]


_limit = threading.local()
"""When the request of a thread has to be answered."""


def _end() -> float:
    return getattr(_limit, "end", math.inf)


def _refuse_when_late() -> None:
    _refuse_after(_end())


def _refuse_after(end: float) -> None:
    if time.monotonic() > end:
        raise MlflowException("the request takes too long; send less at once", error_code=DEADLINE_EXCEEDED)


def _not_transcribed(conversation: Conversation) -> Conversation:
    """The conversation, with a remark where words are missing."""
    if all(each.text or each.audio is None for each in conversation.turns):
        return conversation
    return replace(conversation, remarks=(*conversation.remarks, _NOT_TRANSCRIBED))


def _row(prediction: Prediction, turn: TurnPrediction) -> dict[str, Any]:
    remarks = [each for each in (prediction.remark, *prediction.remarks) if each]
    return {
        "speaker": turn.speaker,
        "text": turn.text,
        "emotion": turn.emotion,
        "probabilities": turn.probabilities,
        "start_s": turn.start_s,
        "end_s": turn.end_s,
        "notes": list(turn.notes),
        "model": prediction.model,
        "remark": "; ".join(remarks) or None,
        "trained_on": prediction.trained_on,
    }


def _requirements() -> list[str]:
    """This package's own requirements: no index has the package itself, and one might have another of its name."""
    return [each for each in requires("emofuse") or () if "extra ==" not in each]
