"""What would stop a corpus's stages, or surprise its owner, said before anything is encoded."""

from collections.abc import Iterator
from importlib import import_module

import polars as pl

from emofuse.core.params import Params, validate
from emofuse.features.extract import EncoderConfig
from emofuse.plan import Plan
from emofuse.tasks import SPLITS, Task, TaskConfig

__all__ = ["report"]


def report(plan: Plan, params: Params, utterances: pl.DataFrame) -> str:
    """Check tasks, encoders and models that are run, and describe each task: counts, labels that no class takes.

    Args:
        plan: what is run of the corpus
        params: the corpus's
        utterances: its table, :data:`emofuse.core.schema.UTTERANCES`

    Raises:
        ParamsError: an option of an encoder or a model is not allowed
        TaskError: a task does not fit the corpus
    """
    for encoder in (*plan.run.audio, *plan.run.text):
        config = params.get(f"encoders.{encoder}", EncoderConfig)
        validate(
            config.options, import_module(f"emofuse.encoders.{config.family}").Config, f"encoders.{encoder}.options"
        )
    _check_models(plan, params)
    blocks = []
    for name in plan.run.tasks:
        task = Task(name, params.get(f"tasks.{name}", TaskConfig), utterances, plan.corpus)
        blocks.append("\n".join([f"{plan.corpus}, task {name}:", *_lines(task)]))
    return "\n\n".join(blocks)


def _check_models(plan: Plan, params: Params) -> None:
    from emofuse.training.fuse import settings
    from emofuse.training.pretrain import UnimodalConfig

    for modality in ("audio", "text"):
        params.get(f"models.{modality}", UnimodalConfig)
    for name in plan.fusion:
        settings(params, name)
        for ablation in settings(params, name).ablations:
            settings(params, f"{name}/{ablation}")


def _lines(task: Task) -> Iterator[str]:
    folds = f", {task.folds} folds" if task.folds > 1 else ""
    speakers = {"disjoint": "no speaker in two splits", "shared": "speakers may be in several splits"}
    yield f"  splits {task.split_source}{folds}; {speakers[task.config.speakers]}"
    for fold in range(task.folds):
        of = f" of fold {fold}" if task.folds > 1 else ""
        counts = task.class_counts(fold)
        for split in SPLITS:
            classes = ", ".join(f"{name} {counts[split][name]:,}" for name in task.classes)
            yield f"  {split}{of}: {sum(counts[split].values()):,} labelled: {classes}"
    untaken = task.untaken()
    if untaken:
        listed = ", ".join(f"{label} {count:,}" for label, count in untaken.items())
        yield f"  labels that no class takes, which count as unlabelled: {listed}"
    for line in task.differences():
        yield f"  unlike a full corpus: {line}"
