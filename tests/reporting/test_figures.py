"""Figures show the numbers that they are given, at the right places, and as files of their own they are whole."""

import re
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from emofuse.reporting.figures import Estimate, calibration, confusion, dots, learning, shares
from emofuse.reporting.svg import Scale, as_file, ticks

Browser = Any
"""The class of the fixture, in ``conftest.py``."""

ROWS = [Estimate("hcam", 10.0, 0.0, 20.0, "+10"), Estimate("late", -20.0, -30.0, -10.0, "-20", (-25.0,), sure=False)]


def places(drawn: str, kind: str, name: str) -> list[float]:
    return [float(each) for each in re.findall(rf'class="{kind}"[^>]* {name}="([-\d.]+)', drawn)]


@pytest.mark.parametrize(
    ("low", "high", "most", "found"),
    [
        (0, 100, 5, [0, 20, 40, 60, 80, 100]),
        (-7.2, 3.1, 5, [-5, 0]),
        (2, 2, 5, [2]),
        (0.61, 0.64, 3, [0.62, 0.64]),
    ],
)
def test_ticks_are_round_and_inside(low: float, high: float, most: int, found: list[float]) -> None:
    assert ticks(low, high, most) == found


def test_estimates_stand_where_the_axis_says() -> None:
    drawn = dots(ROWS, "points", zero=True)
    x = Scale(-31, 21, 0.5, 99.5, "%")
    assert places(drawn, "whisker", "x1") == pytest.approx([float(x(0)[:-1]), float(x(-30)[:-1])], abs=0.1)
    assert places(drawn, "dot", "cx") == pytest.approx([float(x(10)[:-1])], abs=0.1)
    assert places(drawn, "hollow", "cx") == pytest.approx([float(x(-20)[:-1])], abs=0.1)
    assert places(drawn, "run", "x1") == pytest.approx([float(x(-25)[:-1])], abs=0.1)
    assert places(drawn, "zero", "x1") == pytest.approx([float(x(0)[:-1])], abs=0.1)
    for label in ("-20", "0", "20"):
        assert f'middle">{label}</text>' in drawn


def test_an_outlier_does_not_stretch_the_axis_and_is_marked() -> None:
    far = Estimate("majority", -90.0, -95.0, -85.0, "-90", outlier=True)
    drawn = dots([*ROWS, far], "points", zero=True)
    assert places(drawn, "whisker", "x1") == places(dots(ROWS, "points", zero=True), "whisker", "x1")
    assert "◂" in drawn
    alone = dots([far], "points")
    assert "◂" not in alone
    assert len(places(alone, "dot", "cx")) == 1


def test_a_confusion_matrix_has_shares_of_the_true_class() -> None:
    cells = [("a", "a", 3), ("a", "b", 1), ("b", "a", 0), ("b", "b", 0)]
    drawn = confusion(pl.DataFrame(cells, schema=["true", "predicted", "count"], orient="row"), "hcam")
    assert re.findall(r'middle">(.*?)</text>', drawn) == ["75", "25", "0", "0"]
    assert re.findall('--v:([^"]*)', drawn) == ["0.75", "0.25", "0", "0"]
    assert "<title>3 of 4</title>" in drawn
    assert 'aria-label="Confusion of hcam: ' in drawn


def test_a_learning_curve_marks_the_epoch_that_was_kept() -> None:
    rows = [(0, 0, epoch, 1 / epoch, 0.1 * epoch) for epoch in (1, 2, 3)]
    table = pl.DataFrame(rows, schema=["seed", "fold", "epoch", "loss", "dev_weighted_f1"], orient="row")
    drawn = learning(table, {(0, 0): 2}, "hcam")
    lines = [each.split() for each in re.findall('points="(.*?)"', drawn)]
    dots_ = list(zip(re.findall('cx="(.*?)"', drawn), re.findall('cy="(.*?)"', drawn), strict=True))
    assert [",".join(each) for each in dots_] == [lines[0][1], lines[1][1]]
    assert learning(table, {(0, 0): None}, "hcam").count("<circle") == 0


def test_bars_of_layers_are_on_one_scale() -> None:
    first, second = (shares(values, 0.8, "cma") for values in ((0.1, 0.8, 0.1), (0.4, 0.6)))
    heights = places(first, "bar", "height") + places(second, "bar", "height")
    assert heights == pytest.approx([86 * share / 0.8 for share in (0.1, 0.8, 0.1, 0.4, 0.6)], abs=0.1)
    for drawn, n in ((first, 3), (second, 2)):
        assert places(drawn, "zero", "y1") == pytest.approx([100 - 86 / n / 0.8], abs=0.1)
    assert "<title>layer 1: 80.0 %</title>" in first


def test_a_bin_is_a_dot_whose_area_is_its_share() -> None:
    bins = [{"count": 30, "confidence": 0.5, "accuracy": 0.5}, {"count": 10, "confidence": 1.0, "accuracy": 0.0}]
    drawn = calibration(bins, "hcam")
    assert places(drawn, "dot", "cx") == [153.0, 272.0]
    assert places(drawn, "dot", "cy") == [89.5, 165.0]
    assert places(drawn, "dot", "r") == pytest.approx([1.5 + 12 * 0.75**0.5, 1.5 + 12 * 0.25**0.5], abs=0.1)


def test_names_are_text_and_never_markup() -> None:
    drawn = dots([Estimate('<b a="', 1.0, 0.0, 2.0, "&")], '"><script>', pick=True)
    assert "<script" not in drawn
    assert "<b" not in drawn


def test_a_file_of_its_own_has_colours_in_light_and_dark(browser: Browser, tmp_path: Path) -> None:
    (tmp_path / "scores.svg").write_text(as_file(dots(ROWS, "points")))
    look = "getComputedStyle(document.{}).{}"
    seen = []
    for dark in (False, True):
        browser.show(tmp_path / "scores.svg", 800, dark=dark)
        seen.append(
            (
                browser.run(look.format("documentElement", "backgroundColor")),
                browser.run(look.format("querySelector('.dot')", "fill")),
            )
        )
    assert seen == [("rgb(255, 255, 255)", "rgb(15, 118, 110)"), ("rgb(18, 24, 31)", "rgb(79, 209, 192)")]
