"""What is damaged in DVC's cache is found and taken away, and nothing else is."""

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from emofuse.core.dvc_cache import find_damaged, take_away_damaged
from emofuse.health import doctor

Dvc = Callable[..., subprocess.CompletedProcess[str]]

WHOLE = {"out/a": b"a" * 100, "out/b": b"b" * 100, "single": b"c" * 100}

GRAPH = """
stages:
  make:
    cmd: mkdir out && python make.py
    outs: [out, single]
    metrics: [{number: {cache: false}}]
"""

MAKE = """
from pathlib import Path
for name, letter in (("out/a", "a"), ("out/b", "b"), ("single", "c")):
    Path(name).write_text(100 * letter)
Path("number").write_text("1")
"""


@pytest.fixture(scope="module")
def made(dvc: Dvc, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with a folder and a file that DVC keeps."""
    project = tmp_path_factory.mktemp("made")
    dvc(project, "init", "-q", "--no-scm")
    (project / "dvc.yaml").write_text(GRAPH)
    (project / "make.py").write_text(MAKE)
    dvc(project, "repro")
    return project


@pytest.fixture
def project(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "project"))


def stored(project: Path, name: str) -> Path:
    """Where the cache has a file."""
    files = (project / ".dvc/cache/files/md5").rglob("*")
    return next(path for path in files if path.is_file() and path.read_bytes() == WHOLE[name])


def overwrite(project: Path, name: str, content: bytes) -> Path:
    """Damage a file in the cache, and where it is laid out."""
    path = stored(project, name)
    for each in (path, project / name):
        each.chmod(0o644)
        each.write_bytes(content)
    return path


def test_a_whole_cache_is_left_alone(project: Path) -> None:
    assert take_away_damaged(project, "out and single cannot be read") == []
    assert {name: (project / name).read_bytes() for name in WHOLE} == WHOLE
    assert all(stored(project, name) for name in WHOLE)


@pytest.mark.parametrize("name", WHOLE)
def test_what_was_cut_off_is_taken_away_and_made_again(project: Path, name: str, dvc: Dvc) -> None:
    path = overwrite(project, name, WHOLE[name][:50])
    assert [(each.path, each.stored) for each in take_away_damaged(project)] == [(project / name, path)]
    assert not path.exists()
    assert not (project / name).exists()
    assert {each: (project / each).exists() for each in WHOLE} == {each: each != name for each in WHOLE}
    dvc(project, "repro")
    assert {each: (project / each).read_bytes() for each in WHOLE} == WHOLE


def test_what_was_altered_is_found_where_a_message_is_about_it(project: Path) -> None:
    path = overwrite(project, "out/b", b"x" * 100)
    assert find_damaged(project, "single: cannot be read") == []
    assert [each.stored for each in find_damaged(project, "out: cannot be read")] == [path]


def test_what_was_changed_in_the_project_stays(project: Path) -> None:
    overwrite(project, "out/a", b"")
    (project / "out/a").write_bytes(b"mine")
    assert len(take_away_damaged(project)) == 1
    assert (project / "out/a").read_bytes() == b"mine"


def test_a_listing_that_was_cut_off_is_taken_away(project: Path, dvc: Dvc) -> None:
    listing = next((project / ".dvc/cache/files/md5").rglob("*.dir"))
    listing.chmod(0o644)
    listing.write_bytes(listing.read_bytes()[:10])
    assert [each.stored for each in take_away_damaged(project, "out")] == [listing]
    dvc(project, "repro")
    assert listing.exists()


def test_a_file_that_is_not_in_the_cache_is_no_damage(project: Path) -> None:
    stored(project, "out/a").unlink()
    assert find_damaged(project, "out") == []


def test_a_stage_that_fails_says_what_was_damaged_whatever_it_stumbled_over(project: Path) -> None:
    overwrite(project, "single", b"cut off")
    code = "from emofuse.core.process import stage\nwith stage('read'):\n    raise RuntimeError('cannot read it')"
    done = subprocess.run([sys.executable, "-c", code], cwd=project, capture_output=True, text=True, timeout=120)
    assert done.returncode == 1
    assert done.stderr == (
        "read: cannot read it; single: was damaged in DVC's cache and has been removed; "
        "`dvc pull` downloads it again, `dvc repro` makes it again\n"
    )


def test_the_doctor_finds_what_was_cut_off_and_takes_nothing_away(project: Path) -> None:
    assert list(doctor._cache(project)) == []
    path = overwrite(project, "out/a", b"cut off")
    (found,) = doctor._cache(project)
    assert (found.state, found.what) == ("broken", f"{project / 'out/a'}: cut off in DVC's cache")
    assert found.mend.startswith(f"`rm -f {path} {project / 'out/a'}`, then `dvc pull out`")
    assert path.exists()
