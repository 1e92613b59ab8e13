"""Self-contained HTML pages from templates."""

from pathlib import Path
from typing import Any

__all__ = ["STYLES", "render"]

STYLES = ("colours.css", "figures.css", "page.css")
"""What all pages share of how they look."""

_HERE = Path(__file__).parent


def render(template: str, **values: Any) -> str:
    """Return the page of a template beside this file; every value is text, unless it is marked as markup.

    Args:
        template: name of its file
        values: what the template names
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(_HERE), autoescape=True, undefined=StrictUndefined, keep_trailing_newline=True
    )
    environment.globals["style"] = style(*STYLES)
    return environment.get_template(template).render(values)


def style(*names: str) -> str:
    """Return the text of style sheets beside this file."""
    return "".join((_HERE / name).read_text(encoding="utf-8") for name in names)
