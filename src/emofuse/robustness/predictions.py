"""Trained models under worse conditions: the networks as they are, asked about test with features that were changed.

Where a modality is missing, or an utterance has lost all its words, a network sees what it sees of any utterance that
has nothing to encode: a missing value, for which it takes the mean over train. The weights of ensembles stay those that
dev has chosen, with features as they were.
"""

import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import polars as pl
from tqdm import tqdm

from emofuse.core.files import digest, file_digest, write_table
from emofuse.core.process import cores, quiet, start_worker
from emofuse.core.store import Store
from emofuse.features.shards import FeatureError, metadata
from emofuse.inference.bundle import FILES, read_json
from emofuse.inference.graph import MODALITIES, Graph
from emofuse.inference.project import folders_of_run
from emofuse.reporting.protocol import modalities
from emofuse.tasks import SPLITS, Fold, Task
from emofuse.training.data import read_features
from emofuse.training.runs import code_digest, fold_digest

__all__ = ["predict_degraded", "test_dialogues"]

_KIND = "degraded"
_ANSWERS = "predictions.parquet"

_CODE = code_digest(
    "inference.degraded",
    "inference.graph",
    "models.base",
    "models.cma",
    "models.concat",
    "models.hbaf",
    "models.hcam",
    "models.late",
    "models.layers",
    "models.recurrent",
    "models.unimodal",
    "training.data",
    "training.fit",
)


@dataclass(frozen=True)
class _Job:
    """One run under one condition; small enough to send to a worker.

    Attributes:
        run: its folder
        models: the task's folder of models
        condition: its name
        changed: the modality that is changed
        features: folders of the features by modality, the changed one among them
        digests: of these features
        fold: the dialogues of test
        store: where finished answers are kept
    """

    run: Path
    models: Path
    condition: str
    changed: str
    features: Mapping[str, Path]
    digests: Mapping[str, str]
    fold: Fold
    store: Path


def predict_degraded(
    task: Task, runs: Sequence[Path], conditions: Mapping[str, str], data: Path, store: Store
) -> pl.DataFrame:
    """Return what the runs of a task say of test under each condition.

    A model that does not read the modality that is changed says what it said.

    Args:
        task: the runs' task
        runs: their folders
        conditions: the modality that each changes, by its name, which is its features' folder too
        data: the project's data folder
        store: where finished answers are kept

    Returns:
        the columns of :data:`emofuse.core.schema.PREDICTIONS`, and ``condition``; condition by condition

    Raises:
        FeatureError: an utterance of test has no features under a condition, or other ones than the models know
        BundleError: a run's networks are damaged
    """
    folder, models = data / "features" / task.config.corpus, data / "models" / task.name
    folds = [test_dialogues(task.fold(number)) for number in range(task.folds)]
    digests = {name: _shards_digest(folder / name) for name in (*MODALITIES, *conditions)}
    jobs = []
    for condition, changed in conditions.items():
        if metadata(folder / condition) != metadata(folder / changed):
            raise FeatureError(f"{folder / condition}: made by another encoder than {changed}; run the stage degrade")
        names = {each: condition if each == changed else each for each in MODALITIES}
        features = {each: folder / name for each, name in names.items()}
        made = {each: digests[name] for each, name in names.items()}
        for run in runs:
            fold = folds[read_json(run / "record.json")["fold"]]
            jobs.append(_Job(run, models, condition, changed, features, made, fold, store.root))
    with ProcessPoolExecutor(cores(), get_context("spawn"), initializer=start_worker, initargs=(os.getpid(),)) as pool:
        answers = pool.map(_answer, jobs)
        return pl.concat(tqdm(answers, desc=f"{task.name}, degraded", total=len(jobs), unit="run", disable=quiet()))


def test_dialogues(fold: Fold) -> Fold:
    """Return the dialogues of test alone, whole: none is in two splits."""
    inside = fold.splits == SPLITS.index("test")
    sizes = np.add.reduceat(inside, fold.dialogues[:-1])
    return replace(
        fold,
        utterance_ids=tuple(fold.utterance_ids[row] for row in np.flatnonzero(inside)),
        dialogues=np.cumsum([0, *sizes[sizes > 0]]),
        speakers=fold.speakers[inside],
        splits=fold.splits[inside],
        targets=fold.targets[inside],
        scored=fold.scored[inside],
    )


def _answer(job: _Job) -> pl.DataFrame:
    said = pl.read_parquet(job.run / _ANSWERS).filter(pl.col("split") == "test")
    if job.changed in modalities(said["model"][0]):
        said = _asked_again(job, said)
    return said.with_columns(condition=pl.lit(job.condition))


def _asked_again(job: _Job, said: pl.DataFrame) -> pl.DataFrame:
    """The run's predictions with the probabilities that it gives under the condition."""
    model = said["model"][0]
    reads = modalities(model)
    networks = folders_of_run(job.run, job.models)
    parts = [path for each in networks.values() for path in (each / name for name in FILES) if path.exists()]

    def make(folder: Path) -> None:
        frames = {each: read_features(job.features[each], job.fold.utterance_ids) for each in reads}
        rows = Graph(networks).posteriors(model, frames, job.fold).tolist()
        given = dict(zip(job.fold.utterance_ids, rows, strict=True))
        new = pl.Series([given[each] for each in said["utterance_id"]], dtype=pl.List(pl.Float32))
        write_table(folder / _ANSWERS, said.with_columns(probabilities=new).to_arrow())

    made = [job.digests[each] for each in reads]
    files = [file_digest(path) for path in (job.run / "record.json", *parts)]
    key = digest([_CODE, fold_digest(job.fold), made, files])
    return pl.read_parquet(Store(job.store).ensure(_KIND, key, make).path / _ANSWERS)


def _shards_digest(folder: Path) -> str:
    return digest([file_digest(path) for path in sorted(folder.glob("*.parquet"))])
