"""Which code a result depends on: all that its module runs, nothing that it does not."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from emofuse.core import imports
from emofuse.core.imports import PLUMBING, closure, source_of
from emofuse.models.registry import FUSION
from emofuse.training.runs import code_digest

MODELS = {f"models.{each.module}" for each in FUSION}


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, root: Path) -> Iterator[Path]:
    """A copy of the package whose files may be edited; what runs is the original."""
    copy = tmp_path / "emofuse"
    shutil.copytree(root / "src/emofuse", copy, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(imports, "_ROOT", copy)
    imports.imported.cache_clear()
    yield copy
    imports.imported.cache_clear()


@pytest.fixture
def write(package: Path) -> Callable[[str, str], None]:
    """Write a module: ``write(module, source)``."""

    def to(module: str, source: str) -> None:
        path = package.joinpath(*module.split(".")).with_suffix(".py")
        path.parent.mkdir(exist_ok=True)
        path.write_text(source)

    return to


def edit(package: Path, module: str) -> None:
    path = package.joinpath(*module.split("."))
    path = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    path.write_text(path.read_text() + "\nedited = True\n")


@pytest.mark.parametrize(
    ("module", "changes"),
    [
        ("models.hcam", True),
        ("models.parts.layers", True),
        ("models.parts.mixture", True),
        ("training.trainer", True),
        ("training.fit", True),
        ("training.data", True),
        ("features.shards", True),
        ("scoring.metrics", True),
        ("tasks", True),
        ("models.cma", False),
        ("models.concat", False),
        ("models.registry", False),
        ("training.fuse", False),
        ("training.pretrain", False),
        ("encoders.speech", False),
        ("reporting.tables", False),
        ("scoring.scores", False),
        ("core.store", False),
        ("plan", False),
    ],
)
def test_the_digest_is_of_the_code_that_a_run_depends_on(package: Path, module: str, changes: bool) -> None:
    before = code_digest("training.trainer", "models.hcam")
    assert code_digest("training.trainer", "models.hcam") == before
    edit(package, module)
    assert (code_digest("training.trainer", "models.hcam") != before) is changes


def test_prose_is_no_code(write: Callable[[str, str], None]) -> None:
    write("core.sums", "def half(x):\n    return x / 2\n")
    bare = imports.code_of("core.sums")
    write(
        "core.sums",
        '"""Sums."""\n\n\ndef half(x):\n    """Half of it."""\n    return x / 2  # exact\n\n\n"""Done."""\n',
    )
    assert imports.code_of("core.sums") == bare
    write("core.sums", "def half(x):\n    return x // 2\n")
    assert imports.code_of("core.sums") != bare


@pytest.mark.parametrize("name", sorted(MODELS))
def test_a_model_depends_on_no_other(name: str) -> None:
    assert set(closure("training.trainer", name)) & MODELS == {name}


@pytest.mark.parametrize(
    "statement",
    [
        "from emofuse.new.other import thing",
        "from emofuse.new import other",
        "from emofuse.new import other as renamed, more",
        "def late():\n    from emofuse.new.other import thing",
        "if True:\n    from emofuse.new.other import thing",
        "try:\n    from emofuse.new.other import thing\nexcept ImportError:\n    pass",
    ],
)
def test_an_import_is_found_wherever_it_stands(write: Callable[[str, str], None], statement: str) -> None:
    write("new.first", statement)
    write("new.other", "from emofuse.new import further")
    write("new.more", "")
    write("new.further", "from emofuse.new.first import nothing  # a circle ends")
    more = ["new.more"] if "more" in statement else []
    assert closure("new.first") == sorted(["new.first", "new.further", "new.other", *more])


def test_what_is_imported_for_types_alone_and_from_elsewhere_does_not_run(write: Callable[[str, str], None]) -> None:
    write(
        "new.first",
        "from typing import TYPE_CHECKING\nimport numpy\nfrom json import loads\n"
        "if TYPE_CHECKING:\n    from emofuse.new.other import thing\n",
    )
    write("new.other", "")
    assert closure("new.first") == ["new.first"]
    assert imports.imported("new.first", types=True) == ("new.other",)


def test_a_package_s_own_names_are_in_its_file(write: Callable[[str, str], None]) -> None:
    write("new.first", "from emofuse.new import name")
    write("new.__init__", "from emofuse.new.other import name")
    write("new.other", "")
    assert closure("new.first") == ["new", "new.first", "new.other"]


def test_plumbing_is_left_out_with_what_it_imports(write: Callable[[str, str], None]) -> None:
    write("new.first", "from emofuse.core.store import Store")
    assert closure("new.first") == ["new.first"]


def test_plumbing_is_there(root: Path) -> None:
    assert [name for name in sorted(PLUMBING) if not source_of(name).exists()] == []


def test_the_package_imports_by_absolute_names(root: Path) -> None:
    """Any other kind of import of the package's own modules would be overlooked."""
    for path in (root / "src/emofuse").rglob("*.py"):
        lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
        assert not [line for line in lines if line.startswith(("from .", "import emofuse."))], path
