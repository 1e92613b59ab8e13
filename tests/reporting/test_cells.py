"""Cells of tables of scores."""

import pytest

from emofuse.reporting.cells import Cell, best_value, score_cell

ROW = {"mean": 0.65811, "sd": 0.004, "low": 0.641, "high": 0.673}


@pytest.mark.parametrize(
    ("row", "best", "spread", "text"),
    [
        (ROW, 0.65849, False, "**65.8** [64.1, 67.3]"),
        (ROW, 0.6591, False, "65.8 [64.1, 67.3]"),
        (ROW, None, True, "65.8 ± 0.4 [64.1, 67.3]"),
        (ROW | {"sd": None}, 0.65811, True, "**65.8** [64.1, 67.3]"),
        (ROW | {"low": None, "high": None}, 0.65811, True, "**65.8** ± 0.4"),
        (ROW | {"low": None, "high": None}, None, False, "65.8"),
        (None, 0.65811, True, ""),
    ],
)
def test_all_that_are_printed_like_the_best_are_marked(
    row: dict[str, float | None] | None, best: float | None, spread: bool, text: str
) -> None:
    assert str(score_cell(row, best, spread=spread)) == text


def test_what_is_not_there_is_sorted_last_and_never_the_best() -> None:
    assert score_cell(None, 0.5) == Cell(-1.0, "")
    assert best_value("weighted_f1", []) is None
    assert (best_value("weighted_f1", [0.2, 0.4]), best_value("fold_mean/ece", [0.2, 0.4])) == (0.4, 0.2)
