"""Baseline: logistic regression on statistics of each modality's frames, without context.

The statistics of a sequence ``x`` ``[T, D]`` are mean, standard deviation, 10th and 90th percentile of each feature, a
small set of the functionals that acoustic descriptors are summarized by. scikit-learn finds the weights; dev chooses
the strength of the L2 penalty. The solution is kept as a network, so that it predicts like every other model.
"""

from collections.abc import Iterator
from typing import Annotated, ClassVar

import numpy as np
import torch
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor, nn

from emofuse.core.params import STRICT
from emofuse.models.parts.base import Batch, Network, Output, Unit
from emofuse.models.parts.layers import Standardize, frame_mask

__all__ = ["Linear", "LinearConfig", "pooled_statistics", "solutions"]

_PERCENTILES = (0.1, 0.9)

_STATISTICS = 2 + len(_PERCENTILES)

_ITERATIONS = 1000


@dataclass(frozen=True, config=STRICT)
class LinearConfig:
    """Options of the regression.

    Attributes:
        strengths: inverse strengths of the L2 penalty (scikit-learn's C) to choose from, on dev
    """

    strengths: Annotated[tuple[Annotated[float, Field(gt=0)], ...], Field(min_length=1)]


class Linear(Network):
    """Frames of one or more modalities to classes, by their statistics.

    Args:
        config: of the regression
        dims: size of each modality's frames
        classes: number C of classes
        causal: without meaning here, since no context is read
    """

    unit: ClassVar[Unit] = "utterance"

    def __init__(self, config: LinearConfig, dims: dict[str, int], classes: int, causal: bool) -> None:
        super().__init__()
        del config, causal
        self.standardize = nn.ModuleDict({name: Standardize(_STATISTICS * dim) for name, dim in dims.items()})
        self.classifier = nn.Linear(_STATISTICS * sum(dims.values()), classes)

    def forward(self, batch: Batch) -> Output:
        """Return logits, and the standardized statistics as ``vectors['statistics']``, ``[U, 4 D]``."""
        parts = [self.standardize[name](each) for name, each in self.statistics(batch).items()]
        statistics_UD = torch.cat(parts, dim=1)
        return Output(self.classifier(statistics_UD), {"statistics": statistics_UD})

    def statistics(self, batch: Batch) -> dict[str, Tensor]:
        """Return the statistics of each modality, ``[U, 4 D]``; NaN where a value is missing."""
        return {name: pooled_statistics(batch.frames[name], batch.lengths[name]) for name in self.standardize}


def pooled_statistics(x_UTD: Tensor, lengths_U: Tensor) -> Tensor:
    """Return mean, standard deviation, 10th and 90th percentile of each sequence's own frames, ``[U, 4 D]``."""
    mask_UT1 = frame_mask(x_UTD, lengths_U)[..., None]
    weight_UT1 = mask_UT1 / lengths_U[:, None, None]
    own_UTD = torch.where(mask_UT1, x_UTD, 0.0)
    mean_UD = (own_UTD * weight_UT1).sum(dim=1)
    variance_UD = ((own_UTD - mean_UD[:, None]).square() * weight_UT1).sum(dim=1)
    ranks_QUD = torch.where(mask_UT1, x_UTD, torch.nan).nanquantile(x_UTD.new_tensor(_PERCENTILES), dim=1)
    # A missing value is one frame of NaN, which stays one in all four.
    missing_UD = ranks_QUD[0].isnan()
    return torch.cat([mean_UD, variance_UD.sqrt().masked_fill(missing_UD, torch.nan), *ranks_QUD], dim=1)


def solutions(
    x_ND: np.ndarray, targets_N: np.ndarray, classes: int, config: LinearConfig
) -> Iterator[tuple[float, np.ndarray, np.ndarray]]:
    """Yield each strength, from the strongest penalty on, with its weights ``[C, D]`` and biases ``[C]``.

    Args:
        x_ND: standardized statistics of train
        targets_N: their classes; each stands at least once
        classes: number C of classes
        config: the strengths
    """
    from sklearn.linear_model import LogisticRegression
    from threadpoolctl import threadpool_limits

    regression = LogisticRegression(max_iter=_ITERATIONS, warm_start=True)
    for strength in sorted(config.strengths):
        # Limited here, since scikit-learn brings libraries of its own, which no limit before its import reaches.
        with threadpool_limits(1):
            regression.set_params(C=strength).fit(x_ND, targets_N)
        weights_CD, biases_C = regression.coef_, regression.intercept_
        if classes == 2:  # scikit-learn gives the second class's alone
            weights_CD, biases_C = (np.concatenate([-each / 2, each / 2]) for each in (weights_CD, biases_C))
        yield strength, weights_CD, biases_C
