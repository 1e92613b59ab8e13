"""A trained model as an MLflow model, for the registry and for ``mlflow models serve``.

A request has a row a turn, with the columns ``audio`` (a sound file in base64), ``text``, ``speaker`` and
``conversation`` (a name; turns of one name are each other's context, in the order of the rows). All are optional, but a
turn has audio or text::

    {"dataframe_records": [{"speaker": "Ann", "text": "You are late."}, {"speaker": "Ben", "text": "Sorry!"}]}

The answer has as many, ``{"predictions": [{"emotion": "angry", "probabilities": {...}, "model": ..., ...}, ...]}``. A
turn in which there is nothing to hear or read has no emotion.

Or a request is one row with the column ``recording``, a sound file in base64 with several turns in it. They are found
by their voice, and the answer has one row a turn, with ``start_s`` and ``end_s``; no words are written down::

    {"dataframe_records": [{"recording": "UklGRi..."}]}

Where its turns are known, each has a row with ``start_s`` and ``end_s`` in seconds, and ``speaker`` and ``text`` where
there are some; the first row has the recording::

    {"dataframe_records": [{"recording": "UklGRi...", "start_s": 0.5, "end_s": 1.75, "speaker": "Ann"},
                           {"start_s": 1.5, "end_s": 3.5, "speaker": "Ben", "text": "Sorry!"}]}

A wrong request is answered with status 400 and the reason, a body that is not declared as JSON or CSV with 415, one of
more than :data:`MAX_BODY` bytes with 413. What a request may ask for is bounded by the constants below, so that none
takes the memory and the time of all. MLFLOW_SCORING_SERVER_REQUEST_TIMEOUT bounds the time, 60 s: then the answer is
504, and no more of the request is encoded. What fails in the server and not in the request is answered with 500; why is
in the server's log alone.
"""

import base64
import logging
import math
import os
import re
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Awaitable, Callable, Iterator, Sequence
from functools import wraps
from importlib.metadata import requires
from pathlib import Path
from typing import TYPE_CHECKING, Any

import mlflow.pyfunc
import numpy as np
import pandas as pd
from mlflow.environment_variables import MLFLOW_SCORING_SERVER_REQUEST_TIMEOUT
from mlflow.exceptions import MlflowException
from mlflow.models import ModelSignature
from mlflow.protos.databricks_pb2 import DEADLINE_EXCEEDED, INTERNAL_ERROR, INVALID_PARAMETER_VALUE, ErrorCode
from mlflow.pyfunc.model import PythonModel, PythonModelContext
from mlflow.types import ColSpec, DataType, Schema
from mlflow.types.schema import Array, Map

from emofuse.audio.source import Sound, read_sound
from emofuse.core.files import replace_directory
from emofuse.inference.bundle import Bundle, BundleError, write_bundle
from emofuse.inference.conversation import ConversationError, Turn
from emofuse.inference.model import Model, Prediction, TurnPrediction
from emofuse.inference.recording import read_recording
from emofuse.inference.segments import Segment, SegmentError, segment
from emofuse.inference.sources import find
from emofuse.inference.voice_activity import WINDOW, find_turns

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

__all__ = ["Served", "save"]

MAX_BODY = 2**25
"""Bytes of a request: ten minutes of 16 kHz sound in base64, and room for the rest."""

MAX_TURNS = 512
"""Turns of a request, of all its conversations together."""

MAX_TEXT = 10_000
"""Characters of a turn's text, a quarter of an hour of speech; encoders read less."""

MAX_NAME = 200
"""Characters of a speaker's or a conversation's name."""

MAX_SECONDS = 600.0
"""Sound of a request, of all its turns together."""

MAX_SAMPLES = 57_600_000
"""Samples of a request's sound, of all channels and turns together: :data:`MAX_SECONDS` of 48 kHz stereo."""

TIMES = ("start_s", "end_s")
"""Columns of numbers."""

COLUMNS = ("conversation", "speaker", "text", "audio", "recording", *TIMES)

SIGNATURE = ModelSignature(
    inputs=Schema([ColSpec("double" if name in TIMES else "string", name, required=False) for name in COLUMNS]),
    outputs=Schema(
        [
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
)
"""What a row of a request and a row of an answer may have."""


_GLANCE = 0.1
"""Seconds that are decoded of a sound before it is known how much of it may be, and beyond what may be."""

_MAX_MESSAGE, _SHOWN = 2_000, 100
"""Characters of an answer that says what is wrong, and of a value in it."""

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

    def load_context(self, context: PythonModelContext) -> None:
        """Load networks, encoders and voice activity, so that a model that cannot answer does not start."""
        self._model = Model(find(context.artifacts["bundle"]), _refuse_when_late)
        self._model.load_encoders()
        find_turns(np.zeros(WINDOW, np.float32))
        server = sys.modules.get("mlflow.pyfunc.scoring_server")
        if server is not None:
            _bound_bodies(server)
            _blame_the_request(server)

    def predict(  # type: ignore[override]
        self, context: PythonModelContext, model_input: pd.DataFrame, params: dict[str, Any] | None = None
    ) -> list[dict[str, Any]]:
        """Answer a request.

        Raises:
            MlflowException: something is wrong with the request, which becomes status 400; it took too long, 504; or
                the server fails, 500
        """
        del context, params
        _limit.end = time.monotonic() + (MLFLOW_SCORING_SERVER_REQUEST_TIMEOUT.get() or math.inf)
        try:
            return self._predictions(model_input)
        except (ConversationError, SegmentError) as error:
            raise MlflowException(str(error), error_code=INVALID_PARAMETER_VALUE) from error
        except MlflowException:
            raise
        except Exception as error:  # whatever it says of this machine is for its owner
            _logger.exception("a request could not be answered")
            message = f"the server cannot answer: {type(error).__name__}; its log says why"
            raise MlflowException(message, error_code=INTERNAL_ERROR) from error

    def _predictions(self, table: pd.DataFrame) -> list[dict[str, Any]]:
        if len(table) > MAX_TURNS:
            raise ConversationError(f"{len(table):,} turns; a request may have {MAX_TURNS}, send more requests")
        rows = [_cells(f"turn {index}", row) for index, row in enumerate(table.to_dict("records"), start=1)]
        if not rows:
            # MLflow drops columns that it does not know, and rows without any column are none.
            raise ConversationError(f"no turns; expected at least one row, with some of the columns {list(COLUMNS)}")
        if any(row.keys() & {"recording", *TIMES} for row in rows):
            return self._predict_recording(rows)
        places: dict[str, list[int]] = {}
        for index, row in enumerate(rows):
            places.setdefault(row.get("conversation", ""), []).append(index)
        turns = list(_turns(rows))
        predictions = self._model.predict_all([[turns[index] for index in indices] for indices in places.values()])
        found: dict[int, dict[str, Any]] = {}
        for indices, prediction in zip(places.values(), predictions, strict=True):
            for index, each in zip(indices, prediction.turns, strict=True):
                found[index] = _row(prediction, each)
        return [found[index] for index in range(len(rows))]

    def _predict_recording(self, rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        segments = None if len(rows) == 1 and set(rows[0]) == {"recording"} else _segments(rows)
        sound = _sound("turn 1", "recording", rows[0]["recording"], MAX_SECONDS, MAX_SAMPLES)
        conversation = read_recording(sound, sound.name, segments)
        if len(conversation.turns) > MAX_TURNS:
            raise ConversationError(f"{len(conversation.turns):,} turns are found; there may be {MAX_TURNS}")
        prediction = self._model.predict(conversation)
        answers = [_row(prediction, each) for each in prediction.turns]
        if segments is None:
            return answers
        order = sorted(range(len(segments)), key=lambda index: (segments[index].start_s, segments[index].end_s))
        return [answer for _, answer in sorted(zip(order, answers, strict=True), key=lambda each: each[0])]


def _segments(rows: Sequence[dict[str, Any]]) -> list[Segment]:
    """The turns of a recording, a row each."""
    for index, row in enumerate(rows, start=1):
        wrong = set(row) & {"audio", "conversation"} or (set(row) & {"recording"} if index > 1 else set())
        if wrong or "recording" not in rows[0] or not set(TIMES) <= set(row):
            raise ConversationError(
                f"turn {index}: expected a recording in the first row, and no other columns or in each row start_s, "
                "end_s, speaker and text; send one request a recording"
            )
    found = [
        segment(f"turn {index}", row["start_s"], row["end_s"], row.get("speaker"), row.get("text"))
        for index, row in enumerate(rows, start=1)
    ]
    seconds = sum(each.end_s - each.start_s for each in found)
    if seconds > MAX_SECONDS:
        raise ConversationError(f"{seconds:g} s in all turns together; a request may have {MAX_SECONDS:g}")
    return found


_limit = threading.local()
"""When the request of a thread has to be answered."""


def _refuse_when_late() -> None:
    if time.monotonic() > getattr(_limit, "end", math.inf):
        raise MlflowException("the request takes too long; send less at once", error_code=DEADLINE_EXCEEDED)


def _row(prediction: Prediction, turn: TurnPrediction) -> dict[str, Any]:
    remarks = [each for each in (prediction.remark, *prediction.remarks) if each]
    return {
        "emotion": turn.emotion,
        "probabilities": turn.probabilities,
        "start_s": turn.start_s,
        "end_s": turn.end_s,
        "notes": list(turn.notes),
        "model": prediction.model,
        "remark": "; ".join(remarks) or None,
        "trained_on": prediction.trained_on,
    }


def _bound_bodies(server: Any) -> None:
    """Have MLflow's server read no more of a body than may be in one."""
    catch = server._async_catch_mlflow_exception

    def bounded(answer: Callable[..., Awaitable["Response"]]) -> Any:
        @wraps(answer)
        async def read_first(request: "Request") -> "Response":
            return await _read_body(request) or await answer(request)

        return catch(read_first)

    server._async_catch_mlflow_exception = bounded


async def _read_body(request: "Request") -> "Response | None":
    """Read a request's body into it; returns an answer where it is too large."""
    from starlette.responses import PlainTextResponse

    parts, size = [], 0
    async for part in request.stream():
        size += len(part)
        if size <= MAX_BODY:
            parts.append(part)
        else:
            parts.clear()  # The rest is read and thrown away, or the client would not hear the answer.
    request._body = b"".join(parts)  # where `request.body()` looks first
    if size > MAX_BODY:
        return PlainTextResponse(f"the body has {size:,} bytes; a request may have {MAX_BODY:,}", status_code=413)
    return None


def _blame_the_request(server: Any) -> None:
    """Have MLflow's server answer with a reason where it takes for granted what may not be, or tells of itself.

    That is a header Content-Type, and a body that is nested within reason and has numbers that Python reads; it answers
    500 otherwise. Parquet, which may unpack to any size, is refused. What it says of errors has no paths and no code.
    """
    answer = server.invocations

    def invocations(body: bytes, kind: str | None, *rest: Any) -> Any:
        kind = kind or "none"
        if kind.partition(";")[0].strip() == server.CONTENT_TYPE_PARQUET:
            reason = f"Got '{kind}'; expected application/json or text/csv"
            return server.InvocationsResponse(response=reason, status=415, mimetype="text/plain")
        try:
            return answer(body, kind, *rest)
        except RecursionError as error:
            raise _refused("the body is nested too deeply") from error
        except MlflowException as error:
            if "stack_trace" in error.json_kwargs:
                _logger.error("%s\n%s", error.message, error.json_kwargs["stack_trace"])
            # MLflow puts all of the input before the reason.
            raise _refused(str(error.message).rpartition("\nError: ")[2], error) from None
        except (ValueError, TypeError, KeyError, AttributeError, OverflowError) as error:
            raise _refused(f"the body cannot be read: {_short(error)}") from error

    server.invocations = invocations


def _refused(message: str, error: MlflowException | None = None) -> MlflowException:
    code = INVALID_PARAMETER_VALUE if error is None else ErrorCode.Value(error.error_code)
    return MlflowException(message[:_MAX_MESSAGE], error_code=code)


def _short(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def _cells(where: str, row: dict[str, Any]) -> dict[str, Any]:
    """What a row has; pandas fills up what it has not."""
    given = {
        name: each for name, each in row.items() if not (each is None or (isinstance(each, float) and math.isnan(each)))
    }
    for name, each in given.items():
        if name in TIMES and isinstance(each, int | float):
            continue
        if not isinstance(each, str):
            raise ConversationError(f"{where}: {name}: {repr(each)[:_SHOWN]}; expected a string")
        most = {"text": MAX_TEXT, "audio": MAX_BODY, "recording": MAX_BODY}.get(str(name), MAX_NAME)
        if len(each) > most:
            raise ConversationError(f"{where}: {name}: {len(each):,} characters; there may be {most:,}")
    return given


def _turns(rows: Sequence[dict[str, str]]) -> Iterator[Turn]:
    seconds, samples = MAX_SECONDS, MAX_SAMPLES
    for index, row in enumerate(rows, start=1):
        _refuse_when_late()
        sound = _sound(f"turn {index}", "audio", row["audio"], seconds, samples) if row.get("audio") else None
        if sound is not None:
            seconds -= sound.samples.shape[1] / sound.rate
            samples -= sound.samples.size
        yield _turn(f"turn {index}", row, sound)


def _turn(where: str, row: dict[str, str], sound: Sound | None) -> Turn:
    text = " ".join(row.get("text", "").split()) or None
    if text is None and sound is None:
        raise ConversationError(f"{where}: neither audio nor text")
    return Turn(sound, text, row.get("speaker"))


def _sound(where: str, column: str, encoded: str, seconds: float, samples: int) -> Sound:
    """Decode a turn's sound, and hardly more than the request may still have: a few bytes may unpack to gigabytes."""
    try:
        # Line ends are what the command `base64` puts in.
        data = base64.b64decode(re.sub(r"\s", "", encoded), validate=True)
    except ValueError as error:  # binascii.Error is one, and letters beyond ASCII give another
        raise ConversationError(f"{where}: {column}: not base64: {error}") from error
    name = f"{where}: {column}"
    try:
        start = read_sound(data, name, _GLANCE)  # tells rate and channels
        enough = samples / (start.rate * len(start.samples))
        sound = read_sound(data, name, min(seconds, enough) + _GLANCE)
    except OSError as error:
        raise ConversationError(str(error)) from error
    if sound.samples.shape[1] > seconds * sound.rate:
        raise ConversationError(f"{where}: with it there are over {MAX_SECONDS:g} s of sound; a request may have these")
    if sound.samples.size > samples:
        raise ConversationError(
            f"{where}: with it there are over {MAX_SAMPLES:,} samples of sound; send it at a lower rate, as one channel"
        )
    return sound


def _requirements() -> list[str]:
    """This package's own requirements: no index has the package itself, and one might have another of its name."""
    return [each for each in requires("emofuse") or () if "extra ==" not in each]
