"""Checks of a corpus and its tasks before anything is encoded."""

from collections import Counter
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import polars as pl

from emofuse.audio.sound import AudioFile
from emofuse.core.params import Params, ParamsError, validate
from emofuse.core.schema import SPLITS
from emofuse.corpora.ingest import CorpusConfig, read, utterance_table
from emofuse.encoders.catalogue import EncoderConfig
from emofuse.models.registry import UNIMODAL
from emofuse.plan import Plan, plans
from emofuse.tasks import Task, TaskConfig

__all__ = ["check_corpus", "report"]


def check_corpus(name: str, root: Path = Path()) -> Iterator[str]:
    """Read a corpus without its sound and describe it; then check what is run of it and describe that.

    Args:
        name: of the corpus
        root: the project's root folder

    Raises:
        ParamsError: there is no such corpus, or its parameters are wrong
        CorpusError: it cannot be read
        TaskError: a task does not fit it
    """
    found = {plan.corpus: plan for plan in plans(root)}
    if name not in found:
        raise ParamsError(f"{name!r}: no such corpus; there are {', '.join(found)}; `emofuse corpus new` makes one")
    plan = found[name]
    params = Params.load(plan.file, root)
    corpus = read(params.get("corpus", CorpusConfig))
    table = utterance_table(corpus)
    defects = Counter(defect for row in table["defects"] for defect in row)
    sounds = [each.audio for each in corpus.utterances if each.audio is not None]
    absent = [each.where for each in sounds if isinstance(each, AudioFile) and not each.path.is_file()]
    yield (
        f"{name}: {table.height:,} utterances in {table['dialogue_id'].n_unique():,} dialogues, "
        f"{table['speaker'].drop_nulls().n_unique():,} speakers, {table['text'].drop_nulls().len():,} with text, "
        f"{len(sounds) - len(absent):,} with sound"
    )
    if absent:
        yield f"  sound files that are missing: {len(absent):,}, such as {absent[0]}"
    yield from (f"  defect {defect}: {count:,}" for defect, count in sorted(defects.items()))
    yield from (f"  note: {note}" for note in corpus.notes)
    yield "\n" + report(plan, params, table, corpus.split_source)


def report(plan: Plan, params: Params, utterances: pl.DataFrame, split_source: str = "") -> str:
    """Check tasks, encoders and models that are run, and describe each task: counts, labels that no class takes.

    Args:
        plan: what is run of the corpus
        params: the corpus's
        utterances: its table, :data:`emofuse.core.schema.UTTERANCES`
        split_source: who made the corpus's own splits, in words

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
        task = Task(name, params.get(f"tasks.{name}", TaskConfig), utterances, plan.corpus, split_source)
        blocks.append("\n".join([f"{plan.corpus}, task {name}:", *_lines(task)]))
    return "\n\n".join(blocks)


def _check_models(plan: Plan, params: Params) -> None:
    from emofuse.training.settings import settings

    for each in UNIMODAL:
        settings(params, each.name)
    for name in plan.fusion:
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
        yield f"  labels that belong to no class and count as unlabelled: {listed}"
    for line in task.differences():
        yield f"  differs from the full corpus: {line}"
