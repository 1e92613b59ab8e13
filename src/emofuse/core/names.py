"""Natural order of names with numbers, and the forms in which names are compared and shown."""

import io
import re
import sys
import unicodedata
from pathlib import PurePath

__all__ = ["composed", "is_utf8", "natural", "print_all_names", "readable"]


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


def is_utf8(name: str) -> bool:
    """Whether a name can be written down; that of a file on disk may be any bytes."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def readable(name: str | PurePath) -> str:
    r"""Return a name as it can be printed and written; bytes that are no UTF-8 are shown by their numbers.

    >>> print(readable("gr\udcfcn.wav"))
    gr\xfcn.wav
    """
    text = str(name)
    try:
        return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    except UnicodeEncodeError:  # a surrogate that stands for no byte, as JSON can say
        return text.encode("utf-8", "backslashreplace").decode()


def print_all_names() -> None:
    """Have what is printed escape what it cannot show, a name that is no UTF-8 or a terminal's missing letters.

    Python's own way is an error, after all the work is done.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
