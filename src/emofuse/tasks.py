"""A task: a corpus, a label map, splits and context; and the checks that no split leaks into another.

What training is handed (:class:`Fold`) has no test labels in it; what scoring is handed (:meth:`Task.truth`) has.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import polars as pl
from pydantic import Field
from pydantic.dataclasses import dataclass

from emofuse.params import STRICT

__all__ = ["IGNORE", "Fold", "Task", "TaskConfig", "TaskError"]

IGNORE = -1
"""Target of an utterance whose label is not given: unlabelled, outside the label map, or of the test split."""

Split = Literal["train", "dev", "test"]
SPLITS: tuple[Split, ...] = ("train", "dev", "test")


class TaskError(ValueError):
    """A corpus does not serve a task: a class is empty, a split leaks, a count differs."""


@dataclass(frozen=True, config=STRICT)
class TaskConfig:
    """A task of ``params.yaml``.

    Attributes:
        corpus: key of its corpus
        classes: for each class, the corpus labels that it takes; other labels count as unlabelled
        seeds: number of training runs of each model, seeds 0, 1, 2 …
        context: ``both`` directions of a dialogue, or the ``past`` alone
        unlabelled: ``keep`` unlabelled turns as context, or ``drop`` them
        speakers: ``disjoint`` if the protocol promises that no speaker is in two splits, else ``shared``
        transcript: where the words come from, for the protocol
    """

    corpus: str
    classes: Annotated[dict[str, tuple[str, ...]], Field(min_length=2)]
    seeds: Annotated[int, Field(ge=1, le=1000)]
    context: Literal["both", "past"]
    unlabelled: Literal["keep", "drop"]
    speakers: Literal["disjoint", "shared"]
    transcript: str

    def __post_init__(self) -> None:
        labels = [label for taken in self.classes.values() for label in taken]
        doubled = sorted({label for label in labels if labels.count(label) > 1})
        if doubled:
            raise ValueError(f"the labels {doubled} stand in more than one place of classes; expected one each")


@dataclass(frozen=True, config={"arbitrary_types_allowed": True})
class Fold:
    """What training sees of a task: all utterances in dialogue order, but the targets of train and dev alone.

    Attributes:
        utterance_ids: ``[n]``
        dialogues: ``[n_dialogues + 1]`` first utterance of each dialogue, and n at the end
        speakers: ``[n]`` number of the speaker, -1 if unknown
        splits: ``[n]`` index into :data:`SPLITS`
        targets: ``[n]`` class, or :data:`IGNORE`
        scored: ``[n]`` whether the utterance has a label that counts, whatever its split
        classes: names, in the order of the targets
        context: as in :class:`TaskConfig`
    """

    utterance_ids: tuple[str, ...]
    dialogues: np.ndarray
    speakers: np.ndarray
    splits: np.ndarray
    targets: np.ndarray
    scored: np.ndarray
    classes: tuple[str, ...]
    context: Literal["both", "past"]


class Task:
    """A corpus seen through a task's label map and splits.

    Args:
        name: key in the parameters
        config: the task
        utterances: the corpus's utterance table, :data:`emofuse.schema.UTTERANCES`

    Raises:
        TaskError: a split or a class is empty, a label is unknown, or a split leaks
    """

    def __init__(self, name: str, config: TaskConfig, utterances: pl.DataFrame) -> None:
        self.name, self.config = name, config
        self.classes = tuple(config.classes)
        targets = {label: index for index, labels in enumerate(config.classes.values()) for label in labels}
        table = utterances.with_columns(
            target=pl.col("label").replace_strict(targets, default=IGNORE, return_dtype=pl.Int64).fill_null(IGNORE)
        )
        if config.unlabelled == "drop":
            table = table.filter(pl.col("target") != IGNORE)
        unknown = sorted(set(targets) - set(utterances["label"]))
        if unknown:
            found = sorted(set(utterances["label"].drop_nulls()))
            raise TaskError(f"task {name}: classes take the labels {unknown}; the corpus's labels are {found}")
        self._table = table
        self._check()

    @classmethod
    def load(cls, name: str, config: TaskConfig, data: Path = Path("data")) -> "Task":
        """Read the task's corpus from where the ingest stage wrote it."""
        return cls(name, config, pl.read_parquet(data / "corpora" / config.corpus / "utterances.parquet"))

    @property
    def folds(self) -> int:
        """Number of folds."""
        return 1

    def fold(self, fold: int) -> Fold:
        """Return what training may see of a fold."""
        splits = self._splits(fold)
        targets = self._table["target"].to_numpy()
        dialogue = self._table["dialogue_id"].rle_id().to_numpy()
        speakers: dict[str | None, int] = {None: -1}
        for speaker in self._table["speaker"]:
            speakers.setdefault(speaker, len(speakers) - 1)
        return Fold(
            utterance_ids=tuple(self._table["utterance_id"]),
            dialogues=np.append(np.flatnonzero(np.diff(dialogue, prepend=-1)), len(dialogue)),
            speakers=np.array([speakers[each] for each in self._table["speaker"]]),
            splits=splits,
            targets=np.where(splits == SPLITS.index("test"), IGNORE, targets),
            scored=targets != IGNORE,
            classes=self.classes,
            context=self.config.context,
        )

    def truth(self) -> pl.DataFrame:
        """Return the labels of dev and test, for scoring: ``fold, split, utterance_id, dialogue_id, target``."""
        names = np.array(SPLITS)
        tables = [
            self._table.select("utterance_id", "dialogue_id", "target").with_columns(
                fold=pl.lit(fold, dtype=pl.Int32), split=pl.Series(names[self._splits(fold)])
            )
            for fold in range(self.folds)
        ]
        table = pl.concat(tables).filter((pl.col("target") != IGNORE) & (pl.col("split") != "train"))
        return table.select("fold", "split", "utterance_id", "dialogue_id", "target")

    def counts(self) -> dict[str, int]:
        """Return the number of labelled utterances by split, of fold 0."""
        labelled = self._table["target"].to_numpy() != IGNORE
        return {split: int((labelled & (self._splits(0) == index)).sum()) for index, split in enumerate(SPLITS)}

    def _splits(self, fold: int) -> np.ndarray:
        del fold
        codes: Mapping[str, int] = {split: index for index, split in enumerate(SPLITS)}
        return self._table["split"].replace_strict(codes, return_dtype=pl.Int64).to_numpy()

    def _check(self) -> None:
        known = set(self._table["split"])
        if known != set(SPLITS):
            found = sorted(map(str, known))
            raise TaskError(f"task {self.name}: the corpus's splits are {found}; expected {list(SPLITS)}")
        self._refuse_shared("dialogue_id")
        if self.config.speakers == "disjoint":
            self._refuse_shared("speaker")
        for index, name in enumerate(self.classes):
            for split in SPLITS:
                if not ((self._table["target"] == index) & (self._table["split"] == split)).any():
                    raise TaskError(f"task {self.name}: class {name!r} has no utterance in {split}")

    def _refuse_shared(self, column: str) -> None:
        shared = (
            self._table.filter(pl.col(column).is_not_null())
            .group_by(column)
            .agg(pl.col("split").unique().sort())
            .filter(pl.col("split").list.len() > 1)
            .sort(column)
        )
        if shared.height:
            value, splits = shared.row(0)
            raise TaskError(f"task {self.name}: {column} {value!r} is in {_join(splits)}; {shared.height} such in all")


def _join(names: Sequence[str]) -> str:
    return " and ".join(names)
