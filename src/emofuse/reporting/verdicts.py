"""Comparisons of models in words."""

from collections.abc import Collection, Mapping
from typing import Any

import polars as pl

from emofuse.core.percent import bounds, in_percent, points
from emofuse.models.registry import base_name
from emofuse.scoring.names import METRIC
from emofuse.scoring.predictions import ScoringError

__all__ = ["between", "pair_row", "standing", "verdict"]

AHEAD, BEHIND, PERHAPS, ALIKE = (
    "the first is better, significant after Holm correction",
    "the first is worse, significant after Holm correction",
    "not significant after Holm correction, though the interval excludes zero",
    "no significant difference",
)


def between(row: Mapping[str, Any]) -> str:
    """Return the difference of a pair with its interval, such as ``+1.9 [+0.4, +3.4]``, in points."""
    return f"{points(row['difference'])} [{points(row['low'])}, {points(row['high'])}]"


def pair_row(pairs: pl.DataFrame, first: str, second: str) -> dict[str, Any]:
    """Return the row of two models, as first less second, whichever way round the table of pairs holds them.

    Args:
        pairs: as in :class:`~emofuse.scoring.scores.Scores`
        first: a model
        second: another

    Raises:
        ScoringError: they were not compared
    """
    for a, b, sign in ((first, second, 1), (second, first, -1)):
        found = pairs.filter(model_a=a, model_b=b, metric=METRIC)
        if len(found):
            row = found.row(0, named=True)
            low, high = sorted(sign * row[end] for end in ("low", "high"))
            return row | {"difference": sign * row["difference"], "low": low, "high": high}
    compared = sorted({*pairs["model_a"], *pairs["model_b"]})
    raise ScoringError(f"no comparison of {first!r} and {second!r} on {METRIC!r}; compared: {compared}")


def verdict(pair: Mapping[str, Any], confidence_level: float) -> str:
    """Return what a row of :func:`pair_row` says of its first model."""
    if pair["p_adjusted"] < 1 - confidence_level:
        return AHEAD if pair["difference"] > 0 else BEHIND
    return PERHAPS if pair["low"] > 0 or pair["high"] < 0 else ALIKE


def standing(
    models: pl.DataFrame, pairs: pl.DataFrame, confidence_level: float, unranked: Collection[str] = ()
) -> list[str]:
    """Return sentences that name the best model and what it is better than, and how sure; ablations are left out.

    Args:
        models: as in :class:`~emofuse.scoring.scores.Scores`
        pairs: likewise
        confidence_level: probability with which an interval holds what it is of
        unranked: models that are left out too
    """
    rows = [row for row in models.filter(metric=METRIC).to_dicts() if row["model"] == base_name(row["model"])]
    rows = [row for row in rows if row["model"] not in unranked]
    best = max(rows, key=lambda row: row["mean"])
    by_verdict: dict[str, list[str]] = {AHEAD: [], PERHAPS: [], ALIKE: []}
    for name in (row["model"] for row in rows if row is not best):
        pair = pair_row(pairs, best["model"], name)
        by_verdict[verdict(pair, confidence_level)].append(f"{name} {between(pair)}")
    counted = f"{pairs.filter(pl.col('metric') == METRIC).height:,}"
    titles = {
        AHEAD: f"Significantly better, after Holm correction over {counted} pairs",
        PERHAPS: "Better, but not significantly after that correction (the interval excludes zero)",
        ALIKE: "No significant difference from",
    }
    among = f" of {len(rows)} models" if len(rows) > 1 else ""
    score = f"{in_percent(best['mean'])} % {bounds(best['low'], best['high'])}"
    first = f"{best['model']} has the best weighted F1{among}: {score}."
    return [first, *(f"{titles[each]}: {'; '.join(names)}." for each, names in by_verdict.items() if names)]
