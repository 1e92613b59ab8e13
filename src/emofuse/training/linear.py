"""Fitting the linear baselines: scikit-learn's solution for each strength of the penalty, the best on dev kept."""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch

from emofuse.core.files import digest
from emofuse.core.process import computing_alone
from emofuse.core.schema import IGNORE, SPLITS
from emofuse.core.store import link
from emofuse.features.shards import metadata
from emofuse.models.linear import Linear, LinearConfig, solutions
from emofuse.models.parts.layers import Standardize
from emofuse.models.registry import LINEAR
from emofuse.tasks import Fold
from emofuse.training.data import Inputs, collate, examples, read_features, sorted_batches
from emofuse.training.fit import Fitted, dev_rank, infer
from emofuse.training.jobs import Work, keep
from emofuse.training.runs import Run, code_digest, fold_digest, save_fitted

__all__ = ["fit_linear", "pretrain_linear", "train_linear"]

_BATCH = 32


def train_linear(
    out: Path, run: Run, fold: Fold, inputs: Inputs, features: Mapping[str, Path], config: LinearConfig
) -> None:
    """Fit the regression and write its run.

    Args:
        out: the run's folder
        run: which run
        fold: its utterances
        inputs: the frames of each modality that it reads
        features: the folders that they come from
        config: of the regression
    """
    dims = {name: sequences.dim for name, sequences in inputs.items()}
    fitted = fit_linear(Linear(config, dims, len(fold.classes), False), inputs, fold, config)
    made = {name: metadata(folder) for name, folder in features.items()}
    build: dict[str, Any] = {"reads": "frames", "dims": dims, "causal": fold.context == "causal", "features": made}
    save_fitted(out, run, fold, fitted, {"network": asdict(config)}, build, None)


def pretrain_linear(work: Work, modality: str, encoder: str) -> None:
    """Fit the linear baseline of one modality in every fold of a task; it draws nothing at random.

    Args:
        work: the task and where its data lie
        modality: ``audio`` or ``text``
        encoder: whose features are read
    """
    (entry,) = (each for each in LINEAR if each.modalities == (modality,))
    config = work.params.get("models.linear.network", LinearConfig)
    code, shards, folder = code_digest("training.linear"), work.shards(encoder), work.features(encoder)
    with computing_alone():
        for seed, number in work.places(seeded=False):
            fold, run = (
                work.opened.fold(number),
                Run(work.task, entry.name, {modality: encoder}, work.stage, seed, number),
            )
            key = digest([code, fold_digest(fold), shards, asdict(run), asdict(config)])

            def make(out: Path, fold: Fold = fold, run: Run = run) -> None:
                inputs = {modality: read_features(folder, fold.utterance_ids)}
                train_linear(out, run, fold, inputs, {modality: folder}, config)

            link(keep(work.store, key, make), work.layout.unimodal(work.task, encoder) / entry.folder / run.folder)


@torch.no_grad()
def fit_linear(network: Linear, inputs: Inputs, fold: Fold, config: LinearConfig) -> Fitted:
    """Fit a linear network and keep the strength that is best on dev, the strongest penalty of equals.

    Args:
        network: fresh
        inputs: the modalities that it reads
        fold: dialogues, splits and the targets of train and dev
        config: the strengths to choose from
    """
    train = np.flatnonzero((fold.splits == SPLITS.index("train")) & (fold.targets != IGNORE))
    found = _statistics(network, inputs, fold, train)
    for name, values_ND in found.items():
        cast(Standardize, network.standardize[name]).fit([values_ND])
    x_ND = torch.cat([network.standardize[name](each) for name, each in found.items()], dim=1).numpy()
    everything, best = examples(fold, network.unit), None
    for place, (strength, weights_CD, biases_C) in enumerate(
        solutions(x_ND, fold.targets[train], len(fold.classes), config), start=1
    ):
        network.classifier.weight.copy_(torch.from_numpy(weights_CD))
        network.classifier.bias.copy_(torch.from_numpy(biases_C))
        probabilities, _ = infer(network, inputs, fold, everything, _BATCH)
        rank = dev_rank(probabilities, fold)
        if best is None or rank > best[0]:
            state = {name: value.clone() for name, value in network.state_dict().items()}
            best = rank, place, strength, probabilities, state
    if best is None:
        raise ValueError("strengths: none to choose from")
    network.load_state_dict(best[4])
    last = best[1] == len(config.strengths)
    return Fitted(network, best[3], {}, best[1], last, [], [])


def _statistics(network: Linear, inputs: Inputs, fold: Fold, rows: np.ndarray) -> dict[str, torch.Tensor]:
    """Statistics ``[N, 4 D]`` of some utterances, in their order."""
    lengths = torch.stack([each.lengths for each in inputs.values()]).amax(dim=0).numpy()
    places = {row: place for place, row in enumerate(rows.tolist())}
    found: dict[str, torch.Tensor] = {}
    for items in sorted_batches([np.array([row]) for row in rows], lengths, 4 * _BATCH):
        numbers, batch = collate(items, inputs, fold)
        own = [places[row] for row in numbers.tolist()]
        for name, values_UD in network.statistics(batch).items():
            found.setdefault(name, torch.zeros(len(rows), values_UD.shape[1]))[own] = values_UD
    return found
