"""The package as a house: few rooms, imports that run down from one to the next, no circle of modules."""

import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import emofuse
from emofuse.core.imports import imported

ROOMS = (
    "cli",
    "health",
    "tracking",
    "robustness",
    "inference",
    "reporting",
    "training",
    "scoring",
    "plan",
    "models",
    "tasks",
    "features",
    "corpora",
    "encoders",
    "audio",
    "core",
)
"""From the top to the bottom: a room may import from those after it. ``emofuse.load`` stands above all."""

SOURCES = Path(emofuse.__file__).parent


def dotted(path: Path) -> str:
    return ".".join(path.relative_to(SOURCES).with_suffix("").parts).removesuffix("__init__").rstrip(".")


MODULES = sorted(filter(None, map(dotted, SOURCES.rglob("*.py"))))


def room(module: str) -> str:
    return module.partition(".")[0]


def test_the_rooms_are_these() -> None:
    assert sorted({room(each) for each in MODULES}) == sorted(ROOMS)
    assert len(ROOMS) < 20


@pytest.mark.parametrize("name", ROOMS)
def test_imports_run_down(name: str) -> None:
    above = ROOMS[: ROOMS.index(name)]
    own = [each for each in MODULES if room(each) == name]
    assert [(each, other) for each in own for other in imported(each, types=True) if room(other) in above] == []


def test_no_modules_import_each_other_in_a_circle() -> None:
    """Not even for types alone: two modules that need each other's names are one, or want a third."""
    graph = TopologicalSorter({each: imported(each, types=True) for each in MODULES})
    assert set(graph.static_order()) == set(MODULES)


SLOW = ("torch", "transformers", "mlflow", "sklearn", "polars", "matplotlib")


@pytest.mark.parametrize(
    "module", ["inference.manifest", "inference.project", "tracking.address", "encoders", "audio.parallel"]
)
def test_a_module_loads_nothing_slow_that_it_does_not_need(module: str) -> None:
    """A package's file runs with each of its modules, so it must not gather them."""
    code = f"import sys, emofuse.{module}; print(*sorted(set(sys.modules) & {set(SLOW)}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_tests_mirror_the_rooms(root: Path) -> None:
    folders = {path.parent.relative_to(root / "tests").as_posix() for path in root.glob("tests/**/test_*.py")}
    assert folders - {"."} <= set(ROOMS)
