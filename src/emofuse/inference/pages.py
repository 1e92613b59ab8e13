"""Predictions as an HTML page: waveform, emotions over time by speaker, and the turns."""

import base64
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined

from emofuse.audio.flac import encode
from emofuse.audio.sound import Sound
from emofuse.inference.model import Prediction, TurnPrediction
from emofuse.inference.outputs import between, clock, falling, from_several, remarks_on
from emofuse.reporting.palette import emotion_colours

__all__ = ["as_html"]

_COLUMNS_A_SECOND = 6
"""Of a waveform, as many as the page gives pixels to a second of a long recording."""

_FEWEST_COLUMNS = 800

_AT_ONCE = 2**20
"""Samples that are brought to 16 bits at once."""

_NOBODY = "no speaker"


def as_html(
    predictions: Sequence[Prediction],
    model: str,
    sounds: Sequence[Sound | None] = (),
    links: Sequence[Path | None] = (),
    classes: Sequence[str] = (),
) -> str:
    """Return a page with the conversations, their turns coloured by emotion; it asks nothing of the network.

    Args:
        predictions: of each conversation
        model: which model it is, in a line
        sounds: of each conversation the recording, mono at 16 kHz, if it is one
        links: of each conversation the sound file that the page plays, relative to the page; without it the sound is
            put into the page
        classes: names of the classes; those of the first turn without them
    """
    names = classes or next(
        (list(turn.probabilities) for each in predictions for turn in each.turns if turn.emotion), []
    )
    hues = emotion_colours(names)
    loader = PackageLoader("emofuse.inference", "")
    environment = Environment(loader=loader, autoescape=True, undefined=StrictUndefined)  # every text is somebody's
    talks, trained_on = [], predictions[0].trained_on
    for place, prediction in enumerate(predictions):
        sound = sounds[place] if sounds else None
        link = links[place] if links else None
        talks.append(_talk(prediction, trained_on, sound, link, hues))
    return environment.get_template("page.html.jinja").render(
        model=model, trained_on=trained_on, hues=hues, talks=talks
    )


def _talk(
    prediction: Prediction, trained_on: str, sound: Sound | None, link: Path | None, hues: Mapping[str, str]
) -> dict[str, Any]:
    """A conversation; what the model was trained on is there already if it is this line."""
    remarks = [each for each in remarks_on(prediction) if each != trained_on]
    apart = from_several(prediction.turns)
    turns = [_turn(each, hues) | {"source": each.source if apart else None} for each in prediction.turns]
    talk = {"name": prediction.name or "a conversation", "remarks": remarks, "turns": turns, "source": None}
    if sound is None:
        return talk
    seconds = sound.samples.shape[1] / sound.rate
    columns = max(_FEWEST_COLUMNS, round(_COLUMNS_A_SECOND * seconds))
    return talk | {
        "source": _embedded(sound) if link is None else quote(link.as_posix()),
        "seconds": round(seconds, 3),
        "columns": columns,
        "wave": _wave(sound.samples[0], columns),
        "lanes": _lanes(prediction.turns, seconds, hues),
    }


def _embedded(sound: Sound) -> str:
    # FLAC, since a browser finds a place in it to the sample.
    pcm = np.empty(sound.samples.shape[1], "<i2")
    for start in range(0, len(pcm), _AT_ONCE):  # an hour at once would take half a gigabyte
        part = slice(start, start + _AT_ONCE)
        pcm[part] = np.clip(np.rint(sound.samples[0, part] * 32_768), -32_768, 32_767)
    return f"data:audio/flac;base64,{base64.b64encode(encode(pcm)).decode('ascii')}"


def _wave(samples: np.ndarray, columns: int) -> str:
    """The outline of a recording as an SVG path in a box of ``columns`` by 100, the loudest sample at its edge."""
    edges = np.linspace(0, len(samples), columns + 1).astype(int)[:-1]
    starts = np.minimum(edges, len(samples) - 1)
    peaks = np.maximum(np.maximum.reduceat(samples, starts), -np.minimum.reduceat(samples, starts))
    heights = np.rint(49 * peaks / max(float(peaks.max()), 1e-9) + 0.5).astype(int)
    return "".join(f"M{place} {50 - height}h1v{2 * height}h-1z" for place, height in enumerate(heights.tolist()))


def _lanes(turns: Sequence[TurnPrediction], seconds: float, hues: Mapping[str, str]) -> list[dict[str, Any]]:
    """A lane a speaker, in the order in which they first speak."""
    lanes: dict[str, list[dict[str, Any]]] = {}
    for turn in turns:
        if turn.start_s is None or turn.end_s is None:
            continue
        title = f"{clock(turn.start_s)} {turn.emotion or 'no emotion'}: {turn.text or 'no words'}"
        piece = {
            "start_s": round(turn.start_s, 3),
            "left": round(100 * turn.start_s / seconds, 4),
            "width": round(100 * (turn.end_s - turn.start_s) / seconds, 4),
            "hue": _hue(turn, hues),
            "title": title,
        }
        lanes.setdefault(turn.speaker or _NOBODY, []).append(piece)
    return [{"speaker": speaker, "pieces": pieces} for speaker, pieces in lanes.items()]


def _turn(turn: TurnPrediction, hues: Mapping[str, str]) -> dict[str, Any]:
    return {
        "hue": _hue(turn, hues),
        "start_s": None if turn.start_s is None else round(turn.start_s, 3),
        "end_s": None if turn.end_s is None else round(turn.end_s, 3),
        "clock": between(turn),
        "emotion": turn.emotion,
        "sure": f"{100 * turn.probabilities[turn.emotion]:.0f}" if turn.emotion else "",
        "speaker": turn.speaker,
        "text": turn.text,
        "notes": turn.notes,
        "probabilities": ", ".join(f"{name} {100 * value:.0f} %" for name, value in falling(turn)),
        "bar": [{"hue": hues[name], "width": round(100 * value, 2)} for name, value in turn.probabilities.items()],
    }


def _hue(turn: TurnPrediction, hues: Mapping[str, str]) -> str:
    return hues[turn.emotion] if turn.emotion else "var(--line)"
