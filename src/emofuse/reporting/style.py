"""How every picture looks, and rendering that gives the same bytes for the same figure."""

import io
import re
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["BLUE", "FAINT", "GRID", "INK", "ORANGE", "PALE", "STYLE", "render"]

INK, FAINT, GRID = "#22303c", "#7d8b99", "#e3e8ec"
BLUE, PALE, ORANGE = "#2b6ca3", "#9cc3e0", "#d9822b"

STYLE: dict[Any, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "text.color": INK,
    "text.parse_math": False,  # a dollar sign in a name is a dollar sign
    "axes.labelcolor": INK,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "axes.edgecolor": FAINT,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "xtick.color": INK,
    "ytick.color": INK,
    "figure.constrained_layout.w_pad": 0.1,
    "figure.constrained_layout.h_pad": 0.1,
    "figure.dpi": 150,
    "svg.fonttype": "none",
    "svg.hashsalt": "emofuse",  # else the ids in an SVG are drawn at random
}
"""Settings of matplotlib; figures are made and rendered under them."""

_METADATA: dict[str, dict[str, Any]] = {"png": {"Software": None}, "svg": {"Creator": None, "Date": None}}


def render(figure: "Figure", kind: Literal["png", "svg"]) -> bytes:
    """Return a figure as a file, without a date or a version in it."""
    stream = io.BytesIO()
    figure.savefig(stream, format=kind, metadata=_METADATA[kind])
    return _count_clips(stream.getvalue()) if kind == "svg" else stream.getvalue()


def _count_clips(svg: bytes) -> bytes:
    """Name clip paths by their order: matplotlib names them by the last bits of the layout, which its solver varies."""
    names = dict.fromkeys(re.findall(rb'<clipPath id="(p[0-9a-f]{10})"', svg))
    numbers = {name: b"clip%d" % number for number, name in enumerate(names)}
    return re.sub(rb"\bp[0-9a-f]{10}\b", lambda found: numbers.get(found[0], found[0]), svg)
