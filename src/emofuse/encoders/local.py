"""Encoders whose weights are in a local folder: a digest of its files, for DVC to compare.

DVC cannot depend on a path that only some encoders have. So the stages ``weights-audio`` and ``weights-text`` depend on
:data:`FOLDER` as a whole and write a digest for each encoder, on which all that encodes with it depends.
"""

import json
from pathlib import Path

from emofuse.core.files import digest, file_digest, write_json
from emofuse.core.params import Params
from emofuse.encoders.base import EncoderError
from emofuse.encoders.catalogue import EncoderConfig

__all__ = ["FOLDER", "folder_digest", "is_watched", "local_folder", "read_digest", "write_digest"]

FOLDER = Path("data/weights")
"""Where local folders of weights belong: DVC does not notice changes to folders elsewhere."""


def local_folder(params: Params, encoder: str) -> Path | None:
    """Return the folder that an encoder is loaded from, whether or not it is there; None for others.

    Raises:
        ParamsError: its entry in the catalogue is wrong
    """
    options = params.get(f"encoders.{encoder}", EncoderConfig).options
    model = options.get("model")
    if not isinstance(model, str) or model.startswith("package:"):
        return None
    folder = params.shared.parent / model
    return folder if folder.is_dir() or options.get("revision") is None else None


def is_watched(folder: Path, root: Path) -> bool:
    """Return whether DVC notices that files of a folder change; it does not follow links to folders.

    Args:
        folder: as :func:`local_folder` returns it
        root: the project's root folder
    """
    if ".." in folder.parts:
        return False
    inside = [each for each in (folder, *folder.parents) if each.is_relative_to(root / FOLDER)]
    return len(inside) > 1 and not any(each.is_symlink() for each in inside[:-1])


def folder_digest(folder: Path, before: str | None = None) -> str:
    """Return the digest of a folder's files, without hidden ones and notes, and without folders inside.

    Args:
        folder: as transformers saves a model
        before: the earlier digest, which stays that of a folder that is not on this machine, where features were pulled

    Raises:
        EncoderError: the folder is not there, and there is no earlier digest
    """
    if folder.is_dir():
        files = (each for each in folder.iterdir() if each.is_file() and each.suffix != ".md")
        return digest({each.name: file_digest(each) for each in files if not each.name.startswith(".")})
    if before is None:
        raise EncoderError(f"{folder}: not found; copy the folder there, or `dvc pull` features that were made with it")
    return before


def write_digest(path: Path, folder: str | None) -> None:
    """Write the digest of an encoder's folder; None if it has none."""
    write_json(path, {"folder": folder})


def read_digest(path: Path) -> str | None:
    """Read what :func:`write_digest` wrote; None where there is no file."""
    try:
        folder: str | None = json.loads(path.read_text(encoding="utf-8"))["folder"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return folder
