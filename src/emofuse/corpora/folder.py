"""Files in a corpus's folder, found by name; links that DVC cannot follow are refused."""

import os
from dataclasses import dataclass, field
from pathlib import Path

from emofuse.core.names import composed
from emofuse.corpora.base import CorpusError, shown

__all__ = ["Folder", "inside", "linked_folders", "refuse_linked_folders"]


def linked_folders(source: Path) -> list[Path]:
    """Return the links to folders anywhere in a folder; the folder itself may be a link."""
    found = []
    for place, folders, _ in os.walk(source):
        found += [path for name in folders if (path := Path(place) / name).is_symlink()]
    return sorted(found)


def refuse_linked_folders(source: Path) -> None:
    """Refuse links to folders inside a corpus, since DVC does not follow them and would miss every change.

    Links to single files are followed by DVC and by all readers, wherever they lead.

    Raises:
        CorpusError: there is one; the message names it
    """
    links = linked_folders(source)
    if links:
        more = f", and {len(links) - 1} more" if len(links) > 1 else ""
        raise CorpusError(
            f"{links[0]}: a link to a folder{more}; DVC does not follow it and would miss a change, so put the files "
            "themselves there, or links to each of them, or make the corpus's own folder the link"
        )


def inside(source: Path, name: str) -> Path:
    """Return the path of a file below a corpus's folder.

    Raises:
        ValueError: the name is absolute or leads out of the folder, where no change of the file would be seen
    """
    path = Path(name)
    if not name or "\0" in name or path.is_absolute() or ".." in path.parts:
        raise ValueError(f"{shown(name)} is no file below {source}")
    return source / path


@dataclass
class Folder:
    """Finds files by their names, however these are spelt in Unicode.

    Attributes:
        listings: names on disk by composed name, of each folder that was looked into
    """

    listings: dict[Path, dict[str, str]] = field(default_factory=dict)

    def find(self, path: Path, below: Path) -> Path:
        """Return the path as it is spelt on disk, or as it was given if there is no such file.

        Args:
            path: what is asked for
            below: a folder above it whose own name is right
        """
        if path.exists():
            return path
        place = below
        for part in path.relative_to(below).parts:
            place = place / self._listing(place).get(composed(part), part)
        return place if place.exists() else path

    def _listing(self, folder: Path) -> dict[str, str]:
        if folder not in self.listings:
            names = [path.name for path in folder.iterdir()] if folder.is_dir() else []
            self.listings[folder] = {composed(name): name for name in names}
        return self.listings[folder]
