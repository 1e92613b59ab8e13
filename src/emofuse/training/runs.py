"""Training runs: what identifies one, what it leaves on disk, and how many go side by side.

A run is one model, seed and fold. Its folder holds ``record.json`` (parameters, dev scores, learning curve),
``predictions.parquet`` (probabilities of dev and test, no targets), ``config.json`` (what it is built from again),
``model.safetensors`` (networks only), and ``vectors.safetensors`` where a later stage reads vectors. Finished runs are
kept in the work store by the digest of all they depend on: the code, the configuration, the features, and what the fold
shows of the labels.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from tqdm import tqdm

from emofuse.core import schema
from emofuse.core.files import digest, write_json, write_table
from emofuse.core.imports import closure, code_of
from emofuse.core.pool import WorkerError, call_all
from emofuse.core.process import cores, quiet, start_worker
from emofuse.core.schema import SPLITS
from emofuse.tasks import Fold
from emofuse.training.fit import Fitted, Seeds, dev_scores

__all__ = [
    "Run",
    "code_digest",
    "flat",
    "fold_digest",
    "read_probabilities",
    "read_vectors",
    "rounded",
    "run_all",
    "save_config",
    "save_fitted",
    "save_run",
]

T = TypeVar("T")

RUNS_A_GPU = 8
"""Training runs side by side on a GPU: none of these networks fills one, and each process holds some of its memory."""

DECIMALS = 6


@dataclass(frozen=True)
class Run:
    """One training run.

    Attributes:
        task: key of the task
        model: name in the results table, such as ``audio-context``
        encoders: names of the encoders that it reads, by modality
        stage: what trains it, such as ``pretrain demo logmel``
        seed: number of the run among those of its model
        fold: of the task's splits
    """

    task: str
    model: str
    encoders: Mapping[str, str]
    stage: str
    seed: int
    fold: int

    @property
    def folder(self) -> str:
        """Name of its folder."""
        return f"seed-{self.seed}-fold-{self.fold}"

    @property
    def seeds(self) -> Seeds:
        """What it draws at random."""
        return Seeds(self.model, self.seed, self.fold)


def save_run(
    folder: Path,
    run: Run,
    fold: Fold,
    probabilities: np.ndarray,
    parameters: Mapping[str, Any],
    fitted: Fitted | None = None,
) -> None:
    """Write a run's record and predictions.

    Args:
        folder: where to
        run: which run
        fold: its utterances; dev and test utterances with a label are predicted
        probabilities: float32 ``[n, C]``
        parameters: configuration, for the tracker; nested mappings are flattened with dots
        fitted: the trained network's learning curve, None for a model without training
    """
    record = {
        **asdict(run),
        "parameters": flat(parameters),
        "n_parameters": sum(each.numel() for each in fitted.network.parameters()) if fitted else 0,
        "best_epoch": fitted.best_epoch if fitted else None,
        "cut_off": fitted.cut_off if fitted else None,
        "dev": {name: round(value, DECIMALS) for name, value in dev_scores(probabilities, fold).items()},
        "history": [rounded(epoch) for epoch in fitted.history] if fitted else [],
    }
    write_json(folder / "record.json", record)
    rows = np.flatnonzero(fold.scored & (fold.splits != SPLITS.index("train")))
    write_table(folder / "predictions.parquet", _predictions(run, fold, probabilities, rows), compression="none")


def save_fitted(
    folder: Path,
    run: Run,
    fold: Fold,
    fitted: Fitted,
    config: Mapping[str, Any],
    build: Mapping[str, Any],
    vectors: str | None,
) -> None:
    """Write a trained network's run.

    Args:
        folder: where to
        run: which run
        fold: its utterances
        fitted: the network, its predictions, and its learning curve
        config: options of the model and its training
        build: as in :func:`save_config`
        vectors: name of the vectors that a later stage reads, or None
    """
    save_run(folder, run, fold, fitted.probabilities, config, fitted)
    save_config(folder, run, fold, config, build)
    save_file(fitted.network.state_dict(), folder / "model.safetensors")
    if fitted.epochs:
        write_table(folder / "epochs.parquet", _epochs(run, fold, fitted.epochs), compression="none")
    if vectors:
        save_file({vectors: fitted.vectors[vectors].contiguous()}, folder / "vectors.safetensors")


def save_config(folder: Path, run: Run, fold: Fold, config: Mapping[str, Any], build: Mapping[str, Any]) -> None:
    """Write what a trained model is built from again.

    Args:
        folder: where to
        run: which run
        fold: its classes
        config: options of the model and its training
        build: the rest: ``reads``, an :data:`~emofuse.models.registry.Input`; sizes and context of a network;
            ``features``, for each modality whose features it reads what the shards say of their encoder; ``weights`` of
            the probabilities that it mixes
    """
    whole = {**asdict(run), "config": dict(config), **build, "classes": list(fold.classes)}
    write_json(folder / "config.json", whole)


def read_probabilities(folder: Path, fold: Fold) -> np.ndarray:
    """Return a run's probabilities in the fold's order: float32 ``[n, C]``, NaN where it predicted nothing."""
    table = pq.read_table(folder / "predictions.parquet", columns=["utterance_id", "probabilities"])
    values = dict(zip(table["utterance_id"].to_pylist(), table["probabilities"].to_pylist(), strict=True))
    nothing = [float("nan")] * len(fold.classes)
    return np.array([values.get(each, nothing) for each in fold.utterance_ids], dtype=np.float32)


def read_vectors(folder: Path, name: str) -> Tensor:
    """Return a run's vectors in the fold's order, ``[n, H]``."""
    vectors: Tensor = load_file(folder / "vectors.safetensors")[name]
    return vectors


def code_digest(*modules: str) -> str:
    """Digest of the code of modules and all that they run, and of torch's version: what a result depends on in code.

    Take it before work begins: a file that is edited while a stage runs is not the code that runs.

    Args:
        modules: dotted, below this package, such as ``training.trainer``
    """
    code = {name: code_of(name) for name in closure(*modules)}
    return digest([torch.__version__, schema.SCHEMA_VERSION, code])


def fold_digest(fold: Fold) -> str:
    """Digest of all that a fold shows to training; hidden test labels are no part of it."""
    arrays = (fold.dialogues, fold.speakers, fold.splits, fold.targets, fold.scored)
    return digest([fold.utterance_ids, fold.classes, fold.context, *(each.tolist() for each in arrays)])


def run_all(label: str, function: Callable[[T], bool], arguments: Sequence[T], workers: int = 0) -> int:
    """Call a function for several runs side by side, one thread each, so that a run's result never depends on the rest.

    Args:
        label: for the progress bar
        function: trains and keeps a run; returns whether the store had it already
        arguments: one a run
        workers: processes, 0 for one a core, and on a machine with GPUs at most :data:`RUNS_A_GPU` for each of them

    Returns:
        number of runs that the store had already

    Raises:
        WorkerError: a process ended while it trained; those beside it have finished their runs
        Exception: what the function raised first, likewise
    """
    gpus = torch.cuda.device_count()
    most = min(cores(), RUNS_A_GPU * gpus) if gpus else cores()
    count = min(workers or most, len(arguments))
    reused = 0
    calls = call_all(function, arguments, count, start_worker)
    try:
        for _, had in tqdm(calls, desc=label, total=len(arguments), unit="run", disable=quiet()):
            reused += had
    except WorkerError as error:
        raise WorkerError(f"a training run: {error}; finished runs are kept") from error
    print(f"{label}: {len(arguments) - reused} trained, {reused} reused")
    return reused


def _epochs(run: Run, fold: Fold, epochs: Sequence[np.ndarray]) -> pa.Table:
    """Predictions for test after each epoch: the columns of predictions, and ``epoch``, 1-based."""
    rows = np.flatnonzero(fold.scored & (fold.splits == SPLITS.index("test")))
    tables = [_predictions(run, fold, probabilities, rows) for probabilities in epochs]
    numbers = np.repeat(np.arange(1, len(epochs) + 1, dtype=np.int32), len(rows))
    return pa.concat_tables(tables).append_column("epoch", pa.array(numbers))


def _predictions(run: Run, fold: Fold, probabilities: np.ndarray, rows: np.ndarray) -> pa.Table:
    table = pa.table(
        {
            "task": [run.task] * len(rows),
            "model": [run.model] * len(rows),
            "seed": [run.seed] * len(rows),
            "fold": [run.fold] * len(rows),
            "split": [SPLITS[fold.splits[row]] for row in rows],
            "utterance_id": [fold.utterance_ids[row] for row in rows],
            "probabilities": list(probabilities[rows].astype(np.float32)),
        },
        metadata={"classes": json.dumps(fold.classes)},
    )
    return schema.conform(table, schema.PREDICTIONS, run.model)


def flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return a configuration as a record has it, nested names joined by dots."""
    result: dict[str, Any] = {}
    for key, value in tree.items():
        result |= flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return result


def rounded(epoch: Mapping[str, float]) -> dict[str, float]:
    """Return the values of an epoch as a record has them."""
    return {name: value if isinstance(value, int) else round(value, DECIMALS) for name, value in epoch.items()}
