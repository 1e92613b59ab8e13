"""Predictions as text, JSON, CSV, and captions.

Each format names the model, what it was trained on, and its score there, since a file is passed on without its
context: JSON and each line of ``--live --json`` as keys, CSV as columns, and captions, which have no place for it, as
a first caption.
"""

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from emofuse.inference.conversation import ConversationError
from emofuse.inference.manifest import Manifest
from emofuse.inference.model import Prediction, TurnPrediction
from emofuse.inference.provenance import SYNTHETIC, corpus_of

__all__ = [
    "as_csv",
    "as_json",
    "as_line",
    "as_object",
    "as_srt",
    "as_text",
    "between",
    "clock",
    "falling",
    "from_several",
    "remarks_on",
]

_NO_EMOTION = "–"

_FIELDS = ("source", "turn", "start_s", "end_s", "speaker", "text", "emotion")

_ORIGIN_S = (1.0, 5.0)
"""Seconds that the caption on the model is shown, at the least and at the most; in between, until the first turn."""


def remarks_on(prediction: Prediction) -> list[str]:
    """Return the remarks on the model and the conversation, a line each."""
    return [each for each in (prediction.trained_on, prediction.remark, *prediction.remarks) if each]


def as_text(predictions: Sequence[Prediction], model: str, several: bool = False) -> str:
    """Return a line a turn: number, file, times, speaker, emotion, its probability, those of the others, and the words.

    Files are named where the turns of a conversation are from different ones.

    Args:
        predictions: of each conversation
        model: which model it is, in a line
        several: whether to name each conversation
    """
    lines, trained_on = [model], None
    for prediction in predictions:
        apart = from_several(prediction.turns)
        rows = [_cells(number, each, apart) for number, each in enumerate(prediction.turns, start=1)]
        widths = [max(map(len, column)) for column in list(zip(*rows, strict=True))[:-1]]
        shown = [place for place, width in enumerate(widths) if width]
        lines += ["", f"{prediction.name}:"] if several else []
        lines += [each for each in remarks_on(prediction) if each != trained_on]
        lines += [
            "",
            *("  ".join([*(row[place].ljust(widths[place]) for place in shown), row[-1]]).rstrip() for row in rows),
        ]
        trained_on = prediction.trained_on
    return "\n".join(lines)


def as_line(number: int, turn: TurnPrediction) -> str:
    """Return a turn's line, for predictions that come one by one."""
    return "  ".join(each for each in _cells(number, turn) if each)


def as_object(number: int, turn: TurnPrediction, prediction: Prediction) -> str:
    """Return a turn as JSON in a line, for predictions that come one by one, each with what it came from.

    Args:
        number: of the turn, from 1
        turn: the turn
        prediction: of the conversation, so far
    """
    remarks = [each for each in (prediction.remark, *prediction.remarks) if each]
    origin = {"model": prediction.model, "remark": "; ".join(remarks) or None, "trained_on": prediction.trained_on}
    return json.dumps({"turn": number, **asdict(turn), **origin}, ensure_ascii=False)


def as_json(predictions: Sequence[Prediction], manifest: Manifest, several: bool = False) -> str:
    """Return the predictions and what they came from: an object of one conversation, a list of several.

    Args:
        predictions: of each conversation
        manifest: of the model that was requested
        several: whether to return a list
    """
    requested: dict[str, Any] = {name: getattr(manifest, name) for name in ("task", "model", "seed", "fold", "dev")}
    corpus = corpus_of(manifest)
    requested |= {"corpus": corpus, "language": manifest.language, "synthetic_speech": corpus in SYNTHETIC}
    requested["test"] = (manifest.scores or {}).get("weighted_f1")
    objects = [{"requested": requested, **asdict(each)} for each in predictions]
    return json.dumps(objects if several else objects[0], indent=2, ensure_ascii=False)


def as_csv(predictions: Sequence[Prediction], classes: Sequence[str]) -> str:
    """Return a row a turn: file, number, times, speaker, words, emotion, probabilities, notes, and the model.

    Args:
        predictions: of each conversation
        classes: names of the classes
    """
    stream = io.StringIO(newline="")
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow([*_FIELDS, *classes, "notes", "model", "trained_on"])
    for prediction in predictions:
        origin = (prediction.model, prediction.trained_on)
        for number, turn in enumerate(prediction.turns, start=1):
            times = ("" if each is None else f"{each:.3f}" for each in (turn.start_s, turn.end_s))
            shares = (f"{turn.probabilities[each]:.4f}" if turn.emotion else "" for each in classes)
            words = (turn.speaker, turn.text, turn.emotion)
            notes = "; ".join(turn.notes)
            writer.writerow([turn.source or prediction.name, number, *times, *words, *shares, notes, *origin])
    return stream.getvalue().rstrip("\n")


def as_srt(predictions: Sequence[Prediction], model: str) -> str:
    """Return captions in SRT: which model it is and what it was trained on, then emotion, speaker and words of turns.

    Args:
        predictions: of one recording
        model: which model it is, in a line

    Raises:
        ConversationError: there are several conversations, or turns without times
    """
    if len(predictions) != 1:
        raise ConversationError(f"captions are for a single recording; there are {len(predictions)}")
    (prediction,) = predictions
    captions: list[str] = []
    for turn in prediction.turns:
        if turn.start_s is None or turn.end_s is None:
            raise ConversationError("captions need the times of turns; predict from a recording")
        if not captions:
            origin = "; ".join(filter(None, (f"emofuse {model}", prediction.trained_on, prediction.remark)))
            least, most = _ORIGIN_S
            captions.append(_numbered(1, 0.0, max(least, min(turn.start_s, most)), origin))
        emotion = f"[{turn.emotion} {100 * turn.probabilities[turn.emotion]:.0f} %]" if turn.emotion else ""
        speaker = f"{turn.speaker}:" if turn.speaker else ""
        words = " ".join(each for each in (emotion, speaker, turn.text) if each)
        captions.append(_numbered(len(captions) + 1, turn.start_s, turn.end_s, words))
    return "\n".join(captions).rstrip("\n")


def clock(seconds: float) -> str:
    """Return a time as minutes and seconds, such as 1:02.5; hours before it where there are some."""
    tenths = round(10 * seconds)
    minutes, rest = divmod(tenths, 600)
    hours, minutes = divmod(minutes, 60)
    before = f"{hours}:{minutes:02d}" if hours else f"{minutes}"
    return f"{before}:{rest / 10:04.1f}"


def from_several(turns: Sequence[TurnPrediction]) -> bool:
    """Whether turns are from different files, so that each has to name its own."""
    return len({each.source for each in turns if each.source}) > 1


def between(turn: TurnPrediction) -> str:
    """Return when a turn begins and ends, as far as that is known."""
    return "-".join(clock(each) for each in (turn.start_s, turn.end_s) if each is not None)


def falling(turn: TurnPrediction) -> list[tuple[str, float]]:
    """Return the probabilities of the classes, the likeliest first."""
    return sorted(turn.probabilities.items(), key=lambda each: -each[1])


def _numbered(number: int, start_s: float, end_s: float, words: str) -> str:
    return f"{number}\n{_caption(start_s)} --> {_caption(end_s)}\n{words}\n"


def _caption(seconds: float) -> str:
    milliseconds = round(1000 * seconds)
    hours, rest = divmod(milliseconds, 3_600_000)
    minutes, rest = divmod(rest, 60_000)
    return f"{hours:02d}:{minutes:02d}:{rest // 1000:02d},{rest % 1000:03d}"


def _cells(number: int, turn: TurnPrediction, with_source: bool = False) -> list[str]:
    others = (f"{name} {value:.2f}" for name, value in falling(turn) if name != turn.emotion)
    words = " ".join([turn.text or "", *(f"({note})" for note in turn.notes)]).strip()
    sure = f"{turn.probabilities[turn.emotion]:.2f}" if turn.emotion else ""
    source = (turn.source or "") if with_source else ""
    of_whom = (source, between(turn), turn.speaker or "")
    return [str(number), *of_whom, turn.emotion or _NO_EMOTION, sure, ", ".join(others), words]
