"""A page of figures about a corpus: one self-contained HTML file."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from emofuse.core.files import write_text
from emofuse.core.schema import SAMPLE_RATE, SPLITS
from emofuse.reporting.pages import render
from emofuse.reporting.palette import emotion_colours
from emofuse.reporting.svg import Markup, Scale, circle, line, picture, rect, text, ticks

__all__ = ["overview", "write_overview"]

_SPLITS = (*SPLITS, "none")
_SHOWN = 10
"""Utterances that the table of defects names for each kind."""

_WIDTH = 340
_LEFT, _RIGHT, _TOP, _BOTTOM = 44.0, 334.0, 10.0, 130.0
"""Edges of a histogram in its picture of that width."""


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
    counts = [f"{summary[what]:,} {what}" for what in ("utterances", "dialogues", "speakers")]
    splits = {split: summary["splits"][split] for split in _SPLITS if split in summary["splits"]}
    names = sorted({label for each in splits.values() for label in each})
    labels = {name: [splits[split].get(name, 0) for split in splits] for name in names}
    return render(
        "corpus_page.html.jinja",
        name=name,
        counts=", ".join([*counts, f"{summary['hours_of_audio']:.2f} hours of audio"]),
        classes=_classes(utterances),
        figures=_figures(utterances),
        splits=list(splits),
        labels=labels | {"all": [sum(splits[split].values()) for split in splits]},
        defects=_defects(utterances),
        notes=summary["notes"],
    )


def _classes(utterances: pl.DataFrame) -> tuple[str, Markup | None]:
    """Title and figure of the labels, or of the sentiments where there are none."""
    table = utterances.with_columns(pl.col("split").fill_null("none"))
    splits = [split for split in _SPLITS if split in set(table["split"])]
    if table["label"].drop_nulls().len():
        return "Labels by split", _labels(table, splits)
    return "Sentiment by split", _sentiments(table, splits)


def _labels(utterances: pl.DataFrame, splits: Sequence[str]) -> Markup:
    """Share of each label in each split, the commonest label on top; what has no label comes last."""
    counts = utterances.group_by("label", "split").len()
    total = counts.group_by("label").agg(pl.col("len").sum()).sort("len", "label", descending=[True, False])
    labels = [*total["label"].drop_nulls(), *([None] if utterances["label"].null_count() else [])]
    found = {(label, split): count for label, split, count in counts.iter_rows()}
    sizes = dict(utterances.group_by("split").len().iter_rows())
    colours = emotion_colours([label for label in labels if label])
    most = max(100 * count / sizes[split] for (_, split), count in found.items())
    x, parts, top = Scale(0, most, 0, 62, "%"), [], 0
    for label in labels:
        parts += [circle(5, top + 8, 4.5, "hue", variables=f"--hue:{colours[label]}")] if label else []
        parts.append(text(15, top + 12, label or "(none)", "strong"))
        for split in splits:
            top += 16
            count = found.get((label, split), 0)
            share = 100 * count / sizes[split]
            parts.append(rect(0, top + 2, x(share), 12, f"bar {split}", f"{split}: {count:,}"))
            parts.append(text(x(share), top + 12, f"{split} {share:.1f} %, {count:,}", "soft after"))
        top += 26
    return picture(720, top, "Labels by split, percent of the split", parts, wide=True)


def _sentiments(utterances: pl.DataFrame, splits: Sequence[str]) -> Markup | None:
    """Distribution of the sentiment in each split."""
    known = utterances.filter(pl.col("sentiment").is_not_null())
    if known.is_empty():
        return None
    edges = np.histogram_bin_edges(known["sentiment"].to_numpy(), 24)
    own = {split: known.filter(pl.col("split") == split)["sentiment"].to_numpy() for split in splits}
    shares = {split: 100 * np.histogram(values, edges)[0] / len(values) for split, values in own.items() if len(values)}
    most = max(float(each.max()) for each in shares.values())
    x, y = Scale(edges[0], edges[-1], 6, 98, "%"), Scale(0, most, 190, 30)
    parts = _levels(y, "6%", "98%")
    for place, (split, values) in enumerate(shares.items()):
        width = (92 / len(values)) / len(shares)
        for number, share in enumerate(values):
            left = f"{6 + 92 * number / len(values) + place * width:.2f}%"
            height = round(190 - float(y(share)), 1)
            parts.append(rect(left, y(share), f"{0.9 * width:.2f}%", height, f"bar {split}", f"{split}: {share:.1f} %"))
        parts.append(rect(f"{8 + 24 * place}%", 2, 12, 12, f"bar {split}"))
        parts.append(text(f"{8 + 24 * place}%", 12, f"{split}, {len(own[split]):,}", "soft beside"))
    parts += [text(x(value), 206, f"{value:g}", "soft middle") for value in ticks(edges[0], edges[-1], 6)]
    parts.append(text("50%", 222, "sentiment; percent of the split", "soft middle"))
    return picture(720, 226, "Sentiment by split", parts, wide=True)


def _figures(utterances: pl.DataFrame) -> list[tuple[str, Markup | None]]:
    """Title and histogram of lengths, turns and words; none where they are unknown."""
    seconds = pl.when(pl.col("n_samples") > 0).then(pl.col("n_samples") / SAMPLE_RATE)
    lengths = utterances.select(pl.coalesce(seconds, pl.col("end_s") - pl.col("start_s"))).to_series()
    words = utterances["text"].drop_nulls().str.split(" ").list.len()
    turns = utterances.group_by("dialogue_id").len()["len"]
    return [
        ("Seconds per utterance", _histogram(lengths.drop_nulls(), "utterances", whole=False)),
        ("Turns per dialogue", _histogram(turns, "dialogues")),
        ("Words per utterance", _histogram(words, "utterances")),
    ]


def _histogram(values: pl.Series, what: str, whole: bool = True) -> Markup | None:
    """Counts on a logarithmic axis, so that the few extreme ones are seen too."""
    if values.is_empty():
        return None
    data = values.to_numpy()
    step = max(1, round((data.max() + 1) / 40)) if whole else (data.max() or 1) / 40
    edges = np.arange(0, data.max() + 2 * step, step) - (0.5 if whole else 0)
    counts = np.histogram(data, edges)[0]
    x = Scale(edges[0], edges[-1], _LEFT, _RIGHT)
    y = Scale(np.log10(0.7), np.log10(max(counts.max(), 2)), _BOTTOM, _TOP)
    parts = []
    for power in range(len(str(int(counts.max())))):
        place = y(power)
        parts += [
            line(_LEFT, place, _RIGHT, place, "grid"),
            text(_LEFT - 4, float(place) + 4, f"{10**power:,}", "soft end"),
        ]
    for number, count in enumerate(counts.tolist()):
        if count:
            left, top = float(x(edges[number])), float(y(np.log10(count)))
            title = f"{edges[number]:.3g} to {edges[number + 1]:.3g}: {count:,} {what}"
            width = float(x(edges[number + 1])) - left
            parts.append(rect(round(left, 1), top, round(width, 1), round(_BOTTOM - top, 1), "bar", title))
    middle = float(np.median(data))
    parts.append(line(x(middle), _TOP, x(middle), _BOTTOM, "median"))
    parts += [text(x(value), _BOTTOM + 14, f"{value:g}", "soft middle") for value in ticks(0, edges[-1], 5)]
    caption = f"{what}; median {middle:.3g} (line), longest {data.max():.4g}"
    parts.append(text((_LEFT + _RIGHT) / 2, _BOTTOM + 30, caption, "soft middle"))
    return picture(_WIDTH, _BOTTOM + 34, caption, parts)


def _levels(y: Scale, left: str, right: str) -> list[str]:
    parts = []
    for value in ticks(y.low, y.high, 4):
        parts += [line(left, y(value), right, y(value), "grid"), text(left, float(y(value)) - 3, f"{value:g}", "soft")]
    return parts


def _defects(utterances: pl.DataFrame) -> list[tuple[str, str, str]]:
    """Kind, count and the first utterances."""
    kinds = (
        utterances.select("utterance_id", "defects")
        .explode("defects", empty_as_null=True)
        .drop_nulls("defects")
        .group_by("defects", maintain_order=True)
        .agg(count=pl.len(), first=pl.col("utterance_id").head(_SHOWN))
        .sort("count", "defects", descending=[True, False])
    )
    return [
        (kind, f"{count:,}", ", ".join(first) + (" …" if count > _SHOWN else ""))
        for kind, count, first in kinds.iter_rows()
    ]
