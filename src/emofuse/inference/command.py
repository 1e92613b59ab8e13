"""The command ``emofuse predict``."""

import sys
from argparse import Namespace
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from emofuse.audio.sound import AudioFile
from emofuse.core.memory import collector_paused
from emofuse.inference.conversation import STANDARD_INPUT, Conversation, ConversationError, read_conversation
from emofuse.inference.hearing import TRANSCRIBED, transcribed_by
from emofuse.inference.model import Model, Prediction
from emofuse.inference.models_on_disk import best_of_project
from emofuse.inference.outputs import as_csv, as_json, as_line, as_object, as_srt, as_text, remarks_on
from emofuse.inference.recording import ONE_SPEAKER
from emofuse.inference.segments import one_each

if TYPE_CHECKING:
    from emofuse.inference.diarization import Diarizer
    from emofuse.inference.hearing import Transcriber

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
    if arguments.link and not arguments.html:
        raise ConversationError("--link only goes with --html")
    model = load(arguments.model or best_of_project())
    named = arguments.transcribe not in (None, _NONE)
    transcribe = _transcriber(arguments.transcribe) if named else None
    by_default = arguments.transcribe is None and model.reads("text")
    if arguments.live:
        _live(model, transcribe, by_default, arguments)
        return
    conversations = [
        read_conversation(path, segments, arguments.channels)
        for path, segments in zip(arguments.conversation, _segments(arguments), strict=True)
    ]
    for path, each in zip(arguments.conversation, conversations, strict=True):
        if arguments.link and each.sound is None:
            raise ConversationError(f"--link refers to the sound of a recording, but {path} is none: its turns are cut")
    predictions = _predictions(model, conversations, transcribe, by_default)
    if arguments.json:
        print(as_json(predictions, model.manifest))
    elif arguments.csv:
        print(as_csv(predictions, model.manifest.classes))
        _print_remarks(str(model), predictions)
    elif arguments.srt:
        print(as_srt(predictions, str(model)))
        _print_remarks(str(model), predictions)
    elif arguments.html:
        from emofuse.inference.pages import as_html

        links = [path if arguments.link else None for path in arguments.conversation]
        print(as_html(predictions, str(model), [each.sound for each in conversations], links, model.manifest.classes))
    else:
        print(as_text(predictions, str(model)))


def _predictions(
    model: Model, conversations: Sequence[Conversation], transcribe: "Transcriber | None", by_default: bool
) -> list[Prediction]:
    """Predict all; turns of recordings that lack words get them from the packaged recogniser if that is the default."""
    wordless = [each.sound is not None and not all(turn.text for turn in each.turns) for each in conversations]
    if not (by_default and any(wordless)):
        return model.predict_all(conversations, transcribe)
    packaged = _transcriber(None)
    return [
        _hinted(model.predict(each, packaged if lacks_words else None))
        for each, lacks_words in zip(conversations, wordless, strict=True)
    ]


def _hinted(prediction: Prediction) -> Prediction:
    """With what to do where the recogniser that nobody has named does not fit."""
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


def _live(model: Model, transcribe: "Transcriber | None", by_default: bool, arguments: Namespace) -> None:
    from emofuse.inference.live import Session, follow

    if len(arguments.conversation) != 1 or arguments.segments or arguments.channels or arguments.diarize:
        raise ConversationError("--live follows one recording, or - for a pipe of samples, and finds its turns itself")
    if arguments.csv or arguments.srt or arguments.html:
        raise ConversationError("--live prints one line per turn, or with --json one object per line")
    (path,) = arguments.conversation
    if by_default:
        transcribe = _transcriber(None)
    session = Session(model, transcribe)
    model.load_encoders()
    blocks, remarks = _blocks(path)
    remarks += (ONE_SPEAKER, *([transcribed_by(transcribe)] if transcribe else []))
    remarks += () if model.is_causal else (_LIVE,)
    origin = model.trained_on(session.name, True, transcribe is not None)
    header = _hinted(Prediction(session.name, model.remark(session.name), (), path.name, remarks, origin))
    if not arguments.json:
        print("\n".join([str(model), *remarks_on(header), ""]), flush=True)
    where = "standard input" if path == STANDARD_INPUT else str(path)
    for number, turn in enumerate(follow(blocks, session, path.name, where), start=1):
        print(as_object(number, turn, header) if arguments.json else as_line(number, turn), flush=True)


def _blocks(path: Path) -> tuple[Iterator[np.ndarray], tuple[str, ...]]:
    """The sound as it comes, and remarks on it."""
    from emofuse.inference.live import as_spoken, from_pipe
    from emofuse.inference.recording import read_mono

    if path == STANDARD_INPUT:
        return from_pipe(sys.stdin.buffer), ()
    sound, remarks = read_mono(AudioFile(path), str(path))
    return as_spoken(sound.samples[0]), remarks
