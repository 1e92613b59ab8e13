"""Trained models under worse conditions: the networks as they are, asked about test with features that were changed.

Where a modality is missing, or an utterance has lost all its words, a network sees what it sees of any utterance that
has nothing to encode: a missing value, for which it takes the mean over train. The weights of ensembles stay those that
dev has chosen, with features as they were.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import polars as pl
from tqdm import tqdm

from emofuse.core.files import checked, digest, file_digest, write_table
from emofuse.core.layout import Layout, Pair
from emofuse.core.pool import call_all
from emofuse.core.process import cores, quiet, start_worker
from emofuse.core.schema import MODALITIES, SPLITS
from emofuse.core.store import Store
from emofuse.features.shards import FeatureError, FeatureStore, metadata
from emofuse.inference.bundle import FILES, read_json
from emofuse.inference.graph import Graph
from emofuse.inference.project import folders_of_run
from emofuse.models.registry import MODELS, model
from emofuse.tasks import Fold, Task
from emofuse.training.data import read_features
from emofuse.training.runs import code_digest, fold_digest

__all__ = ["predict_corrupted", "test_dialogues"]

_KIND = "corrupted"
_PREDICTIONS = "predictions.parquet"


@dataclass(frozen=True)
class _Job:
    """One run under one condition; small enough to send to a worker.

    Attributes:
        run: its folder
        layout: the project's folders
        changed: the modalities that are changed
        features: folders of the features by modality, the changed ones among them
        digests: of these features
        fold: the dialogues of test
        store: where finished predictions are kept
        code: digest of the code that predicts
    """

    run: Path
    layout: Layout
    changed: tuple[str, ...]
    features: Mapping[str, Path]
    digests: Mapping[str, str]
    fold: Fold
    store: Store
    code: str


def predict_corrupted(
    task: Task, pair: Pair, runs: Sequence[Path], condition: str, changed: str, layout: Layout, store: Store
) -> pl.DataFrame:
    """Return what runs predict of test under a condition: :data:`emofuse.core.schema.PREDICTIONS`.

    A model that does not read the modality that is changed predicts what it predicted.

    Args:
        task: the runs' task
        pair: the encoders that the runs read
        runs: their folders
        condition: its name
        changed: the modality that it changes, or ``both``
        layout: the project's folders
        store: where finished predictions are kept

    Raises:
        FeatureError: an utterance of test has no features under the condition, or other ones than the models know
        BundleError: a run's networks are damaged
        WorkerError: a process ended while it predicted
    """
    plain = {each: layout.features(task.corpus, pair.encoder(each)) for each in MODALITIES}
    modalities = MODALITIES if changed == "both" else (changed,)
    features = plain | {each: layout.corrupted(task.corpus, condition, pair.encoder(each)) for each in modalities}
    for each in modalities:
        if metadata(features[each]) != metadata(plain[each]):
            raise FeatureError(f"{features[each]}: made by another encoder than {plain[each]}; run the stage corrupt")
    digests = {
        name: digest([file_digest(path) for path in sorted(folder.glob("*.parquet"))])
        for name, folder in features.items()
    }
    asked = set(FeatureStore(features[modalities[0]]).utterance_ids)
    folds = [test_dialogues(task.fold(number), asked) for number in range(task.folds)]
    code = code_digest("robustness.predictions", *(f"models.{each.module}" for each in MODELS.values()))
    jobs = [
        _Job(run, layout, modalities, features, digests, folds[read_json(run / "record.json")["fold"]], store, code)
        for run in runs
    ]
    calls = call_all(_predict, jobs, cores(), start_worker)
    results = tqdm(calls, desc=f"{task.name}, {condition}", total=len(jobs), unit="run", disable=quiet())
    tables = {job.run: table for job, table in results}
    return pl.concat(tables[run] for run in runs)


def test_dialogues(fold: Fold, asked: Collection[str]) -> Fold:
    """Return the dialogues of test that are asked about, whole: none is in two splits.

    Args:
        fold: of a task
        asked: the utterances of those dialogues that are asked about
    """
    inside = fold.splits == SPLITS.index("test")
    inside &= np.array([name in asked for name in fold.utterance_ids])
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


def _predict(job: _Job) -> pl.DataFrame:
    asked = pl.col("utterance_id").is_in(job.fold.utterance_ids)
    known = pl.read_parquet(checked(job.run / _PREDICTIONS)).filter(pl.col("split") == "test", asked)
    return _predict_again(job, known) if set(job.changed) & set(model(known["model"][0]).modalities) else known


def _predict_again(job: _Job, known: pl.DataFrame) -> pl.DataFrame:
    """The run's predictions with the probabilities that it gives under the condition."""
    name = known["model"][0]
    reads = model(name).modalities
    networks = folders_of_run(job.run, job.layout)
    parts = [checked(path) for each in networks.values() for path in (each / file for file in FILES) if path.exists()]

    def make(folder: Path) -> None:
        frames = {each: read_features(job.features[each], job.fold.utterance_ids) for each in reads}
        rows = Graph(networks).probabilities(name, frames, job.fold).tolist()
        given = dict(zip(job.fold.utterance_ids, rows, strict=True))
        new = pl.Series([given[each] for each in known["utterance_id"]], dtype=pl.List(pl.Float32))
        write_table(folder / _PREDICTIONS, known.with_columns(probabilities=new).to_arrow())

    made = [job.digests[each] for each in reads]
    files = [file_digest(path) for path in (job.run / "record.json", *parts)]
    key = digest([job.code, fold_digest(job.fold), made, files])
    return pl.read_parquet(job.store.ensure(_KIND, key, make).path / _PREDICTIONS)
