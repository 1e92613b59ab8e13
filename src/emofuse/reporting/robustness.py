"""Weighted F1 under worse conditions, beside that without them: the tables of a task, of all its pairs of encoders."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from emofuse.core.percent import in_percent
from emofuse.models.registry import base_name, in_order
from emofuse.scoring.names import METRIC
from emofuse.scoring.predictions import ScoringError

__all__ = ["WORSE", "Conditions", "read_conditions"]

WORSE = "Weighted F1 under worse conditions, and without them on the same utterances in parentheses."
"""What stands above the tables."""


@dataclass(frozen=True)
class Conditions:
    """The models of a task and pair of encoders under each condition.

    Attributes:
        task: its name
        audio: name of the sound's encoder
        text: name of the words' encoder
        names: of the conditions
        rows: cells by model, in the order of ``names``, such as ``74.6 (84.8)``: percent under the condition, and
            without it on the same utterances
        notes: what was measured of each condition
    """

    task: str
    audio: str
    text: str
    names: list[str]
    rows: dict[str, list[str]]
    notes: list[str]


def read_conditions(metrics: Path, place: str = "*/*") -> Iterator[Conditions]:
    """Read ``metrics/<task>/<pair>/robustness/*.json``, of each folder that has some.

    Args:
        metrics: the project's metrics folder
        place: of the tasks and pairs of encoders to read

    Raises:
        ScoringError: a file there is damaged
    """
    for folder in sorted(metrics.glob(f"{place}/robustness")):
        cells, notes = {}, []
        for path in sorted(folder.glob("*.json")):
            try:
                found = json.loads(path.read_text(encoding="utf-8"))
                cells[path.stem] = {model: _cell(own[METRIC]) for model, own in found["scores"].items()}
                notes.append(_note(path.stem, found))
            except (ValueError, KeyError, TypeError) as error:
                raise ScoringError(f"{path}: not the scores of a condition: {error!r}; run its stage again") from error
        if cells:
            audio, _, text = folder.parent.name.partition("+")
            models = in_order([model for own in cells.values() for model in own if model == base_name(model)])
            rows = {model: [own.get(model, "") for own in cells.values()] for model in models}
            yield Conditions(folder.parents[1].name, audio, text, list(cells), rows, notes)


def _cell(scores: Mapping[str, Any]) -> str:
    return f"{in_percent(scores['mean'])} ({in_percent(scores['as_recorded'])})"


def _note(name: str, found: Mapping[str, Any]) -> str:
    rate = found["word_error_rate"]
    words = "" if rate is None else f", word error rate {in_percent(rate)} %"
    return f"{name}: {found['dialogues']} dialogues{words}"
