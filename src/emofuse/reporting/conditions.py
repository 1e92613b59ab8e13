"""Tables of weighted F1 under worse conditions, for all pairs of encoders of a task."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from emofuse.models.registry import base_name, in_order
from emofuse.reporting.verdicts import METRIC, in_percent
from emofuse.scoring.predictions import ScoringError

__all__ = ["Conditions", "read_conditions"]


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


def read_conditions(metrics: Path) -> Iterator[Conditions]:
    """Read ``metrics/<task>/<pair>/robustness/*.csv``, of each folder that has some.

    Raises:
        ScoringError: a file there is damaged
    """
    for folder in sorted(metrics.glob("*/*/robustness")):
        read = {path.stem: _read(path) for path in sorted(folder.glob("*.csv"))}
        tables = {name: own for name, own in read.items() if len(own)}
        if tables:
            audio, _, text = folder.parent.name.partition("+")
            cells = {name: _cells(table) for name, table in tables.items()}
            models = in_order([model for own in cells.values() for model in own if model == base_name(model)])
            rows = {model: [own.get(model, "") for own in cells.values()] for model in models}
            notes = [_note(name, table) for name, table in tables.items()]
            yield Conditions(folder.parents[1].name, audio, text, list(tables), rows, notes)


def _read(path: Path) -> pl.DataFrame:
    try:
        return pl.read_csv(path).filter(pl.col("metric") == METRIC)
    except pl.exceptions.PolarsError as error:
        raise ScoringError(f"{path}: not the scores of a condition: {error}; run its stage again") from error


def _cells(table: pl.DataFrame) -> Mapping[str, str]:
    rows = table.select("model", "mean", "as_recorded").rows()
    return {model: f"{in_percent(mean)} ({in_percent(recorded)})" for model, mean, recorded in rows}


def _note(name: str, table: pl.DataFrame) -> str:
    rate, dialogues = table.select("word_error_rate", "dialogues").row(0)
    words = "" if rate is None else f", word error rate {in_percent(rate)} %"
    return f"{name}: {dialogues} dialogues{words}"
