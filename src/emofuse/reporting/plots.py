"""Pictures of scores as PNG bytes; the same numbers give the same bytes."""

from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from pathlib import Path
from textwrap import fill
from typing import TYPE_CHECKING, Any, ParamSpec

import numpy as np
import polars as pl

from emofuse.core.files import replace_file
from emofuse.models.registry import in_order
from emofuse.reporting.style import BLUE, FAINT, INK, ORANGE, STYLE, render
from emofuse.reporting.tables import METRIC_TITLES, PART_TITLES, learning_curves
from emofuse.scoring.scores import Scores

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["plot_confusion", "plot_learning", "plot_scores", "write_plot"]

P = ParamSpec("P")

LETTERS = 10
"""Letters of a title to an inch."""


def _png(draw: Callable[P, "Figure"]) -> Callable[P, bytes]:
    """Make a function that draws a figure return its PNG, without pyplot."""

    @wraps(draw)
    def drawn(*args: P.args, **kwargs: P.kwargs) -> bytes:
        import matplotlib

        with matplotlib.rc_context(STYLE):
            return render(draw(*args, **kwargs), "png")

    return drawn


def write_plot(path: Path, png: bytes) -> None:
    """Write a picture atomically."""
    with replace_file(path) as temporary:
        temporary.write_bytes(png)


@_png
def plot_confusion(confusion: pl.DataFrame, title: str) -> "Figure":
    """Confusion matrices, of all utterances and of others side by side: shares of the true class, and counts.

    Args:
        confusion: ``utterances, true, predicted, count``, classes in their order
        title: above the first matrix
    """
    from matplotlib.figure import Figure

    parts = confusion.partition_by("utterances", maintain_order=True)
    side = 2.0 + 0.72 * parts[0]["true"].n_unique()
    figure = Figure(figsize=(side * len(parts), side - 0.3), layout="constrained")
    for axes, part in zip(figure.subplots(1, len(parts), squeeze=False)[0], parts, strict=True):
        _matrix(axes, part)
        above = fill(PART_TITLES[part["utterances"][0]] or title, int(LETTERS * (side - 0.9)))
        axes.set_title(above, fontweight="bold")
    return figure


@_png
def plot_scores(scores: Scores, metrics: Sequence[str] = ("weighted_f1", "balanced_accuracy")) -> "Figure":
    """A dot and a whisker a model, in percent: the mean over runs with its interval, and faintly the single runs."""
    from matplotlib.figure import Figure

    models = in_order(scores.models["model"].to_list())
    figure = Figure(figsize=(1.8 + 3.4 * len(metrics), 1.4 + 0.36 * len(models)), layout="constrained")
    panels = figure.subplots(1, len(metrics), sharey=True, squeeze=False)[0]
    for axes, metric in zip(panels, metrics, strict=True):
        _whiskers(axes, scores, models, metric)
        axes.set_title(METRIC_TITLES.get(metric, metric), fontweight="bold")
        axes.grid(visible=True, axis="x")
        axes.tick_params(axis="y", length=0)
        axes.spines["left"].set_visible(False)
    panels[0].set_yticks(range(len(models)), models)
    panels[0].set_ylim(len(models) - 0.4, -0.6)
    interval = f"{100 * scores.config.confidence_level:g} % interval"
    legend = f"Percent on test. Dot: mean over runs; line: {interval}; grey: single runs; dashed: the best mean."
    figure.supxlabel(legend, fontsize=8, color=FAINT)
    return figure


@_png
def plot_learning(records: Sequence[Mapping[str, Any]]) -> "Figure":
    """Training loss and dev weighted F1 by epoch, a row a model and a line a run; a dot marks the epoch that was kept.

    Args:
        records: the ``record.json`` of runs; those without a history are left out
    """
    from matplotlib.figure import Figure

    curves = learning_curves(records)
    kept = {(record["model"], record["seed"], record["fold"]): record["best_epoch"] for record in records}
    models = curves["model"].unique(maintain_order=True).to_list()
    if not models:
        figure = Figure(figsize=(4, 1))
        figure.text(0.5, 0.5, "no model of this task was trained in epochs", ha="center", va="center")
        return figure
    figure = Figure(figsize=(7.5, 0.8 + 1.3 * len(models)), layout="constrained")
    panels = figure.subplots(len(models), 2, sharex=True, squeeze=False)
    for (left, right), model in zip(panels, models, strict=True):
        for (seed, fold), run in curves.filter(pl.col("model") == model).group_by("seed", "fold", maintain_order=True):
            best = run["epoch"].index_of(kept[model, seed, fold])
            _curve(left, run["epoch"], run["loss"], best, BLUE)
            _curve(right, run["epoch"], 100 * run["dev_weighted_f1"], best, ORANGE)
        left.set_title(model, fontweight="bold")
        left.grid(visible=True, axis="y")
        right.grid(visible=True, axis="y")
    panels[0, 0].set_title("training loss", loc="right")
    panels[0, 1].set_title("dev weighted F1, %", loc="right")
    panels[0, 0].xaxis.get_major_locator().set_params(integer=True)
    for axes in panels[-1]:
        axes.set_xlabel("epoch")
    return figure


def _matrix(axes: "Axes", confusion: pl.DataFrame) -> None:
    classes = confusion["true"].unique(maintain_order=True).to_list()
    counts = confusion["count"].to_numpy().reshape(len(classes), len(classes))
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for (true, predicted), share in np.ndenumerate(shares):
        colour = "white" if share > 0.55 else INK
        axes.text(predicted, true - 0.1, f"{100 * share:.0f} %", ha="center", va="center", color=colour)
        axes.text(
            predicted, true + 0.2, f"{counts[true, predicted]:,}", ha="center", va="center", color=colour, fontsize=7
        )
    axes.set_xticks(range(len(classes)), classes, rotation=40, ha="right", rotation_mode="anchor")
    axes.set_yticks(range(len(classes)), classes)
    axes.set_xticks(np.arange(len(classes) + 1) - 0.5, minor=True)
    axes.set_yticks(np.arange(len(classes) + 1) - 0.5, minor=True)
    axes.grid(visible=True, which="minor", linewidth=1)
    axes.set(xlabel="predicted", ylabel="true")
    axes.spines[:].set_visible(False)
    axes.tick_params(which="both", length=0)


def _whiskers(axes: "Axes", scores: Scores, models: list[str], metric: str) -> None:
    rows = {row["model"]: row for row in scores.models.filter(pl.col("metric") == metric).to_dicts()}
    runs = scores.runs.filter((pl.col("metric") == metric) & (pl.col("fold").is_null() if scores.pooled else True))
    best = max(row["mean"] for row in rows.values())
    axes.axvline(100 * best, color=ORANGE, linewidth=0.8, linestyle=(0, (4, 3)), zorder=1)
    for place, model in enumerate(models):
        row = rows[model]
        values = 100 * runs.filter(pl.col("model") == model)["value"].to_numpy()
        axes.plot(
            values, np.full(len(values), place + 0.22), "o", color=FAINT, alpha=0.5, markersize=2.2, markeredgewidth=0
        )
        colour = ORANGE if row["mean"] == best else BLUE
        axes.plot(
            [100 * row["low"], 100 * row["high"]], [place, place], color=colour, linewidth=1.6, solid_capstyle="round"
        )
        axes.plot([100 * row["mean"]], [place], "o", color=colour, markersize=5)
        axes.annotate(
            f"{100 * row['mean']:.1f}",
            (1.01, place),
            xycoords=("axes fraction", "data"),
            va="center",
            fontsize=8,
            color=colour,
        )


def _curve(axes: "Axes", epochs: pl.Series, values: pl.Series, best: int | None, colour: str) -> None:
    axes.plot(epochs, values, color=colour, linewidth=0.9, alpha=0.6)
    if best is not None:
        axes.plot([epochs[best]], [values[best]], "o", color=colour, markersize=3.5)
