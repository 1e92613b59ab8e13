"""Predictions, attention and gates of models for one test dialogue, with or without the corpus's words."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from emofuse.core.layout import Layout
from emofuse.models.registry import in_order, is_ablation
from emofuse.scoring.predictions import RUN
from emofuse.tasks import Task

__all__ = ["Dialogue", "read_dialogues", "words"]


@dataclass(frozen=True)
class Dialogue:
    """What a model makes of one dialogue.

    Attributes:
        model: its name
        seed: of the run
        turns: by turn ``utterance_id, predicted, confidence``, null where nothing was scored; with the corpus's words
            also ``speaker, text, target`` (the name of the class)
        attention: for each title ``[n_turns, n_turns]``, rows add up to one
        gate: for each title ``[n_turns]``, 0 to 1
    """

    model: str
    seed: int
    turns: pl.DataFrame
    attention: Mapping[str, Sequence[Sequence[float]]]
    gate: Mapping[str, Sequence[float]]

    @property
    def has_words(self) -> bool:
        """Whether the corpus's words and labels are among the turns."""
        return "text" in self.turns.columns


def read_dialogues(
    folders: Sequence[Path], runs: pl.DataFrame, classes: Sequence[str], utterances: pl.DataFrame | None
) -> list[Dialogue]:
    """Return the example of each model that left one, from its best run on dev; those of ablations are left out.

    Args:
        folders: run folders; an ``attention.json`` has ``utterance_ids``, ``attention`` and ``gate``
        runs: the predictions of all runs
        classes: class names in the order of the probabilities
        utterances: what :func:`words` gives, or None to leave the words out: a corpus belongs to its owner, and what
            goes into git must not have any of it
    """
    best: dict[str, tuple[float, Path]] = {}
    for folder in folders:
        if (folder / "attention.json").exists():
            record = json.loads((folder / "record.json").read_text(encoding="utf-8"))
            found = (record["dev"]["weighted_f1"], folder)
            if not is_ablation(record["model"]):
                best[record["model"]] = max(best.get(record["model"], found), found, key=lambda each: each[0])
    return [_dialogue(best[model][1], runs, classes, utterances) for model in in_order(best)]


def words(task: Task, layout: Layout) -> pl.DataFrame:
    """Return ``utterance_id, speaker, text, target`` of a task's corpus; the target by name, null where unlabelled."""
    path = layout.corpus(task.corpus) / "utterances.parquet"
    name = pl.col("target").replace_strict(dict(enumerate(task.classes)))
    targets = task.truth().select("utterance_id", target=name).unique("utterance_id")
    return pl.read_parquet(path, columns=["utterance_id", "speaker", "text"]).join(
        targets, on="utterance_id", how="left"
    )


def _dialogue(folder: Path, runs: pl.DataFrame, classes: Sequence[str], utterances: pl.DataFrame | None) -> Dialogue:
    record, example = (
        json.loads((folder / name).read_text(encoding="utf-8")) for name in ("record.json", "attention.json")
    )
    turns = pl.DataFrame({"utterance_id": example["utterance_ids"]})
    for table in (_predictions(runs, record, classes), *([] if utterances is None else [utterances])):
        turns = turns.join(table, on="utterance_id", how="left", maintain_order="left")
    return Dialogue(record["model"], record["seed"], turns, example["attention"], example["gate"])


def _predictions(runs: pl.DataFrame, record: Mapping[str, object], classes: Sequence[str]) -> pl.DataFrame:
    """What a run predicts of test: utterance_id, predicted, confidence."""
    own = runs.filter(pl.col("split") == "test", *(pl.col(name) == record[name] for name in RUN))
    place = pl.col("probabilities").list.arg_max()
    return own.select(
        "utterance_id",
        predicted=place.replace_strict(dict(enumerate(classes)), return_dtype=pl.String),
        confidence=pl.col("probabilities").list.max(),
    )
