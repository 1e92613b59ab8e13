"""The identity of features covers all code that computes them, and nothing else."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from emofuse.core import imports
from emofuse.encoders.base import code_version

SPEECH = "emofuse.encoders.speech"


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A copy of this package's source whose digests are taken in place of its own."""
    root = tmp_path / "emofuse"
    shutil.copytree(imports._ROOT, root, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(imports, "_ROOT", root)
    imports.imported.cache_clear()
    yield root
    imports.imported.cache_clear()


@pytest.mark.parametrize(
    "module", ["encoders/plain.py", "encoders/windows.py", "encoders/weights.py", "audio/spectrogram.py"]
)
def test_code_that_a_family_runs_is_in_its_identity(package: Path, module: str) -> None:
    before = code_version(SPEECH)
    with (package / module).open("a", encoding="utf-8") as stream:
        stream.write("\n_CHANGED = True\n")
    assert code_version(SPEECH) != before


@pytest.mark.parametrize(
    ("module", "addition"),
    [
        ("encoders/plain.py", '\n"""Prose."""\n# and a comment\n'),
        ("encoders/prosody.py", "\n_CHANGED = True\n"),
        ("core/schema.py", "\n_CHANGED = True\n"),
    ],
)
def test_prose_and_other_code_is_not(package: Path, module: str, addition: str) -> None:
    before = code_version(SPEECH)
    with (package / module).open("a", encoding="utf-8") as stream:
        stream.write(addition)
    assert code_version(SPEECH) == before
