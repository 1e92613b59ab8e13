"""Files in a corpus's folder, found by name; links that DVC cannot follow are refused."""

import os
from dataclasses import dataclass, field
from pathlib import Path

from emofuse.audio.sound import AudioFile
from emofuse.core.names import composed, is_utf8, readable
from emofuse.corpora.base import CorpusError, shown

__all__ = [
    "AUDIO_ENDINGS",
    "Folder",
    "inside",
    "is_hidden",
    "is_sound",
    "linked_folders",
    "refuse_linked_folders",
    "refuse_strange_names",
    "strange_names",
]

AUDIO_ENDINGS = (
    *(".wav", ".flac", ".mp3", ".ogg", ".oga", ".opus", ".m4a", ".aac", ".aiff", ".aif", ".aifc", ".mp4", ".webm"),
    *(".mkv", ".mka", ".avi", ".flv", ".mov", ".m4v", ".3gp", ".mpg", ".mpeg", ".wmv", ".wma", ".amr", ".mp2", ".ac3"),
    *(".caf", ".au", ".snd", ".sph", ".w64", ".rf64", ".spx", ".wv", ".ape", ".tta"),
)
"""Of files that claim to hold sound: what is wrong with one is said, where another file would be passed over."""

_HEAD = 4096
"""Bytes of a file that tell whether a decoder need be asked."""

_OTHERS = (
    *(b"\x89PNG", b"\xff\xd8\xff", b"GIF8", b"%PDF", b"PK\3\4", b"PAR1", b"\x93NUMPY", b"\x89HDF", b"\x80\2"),
    *(b"\x80\3", b"\x80\4", b"\x80\5", b"\x1f\x8b", b"BZh", b"\xfd7zXZ", b"7z\xbc\xaf", b"SQLite format 3"),
)
"""How files begin that hold no sound: pictures, documents, archives, arrays, pickles."""


def is_sound(path: Path) -> bool:
    """Whether a file is taken for sound, in a corpus and by ``predict``: what is in it decides, not its ending.

    One whose ending says so is taken, too, whatever is in it, so that a damaged one is not passed over in silence.
    """
    if not path.is_file():
        return False
    return path.suffix.lower() in AUDIO_ENDINGS or (_may_be_sound(path) and AudioFile(path).is_sound())


def _may_be_sound(path: Path) -> bool:
    """Whether it is neither text nor of a known other kind: FFmpeg takes long over those, and a folder has many."""
    try:
        with path.open("rb") as stream:
            head = stream.read(_HEAD)
    except OSError:
        return False
    return not head.startswith(_OTHERS) and not _is_text(head)


def _is_text(head: bytes) -> bool:
    # The last character may be cut in the middle.
    text = head.decode("utf-8", "replace").rstrip("\ufffd")
    return "\ufffd" not in text and all(sign.isprintable() or sign.isspace() for sign in text)


def is_hidden(path: Path, source: Path) -> bool:
    """Whether a file below a folder is hidden, or is in a folder that is: copies from a Mac have ``._`` twins."""
    return any(part.startswith(".") or part == "__MACOSX" for part in path.relative_to(source).parts)


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


def strange_names(source: Path) -> list[Path]:
    """Return the files and folders anywhere in a folder whose names are no UTF-8, which DVC falls over."""
    found = []
    for place, folders, files in os.walk(source):
        found += [Path(place) / name for name in (*folders, *files) if not is_utf8(name)]
    return sorted(found)


def refuse_strange_names(source: Path) -> None:
    """Refuse names that are no UTF-8 inside a corpus: DVC cannot note them, and says no more than "codec".

    Raises:
        CorpusError: there is one; the message names it
    """
    names = strange_names(source)
    if names:
        more = f", and {len(names) - 1} more" if len(names) > 1 else ""
        raise CorpusError(
            f"{readable(names[0])}: a name that is no UTF-8{more}; DVC cannot track it, so rename it, as "
            f"`convmv -f latin1 -t utf8 -r --notest {readable(source)}` does"
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
