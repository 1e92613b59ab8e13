"""SVG drawing: elements, scales and axes. Colours and fonts are in ``figures.css``.

A picture stands in a page as it is, and as a file of its own with that style in it. Its letters keep their size: what
has to fit any width has its places in percent.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from emofuse.reporting.pages import style

__all__ = ["Markup", "Scale", "as_file", "circle", "line", "picture", "rect", "slanted", "text", "ticks"]

Place = float | str
"""In pixels, or in percent of the width, as ``"37.5%"``."""


class Markup(str):
    """Text that is markup already; templates leave it as it is."""

    def __html__(self) -> str:
        return self


@dataclass(frozen=True)
class Scale:
    """From values to places in a picture, linear.

    Attributes:
        low: value at ``start``
        high: value at ``end``
        start: place
        end: another, which may be the smaller one
        unit: ``%`` for places in percent of the width
    """

    low: float
    high: float
    start: float
    end: float
    unit: str = ""

    def __call__(self, value: float) -> Place:
        """Return the place of a value."""
        share = (value - self.low) / ((self.high - self.low) or 1)
        place = round(self.start + (self.end - self.start) * share, 2)
        return f"{place:g}{self.unit}" if self.unit else place


def ticks(low: float, high: float, most: int = 5) -> list[float]:
    """Return round values between two, at most so many.

    >>> ticks(0.4, 1.23, 4)
    [0.5, 1.0]
    """
    if high <= low:
        return [low]
    rough = (high - low) / most
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [round(number * step, 10) for number in range(first, last + 1)]


def picture(width: int, height: float, label: str, parts: Sequence[str], *, wide: bool = False) -> Markup:
    """Return a picture.

    Args:
        width: in pixels, at which a file of its own is shown
        height: in pixels
        label: what is seen, for those who do not see it
        parts: its elements
        wide: whether it takes the width that there is, its places in percent; otherwise it keeps its shape
    """
    size = f'width="100%" height="{height:g}"' if wide else f'viewBox="0 0 {width} {height:g}" width="{width}"'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img" aria-label="{escape(label)}">'
    return Markup("\n".join([head, *parts, "</svg>"]))


def as_file(drawn: str) -> str:
    """Return a picture as a file of its own: with the style in it, and a ground."""
    head, rest = drawn.split(">", 1)
    rules = style("colours.css", "figures.css")
    head = head.replace('width="100%"', 'width="720"')
    return f'{head} style="background: var(--page)">\n<style>\n{rules}</style>{rest}\n'


def line(x1: Place, y1: Place, x2: Place, y2: Place, kind: str) -> str:
    """Return a line of a class of ``figures.css``."""
    return f'<line class="{kind}" x1="{x1}" y1="{y1}" x2="{x2}" y2="{y2}"/>'


def rect(x: Place, y: Place, width: Place, height: Place, kind: str, title: str = "", variables: str = "") -> str:
    """Return a rectangle; its title is shown where a pointer rests."""
    own = f' style="{escape(variables)}"' if variables else ""
    inner = f"><title>{escape(title)}</title></rect>" if title else "/>"
    return f'<rect class="{kind}" x="{x}" y="{y}" width="{width}" height="{height}"{own}{inner}'


def circle(x: Place, y: Place, radius: float, kind: str = "dot", title: str = "", variables: str = "") -> str:
    """Return a dot."""
    own = f' style="{escape(variables)}"' if variables else ""
    inner = f"><title>{escape(title)}</title></circle>" if title else "/>"
    return f'<circle class="{kind}" cx="{x}" cy="{y}" r="{radius:g}"{own}{inner}'


def text(x: Place, y: Place, words: str, kind: str = "", **data: str) -> str:
    """Return words; ``kind`` says where they stand and how they look, as classes of ``figures.css``.

    Args:
        x: where they begin, or end, or have their middle
        y: their base line
        words: shown as they are
        kind: classes
        data: attributes ``data-<name>`` for a page's script
    """
    own = f' class="{kind}"' if kind else ""
    own += "".join(f' data-{name}="{escape(value)}"' for name, value in data.items())
    return f'<text x="{x}" y="{y}"{own}>{escape(words, quote=False)}</text>'


def slanted(x: Place, y: Place, words: str) -> str:
    """Return words that rise to the right from a place."""
    return f'<text transform="translate({x} {y}) rotate(-45)">{escape(words, quote=False)}</text>'
