"""What git says of a checkout."""

import subprocess
from pathlib import Path

__all__ = ["git"]


def git(folder: Path, *arguments: str) -> str | None:
    """Return what a command of git prints, without space at its ends; None where it fails or cannot be asked.

    It also answers where somebody else owns the checkout, as in a container: reading runs nothing of theirs.
    """
    command = ["git", "-c", "safe.directory=*", "-C", str(folder), *arguments]
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError, UnicodeDecodeError):
        return None
