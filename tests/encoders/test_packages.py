"""A model that a package carries is found without running anything of the package."""

from pathlib import Path

import pytest

from emofuse.encoders import EncoderError
from emofuse.encoders.weights import model_folder


@pytest.fixture
def working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder from which Python imports, with a module that leaves a trace when it is."""
    package = tmp_path / "innocent"
    (package / "model").mkdir(parents=True)
    (package / "__init__.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w').close()")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


def test_what_lies_in_the_working_folder_is_not_imported(working_folder: Path) -> None:
    with pytest.raises(EncoderError, match="package:innocent/model: the package innocent is not installed"):
        model_folder("package:innocent/model")
    assert not (working_folder / "ran").exists()


def install(folder: Path, name: str, files: list[str]) -> None:
    """Lay a distribution out as an installer does."""
    notes = folder / f"{name}-1.0.dist-info"
    notes.mkdir()
    (notes / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (notes / "RECORD").write_text("".join(f"{each},,\n" for each in files))
    for each in files:
        (folder / each).parent.mkdir(parents=True, exist_ok=True)
        (folder / each).touch()


def test_an_installed_package_is_not_imported_either(working_folder: Path) -> None:
    install(working_folder, "innocent", ["innocent/model/config.json"])
    assert model_folder("package:innocent/model") == working_folder / "innocent/model"
    assert not (working_folder / "ran").exists()


@pytest.mark.parametrize("folder", ["elsewhere", "../other", "model/../../other", "model/config.json"])
def test_a_folder_outside_of_the_package_is_refused(working_folder: Path, folder: str) -> None:
    install(working_folder, "innocent", ["innocent/model/config.json"])
    install(working_folder, "other", ["other/config.json"])
    with pytest.raises(EncoderError, match="has no folder"):
        model_folder(f"package:innocent/{folder}")


@pytest.mark.parametrize("name", ["", ".", "..", "a b", "../innocent"])
def test_what_is_no_name_of_a_package_is_refused(working_folder: Path, name: str) -> None:
    with pytest.raises(EncoderError, match=r"is not installed|has no folder"):
        model_folder(f"package:{name}/model")
