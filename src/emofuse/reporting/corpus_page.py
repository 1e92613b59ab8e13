"""A page of plots for a corpus: one HTML file that carries everything with it, the same bytes for the same corpus."""

import json
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from emofuse.core.files import write_text
from emofuse.core.schema import SAMPLE_RATE
from emofuse.reporting.style import BLUE, FAINT, ORANGE, PALE, STYLE, render

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["overview", "write_overview"]

_SPLITS = {"train": BLUE, "dev": PALE, "test": ORANGE, "none": FAINT}
_SHOWN = 10
"""Utterances that the table of defects names for each kind."""

_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{name}</title>
<style>
body {{ max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #22303c; background: white;
  font: 15px/1.5 "DejaVu Sans", Verdana, sans-serif; }}
svg {{ width: 100%; height: auto; }}
svg text {{ font-family: "DejaVu Sans", Verdana, sans-serif !important; }}
table {{ border-collapse: collapse; }}
th, td {{ padding: 0.2rem 0.8rem 0.2rem 0; text-align: left; vertical-align: top;
  border-bottom: 1px solid #e3e8ec; overflow-wrap: anywhere; }}
.number {{ text-align: right; }}
</style>
</head>
<body>
<h1>{name}</h1>
<p>{counts}</p>
{plots}
{tables}
</body>
</html>
"""


def write_overview(name: str, corpus: Path, summary: Path, page: Path) -> None:
    """Write the page of an ingested corpus.

    Args:
        name: the corpus's key in the parameters
        corpus: its folder under ``data/corpora``
        summary: its counts and defects, as :func:`emofuse.corpora.ingest.summarise` gives them
        page: the HTML file
    """
    utterances = pl.read_parquet(corpus / "utterances.parquet")
    write_text(page, overview(name, utterances, json.loads(summary.read_text(encoding="utf-8"))))


def overview(name: str, utterances: pl.DataFrame, summary: dict[str, Any]) -> str:
    """Return the page: class balance by split, clip lengths, turns, words, defects by kind, and the reader's notes.

    Args:
        name: title of the page
        utterances: rows of :data:`emofuse.core.schema.UTTERANCES`
        summary: as :func:`emofuse.corpora.ingest.summarise` gives it
    """
    import matplotlib

    with matplotlib.rc_context(STYLE):
        svg = render(_draw(utterances), "svg").decode()
    counts = [f"{summary[what]:,} {what}" for what in ("utterances", "dialogues", "speakers")]
    tables = [*_labels(summary["splits"]), *_defects(utterances), *_notes(summary["notes"])]
    return _PAGE.format(
        name=escape(name),
        counts=", ".join([*counts, f"{summary['hours_of_audio']:.2f} hours of audio"]),
        plots=svg[svg.index("<svg") :],
        tables="\n".join(tables),
    )


def _draw(utterances: pl.DataFrame) -> "Figure":
    from matplotlib.figure import Figure

    utterances = utterances.with_columns(pl.col("split").fill_null("none"))
    names = [split for split in _SPLITS if split in set(utterances["split"])]
    labels = utterances["label"].drop_nulls().unique()
    top = 1.2 + 0.16 * len(names) * len(labels) if len(labels) else 2.6
    figure = Figure(figsize=(9, top + 4.8), layout="constrained")
    panels = figure.subplot_mosaic(
        [["labels", "labels"], ["lengths", "turns"], ["words", "defects"]], height_ratios=[top, 2.4, 2.4]
    )
    draw_classes = _draw_labels if len(labels) else _draw_sentiments
    draw_classes(panels["labels"], utterances, names)
    seconds = pl.when(pl.col("n_samples") > 0).then(pl.col("n_samples") / SAMPLE_RATE)
    lengths = utterances.select(pl.coalesce(seconds, pl.col("end_s") - pl.col("start_s"))).to_series()
    words = utterances["text"].drop_nulls().str.split(" ").list.len()
    _draw_histogram(panels["lengths"], lengths.drop_nulls(), "Seconds an utterance", "utterances", whole=False)
    _draw_histogram(panels["turns"], utterances.group_by("dialogue_id").len()["len"], "Turns a dialogue", "dialogues")
    _draw_histogram(panels["words"], words, "Words an utterance", "utterances")
    _draw_defects(panels["defects"], utterances)
    return figure


def _draw_labels(axes: "Axes", utterances: pl.DataFrame, splits: Sequence[str]) -> None:
    """Share of each label in each split, the commonest label on top; what has no label comes last."""
    counts = utterances.group_by("label", "split").len()
    total = counts.group_by("label").agg(pl.col("len").sum()).sort("len", "label", descending=[True, False])
    labels = [*total["label"].drop_nulls(), *([None] if utterances["label"].null_count() else [])]
    found = {(label, split): count for label, split, count in counts.iter_rows()}
    height = 0.8 / len(splits)
    for place, split in enumerate(splits):
        values = np.array([found.get((label, split), 0) for label in labels])
        rows = np.arange(len(labels)) - 0.4 + (place + 0.5) * height
        bars = axes.barh(rows, 100 * values / values.sum(), height, color=_SPLITS[split], label=split)
        axes.bar_label(bars, [f"{value:,}" for value in values], padding=2, fontsize=6, color=FAINT)
    axes.set_yticks(range(len(labels)), [label or "(none)" for label in labels])
    axes.invert_yaxis()
    axes.set_xlabel("percent of the split")
    axes.set_title("Labels by split", fontweight="bold")
    axes.grid(visible=True, axis="x")
    axes.legend(frameon=False)


def _draw_sentiments(axes: "Axes", utterances: pl.DataFrame, splits: Sequence[str]) -> None:
    """Distribution of the sentiment in each split."""
    axes.set_title("Sentiment by split", fontweight="bold")
    known = utterances.filter(pl.col("sentiment").is_not_null())
    if known.is_empty():
        _say(axes, "neither labels nor sentiments")
        return
    edges = np.histogram_bin_edges(known["sentiment"].to_numpy(), 24)
    for split in splits:
        values = known.filter(pl.col("split") == split)["sentiment"].to_numpy()
        if len(values):
            shares = 100 * np.histogram(values, edges)[0] / len(values)
            axes.stairs(shares, edges, color=_SPLITS[split], linewidth=1.6, label=f"{split}, {len(values):,}")
    axes.set(xlabel="sentiment", ylabel="percent of the split")
    axes.grid(visible=True, axis="y")
    axes.legend(frameon=False)


def _draw_histogram(axes: "Axes", values: pl.Series, title: str, what: str, whole: bool = True) -> None:
    """Counts on a logarithmic axis, so that the few extreme ones are seen too."""
    axes.set_title(title, fontweight="bold")
    if values.is_empty():
        _say(axes, "unknown")
        return
    data = values.to_numpy()
    step = max(1, round((data.max() + 1) / 40)) if whole else (data.max() or 1) / 40
    edges = np.arange(0, data.max() + 2 * step, step) - (0.5 if whole else 0)
    axes.stairs(np.histogram(data, edges)[0], edges, fill=True, color=BLUE)
    axes.set_yscale("log")
    axes.set_ylim(bottom=0.7)
    axes.yaxis.set_major_formatter("{x:,.0f}")
    axes.axvline(float(np.median(data)), color=ORANGE, linewidth=1)
    axes.set(ylabel=what, xlabel=f"median {np.median(data):.3g} (line), longest {data.max():.4g}")
    axes.grid(visible=True, axis="y")


def _draw_defects(axes: "Axes", utterances: pl.DataFrame) -> None:
    axes.set_title("Defects", fontweight="bold")
    counts = _kinds(utterances)
    if counts.is_empty():
        _say(axes, "none")
        return
    bars = axes.barh(counts["defects"].to_list(), counts["count"].to_numpy(), 0.6, color=ORANGE)
    axes.bar_label(bars, [f"{count:,}" for count in counts["count"]], padding=2, fontsize=7, color=FAINT)
    axes.set_ylim(max(len(counts), 4) - 0.4, -0.6)
    axes.locator_params(axis="x", integer=True)
    axes.set_xlabel("utterances")


def _say(axes: "Axes", text: str) -> None:
    axes.set_axis_off()
    axes.text(0, 0.9, text, transform=axes.transAxes, va="top")


def _kinds(utterances: pl.DataFrame) -> pl.DataFrame:
    """Defects, commonest first: ``defects`` (the kind), ``count``, ``first``."""
    rows = utterances.select("utterance_id", "defects").explode("defects", empty_as_null=True).drop_nulls("defects")
    first = pl.col("utterance_id").head(_SHOWN)
    counts = rows.group_by("defects", maintain_order=True).agg(count=pl.len(), first=first)
    return counts.sort("count", "defects", descending=[True, False])


def _labels(splits: dict[str, dict[str, int]]) -> list[str]:
    names = [split for split in _SPLITS if split in splits]
    labels = sorted({label for counts in splits.values() for label in counts})
    rows = [[label, *(f"{splits[split].get(label, 0):,}" for split in names)] for label in labels]
    rows.append(["all", *(f"{sum(splits[split].values()):,}" for split in names)])
    return ["<h2>Utterances</h2>", _table(["label", *names], rows, range(1, len(names) + 1))]


def _defects(utterances: pl.DataFrame) -> list[str]:
    kinds = _kinds(utterances)
    rows = [
        [kind, f"{count:,}", ", ".join(first) + (" …" if count > _SHOWN else "")]
        for kind, count, first in kinds.iter_rows()
    ]
    table = _table(["kind", "count", "utterances"], rows, [1]) if rows else "<p>None.</p>"
    return ["<h2>Defects</h2>", table]


def _notes(notes: Sequence[str]) -> list[str]:
    items = [f"<li>{escape(note)}</li>" for note in notes]
    return ["<h2>Notes</h2>", "<ul>", *items, "</ul>"] if items else []


def _table(header: Sequence[str], rows: Sequence[Sequence[str]], numbers: Sequence[int]) -> str:
    def line(tag: str, cells: Sequence[str]) -> str:
        kinds = [' class="number"' if index in numbers else "" for index in range(len(cells))]
        return "".join(f"<{tag}{kind}>{escape(cell)}</{tag}>" for kind, cell in zip(kinds, cells, strict=True))

    lines = [line("th", header), *(line("td", row) for row in rows)]
    return "<table>\n" + "\n".join(f"<tr>{each}</tr>" for each in lines) + "\n</table>"
