"""Cells of tables of scores: a mean in percent, what stands beside it, and whether it is the best of its column."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from emofuse.core.percent import bounds, in_percent, percent
from emofuse.scoring.names import ECE

__all__ = ["Cell", "best_value", "score_cell"]


@dataclass(frozen=True)
class Cell:
    """A cell.

    Attributes:
        value: what the column is sorted by
        mean: what is in it
        beside: such as standard deviation and interval
        best: whether it is marked
    """

    value: float
    mean: str
    beside: str = ""
    best: bool = False

    def __str__(self) -> str:
        """As Markdown, such as ``**65.8** ± 0.4 [64.1, 67.3]``."""
        return f"**{self.mean}** {self.beside}".strip() if self.best else f"{self.mean} {self.beside}".strip()


def best_value(metric: str, values: Sequence[float]) -> float | None:
    """Return the best value of a metric, None if there are none: an error is good when it is small."""
    return (min if ECE in metric else max)(values, default=None)


def score_cell(row: Mapping[str, Any] | None, best: float | None, *, spread: bool = False) -> Cell:
    """Return the cell of a score; an empty one where there is none, as of the calibration error of bare classes.

    Args:
        row: ``mean, sd, low, high`` as fractions; sd is None of a single run, the ends where there is no interval
        best: of its column; all that are printed like it are marked
        spread: whether the standard deviation stands beside the mean
    """
    if row is None:
        return Cell(-1.0, "")
    sd = [f"± {in_percent(row['sd'])}"] if spread and row["sd"] is not None else []
    ends = [bounds(row["low"], row["high"])] if row["low"] is not None else []
    is_best = best is not None and percent(row["mean"]) == percent(best)
    return Cell(row["mean"], in_percent(row["mean"]), " ".join(sd + ends), is_best)
