"""Markdown tables in which labels and names are shown as text, never as markup."""

from collections.abc import Iterable, Sequence
from html import escape

__all__ = ["plain", "table"]


def plain(text: str) -> str:
    r"""Return words as Markdown that shows them, on one line: no HTML, no link and no cell of a table is made of them.

    >>> plain("<b>happy|sad</b>")
    '&lt;b&gt;happy\\|sad&lt;/b&gt;'
    """
    return escape(" ".join(text.split()), quote=False).replace("](", "]&#40;").replace("|", "\\|")


def table(head: Sequence[str], rule: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table.

    Args:
        head: titles of the columns
        rule: ``---`` for a column of words, ``---:`` for one of numbers
        rows: cells of each row, as they are to be shown; ``**bold**`` stays bold
    """
    lines = [head, rule, *([plain(cell) for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
