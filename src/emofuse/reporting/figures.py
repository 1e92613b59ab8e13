"""Figures as SVG, for the report, ``dvc plots`` and the tracker."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from emofuse.reporting.svg import Markup, Scale, circle, line, picture, rect, slanted, text, ticks

__all__ = ["Estimate", "calibration", "confusion", "dots", "learning", "shares"]

WIDTH = 280
LEFT, RIGHT = 34.0, 272.0
"""Edges of the plot in a picture of :data:`WIDTH`."""

ROW = 34
"""Height of a row of estimates."""


@dataclass(frozen=True)
class Estimate:
    """A row of a figure of estimates.

    Attributes:
        name: at its left end
        mean: the estimate
        low: lower end of its interval
        high: upper end
        words: what stands at the right end
        runs: single values, marked under the interval
        sure: whether the dot is filled
        outlier: whether it may lie beyond the axis, so that the others stay distinct
    """

    name: str
    mean: float
    low: float
    high: float
    words: str
    runs: tuple[float, ...] = ()
    sure: bool = True
    outlier: bool = False


def dots(rows: Sequence[Estimate], label: str, *, zero: bool = False, pick: bool = False) -> Markup:
    """Draw estimates as a dot and a whisker each, over one axis; as wide as there is room.

    Args:
        rows: from the top
        label: of the axis
        zero: whether zero belongs on the axis and is marked
        pick: whether names are there to be clicked
    """
    inner = [row for row in rows if not row.outlier] or rows
    values = [value for row in inner for value in (row.low, row.high, *row.runs)] + ([0.0] if zero else [])
    low, high = min(values), max(values)
    x = Scale(low - 0.02 * (high - low), high + 0.02 * (high - low), 0.5, 99.5, "%")
    bottom = ROW * len(rows)
    parts = []
    for value in ticks(low, high):
        kind = "zero" if zero and value == 0 else "grid"
        parts += [
            line(x(value), 0, x(value), bottom + 4, kind),
            text(x(value), bottom + 16, f"{value:g}", "soft middle"),
        ]
    for place, row in enumerate(rows):
        parts += _row(row, x, ROW * place, pick=pick)
    parts.append(text("50%", bottom + 30, label, "soft middle"))
    return picture(720, bottom + 36, f"{label}: {len(rows)} rows", parts, wide=True)


def _row(row: Estimate, x: Scale, top: float, *, pick: bool) -> list[str]:
    name = text(0, top + 13, row.name, "strong halo pick" if pick else "strong halo", model=row.name)
    words = text("100%", top + 13, row.words, "end halo")
    if row.outlier and not x.low <= row.mean <= x.high:
        side = text(0, top + 27, "◂", "mark") if row.mean < x.low else text("100%", top + 27, "▸", "mark end")
        return [name, words, side]
    return [
        name,
        words,
        line(x(row.low), top + 22, x(row.high), top + 22, "whisker"),
        *(line(x(value), top + 25, x(value), top + 31, "run") for value in row.runs),
        circle(x(row.mean), top + 22, 4.5, "dot" if row.sure else "hollow"),
    ]


def confusion(table: pl.DataFrame, title: str) -> Markup:
    """Draw a confusion matrix: shares of the true class in percent, the count where a pointer rests.

    Args:
        table: ``true, predicted, count`` of every pair of classes, in their order
        title: what it is of
    """
    classes = table["true"].unique(maintain_order=True).to_list()
    counts = table["count"].to_numpy().reshape(len(classes), len(classes))
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    beside = 10 + 6.2 * max(map(len, classes))
    cell = max(30.0, min(44.0, 180 / len(classes)))
    above = 16 + 4.6 * max(map(len, classes))
    parts = []
    for place, name in enumerate(classes):
        left, top = beside + cell * place, above + cell * place
        parts.append(text(beside - 5, top + cell / 2 + 4, name, "end"))
        parts.append(slanted(round(left + cell / 2, 1), round(above - 5, 1), name))
    for (true, predicted), share in np.ndenumerate(shares):
        left, top = round(beside + cell * predicted, 1), round(above + cell * true, 1)
        hint = f"{counts[true, predicted]:,} of {counts[true].sum():,}"
        parts.append(rect(left, top, cell - 1, cell - 1, "cell", hint, f"--v:{share:.3g}"))
        parts.append(text(round(left + cell / 2, 1), round(top + cell / 2 + 4, 1), f"{100 * share:.0f}", "middle"))
    side = beside + cell * len(classes) + 4.6 * len(classes[-1]) - 8
    described = f"Confusion of {title}: rows are true classes, columns predicted ones, percent of the true class"
    return picture(round(side), above + cell * len(classes), described, parts)


def learning(curves: pl.DataFrame, kept: Mapping[tuple[int, int], int | None], model: str) -> Markup:
    """Draw training loss and dev weighted F1 by epoch, a line a run; a dot marks the epoch that was kept.

    Args:
        curves: ``seed, fold, epoch, loss, dev_weighted_f1`` of one model
        kept: that epoch by seed and fold
        model: its name
    """
    table = curves.with_columns(pl.col("dev_weighted_f1") * 100)
    parts = [
        *_panel(table, "loss", "training loss", kept, 0),
        *_panel(table, "dev_weighted_f1", "dev weighted F1, %", kept, 118),
        text(LEFT, 236, "epoch 1", "soft"),
        text(RIGHT, 236, str(table["epoch"].max()), "soft end"),
    ]
    return picture(WIDTH, 240, f"Learning curves of {model}", parts)


def _panel(
    table: pl.DataFrame, column: str, title: str, kept: Mapping[tuple[int, int], int | None], top: float
) -> list[str]:
    epochs = Scale(1, max(int(table["epoch"].to_numpy().max()), 2), LEFT, RIGHT)
    values = table[column].to_numpy()
    y = _upright(float(values.min()), float(values.max()), top + 18, top + 104)
    parts = [text(0, top + 10, title), *_levels(y)]
    for run, rows in table.group_by("seed", "fold", maintain_order=True):
        places = {epoch: (epochs(epoch), y(value)) for epoch, value in rows.select("epoch", column).rows()}
        parts.append(f'<polyline class="line" points="{" ".join(f"{a},{b}" for a, b in places.values())}"/>')
        best = places.get(kept.get((run[0], run[1])) or 0)  # type: ignore[call-overload]
        parts += [circle(*best, 3)] if best else []
    return parts


def shares(values: Sequence[float], most: float, label: str) -> Markup:
    """Draw shares of layers as bars, with a line where they would be equal.

    Args:
        values: of each layer, from the embedding up; they sum to one
        most: the largest share of all pictures that stand beside each other
        label: whose they are
    """
    place = (RIGHT - LEFT) / len(values)
    y = _upright(0, 100 * most, 14, 100)
    parts = _levels(y)
    for number, share in enumerate(values):
        left = LEFT + place * number
        top = float(y(100 * share))
        title = f"layer {number}: {100 * share:.1f} %"
        parts.append(rect(round(left + 0.1 * place, 1), top, round(0.8 * place, 1), round(100 - top, 1), "bar", title))
        if len(values) <= 13 or number % 4 == 0 or number == len(values) - 1:
            parts.append(text(round(left + place / 2, 1), 112, str(number), "soft middle"))
    equal = y(100 / len(values))
    parts += [line(LEFT, equal, RIGHT, equal, "zero"), text(WIDTH / 2, 124, "layer", "soft middle")]
    return picture(WIDTH, 128, f"Weights of layers in percent: {label}", [*parts, text(LEFT, 9, "weight, %", "soft")])


def calibration(bins: Sequence[Mapping[str, Any]], model: str) -> Markup:
    """Draw the share of right predictions by confidence; the larger a dot, the more predictions.

    Args:
        bins: ``count, confidence, accuracy`` of each
        model: its name
    """
    x, y = Scale(0, 100, LEFT, RIGHT), Scale(0, 100, 165, 14)
    parts = [line(x(0), y(0), x(100), y(100), "zero")]
    for value in (0, 50, 100):
        parts += [
            line(LEFT, y(value), RIGHT, y(value), "grid"),
            text(LEFT - 4, float(y(value)) + 4, str(value), "soft end"),
        ]
        parts.append(text(x(value), 178, str(value), "soft middle"))
    total = sum(each["count"] for each in bins)
    for each in bins:
        sure, right = 100 * each["confidence"], 100 * each["accuracy"]
        title = f"{each['count']:,} predictions, confidence {sure:.1f} %, {right:.1f} % right"
        parts.append(circle(x(sure), y(right), round(1.5 + 12 * (each["count"] / total) ** 0.5, 1), "dot", title))
    parts += [text(153, 190, "confidence, %", "soft middle"), text(LEFT, 9, "right, %", "soft")]
    return picture(WIDTH, 194, f"Share of right predictions by confidence of {model}", parts)


def _upright(low: float, high: float, top: float, bottom: float) -> Scale:
    spread = (high - low) or 1.0
    return Scale(low, low + spread, bottom, top)


def _levels(y: Scale) -> list[str]:
    """Lines across a plot at round values, with their numbers."""
    parts = []
    for value in ticks(y.low, y.high, 3):
        parts += [
            line(LEFT, y(value), RIGHT, y(value), "grid"),
            text(LEFT - 4, float(y(value)) + 4, f"{value:g}", "soft end"),
        ]
    return parts
