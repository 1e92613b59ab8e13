"""A request to a served model: rows that are turns, or a recording with its turns, bounded in every direction."""

import base64
import math
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from emofuse.audio.sound import Sound, read_sound
from emofuse.corpora.base import shown
from emofuse.inference.conversation import Conversation, ConversationError, Turn
from emofuse.inference.recording import fit, read_recording
from emofuse.inference.segments import Segment, segment

__all__ = ["COLUMNS", "MAX_BODY", "TIMES", "Request", "read_request"]

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

MAX_CHANNEL_SECONDS = 2 * MAX_SECONDS
"""Sound of a request in which each channel is a speaker, of all channels together: stereo may be as long as mono."""

TIMES = ("start_s", "end_s")
"""Columns of numbers."""

COLUMNS = ("conversation", "speaker", "text", "audio", "recording", *TIMES)

_GLANCE = 0.1
"""Seconds that are decoded of a sound before it is known how much of it may be, and beyond what may be."""


@dataclass(frozen=True)
class Request:
    """What a request asks about.

    Attributes:
        conversations: the one recording, or all whose turns are rows
        places: of each conversation, the row of the answer that each of its turns has
    """

    conversations: tuple[Conversation, ...]
    places: tuple[Sequence[int], ...]


def read_request(table: pd.DataFrame, channels: bool, check_time: Callable[[], None]) -> Request:
    """Read a request.

    Args:
        table: with some of :data:`COLUMNS`, as :mod:`emofuse.inference.serving` describes them
        channels: whether each channel of its recording is a speaker
        check_time: called before each sound is decoded and each channel is searched; what it raises ends the request

    Raises:
        ConversationError: it is not as described, or asks for more than the constants allow
        SegmentError: the times of a turn are none
    """
    if len(table) > MAX_TURNS:
        raise ConversationError(f"{len(table):,} turns; a request may have {MAX_TURNS}, send more requests")
    rows = [_cells(f"turn {index}", row) for index, row in enumerate(table.to_dict("records"), start=1)]
    if not rows:
        # Outside its server, MLflow drops columns that it does not know, and rows without any column are none.
        raise ConversationError(f"no turns; expected at least one row, with some of the columns {list(COLUMNS)}")
    if any(row.keys() & {"recording", *TIMES} for row in rows):
        return _recording(rows, channels, check_time)
    if channels:
        raise ConversationError("turn 1: channels apply to a recording alone")
    places: dict[str, list[int]] = {}
    for index, row in enumerate(rows):
        places.setdefault(row.get("conversation", ""), []).append(index)
    turns = list(_turns(rows, check_time))
    conversations = (Conversation(name, tuple(turns[index] for index in each)) for name, each in places.items())
    return Request(tuple(conversations), tuple(places.values()))


def _recording(rows: Sequence[dict[str, Any]], channels: bool, check_time: Callable[[], None]) -> Request:
    segments = None if len(rows) == 1 and set(rows[0]) == {"recording"} else _segments(rows)
    check_time()
    sound = _sound("turn 1", "recording", rows[0]["recording"], MAX_SECONDS, MAX_SAMPLES)
    if segments is not None:
        return _told(sound, segments, channels)
    count = len(sound.samples)
    if channels and count * _seconds(sound) > MAX_CHANNEL_SECONDS:
        raise ConversationError(
            f"{sound.name}: {count} channels of {_seconds(sound):g} s; with channels a request may have "
            f"{MAX_CHANNEL_SECONDS:g} s in all of them together, send fewer channels or a shorter part"
        )
    conversation = read_recording(sound, sound.name, None, channels, check_time)
    count = len(conversation.turns)
    if count > MAX_TURNS:
        raise ConversationError(f"{count:,} turns are found; a request may have {MAX_TURNS}, send a shorter part")
    return Request((conversation,), (range(count),))


def _told(sound: Sound, segments: Sequence[Segment], channels: bool) -> Request:
    """A recording of which each row is a turn."""
    order = sorted(range(len(segments)), key=lambda index: (segments[index].start_s, segments[index].end_s))

    def fitting(mono: Sound) -> list[Segment]:
        return [fit(segments[index], _seconds(mono), f"turn {index + 1}") for index in order]

    # It sorts by start and end, too, after the sound's end has cut some: those that it makes equal stay in this order.
    return Request((read_recording(sound, sound.name, fitting, channels),), (order,))


def _segments(rows: Sequence[dict[str, Any]]) -> list[Segment]:
    """The turns of a recording, a row each."""
    for index, row in enumerate(rows, start=1):
        wrong = set(row) & {"audio", "conversation"} or (set(row) & {"recording"} if index > 1 else set())
        if wrong or "recording" not in rows[0] or not set(TIMES) <= set(row):
            raise ConversationError(
                f"turn {index}: expected `recording` in the first row only, `start_s` and `end_s` in every row, and at "
                "most `speaker` and `text` besides; send one request per recording"
            )
    found = [
        segment(f"turn {index}", row["start_s"], row["end_s"], row.get("speaker"), row.get("text"))
        for index, row in enumerate(rows, start=1)
    ]
    seconds = sum(each.end_s - each.start_s for each in found)
    if seconds > MAX_SECONDS:
        raise ConversationError(f"{seconds:g} s in all turns together; a request may have {MAX_SECONDS:g} s")
    return found


def _cells(where: str, row: dict[str, Any]) -> dict[str, Any]:
    """What a row has; pandas fills up what it has not."""
    given = {
        name: each for name, each in row.items() if not (each is None or (isinstance(each, float) and math.isnan(each)))
    }
    for name, each in given.items():
        if name in TIMES and isinstance(each, int | float):
            continue
        if not isinstance(each, str):
            raise ConversationError(f"{where}: {name}: {shown(each)}; expected a string")
        most = {"text": MAX_TEXT, "audio": MAX_BODY, "recording": MAX_BODY}.get(str(name), MAX_NAME)
        if len(each) > most:
            raise ConversationError(f"{where}: {name}: {len(each):,} characters; there may be {most:,}")
    return given


def _turns(rows: Sequence[dict[str, str]], check_time: Callable[[], None]) -> Iterator[Turn]:
    seconds, samples = MAX_SECONDS, MAX_SAMPLES
    for index, row in enumerate(rows, start=1):
        check_time()
        sound = _sound(f"turn {index}", "audio", row["audio"], seconds, samples) if row.get("audio") else None
        if sound is not None:
            seconds -= _seconds(sound)
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
        raise ConversationError(
            f"{where}: with it there are over {MAX_SECONDS:g} s of sound; a request may have {MAX_SECONDS:g} s"
        )
    if sound.samples.size > samples:
        raise ConversationError(
            f"{where}: with it there are over {MAX_SAMPLES:,} samples of sound; send it at a lower rate, as one channel"
        )
    return sound


def _seconds(sound: Sound) -> float:
    return sound.samples.shape[1] / sound.rate
