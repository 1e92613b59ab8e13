"""A task: a corpus, classes, splits and context, with checks for leaks between splits.

What training is handed (:class:`Fold`) has no test labels in it; what scoring is handed (:meth:`Task.truth`) has.
"""

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import field
from itertools import chain, pairwise
from typing import Annotated, Literal

import numpy as np
import polars as pl
from pydantic import Field
from pydantic.dataclasses import dataclass

from emofuse.core.layout import Layout
from emofuse.core.params import STRICT, Params
from emofuse.core.schema import IGNORE, SPLIT_SOURCE, SPLITS

__all__ = ["Fold", "Interval", "SplitRule", "Task", "TaskConfig", "TaskError"]

TRAIN, DEV, TEST = range(3)


class TaskError(ValueError):
    """A corpus does not serve a task: a class is empty, a group is not there, a split leaks."""


@dataclass(frozen=True, config=STRICT)
class Interval:
    """The range of sentiment of a class, ``at_least`` ≤ sentiment < ``below``.

    Attributes:
        at_least: the smallest sentiment; by default there is no limit
        below: the upper limit, which is excluded; by default there is no limit
    """

    at_least: float = -math.inf
    below: float = math.inf

    def __post_init__(self) -> None:
        if self.at_least >= self.below:
            raise ValueError(f"no sentiment is at least {self.at_least} and below {self.below}")


@dataclass(frozen=True, config=STRICT)
class SplitRule:
    """Splits made of whole groups; groups that are in neither dev nor test are train.

    Attributes:
        by: the kind of group
        dev: names of groups; or ``next``, the group after the test group, cyclically; or ``each``, one fold for each
            group that is not in test
        test: names of groups; or ``each``, one fold for each group, which requires ``next``
        together: lists of groups that ``each`` and ``next`` treat as one; groups in none of them are always train

    Folds are in the order in which the corpus has the groups.
    """

    by: Literal["session", "speaker"]
    dev: tuple[str, ...] | Literal["next", "each"]
    test: tuple[str, ...] | Literal["each"]
    together: tuple[tuple[str, ...], ...] = ()

    def __post_init__(self) -> None:
        if (self.dev == "next") != (self.test == "each"):
            raise ValueError(f"dev {self.dev} and test {self.test} cannot be combined; `each` only goes with `next`")
        both = sorted(set(self.dev) & set(self.test)) if isinstance(self.dev, tuple) else []
        if both:
            raise ValueError(f"the {self.by}s {both} are in dev and test")
        if self.together and self.test != "each":
            raise ValueError("`together` only goes with `test: each`")
        doubled = sorted(name for name, count in Counter(chain(*self.together)).items() if count > 1)
        if doubled:
            raise ValueError(f"the {self.by}s {doubled} are in `together` more than once")


Count = int | tuple[int, ...] | dict[str, int]


@dataclass(frozen=True, config=STRICT)
class TaskConfig:
    """A task of ``params.yaml``.

    Attributes:
        classes: for each class, its corpus labels or its range of sentiment; other utterances count as unlabelled
        seeds: number of training runs of each model, seeds 0, 1, 2 …
        context: ``full``, the whole dialogue, or ``causal``, only the turns before
        unlabelled: ``keep`` unlabelled turns as context, or ``drop`` them
        speakers: ``disjoint`` if the protocol promises that no speaker is in two splits, else ``shared``
        transcript: where the words come from, for the protocol
        splits: ``official``, those of the corpus, or a rule
        counts: labelled utterances of the full corpus in a split, or in ``all``: a number, a number for each fold, or
            one for each class. Differences are reported with the results; they are not an error
    """

    classes: Annotated[dict[str, tuple[str, ...] | Interval], Field(min_length=2)]
    seeds: Annotated[int, Field(ge=1, le=1000)]
    context: Literal["full", "causal"]
    unlabelled: Literal["keep", "drop"]
    speakers: Literal["disjoint", "shared"]
    transcript: str
    splits: Literal["official"] | SplitRule = "official"
    counts: dict[Literal["all", "train", "dev", "test"], Count] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.intervals and len(self.intervals) < len(self.classes):
            raise ValueError("classes take labels or sentiments; expected the same of all of them")
        doubled = sorted({label for label in self.labels if list(self.labels).count(label) > 1})
        if doubled:
            raise ValueError(f"the labels {doubled} are in several classes; expected each in one")
        ordered = sorted(self.intervals, key=lambda each: each.at_least)
        if any(lower.below > upper.at_least for lower, upper in pairwise(ordered)):
            raise ValueError("a sentiment falls into two classes; expected one at most")
        counted = {name for each in self.counts.values() if isinstance(each, dict) for name in each}
        if not counted <= set(self.classes):
            raise ValueError(f"counts name {sorted(counted - set(self.classes))}; the classes are {list(self.classes)}")

    @property
    def labels(self) -> tuple[str, ...]:
        """The labels that the classes take, class by class; none where they take sentiments."""
        return tuple(label for taken in self.classes.values() if isinstance(taken, tuple) for label in taken)

    @property
    def intervals(self) -> tuple[Interval, ...]:
        """The sentiments that the classes take, class by class; none where they take labels."""
        return tuple(taken for taken in self.classes.values() if isinstance(taken, Interval))


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
    context: Literal["full", "causal"]


class Task:
    """A corpus seen through a task's label map and splits.

    Args:
        name: key in the parameters
        config: the task
        utterances: the corpus's utterance table, :data:`emofuse.core.schema.UTTERANCES`
        corpus: the corpus's name
        split_source: who made the corpus's own splits, in words

    Raises:
        TaskError: a split or a class is empty, a label or a group is unknown, or a split leaks
    """

    def __init__(
        self, name: str, config: TaskConfig, utterances: pl.DataFrame, corpus: str = "", split_source: str = ""
    ) -> None:
        self.name, self.config, self.corpus = name, config, corpus
        self._split_source = split_source
        self.classes = tuple(config.classes)
        unknown = sorted(set(config.labels) - set(utterances["label"]))
        if unknown:
            found = sorted(set(utterances["label"].drop_nulls()))
            raise TaskError(f"task {name}: classes take the labels {unknown}; the corpus's labels are {found}")
        taken = set(config.labels)
        counts = utterances["label"].drop_nulls().value_counts(sort=True, name="n").rows() if taken else []
        self._untaken = {str(label): int(count) for label, count in sorted(counts) if label not in taken}
        table = utterances.with_columns(target=_target(config))
        if config.unlabelled == "drop":
            table = table.filter(pl.col("target") != IGNORE)
        self._table = table
        self._splits = list(self._official() if config.splits == "official" else self._by_rule(config.splits))
        for fold in range(self.folds):
            self._check(fold)

    @classmethod
    def load(cls, name: str, params: Params, layout: Layout | None = None) -> "Task":
        """Open a task of a corpus's parameters on what the ingest stage wrote.

        Args:
            name: key in ``tasks``
            params: the corpus's
            layout: the project's folders; by default those of the working folder
        """
        corpus = params.get("corpus.name", str)
        path = (layout or Layout()).corpus(corpus) / "utterances.parquet"
        source = pl.read_parquet_metadata(path).get(SPLIT_SOURCE, "")
        return cls(name, params.get(f"tasks.{name}", TaskConfig), pl.read_parquet(path), corpus, source)

    @property
    def folds(self) -> int:
        """Number of folds."""
        return len(self._splits)

    def fold(self, fold: int) -> Fold:
        """Return what training may see of a fold."""
        splits = self._splits[fold]
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
            targets=np.where(splits == TEST, IGNORE, targets),
            scored=targets != IGNORE,
            classes=self.classes,
            context=self.config.context,
        )

    def truth(self) -> pl.DataFrame:
        """Return the labels of dev and test, for scoring.

        Returns:
            ``fold, split, utterance_id, dialogue_id, speaker, target, sentiment``; the sentiment is the corpus's own
            number, null where it has none, and so is the speaker
        """
        tables = [self._split_table(fold).with_columns(fold=pl.lit(fold, dtype=pl.Int32)) for fold in range(self.folds)]
        table = pl.concat(tables).filter((pl.col("target") != IGNORE) & (pl.col("split") != "train"))
        return table.select("fold", "split", "utterance_id", "dialogue_id", "speaker", "target", "sentiment")

    def counts(self, fold: int) -> dict[str, int]:
        """Return the number of labelled utterances of a fold by split."""
        labelled = self._table["target"].to_numpy() != IGNORE
        return {split: int((labelled & (self._splits[fold] == index)).sum()) for index, split in enumerate(SPLITS)}

    def class_counts(self, fold: int) -> dict[str, dict[str, int]]:
        """Return the number of utterances of each class by split."""
        targets = self._table["target"].to_numpy()
        return {
            split: {
                name: int(((targets == place) & (self._splits[fold] == index)).sum())
                for place, name in enumerate(self.classes)
            }
            for index, split in enumerate(SPLITS)
        }

    def untaken(self) -> dict[str, int]:
        """Return the corpus's labels that no class takes, with their counts; none where classes take sentiments."""
        return self._untaken

    @property
    def split_source(self) -> str:
        """Who made the splits and how, in words; ``official`` are those alone that the corpus's publisher made."""
        rule = self.config.splits
        if isinstance(rule, str):
            return self._split_source or "read from the corpus; their origin is unknown"
        parts = [
            f"{name} {each if isinstance(each, str) else ' '.join(each)}"
            for name, each in (("dev", rule.dev), ("test", rule.test))
        ]
        of = f" of {'; '.join(map(' '.join, rule.together))}" if rule.together else ""
        return f"made here by {rule.by}: {', '.join(parts)}{of}"

    def differences(self) -> list[str]:
        """Say where the corpus does not give the counts of a full one, one line each; none if it gives them all."""
        return list(dict.fromkeys(self._differences()))

    def _differences(self) -> Iterator[str]:
        for split, expected in self.config.counts.items():
            folds = 1 if split == "all" else self.folds
            if isinstance(expected, tuple) and len(expected) != folds:
                yield f"{split}: {folds} folds; the full corpus has {len(expected)}"
                continue
            for fold in range(folds):
                targets = self._split_table(fold).filter((pl.col("split") == split) | (split == "all"))["target"]
                if isinstance(expected, tuple):
                    yield from _unlike(f"{split} of fold {fold}", targets, expected[fold], self.classes)
                else:
                    yield from _unlike(split, targets, expected, self.classes)

    def _split_table(self, fold: int) -> pl.DataFrame:
        return self._table.with_columns(split=pl.Series(np.array(SPLITS)[self._splits[fold]], dtype=pl.String))

    def _official(self) -> Iterator[np.ndarray]:
        known = set(self._table["split"])
        if known != set(SPLITS):
            found = sorted(map(str, known))
            raise TaskError(f"task {self.name}: the corpus's splits are {found}; expected {list(SPLITS)}")
        codes = {split: index for index, split in enumerate(SPLITS)}
        yield self._table["split"].replace_strict(codes, return_dtype=pl.Int64).to_numpy()

    def _by_rule(self, rule: SplitRule) -> Iterator[np.ndarray]:
        of = self._table[rule.by]
        if of.null_count():
            without = self._table.filter(of.is_null())["utterance_id"][0]
            raise TaskError(f"task {self.name}: {without} has no {rule.by}, by which the task is split")
        groups = of.unique(maintain_order=True).to_list()
        named = {name for names in (rule.dev, rule.test, *rule.together) if isinstance(names, tuple) for name in names}
        if not named <= set(groups):
            absent = sorted(named - set(groups))
            raise TaskError(f"task {self.name}: splits name the {rule.by}s {absent}; the corpus has {groups}")
        for dev, test in _rounds(rule, groups):
            yield np.where(of.is_in(test), TEST, np.where(of.is_in(dev), DEV, TRAIN))

    def _check(self, fold: int) -> None:
        where = f"task {self.name}" if self.folds == 1 else f"task {self.name}, fold {fold}"
        table = self._split_table(fold)
        _refuse_shared(table, "dialogue_id", where)
        if self.config.speakers == "disjoint":
            _refuse_shared(table, "speaker", where)
        there = set(table.select("target", "split").unique().iter_rows())
        for index, name in enumerate(self.classes):
            for split in SPLITS:
                if (index, split) not in there:
                    raise TaskError(f"{where}: class {name!r} has no utterance in {split}")


def _target(config: TaskConfig) -> pl.Expr:
    """Class of an utterance, or IGNORE."""
    if config.intervals:
        score = pl.col("sentiment")
        inside = [(score >= each.at_least) & (score < each.below) for each in config.intervals]
        classes = [pl.when(holds).then(pl.lit(index, pl.Int64)) for index, holds in enumerate(inside)]
        return pl.coalesce(*classes, pl.lit(IGNORE, pl.Int64))
    taken = [each for each in config.classes.values() if isinstance(each, tuple)]
    targets = {label: index for index, labels in enumerate(taken) for label in labels}
    return pl.col("label").replace_strict(targets, default=IGNORE, return_dtype=pl.Int64).fill_null(IGNORE)


def _rounds(rule: SplitRule, groups: Sequence[str]) -> Iterator[tuple[Sequence[str], Sequence[str]]]:
    """Yield the groups of dev and of test, fold by fold."""
    if rule.test == "each":
        parts = rule.together or [(group,) for group in groups]
        for index, part in enumerate(parts):
            yield parts[(index + 1) % len(parts)], part
    elif rule.dev == "each":
        for group in groups:
            if group not in rule.test:
                yield [group], rule.test
    else:
        yield rule.dev, rule.test


def _unlike(where: str, targets: pl.Series, expected: int | dict[str, int], classes: Sequence[str]) -> Iterator[str]:
    """Say how many labelled utterances there are where that is not what was expected."""
    if isinstance(expected, int):
        found, expected = {"labelled": int((targets != IGNORE).sum())}, {"labelled": expected}
    else:
        found = {name: int((targets == index).sum()) for index, name in enumerate(classes)}
    for name, count in expected.items():
        if found[name] != count:
            yield f"{where}: {found[name]:,} {name} utterances; the full corpus has {count:,}"


def _refuse_shared(table: pl.DataFrame, column: str, where: str) -> None:
    shared = (
        table.filter(pl.col(column).is_not_null())
        .group_by(column)
        .agg(pl.col("split").unique().sort())
        .filter(pl.col("split").list.len() > 1)
        .sort(column)
    )
    if shared.height:
        value, splits = shared.row(0)
        raise TaskError(f"{where}: {column} {value!r} is in {_join(splits)}; {shared.height} in total")


def _join(names: Iterable[str]) -> str:
    return " and ".join(names)
