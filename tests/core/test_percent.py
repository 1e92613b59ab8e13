"""Fractions as they are printed."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emofuse.core.percent import percent, points


@pytest.mark.parametrize(("fraction", "shown"), [(0.65849, "65.8"), (-0.0001, "0.0"), (-0.0006, "-0.1")])
def test_a_fraction_is_shown_to_a_tenth_of_a_percent(fraction: float, shown: str) -> None:
    assert str(percent(fraction)) == shown


@given(st.integers(-(10**6), 10**6))
def test_what_is_not_zero_is_not_shown_as_zero(millionths: int) -> None:
    shown = points(millionths / 1e6)
    assert (float(shown) > 0, float(shown) < 0) == (millionths > 0, millionths < 0)
    assert float(shown) == pytest.approx(millionths / 1e4, abs=0.05 + 1e-9)
