"""What scoring reads: the folders of all runs of a task and a pair of encoders, and the labels."""

from pathlib import Path

import polars as pl

from emofuse.core.layout import Layout, Pair
from emofuse.core.schema import MODALITIES
from emofuse.models.registry import LINEAR, UNIMODAL, model
from emofuse.plan import Plan
from emofuse.scoring.predictions import ScoringError
from emofuse.tasks import Task

__all__ = ["model_folders", "run_folders", "truth_of"]


def model_folders(task: str, pair: Pair, plan: Plan, layout: Layout) -> dict[str, Path]:
    """Return the folder of each model that is run, by its name in the tables; that of each ablation too.

    Args:
        task: key of the task
        pair: the encoders
        plan: what is run of the corpus
        layout: the project's folders
    """
    fusion = layout.fusion(task, pair)
    unimodal = {
        each.name: layout.unimodal(task, pair.encoder(modality)) / each.folder
        for modality in MODALITIES
        for each in (*LINEAR, *UNIMODAL)
        if each.modalities == (modality,)
    }
    ablations = {
        f"{name}/{ablation}": fusion / "ablations" / name / ablation
        for name, own in plan.ablations.items()
        for ablation in own
    }
    return {**unimodal, **{name: fusion / name for name in plan.fusion}, **ablations}


def run_folders(task: Task, pair: Pair, plan: Plan, layout: Layout) -> list[Path]:
    """Return the folders of all runs of a task and a pair of encoders, model by model.

    Raises:
        ScoringError: a model lacks a run
    """
    found = []
    for name, folder in model_folders(task.name, pair, plan, layout).items():
        runs = sorted(path.parent for path in folder.glob("*/record.json"))
        seeds = task.config.seeds if model(name).seeded else 1
        if len(runs) != seeds * task.folds:
            raise ScoringError(
                f"{folder}: {len(runs)} runs; expected {seeds * task.folds}; run its training stage again"
            )
        found += runs
    return found


def truth_of(task: Task) -> pl.DataFrame:
    """Return the task's labels, with the sentiment where scores without its zeros are asked for."""
    truth = task.truth()
    classes = truth.filter(pl.col("sentiment") != 0)["target"].n_unique()
    # A class that is made of the zeros alone, such as MELD's neutral, cannot be left out.
    return truth if task.config.intervals and classes == len(task.classes) else truth.drop("sentiment")
