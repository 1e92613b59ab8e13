"""The command ``emofuse predict``."""

import sys
from argparse import Namespace
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from emofuse.audio.sound import AudioFile, Sound
from emofuse.core.memory import collector_paused
from emofuse.inference.conversation import STANDARD_INPUT, ConversationError, place, read_conversation
from emofuse.inference.hearing import TRANSCRIBED, transcribed_by
from emofuse.inference.model import Model, Prediction
from emofuse.inference.models_on_disk import best_of_project
from emofuse.inference.outputs import as_csv, as_json, as_line, as_object, as_srt, as_text, remarks_on
from emofuse.inference.recording import ONE_SPEAKER
from emofuse.inference.segments import SegmentError, one_each

if TYPE_CHECKING:
    from emofuse.inference.diarization import Diarizer
    from emofuse.inference.hearing import Transcriber

    _Recogniser = Callable[[str | None], Transcriber]

__all__ = ["predict"]

_LIVE = (
    "the model was trained with later turns as context, which it does not have live; predictions for the whole "
    "recording may differ"
)


_NONE = "none"
"""In place of a recogniser's name: turns without words stay so."""

_ANOTHER = "--transcribe names another recogniser, or none"


def predict(arguments: Namespace, load: Callable[[str | Path], Model]) -> None:
    """Print the predictions that the command line asks for.

    Args:
        arguments: of the command, as :mod:`emofuse.cli` has them
        load: what loads a model by its folder or address
    """
    paths: list[Path] = arguments.conversation
    several = len(paths) > 1
    if arguments.link and not arguments.html:
        raise ConversationError("--link only goes with --html")
    if arguments.srt and several:
        raise ConversationError(f"captions are for a single recording; there are {len(paths)}")
    model = load(arguments.model or best_of_project())
    recogniser = cache(_transcriber)
    if arguments.transcribe not in (None, _NONE):
        recogniser(arguments.transcribe)
    if arguments.live:
        _live(model, recogniser, arguments)
        return
    answers: list[_Answer] = []
    for path, segments in zip(paths, _segments(arguments), strict=True):
        try:
            answers.append(_answer(model, path, segments, recogniser, arguments))
        except (ConversationError, SegmentError, OSError) as error:
            if not several:
                raise
            print(f"emofuse: {' '.join(str(error).split())}", file=sys.stderr)
    if answers:
        _print(answers, model, several, arguments)
    if len(answers) < len(paths):
        raise ConversationError(f"{len(paths) - len(answers)} of {len(paths)} could not be predicted; see above")


@dataclass(frozen=True)
class _Answer:
    """A prediction and, for a page, the recording's sound and the link to it."""

    prediction: Prediction
    sound: Sound | None
    link: Path | None


def _answer(
    model: Model, path: Path, segments: "Path | Diarizer | None", recogniser: "_Recogniser", arguments: Namespace
) -> _Answer:
    conversation = read_conversation(path, segments, arguments.channels)
    if arguments.link and conversation.sound is None:
        raise ConversationError(
            f"--link refers to the sound of a recording, but {place(path)} is none: its turns are cut"
        )
    lacks_words = conversation.sound is not None and not all(turn.text for turn in conversation.turns)
    transcribe = _chosen(model, recogniser, arguments) if lacks_words or arguments.transcribe else None
    prediction = _hinted(model.predict(conversation, transcribe), arguments)
    # An hour of sound is a quarter of a gigabyte.
    return _Answer(prediction, conversation.sound if arguments.html else None, path if arguments.link else None)


def _print(answers: Sequence[_Answer], model: Model, several: bool, arguments: Namespace) -> None:
    predictions = [each.prediction for each in answers]
    if arguments.json:
        print(as_json(predictions, model.manifest, several))
    elif arguments.csv:
        print(as_csv(predictions, model.manifest.classes))
        _print_remarks(str(model), predictions)
    elif arguments.srt:
        print(as_srt(predictions, str(model)))
        _print_remarks(str(model), predictions)
    elif arguments.html:
        from emofuse.inference.pages import as_html

        sounds, links = [each.sound for each in answers], [each.link for each in answers]
        print(as_html(predictions, str(model), sounds, links, model.manifest.classes))
    else:
        print(as_text(predictions, str(model), several))


def _chosen(model: Model, recogniser: "_Recogniser", arguments: Namespace) -> "Transcriber | None":
    """The recogniser that is named, or else the packaged one for a model that reads text."""
    name = arguments.transcribe
    return recogniser(name) if name != _NONE and (name or model.reads("text")) else None


def _hinted(prediction: Prediction, arguments: Namespace) -> Prediction:
    """With what to do where the recogniser that nobody has named does not fit."""
    if arguments.transcribe:
        return prediction
    hinted = (f"{each}; {_ANOTHER}" if each == TRANSCRIBED else each for each in prediction.remarks)
    return replace(prediction, remarks=tuple(hinted))


def _transcriber(name: str | None) -> "Transcriber":
    with collector_paused():
        from emofuse.inference.transcripts import recogniser  # here, since it takes a second to import

        return recogniser(name)


def _print_remarks(model: str, predictions: Sequence[Prediction]) -> None:
    """Print the remarks on standard error, beside a format that has no place for them."""
    lines = [model, *(line for each in predictions for line in remarks_on(each))]
    print("\n".join(dict.fromkeys(lines)), file=sys.stderr)


def _segments(arguments: Namespace) -> "Sequence[Path | Diarizer | None]":
    """For each recording, what says where its turns are."""
    paths: list[Path] = arguments.conversation
    if arguments.diarize:
        from emofuse.inference.diarization import diarizer

        return [diarizer(arguments.diarize)] * len(paths)
    return one_each(arguments.segments, paths) if arguments.segments else [None] * len(paths)


def _live(model: Model, recogniser: "_Recogniser", arguments: Namespace) -> None:
    from emofuse.inference.live import Session, follow

    if len(arguments.conversation) != 1 or arguments.segments or arguments.channels or arguments.diarize:
        raise ConversationError("--live follows one recording, or - for a pipe of samples, and finds its turns itself")
    if arguments.csv or arguments.srt or arguments.html:
        raise ConversationError("--live prints one line per turn, or with --json one object per line")
    (path,) = arguments.conversation
    transcribe = _chosen(model, recogniser, arguments)
    session = Session(model, transcribe)
    model.load_encoders()
    blocks, remarks = _blocks(path)
    remarks += (ONE_SPEAKER, *([transcribed_by(transcribe)] if transcribe else []))
    remarks += () if model.is_causal else (_LIVE,)
    origin = model.trained_on(session.name, True, transcribe is not None)
    header = Prediction(session.name, model.remark(session.name), (), path.name, remarks, origin)
    header = _hinted(header, arguments)
    if not arguments.json:
        print("\n".join([str(model), *remarks_on(header), ""]), flush=True)
    for number, turn in enumerate(follow(blocks, session, path.name, place(path)), start=1):
        print(as_object(number, turn, header) if arguments.json else as_line(number, turn), flush=True)


def _blocks(path: Path) -> tuple[Iterator[np.ndarray], tuple[str, ...]]:
    """The sound as it comes, and remarks on it."""
    from emofuse.inference.live import as_spoken, from_pipe
    from emofuse.inference.recording import read_mono

    if path == STANDARD_INPUT:
        return from_pipe(sys.stdin.buffer), ()
    sound, remarks = read_mono(AudioFile(path), str(path))
    return as_spoken(sound.samples[0]), remarks
