"""Labels and speakers from file names: the schemes of public corpora, and a guess for others."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from emofuse.corpora.base import shown

__all__ = ["SCHEMES", "Scheme", "guess", "split_values"]

_EMOTIONS = (
    *("ang", "anger", "angry", "bor", "boredom", "bored", "cal", "calm", "dis", "disgust", "disgusted", "exc"),
    *("excited", "fea", "fear", "fearful", "fru", "frustrated", "hap", "happy", "happiness", "joy", "neu", "neutral"),
    *("sad", "sadness", "sur", "surprise", "surprised"),
)
"""Words by which a part of a name is taken for a label."""

_SPLITS = {
    "train": ("train", "training"),
    "dev": ("dev", "devel", "development", "val", "valid", "validation"),
    "test": ("test", "testing", "eval", "evaluation"),
}
"""Words by which a part of a name is taken for the split."""

_FEWEST, _MOST = 2, 20
"""Distinct values that a label may have."""


@dataclass(frozen=True)
class Scheme:
    """How the files of a corpus are named.

    Attributes:
        title: of the corpus, or what the guess rests on
        pattern: regular expression of a file's name without its folder and ending; its groups are columns
        values: by column, what codes mean
        language: of the speech, as the corpus's owner gives it; None if not known
    """

    title: str
    pattern: str
    values: Mapping[str, Mapping[str, str | None]] = field(default_factory=dict)
    language: str | None = None


SCHEMES = (
    Scheme(
        "EmoDB: speaker, sentence, emotion by the first letter of its German name, version",
        r"(?P<speaker>\d\d)(?P<text>[ab]\d\d)(?P<label>[WLEAFTN])[a-z]",
        {
            "label": {
                "W": "anger",
                "L": "boredom",
                "E": "disgust",
                "A": "fear",
                "F": "happiness",
                "T": "sadness",
                "N": "neutral",
            },
            "text": {
                "a01": "Der Lappen liegt auf dem Eisschrank.",
                "a02": "Das will sie am Mittwoch abgeben.",
                "a04": "Heute abend könnte ich es ihm sagen.",
                "a05": "Das schwarze Stück Papier befindet sich da oben neben dem Holzstück.",
                "a07": "In sieben Stunden wird es soweit sein.",
                "b01": "Was sind denn das für Tüten, die da unter dem Tisch stehen?",
                "b02": "Sie haben es gerade hochgetragen und jetzt gehen sie wieder runter.",
                "b03": "An den Wochenenden bin ich jetzt immer nach Hause gefahren und habe Agnes besucht.",
                "b09": "Ich will das eben wegbringen und dann mit Karl was trinken gehen.",
                "b10": "Die wird auf dem Platz sein, wo wir sie immer hinlegen.",
            },
        },
        "German",
    ),
    Scheme(
        "RAVDESS: modality, channel, emotion, intensity, statement, repetition, actor",
        r"\d\d-\d\d-(?P<label>\d\d)-\d\d-(?P<text>\d\d)-\d\d-(?P<speaker>\d\d)",
        {
            "label": {
                "01": "neutral",
                "02": "calm",
                "03": "happy",
                "04": "sad",
                "05": "angry",
                "06": "fearful",
                "07": "disgust",
                "08": "surprised",
            },
            "text": {"01": "Kids are talking by the door.", "02": "Dogs are sitting by the door."},
        },
        "English",
    ),
    Scheme(
        "CREMA-D: actor, sentence, emotion, level",
        r"(?P<speaker>\d{4})_[A-Z]{3}_(?P<label>ANG|DIS|FEA|HAP|NEU|SAD)_[A-Z]{2}",
        {
            "label": {
                "ANG": "anger",
                "DIS": "disgust",
                "FEA": "fear",
                "HAP": "happiness",
                "NEU": "neutral",
                "SAD": "sadness",
            }
        },
        "English",
    ),
)
"""Corpora that are recognised by their files' names; the codes are those of their owners' documentation."""


def guess(names: Sequence[str]) -> Scheme | None:
    """Return the scheme of files' paths: a known corpus's, or one guessed from parts that repeat; None where none fits.

    A guess splits paths at ``/``, ``_``, ``-`` and ``.``, or at ``/`` alone where file names have different parts. The
    part whose values are mostly words for emotions is the label, one that says train, dev and test is the split; of the
    others, the first one with several values, each of several files, is the speaker.

    Args:
        names: paths below the corpus's folder, without endings, ``/`` between folders
    """
    if not names:
        return None
    for scheme in SCHEMES:
        if all(re.fullmatch(scheme.pattern, name.rpartition("/")[2]) for name in names):
            folders = {name.rpartition("/")[0] for name in names}
            prefix = "(?:.*/)?" if len(folders) > 1 else re.escape(f"{folder}/") if (folder := folders.pop()) else ""
            return Scheme(scheme.title, prefix + scheme.pattern, scheme.values, scheme.language)
    return _by_parts(names, "/_.-") or _by_parts(names, "/")


def _by_parts(names: Sequence[str], marks: str) -> Scheme | None:
    paths = [re.split(f"([{marks}])", name) for name in names]
    shapes = {(len(parts), tuple(parts[1::2])) for parts in paths}
    if len(shapes) != 1:
        return None
    columns = list(zip(*paths, strict=True))[::2]
    separators = paths[0][1::2]
    label = next((place for place, values in enumerate(columns) if _is_label(values)), None)
    if label is None:
        return None
    chosen = {label: "label"}
    others = [place for place in range(len(columns)) if place != label]
    values: dict[str, dict[str, str | None]] = {}
    if (split := next((place for place in others if _is_split(columns[place])), None)) is not None:
        chosen[split] = "split"
        values["split"] = split_values(columns[split])
    known = list(zip(*(columns[place] for place in chosen), strict=True))
    groups = (place for place in others if place not in chosen and _is_group(columns[place], known))
    if (speaker := next(groups, None)) is not None:
        chosen[speaker] = "speaker"
    parts = [
        _group(chosen[place], values, marks) if place in chosen else f"[^{marks}]*"
        for place, values in enumerate(columns)
    ]
    pattern = parts[0] + "".join(re.escape(mark) + part for mark, part in zip(separators, parts[1:], strict=True))
    told = ", ".join(f"{column} {columns[place][0]}" for place, column in sorted(chosen.items()))
    return Scheme(f"a guess: {shown(names[0], quoted=False)} is read as {told}", pattern, values)


def _group(name: str, values: Sequence[str], marks: str) -> str:
    inside = r"\d+" if all(each.isdigit() for each in values) else f"[^{marks}]+"
    return f"(?P<{name}>{inside})"


def _is_label(values: Sequence[str]) -> bool:
    counts = Counter(values)
    known = sum(count for value, count in counts.items() if value.lower() in _EMOTIONS)
    return _FEWEST <= len(counts) <= _MOST and 2 * known > len(values)


def _is_split(values: Sequence[str]) -> bool:
    return len(set(values)) >= _FEWEST and None not in split_values(values).values()


def split_values(values: Sequence[str]) -> dict[str, str | None]:
    """Return which of train, dev and test each value means, such as dev for ``validation``; None for other words."""
    meanings = {word: split for split, words in _SPLITS.items() for word in words}
    return {value: meanings.get(value.lower()) for value in sorted(set(values))}


def _is_group(values: Sequence[str], known: Sequence[tuple[str, ...]]) -> bool:
    """Whether a part could name speakers: several values, each of several files.

    One that only counts the files of a folder does not, nor one whose values each go with a single label, such as the
    label once more.

    Args:
        values: of the part
        known: what else is known of each file: its label, and its split if it has one
    """
    counts = Counter(values)
    counted = all(each.isdigit() for each in values) and len(set(zip(values, known, strict=True))) == len(values)
    of_a_label = len({(value, label) for value, (label, *_) in zip(values, known, strict=True)}) == len(counts)
    return not (counted or of_a_label) and len(counts) >= _FEWEST and 3 * len(counts) <= len(values)
