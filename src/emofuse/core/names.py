"""Natural order of names with numbers, and the normal form in which names are compared."""

import re
import unicodedata

__all__ = ["composed", "natural"]


def natural(name: str) -> tuple[list[tuple[int, str]], str]:
    """Return a key that sorts names as people count: 2 before 10, whatever the number of digits.

    >>> sorted(["turn10", "turn2", "Turn1"], key=natural)
    ['Turn1', 'turn2', 'turn10']
    """
    parts = re.split(r"([0-9]+)", name.lower())
    # Every second part is a number. The name itself tells 1 and 01 apart.
    return [(int(part), "") if index % 2 else (-1, part) for index, part in enumerate(parts)], name


def composed(name: str) -> str:
    """Return a name with accents and letters as one character each; macOS writes them as two."""
    return unicodedata.normalize("NFC", name)
