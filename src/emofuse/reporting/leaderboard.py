"""The leaderboard: all results and published ones, as a page and as Markdown."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from emofuse.core.files import write_text
from emofuse.core.markdown import plain, table
from emofuse.models.registry import base_name, in_order
from emofuse.reporting.cells import best_value, score_cell
from emofuse.reporting.pages import render
from emofuse.reporting.protocol import unranked
from emofuse.reporting.robustness import WORSE, Conditions, read_conditions
from emofuse.scoring.literature import Published, published
from emofuse.scoring.names import DEV, METRIC
from emofuse.scoring.predictions import ScoringError

__all__ = ["Row", "leaderboard", "markdown", "write_leaderboard"]

COLUMNS = {
    METRIC: "Weighted F1",
    "accuracy": "Accuracy",
    "balanced_accuracy": "Balanced accuracy",
    f"{DEV}{METRIC}": "Dev weighted F1",
}
"""Titles by metric; the first is what rows are ranked by."""

_NOTE = (
    "Percent on test with the {confidence} interval of the mean over runs. All rows of a task share its test set and "
    "protocol. Settings were chosen by the dev column. Published results have their own protocols."
)


@dataclass(frozen=True)
class Row:
    """A model's results.

    Attributes:
        task: its task
        audio: name of the sound's encoder
        text: name of the words' encoder
        model: its name
        scores: by metric of :data:`COLUMNS` ``mean, sd, low, high, n_runs``; fractions; nothing of dev where others
            predicted test alone
        confidence_level: probability with which an interval holds what it is of
        ranked: whether it may be the best of a column
    """

    task: str
    audio: str
    text: str
    model: str
    scores: dict[str, dict[str, Any]]
    confidence_level: float
    ranked: bool = True


def leaderboard(metrics: Path) -> list[Row]:
    """Return the results of all tasks and pairs of encoders, without ablations and ensembles: by task, pair and model.

    Args:
        metrics: the project's metrics folder

    Raises:
        ScoringError: a file there is damaged
    """
    rows = []
    for path in sorted(metrics.glob("*/*/scores.json")):
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
            protocol, scores, level = found["protocol"], found["scores"], found["intervals"]["confidence_level"]
            place = (protocol["task"], protocol["encoders"]["audio"], protocol["encoders"]["text"])
            models = [model for model in in_order(scores) if model == base_name(model)]
            others = protocol.get("external", {})
            beside = unranked(protocol)
            rows += [
                Row(*place, model, _of_model(scores[model], dev=model not in others), level, model not in beside)
                for model in models
            ]
        except (ValueError, KeyError, TypeError) as error:
            raise ScoringError(f"{path}: not the scores of a task: {error!r}; run its scoring stage again") from error
    return rows


def write_leaderboard(metrics: Path) -> str:
    """Write ``leaderboard.md`` and ``leaderboard.html`` into the metrics folder, and return the Markdown.

    Raises:
        ScoringError: there are no results yet
    """
    rows = leaderboard(metrics)
    if not rows:
        raise ScoringError(f"{metrics}: no results yet; run `dvc repro`")
    conditions = list(read_conditions(metrics))
    text = f"# Leaderboard\n\n{markdown(rows, conditions)}\n"
    write_text(metrics / "leaderboard.md", text)
    write_text(metrics / "leaderboard.html", _page(rows, conditions))
    return text


def _of_model(scores: dict[str, dict[str, Any]], *, dev: bool) -> dict[str, dict[str, Any]]:
    return {metric: scores[metric] for metric in COLUMNS if dev or not metric.startswith(DEV)}


def markdown(rows: Sequence[Row], conditions: Sequence[Conditions] = ()) -> str:
    """Return a table a task, the best of each column in bold; below it worse conditions, and what others published."""
    return "\n\n".join(_of_task(task, own, conditions) for task, own in _by_task(rows).items())


def _by_task(rows: Sequence[Row]) -> dict[str, list[Row]]:
    tasks: dict[str, list[Row]] = {}
    for row in rows:
        tasks.setdefault(row.task, []).append(row)
    return tasks


def _of_task(task: str, rows: Sequence[Row], conditions: Sequence[Conditions]) -> str:
    best = _best(rows)
    lines = []
    for row in rows:
        cells = [str(score_cell(row.scores.get(metric), best[metric] if row.ranked else None)) for metric in COLUMNS]
        lines.append([row.audio, row.text, row.model, *cells, str(row.scores[METRIC]["n_runs"])])
    head = ["Audio", "Text", "Model", *COLUMNS.values(), "Runs"]
    rule = [*["---"] * 3, *["---:"] * (len(COLUMNS) + 1)]
    worse = [_of_conditions(each) for each in conditions if each.task == task]
    return "\n\n".join([f"## {plain(task)}", table(head, rule, lines), *worse, *_others(published(task), task)])


def _of_conditions(own: Conditions) -> str:
    head = [f"{own.audio} + {own.text}", *own.names]
    rows = [[model, *cells] for model, cells in own.rows.items()]
    above = f"{WORSE} {'; '.join(own.notes)}."
    return f"{above}\n\n{table(head, ['---', *['---:'] * len(own.names)], rows)}"


def _best(rows: Sequence[Row]) -> dict[str, float | None]:
    ranked = [row.scores for row in rows if row.ranked]
    return {metric: best_value(metric, [own[metric]["mean"] for own in ranked if metric in own]) for metric in COLUMNS}


def _others(found: Sequence[Published], task: str) -> Iterator[str]:
    if found:
        head = ["Published", "Percent", "Of", "Encoders", "Source"]
        rows = [[each.model, str(each.published[task]), each.metric, each.encoders, each.source] for each in found]
        yield table(head, ["---", "---:", *["---"] * 3], rows)


def _page(rows: Sequence[Row], conditions: Sequence[Conditions]) -> str:
    tasks = [
        {
            "name": task,
            "rows": [
                {
                    "names": [row.audio, row.text, row.model],
                    "cells": [
                        score_cell(row.scores.get(metric), best if row.ranked else None)
                        for metric, best in _best(own).items()
                    ],
                    "runs": row.scores[METRIC]["n_runs"],
                    "page": f"{task}/{row.audio}+{row.text}/report.html",
                }
                for row in sorted(own, key=lambda row: -row.scores[METRIC]["mean"])
            ],
            "worse": [each for each in conditions if each.task == task],
            "published": published(task),
        }
        for task, own in _by_task(rows).items()
    ]
    levels = " or ".join(f"{100 * level:g} %" for level in sorted({row.confidence_level for row in rows}))
    note = _NOTE.format(confidence=levels)
    return render("leaderboard.html.jinja", tasks=tasks, titles=list(COLUMNS.values()), note=note, worse=WORSE)
