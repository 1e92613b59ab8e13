"""The README's results: written from ``metrics/`` between two marks, so that nobody copies a number by hand."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import polars as pl

from emofuse.core.files import write_text
from emofuse.reporting.verdicts import standing
from emofuse.scoring.predictions import ScoringError

__all__ = ["BEGIN", "END", "results", "with_results", "write_results"]

BEGIN, END = "<!-- results: written by `emofuse leaderboard --readme` -->", "<!-- end of results -->"
"""The lines between which the README has the results."""

_COLUMNS = {"weighted_f1": "Weighted F1", "accuracy": "Accuracy", "balanced_accuracy": "Balanced accuracy"}


def results(metrics: Path) -> str:
    """Return for each task and pair of encoders which model is best, and a table of the models without ablations.

    Args:
        metrics: the project's metrics folder, ``<task>/<pair>/scores.csv``
    """
    return "\n\n".join(map(_results, sorted(path.parent for path in metrics.glob("*/*/scores.csv"))))


def _results(folder: Path) -> str:
    scores, pairs = (pl.read_csv(folder / f"{name}.csv") for name in ("scores", "pairs"))
    intervals = json.loads((folder / "scores.json").read_text(encoding="utf-8"))["intervals"]
    lines = [f"- {line}" for line in standing(scores, pairs, intervals["confidence"])]
    title = f"**{folder.parent.name}, {folder.name.replace('+', ' + ')}**"
    return "\n\n".join([title, "\n".join(lines), _table(scores)])


def with_results(text: str, metrics: Path) -> str:
    """Return the README's text with the results as they are in ``metrics/``.

    Raises:
        ScoringError: the marks are not there, once each and in order
    """
    if text.count(BEGIN) != 1 or text.count(END) != 1 or text.index(BEGIN) > text.index(END):
        raise ScoringError(f"README.md: expected one line {BEGIN!r}, and one line {END!r} after it")
    head, tail = text.partition(BEGIN)[0], text.partition(END)[2]
    return f"{head}{BEGIN}\n\n{results(metrics)}\n\n{END}{tail}"


def write_results(readme: Path, metrics: Path) -> None:
    """Bring the results in a README file up to date."""
    write_text(readme, with_results(readme.read_text(encoding="utf-8"), metrics))


def _table(scores: pl.DataFrame) -> str:
    cells = {(row["model"], row["metric"]): row for row in scores.to_dicts()}
    models = [name for name in scores["model"].unique(maintain_order=True) if "/" not in name]
    lines = [["Model", *_COLUMNS.values(), "Runs"], ["---", *["---:"] * (len(_COLUMNS) + 1)]]
    for model in models:
        own = [cells[model, metric] for metric in _COLUMNS]
        lines.append([model, *map(_cell, own), str(own[0]["n_runs"])])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cell(row: Mapping[str, Any]) -> str:
    return f"{100 * row['mean']:.1f} [{100 * row['low']:.1f}, {100 * row['high']:.1f}]"
