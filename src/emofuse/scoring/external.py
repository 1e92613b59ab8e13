"""External predictions as rows of the results.

A file has a column ``utterance_id`` and either a column for each class, with its probability, or a column ``label``
with a class's name. It is joined by id. It predicts every utterance of test, and all of dev or none; what it says of
train or of turns without a label is left aside.
"""

import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import polars as pl

from emofuse.core import schema
from emofuse.core.files import write_json, write_table
from emofuse.core.layout import Layout, Pair
from emofuse.corpora.base import CorpusError, shown
from emofuse.corpora.rows import read_parquet, read_rows
from emofuse.plan import External, Plan
from emofuse.scoring.predictions import ScoringError, first_ids, folds_are_pooled, scored_utterances
from emofuse.tasks import Task

__all__ = ["ExternalPredictions", "read_external", "take_in", "taken_in"]

_PREDICTIONS, _ABOUT = "predictions.parquet", "about.json"

TOLERANCE = 0.01
"""Probabilities that were rounded for a file add up to one within this; they are divided by their sum."""


@dataclass(frozen=True)
class ExternalPredictions:
    """The predictions of a file.

    Attributes:
        rows: of :data:`emofuse.core.schema.PREDICTIONS`, of seed 0, with splits ``test`` and perhaps ``dev``; where all
            folds test the same utterances, of the first fold alone
        kind: ``probabilities``, or ``labels``, which stand as a probability of one and say nothing of confidence
    """

    rows: pl.DataFrame
    kind: Literal["probabilities", "labels"]


def take_in(task: Task, pair: Pair, config: External, layout: Layout) -> str:
    """Check a file of predictions and write it as those of a run, with where it comes from.

    Args:
        task: that it predicts
        pair: the encoders whose table the row is in
        config: the file and its source
        layout: the project's folders

    Returns:
        a line that says what was read

    Raises:
        ScoringError: see :func:`read_external`
        OSError: the disk fails
    """
    everything = pl.read_parquet(layout.corpus(task.corpus) / "utterances.parquet", columns=["utterance_id"])
    path = layout.root / config.file
    found = read_external(path, config.name, task.name, task.truth(), task.classes, everything["utterance_id"])
    out = layout.external(task.name, pair, config.name)
    rows = schema.conform(found.rows.to_arrow(compat_level=pl.CompatLevel.oldest()), schema.PREDICTIONS, str(path))
    write_table(out / _PREDICTIONS, rows)
    write_json(out / _ABOUT, {"source": config.source, "labels_seen": config.labels_seen, "kind": found.kind})
    return f"{config.name}: {found.kind} of {len(found.rows):,} utterances, from {path}"


def taken_in(task: str, pair: Pair, plan: Plan, layout: Layout) -> tuple[list[pl.DataFrame], dict[str, dict[str, Any]]]:
    """Return what :func:`take_in` wrote for a table: the predictions, and by name ``source, labels_seen, kind``."""
    folders = {each.name: layout.external(task, pair, each.name) for each in plan.external(task)}
    about = {name: json.loads((folder / _ABOUT).read_text(encoding="utf-8")) for name, folder in folders.items()}
    return [pl.read_parquet(folder / _PREDICTIONS) for folder in folders.values()], about


def read_external(
    path: Path, model: str, task: str, truth: pl.DataFrame, classes: Sequence[str], utterance_ids: Collection[str]
) -> ExternalPredictions:
    """Read a file of predictions.

    Args:
        path: ``.csv`` or ``.parquet``
        model: name of its row
        task: key of the task
        truth: ``fold, split, utterance_id, dialogue_id, target`` of dev and test
        classes: class names in the order of the targets
        utterance_ids: of the whole corpus

    Raises:
        ScoringError: the file is missing or damaged, a column is missing or ambiguous, an id is missing, doubled or
            unknown, or a prediction is none
        OSError: the disk fails
    """
    table = _read(path)
    if "utterance_id" not in table.columns:
        raise ScoringError(f"{path}: no column 'utterance_id'; columns are {shown(table.columns)}")
    table = table.with_columns(pl.col("utterance_id").cast(pl.String))
    if table["utterance_id"].null_count():
        raise ScoringError(f"{path}: {table['utterance_id'].null_count()} rows have no utterance_id")
    _refuse(path, table.filter(pl.col("utterance_id").is_duplicated()), "doubled")
    _refuse(path, table.filter(~pl.col("utterance_id").is_in(list(utterance_ids))), "not in the corpus")
    kind: Literal["probabilities", "labels"] = "labels" if "label" in table.columns else "probabilities"
    predictions = _labels(path, table, classes) if kind == "labels" else _probabilities(path, table, classes)
    return ExternalPredictions(_rows(path, predictions, model, task, truth, classes), kind)


def _read(path: Path) -> pl.DataFrame:
    read = {".csv": read_rows, ".parquet": read_parquet}.get(path.suffix.lower())
    if read is None:
        raise ScoringError(f"{path}: expected a .csv or .parquet file")
    try:
        # A CSV as text: an id such as 007 is no number.
        return read(path)
    except CorpusError as error:
        raise ScoringError(str(error)) from error


def _labels(path: Path, table: pl.DataFrame, classes: Sequence[str]) -> pl.DataFrame:
    """The columns utterance_id and probabilities, one for the class that is named."""
    if both := sorted(set(classes) & set(table.columns)):
        raise ScoringError(f"{path}: columns 'label' and {both}; expected a label or probabilities, not both")
    label = pl.col("label").cast(pl.String).str.strip_chars()
    table = table.with_columns(label=label)
    strange = table.filter(~pl.col("label").is_in(list(classes)).fill_null(False))
    if len(strange):
        name, found = strange.select("utterance_id", "label").row(0)
        raise ScoringError(
            f"{path}: the label of {shown(name)} is {shown(found)}, {len(strange)} such in all; expected one of "
            f"{list(classes)}"
        )
    of_class = [(pl.col("label") == name).cast(pl.Float32) for name in classes]
    return table.select("utterance_id", probabilities=pl.concat_list(of_class))


def _probabilities(path: Path, table: pl.DataFrame, classes: Sequence[str]) -> pl.DataFrame:
    """The columns utterance_id and probabilities."""
    missing = [name for name in classes if name not in table.columns]
    if missing:
        raise ScoringError(
            f"{path}: no column 'label', and none for the classes {missing}; columns are {shown(table.columns)}"
        )
    values = table.select(pl.col(classes).cast(pl.Float64, strict=False)).to_numpy()
    total = values.sum(axis=1)
    # What is not a number is false in every comparison.
    sound = (values >= 0).all(axis=1) & (abs(total - 1) <= TOLERANCE)
    unsound = table.filter(~pl.Series(sound))
    _refuse(path, unsound, f"without probabilities from 0 to 1 that add up to 1 ± {TOLERANCE:g}")
    scaled = (values / total[:, None]).astype(np.float32)
    return table.select("utterance_id", probabilities=pl.Series(scaled.tolist(), dtype=pl.List(pl.Float32)))


def _rows(
    path: Path, predictions: pl.DataFrame, model: str, task: str, truth: pl.DataFrame, classes: Sequence[str]
) -> pl.DataFrame:
    """Rows of the predictions' table, of the utterances that are scored."""
    test = scored_utterances(truth, classes)
    expected = truth if folds_are_pooled(test) else truth.filter(pl.col("fold") == truth["fold"].min())
    absent = expected.join(predictions, on="utterance_id", how="anti")
    _refuse(path, absent.filter(split="test"), "missing")
    without_dev = absent.filter(split="dev")
    if 0 < len(without_dev) < expected.filter(split="dev").height:
        _refuse(path, without_dev, "missing; expected those of test, and all of dev or none")
    return expected.join(predictions, on="utterance_id", maintain_order="left").select(
        task=pl.lit(task),
        model=pl.lit(model),
        seed=pl.lit(0, pl.Int32),
        fold=pl.col("fold").cast(pl.Int32),
        split="split",
        utterance_id="utterance_id",
        probabilities="probabilities",
    )


def _refuse(path: Path, offenders: pl.DataFrame, fault: str) -> None:
    if len(offenders):
        raise ScoringError(f"{path}: utterances {fault}: {first_ids(offenders)}")
