"""The page to look at: one HTML file a task, with everything in it, equal bytes for equal results.

What is drawn is laid out here, as numbers; ``report.html.jinja`` says how it looks.
"""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from emofuse.models.registry import in_order, is_ablation
from emofuse.reporting.dialogues import Dialogue
from emofuse.reporting.layers import LayerShares, layer_figures
from emofuse.reporting.protocol import PARAMETERS, TIMES, protocol_lines, repeat
from emofuse.reporting.tables import PART_TITLES, Grid, best_value, grids, learning_curves, models_of, shown
from emofuse.reporting.verdicts import METRIC, between, pair_row, percent, standing, verdict
from emofuse.scoring.calibration import BINS
from emofuse.scoring.literature import published
from emofuse.scoring.scores import ECE, NOT_COVERED, SUFFIXES, Scores

__all__ = ["report", "with_times"]

EMBEDDED = "demo"
"""The corpus that is made up."""

HUES = ("#6b7784", "#e69f00", "#0072b2", "#d55e00", "#009e73", "#9467bd", "#cc79a7", "#56b4e9")
"""Colours of classes, after Okabe and Ito, told apart with any colour vision; the name always stands beside them."""

FACTS = ("Runs", "Parameters in all", "Labels seen")
"""Columns beside the scores."""

_TIMES = '<script type="application/json" id="seconds">{}</script>'
"""Where a page has its training times, by model."""

LEFT, RIGHT, TOP, BOTTOM = 34, 276, 18, 106
"""Edges of a learning curve's plot in its picture."""


def report(
    scores: Scores,
    protocol: Mapping[str, Any],
    comparisons: Sequence[tuple[str, str]],
    records: Sequence[Mapping[str, Any]],
    dialogues: Sequence[Dialogue],
    layers: Sequence[LayerShares] = (),
) -> str:
    """Return the page of a task.

    Args:
        scores: what :func:`emofuse.scoring.scores.score` gave
        protocol: what :func:`emofuse.reporting.benchmark.protocol` gave
        comparisons: pairs of models to tell of
        records: the ``record.json`` of all runs
        dialogues: what models made of a dialogue, to show
        layers: what :func:`emofuse.reporting.layers.read_layer_shares` gave
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    folder = FileSystemLoader(Path(__file__).parent)
    environment = Environment(loader=folder, autoescape=True, undefined=StrictUndefined, keep_trailing_newline=True)
    models = in_order(scores.models["model"].to_list())
    parts = scores.confusion["utterances"].unique(maintain_order=True)
    whiskers, axis = _whiskers(scores, models)
    return environment.get_template("report.html.jinja").render(
        title=f"{protocol['task']}, {' + '.join(protocol['encoders'].values())}",
        task=protocol["task"],
        pair="+".join(protocol["encoders"].values()),
        scores=scores,
        synthetic=protocol["corpus"] == EMBEDDED,
        confidence_level=f"{100 * scores.config.confidence_level:g}",
        not_covered=NOT_COVERED,
        bins=BINS,
        summary=standing(scores.models, scores.pairs, scores.config.confidence_level),
        comparisons=_comparisons(scores, comparisons),
        grids=[_grid(scores, models, protocol["models"], grid) for grid in grids(scores)],
        whiskers=whiskers,
        axis=axis,
        by_class={PART_TITLES[part]: _by_class(scores, models, part) for part in parts},
        ablations=[model for model in models if is_ablation(model)],
        confusions={PART_TITLES[part]: [_confusion(scores, model, part) for model in models] for part in parts},
        curves=_curves(records, models),
        layers=layer_figures(layers),
        calibrations={PART_TITLES[part]: [_calibration(scores, model, part) for model in models] for part in parts},
        dialogues=[_dialogue(each, scores.classes) for each in dialogues],
        hues=_hues(scores.classes),
        published=published(protocol["task"]),
        protocol=protocol_lines(protocol),
        no_times=_TIMES.format("{}"),
        notes={"parameters": PARAMETERS, "times": TIMES, "repeat": repeat(protocol)},
    )


def with_times(page: str, seconds: Mapping[str, float]) -> str:
    """Return a page with a column of training times, which an out cannot have: no two trainings take equally long.

    Args:
        page: what :func:`report` gave
        seconds: of a run of each model, in its own stage
    """
    # Names come from the tracker; without the sign none ends the script.
    return page.replace(_TIMES.format("{}"), _TIMES.format(json.dumps(seconds).replace("<", "\\u003c")))


def _comparisons(scores: Scores, comparisons: Sequence[tuple[str, str]]) -> list[dict[str, Any]]:
    pairs = [(first, second, pair_row(scores.pairs, first, second)) for first, second in comparisons]
    place = _Axis([0.0, *(pair[end] for _, _, pair in pairs for end in ("low", "high"))])
    return [
        {
            "first": first,
            "second": second,
            "text": between(pair),
            "verdict": verdict(pair, scores.config.confidence_level),
            "p": f"{pair['p']:.2g}",
            "p_adjusted": f"{pair['p_adjusted']:.2g}",
            "zero": place(0.0),
            "runs": [],
            **place.bar(pair["difference"], pair["low"], pair["high"]),
        }
        for first, second, pair in pairs
    ]


class _Axis:
    """Places values on an axis that spans all of them, in percent of its length."""

    def __init__(self, values: Iterable[float]) -> None:
        values = list(values)
        spread = max(values) - min(values) or 0.01
        self.low, self.high = min(values) - 0.03 * spread, max(values) + 0.03 * spread

    def __call__(self, value: float) -> float:
        return round(100 * (value - self.low) / (self.high - self.low), 2)

    def bar(self, mean: float, low: float, high: float) -> dict[str, float]:
        return {"mean": self(mean), "low": self(low), "width": round(self(high) - self(low), 2)}


def _whiskers(scores: Scores, models: Sequence[str]) -> tuple[list[dict[str, Any]], dict[str, str]]:
    rows = {row["model"]: row for row in scores.models.filter(pl.col("metric") == METRIC).to_dicts()}
    shown = pl.col("fold").is_null() if scores.pooled else pl.lit(value=True)
    runs = scores.runs.filter((pl.col("metric") == METRIC) & shown)
    place = _Axis([*runs["value"], *(row[end] for row in rows.values() for end in ("low", "high"))])
    whiskers = [
        {
            "model": model,
            "text": f"{_percent(rows[model]['mean'])} {_ends(rows[model]['low'], rows[model]['high'])}",
            "zero": None,
            "runs": [place(value) for value in runs.filter(pl.col("model") == model)["value"]],
            **place.bar(rows[model]["mean"], rows[model]["low"], rows[model]["high"]),
        }
        for model in models
    ]
    return whiskers, {"low": _percent(place.low), "high": _percent(place.high)}


def _grid(scores: Scores, models: Sequence[str], sizes: Mapping[str, Mapping[str, Any]], grid: Grid) -> dict[str, Any]:
    cells = {(row["model"], row["metric"]): row for row in shown(scores).to_dicts()}
    names = list(grid.columns)
    models = [model for model in models_of(grid, models) if (model, names[0]) in cells]
    values = {name: [cells[model, name]["mean"] for model in models if (model, name) in cells] for name in names}
    best = {name: best_value(name, own or [math.nan]) for name, own in values.items()}
    rows = []
    for model in models:
        own = [_score_cell(cells.get((model, name)), best[name]) for name in names]
        rows.append({"model": model, "cells": own + _size_cells(sizes[model], cells[model, names[0]])})
    titles = [*grid.columns.values(), *FACTS]
    return {"title": grid.title, "titles": titles, "rows": rows}


def _score_cell(cell: Mapping[str, Any] | None, best: float) -> dict[str, Any]:
    if cell is None:  # of a model that only names classes: the calibration error
        return _cell(-1.0, "")
    spread = f"± {_percent(cell['sd'])} " if cell["sd"] is not None else ""
    interval = "" if cell["low"] is None else _ends(cell["low"], cell["high"])
    beside = f"{spread}{interval}"
    return _cell(cell["mean"], _percent(cell["mean"]), beside, best=cell["mean"] == best)


def _size_cells(sizes: Mapping[str, Any], cell: Mapping[str, Any]) -> list[dict[str, Any]]:
    size, seen = sizes["n_parameters_in_all"], sizes["labels_seen"]
    return [
        _cell(cell["n_runs"], str(cell["n_runs"])),
        _cell(size, f"{size:,}", f"own stage {sizes['n_parameters']:,}"),
        _cell(int(seen), "yes" if seen else "no"),
    ]


def _cell(value: float, text: str, beside: str = "", *, best: bool = False) -> dict[str, Any]:
    return {"value": value, "mean": text, "beside": beside, "best": best}


def _by_class(scores: Scores, models: Sequence[str], part: str) -> list[dict[str, Any]]:
    means = {(model, metric): mean for model, metric, mean in scores.models.select("model", "metric", "mean").rows()}
    names = [f"f1/{name}{SUFFIXES[part]}" for name in scores.classes]
    return [{"model": model, "values": [means[model, name] for name in names]} for model in models]


def _confusion(scores: Scores, model: str, part: str) -> dict[str, Any]:
    own = (pl.col("model") == model) & (pl.col("utterances") == part)
    matrix = scores.confusion.filter(own)["count"].to_numpy().reshape(len(scores.classes), -1)
    rows = [
        {
            "name": name,
            "cells": [{"share": round(int(count) / max(int(row.sum()), 1), 4), "count": int(count)} for count in row],
        }
        for name, row in zip(scores.classes, matrix, strict=True)
    ]
    return {"model": model, "rows": rows}


def _curves(records: Sequence[Mapping[str, Any]], models: Sequence[str]) -> list[dict[str, Any]]:
    kept = {(record["model"], record["seed"], record["fold"]): record["best_epoch"] for record in records}
    table = learning_curves(records).with_columns(pl.col("dev_weighted_f1") * 100)
    figures = []
    for model in models:
        own = table.filter(pl.col("model") == model)
        if len(own):
            panels = {
                name: _panel(own, column, title, kept)
                for name, column, title in (
                    ("loss", "loss", "training loss"),
                    ("score", "dev_weighted_f1", "dev weighted F1"),
                )
            }
            figures.append({"model": model, **panels})
    return figures


def _panel(table: pl.DataFrame, column: str, title: str, kept: Mapping[tuple[Any, ...], int | None]) -> dict[str, Any]:
    values = _Axis(table[column])
    last = int(table["epoch"].to_numpy().max())

    def x(epoch: int) -> float:
        return round(LEFT + (RIGHT - LEFT) * (epoch - 1) / max(last - 1, 1), 1)

    def y(value: float) -> float:
        return round(BOTTOM - (BOTTOM - TOP) * values(value) / 100, 1)

    lines = []
    for run, rows in table.group_by("model", "seed", "fold", maintain_order=True):
        places = {epoch: (x(epoch), y(value)) for epoch, value in rows.select("epoch", column).rows()}
        points = " ".join(f"{a},{b}" for a, b in places.values())
        lines.append({"points": points, "kept": places.get(kept[run] or 0)})
    ends = (values.low, (values.low + values.high) / 2, values.high)
    ticks = [{"y": y(value), "text": f"{value:.3g}"} for value in ends]
    return {"title": title, "lines": lines, "ticks": ticks, "epochs": last}


def _calibration(scores: Scores, model: str, part: str) -> dict[str, Any]:
    own = (pl.col("model") == model) & (pl.col("utterances") == part)
    rows = scores.calibration.filter(own).to_dicts()
    total = sum(row["count"] for row in rows)
    error = scores.models.filter((pl.col("model") == model) & (pl.col("metric") == f"{ECE}{SUFFIXES[part]}"))["mean"][0]
    bins = [
        {
            "x": round(34 + 240 * row["confidence"], 1),
            "y": round(165 - 155 * row["accuracy"], 1),
            "r": round(1.5 + 12 * (row["count"] / total) ** 0.5, 1),
            "text": f"{row['count']:,} predictions, {_percent(row['confidence'])} sure, "
            f"{_percent(row['accuracy'])} right",
        }
        for row in rows
    ]
    return {"model": model, "error": _percent(error), "bins": bins}


def _dialogue(dialogue: Dialogue, classes: Sequence[str]) -> dict[str, Any]:
    hues = dict(zip(classes, _hues(classes), strict=True))
    turns = []
    for number, turn in enumerate(dialogue.turns.to_dicts()):
        target = turn.get("target")
        gates = [{"title": title, "value": values[number]} for title, values in dialogue.gate.items()]
        turns.append(
            {
                "predicted": turn["predicted"],
                "confidence": None if turn["confidence"] is None else f"{100 * turn['confidence']:.0f}",
                "hue": hues.get(turn["predicted"], "transparent"),
                "missed": target if target != turn["predicted"] else None,
                "speaker": turn.get("speaker"),
                "text": turn.get("text"),
                "gates": gates,
                "attention": [_strip(title, rows[number], number) for title, rows in dialogue.attention.items()],
            }
        )
    return {"model": dialogue.model, "seed": dialogue.seed, "words": dialogue.has_words, "turns": turns}


def _strip(title: str, weights: Sequence[float], own: int) -> dict[str, Any]:
    largest = max(weights) or 1.0
    cells = [round(weight / largest, 3) for weight in weights]
    return {"title": title, "cells": cells, "own": own, "strongest": cells.index(max(cells)) + 1}


def _hues(classes: Sequence[str]) -> list[str]:
    return [HUES[place % len(HUES)] for place in range(len(classes))]


def _percent(fraction: float) -> str:
    return f"{percent(fraction):.1f}"


def _ends(low: float, high: float) -> str:
    return f"[{_percent(low)}, {_percent(high)}]"
