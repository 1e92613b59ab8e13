"""What scoring reads: every run of every model that is run, from where the training stages leave it."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from emofuse.core.layout import Layout, Pair
from emofuse.core.schema import SPLITS
from emofuse.models.registry import model as find_model
from emofuse.plan import Models, Plan, Selection
from emofuse.scoring.inputs import model_folders, run_folders, truth_of
from emofuse.scoring.predictions import ScoringError
from emofuse.tasks import Interval, Task, TaskConfig

LABELS = ("angry", "happy", "sad")
PAIR = Pair("ears", "eyes")
SEEDS = 2

FOLDERS = {
    "majority": "ears+eyes/majority",
    "audio-linear": "ears/linear",
    "text-linear": "eyes/linear",
    "audio-utterance": "ears/utterance",
    "text-utterance": "eyes/utterance",
    "audio-context": "ears/context",
    "text-context": "eyes/context",
    "hcam": "ears+eyes/hcam",
    "hcam/no-context": "ears+eyes/ablations/hcam/no-context",
    "hcam/no-ensemble": "ears+eyes/ablations/hcam/no-ensemble",
}
"""Where the training stages leave each model, below the task's folder."""


def plan(features: tuple[str, ...] = ("majority",), ablations: tuple[str, ...] = ("hcam",)) -> Plan:
    run = Selection(("tiny",), ("ears",), ("eyes",), Models(features, ("hcam",), ablations))
    return Plan("toy", "params.yaml", run, dict.fromkeys(ablations, ("no-context", "no-ensemble")))


def task(classes: Any = None) -> Task:
    """Nine utterances a split, a third of them of each label and of the sentiments -1, 0 and 1."""
    rows = [
        {"utterance_id": f"{split}{n}", "dialogue_id": split, "speaker": split, "label": LABELS[n % 3], "split": split}
        | {"sentiment": float(n % 3 - 1)}
        for split in SPLITS
        for n in range(9)
    ]
    config = TaskConfig(classes or {name: (name,) for name in LABELS}, SEEDS, "causal", "keep", "shared", "script")
    return Task("tiny", config, pl.DataFrame(rows), "toy")


@pytest.fixture
def layout(tmp_path: Path, leave_run: Callable[..., Path]) -> Layout:
    """A project with a run of each seed of each model."""
    found = Layout(tmp_path)
    for model, folder in FOLDERS.items():
        for seed in range(SEEDS if find_model(model).seeded else 1):
            leave_run(found.models / "tiny" / folder / f"seed-{seed}-fold-0", model, seed)
    return found


def test_models_are_found_where_training_leaves_them(layout: Layout) -> None:
    found = model_folders("tiny", PAIR, plan(), layout)
    assert {model: str(folder.relative_to(layout.models / "tiny")) for model, folder in found.items()} == FOLDERS


def test_run_folders_are_those_of_all_seeds_model_by_model(layout: Layout) -> None:
    found = [str(folder.relative_to(layout.models / "tiny")) for folder in run_folders(task(), PAIR, plan(), layout)]
    seeds = {model: SEEDS if find_model(model).seeded else 1 for model in FOLDERS}
    expected = [f"{FOLDERS[model]}/seed-{seed}-fold-0" for model in FOLDERS for seed in range(seeds[model])]
    assert sorted(found) == sorted(expected)
    assert len({each.rpartition("/")[0] for each in found}) == len(FOLDERS)


def test_ablations_count_where_they_are_run(layout: Layout) -> None:
    found = run_folders(task(), PAIR, plan(ablations=()), layout)
    assert not [folder for folder in found if "ablations" in folder.parts]
    assert len(found) == 13


def test_runs_of_another_pair_are_no_part(layout: Layout) -> None:
    """The same audio network serves both pairs; text networks and fusions are each pair's own."""
    with pytest.raises(ScoringError, match="models/tiny/nose/linear: 0 runs; expected 1"):
        run_folders(task(), Pair("ears", "nose"), plan(), layout)


@pytest.mark.parametrize("model", FOLDERS)
def test_a_missing_run_is_an_error(layout: Layout, model: str) -> None:
    folder = layout.models / "tiny" / FOLDERS[model]
    expected = len(list(folder.glob("*/record.json")))
    (folder / "seed-0-fold-0" / "record.json").unlink()
    message = rf"{FOLDERS[model].replace('+', '.')}: {expected - 1} runs; expected {expected}; run its training stage"
    with pytest.raises(ScoringError, match=message):
        run_folders(task(), PAIR, plan(), layout)


@pytest.mark.parametrize("folder", ["no-ensemble", "."])
def test_ablations_that_are_wholly_missing_are_an_error(layout: Layout, folder: str) -> None:
    shutil.rmtree(layout.fusion("tiny", PAIR) / "ablations/hcam" / folder)
    with pytest.raises(ScoringError, match=r"ablations/hcam/no-(context|ensemble): 0 runs; expected 2"):
        run_folders(task(), PAIR, plan(), layout)


def test_a_run_too_many_is_an_error(layout: Layout, leave_run: Callable[..., Path]) -> None:
    leave_run(layout.fusion("tiny", PAIR) / "hcam" / f"seed-{SEEDS}-fold-0", "hcam", SEEDS)
    with pytest.raises(ScoringError, match=r"eyes/hcam: 3 runs; expected 2"):
        run_folders(task(), PAIR, plan(), layout)


def test_a_model_that_was_not_trained_is_an_error(layout: Layout) -> None:
    with pytest.raises(ScoringError, match=r"eyes/cma: 0 runs; expected 2"):
        run_folders(task(), PAIR, plan(features=("majority", "cma")), layout)


@pytest.mark.parametrize(
    ("classes", "kept"),
    [
        ({"negative": Interval(below=0), "positive": Interval(at_least=0)}, True),
        ({"minus": Interval(below=0), "zero": Interval(at_least=0, below=1), "plus": Interval(at_least=1)}, False),
        ({name: (name,) for name in LABELS}, False),
    ],
    ids=["zeros in a class", "a class of zeros", "labels"],
)
def test_zeros_are_told_where_a_class_holds_them_and_others(classes: dict[str, Any], kept: bool) -> None:
    assert ("sentiment" in truth_of(task(classes)).columns) is kept
