"""The results in the README: an excerpt of the leaderboard, written between two marks."""

from pathlib import Path

from emofuse.core.files import write_text
from emofuse.core.markdown import table
from emofuse.models.registry import in_order
from emofuse.reporting.cells import score_cell
from emofuse.reporting.leaderboard import Row, leaderboard
from emofuse.scoring.names import METRIC
from emofuse.scoring.predictions import ScoringError

__all__ = ["BEGIN", "END", "results", "with_results", "write_results"]

BEGIN, END = "<!-- results: written by `emofuse leaderboard --readme` -->", "<!-- end of results -->"
"""The lines between which the README has the results."""


def results(metrics: Path) -> str:
    """Return a table with a row a model and a column a task and pair of encoders: weighted F1 and its interval.

    Args:
        metrics: the project's metrics folder
    """
    places: dict[tuple[str, str, str], dict[str, Row]] = {}
    for row in leaderboard(metrics):
        places.setdefault((row.task, row.audio, row.text), {})[row.model] = row
    best = {
        place: max(row.scores[METRIC]["mean"] for row in own.values() if row.ranked) for place, own in places.items()
    }
    lines = [
        [model, *(_cell(own.get(model), best[place]) for place, own in places.items())]
        for model in in_order(name for own in places.values() for name in own)
    ]
    titles = [f"{task}<br>{audio} + {text}" for task, audio, text in places]
    return table(["Model", *titles], ["---", *["---:"] * len(titles)], lines)


def _cell(row: Row | None, best: float) -> str:
    return str(score_cell(row.scores[METRIC], best if row.ranked else None)) if row else ""


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
