"""Fractions as they are printed: percent, intervals, and differences in points."""

__all__ = ["bounds", "in_percent", "percent", "points"]

_DIGITS = (1, 2, 3, 4)


def points(fraction: float) -> str:
    """Return a difference in points with its sign, and with the digits that tell it from zero.

    >>> points(0.0123), points(-0.00021), points(-0.000001), points(0.0)
    ('+1.2', '-0.02', '-0.0001', '0.0')
    """
    texts = (f"{100 * fraction:+.{digits}f}" for digits in _DIGITS)
    return next((text for text in texts if float(text)), "0.0")


def percent(fraction: float) -> float:
    """Return a fraction in percent, as it is printed, to a tenth; the best is chosen by that too.

    >>> percent(0.65849), percent(-0.0001)
    (65.8, 0.0)
    """
    # Adding zero turns -0.0 into 0.0.
    return round(100 * fraction, 1) + 0.0


def in_percent(fraction: float) -> str:
    """Return a fraction as it is printed, such as ``65.8``."""
    return f"{percent(fraction):.1f}"


def bounds(low: float, high: float) -> str:
    """Return the ends of an interval of fractions as they are printed, such as ``[61.0, 70.2]``."""
    return f"[{in_percent(low)}, {in_percent(high)}]"
