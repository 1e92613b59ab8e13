"""Fitting the linear baselines: scikit-learn's solution for each strength of the penalty, the best on dev kept."""

from typing import cast

import numpy as np
import torch

from emofuse.core.schema import IGNORE, SPLITS
from emofuse.models.linear import Linear, LinearConfig, solutions
from emofuse.models.parts.layers import Standardize
from emofuse.tasks import Fold
from emofuse.training.data import Inputs, batches, examples
from emofuse.training.fit import Fitted, dev_rank, infer

__all__ = ["fit_linear"]

_BATCH = 32


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
    places = {row: place for place, row in enumerate(rows.tolist())}
    found: dict[str, torch.Tensor] = {}
    for numbers, batch in batches([np.array([row]) for row in rows], inputs, fold, 4 * _BATCH):
        own = [places[row] for row in numbers.tolist()]
        for name, values_UD in network.statistics(batch).items():
            found.setdefault(name, torch.zeros(len(rows), values_UD.shape[1]))[own] = values_UD
    return found
