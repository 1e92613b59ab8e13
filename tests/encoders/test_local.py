"""Digests of the local folders of encoders."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from emofuse.core.params import Params
from emofuse.encoders import EncoderError
from emofuse.encoders.local import folder_digest, is_watched, local_folder, read_digest, write_digest

COMMIT = "a" * 40

ENCODERS = {
    "bands": {"family": "logmel", "options": {}},
    "packaged": {"family": "text", "options": {"model": "package:name/model"}},
    "hub": {"family": "text", "options": {"model": "owner/name", "revision": COMMIT}},
    "watched": {"family": "text", "options": {"model": "data/weights/words", "revision": None}},
    "pinned": {"family": "text", "options": {"model": "data/weights/words", "revision": COMMIT}},
    "absent": {"family": "text", "options": {"model": "data/raw/others"}},
}


@pytest.fixture
def params(tmp_path: Path, write_params: Callable[..., None]) -> Params:
    """A catalogue, one folder of which is there."""
    write(tmp_path / "data/weights/words")
    write_params(tmp_path, "demo", "bands", "watched", encoders=ENCODERS)
    return Params.load(root=tmp_path)


def write(folder: Path) -> None:
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(b"weights")


def test_an_encoder_has_a_folder_if_it_is_there_or_nothing_else_is_named(params: Params, tmp_path: Path) -> None:
    """As it is loaded: a folder comes before a hub id, and what has no revision is no hub id."""
    found = {name: local_folder(params, name) for name in ENCODERS}
    words = tmp_path / "data/weights/words"
    absent = tmp_path / "data/raw/others"
    assert {name: folder for name, folder in found.items() if folder} == {
        "watched": words,
        "pinned": words,
        "absent": absent,
    }


def test_a_digest_tells_names_and_contents_of_what_is_loaded_and_not_its_place(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    write(first)
    write(second)
    (second / "README.md").write_text("Where it is from.")
    (second / ".cache").mkdir()
    (second / ".gitattributes").write_text("*")
    assert folder_digest(first) == folder_digest(second)
    (second / "model.safetensors").write_bytes(b"others")
    changed = folder_digest(second)
    assert changed != folder_digest(first)
    (second / "model.safetensors").rename(second / "others.safetensors")
    assert folder_digest(second) != changed


def test_a_folder_that_is_not_here_keeps_its_digest(tmp_path: Path) -> None:
    """Where features were pulled, the weights may be missing, and nothing is to be encoded again."""
    folder = tmp_path / "words"
    write(folder)
    before = folder_digest(folder)
    shutil.rmtree(folder)
    assert folder_digest(folder, before) == before
    with pytest.raises(EncoderError, match="words: not found; copy the folder there, or `dvc pull` features"):
        folder_digest(folder)


@pytest.mark.parametrize("link", [None, "data/weights/group/words", "data/weights/group"])
def test_what_is_behind_a_link_is_not_watched(tmp_path: Path, link: str | None) -> None:
    folder = tmp_path / "data/weights/group/words"
    write(folder)
    if link:
        (tmp_path / link).rename(tmp_path / "moved")
        (tmp_path / link).symlink_to(tmp_path / "moved")
    assert is_watched(folder, tmp_path) is (link is None)


@pytest.mark.parametrize("folder", ["data/weights", "data/raw/words", "data/weights/../raw/words", "/elsewhere"])
def test_folders_elsewhere_are_not_watched(tmp_path: Path, folder: str) -> None:
    assert not is_watched(tmp_path / folder, tmp_path)


def test_a_digest_is_read_as_it_was_written(tmp_path: Path) -> None:
    path = tmp_path / "digests/words.json"
    assert read_digest(path) is None
    for digest in ("0123", None):
        write_digest(path, digest)
        assert read_digest(path) == digest
    for damaged in ("{", "[1]", "{}"):
        path.write_text(damaged)
        assert read_digest(path) is None
