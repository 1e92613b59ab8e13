"""Temperature scaling of each run, fitted on dev.

With temperature T, probabilities p become p^(1/T), normalised: the softmax of logits divided by T, up to a constant
that softmax does not see. Above 1 they are less sure, below 1 surer; the predicted class stays (Guo, Pleiss, Sun
and Weinberger 2017, section 4.2).
"""

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar

from emofuse.scoring.metrics import SMALLEST, negative_log_likelihood
from emofuse.scoring.predictions import RUN, ScoringError

__all__ = ["choose_temperature", "temperatures", "tempered", "with_temperature"]

COLDEST, HOTTEST = 0.05, 20.0
"""Temperatures that are tried lie between these."""


def with_temperature(probabilities: NDArray[np.floating], temperature: float) -> NDArray[np.float64]:
    """Apply a temperature to probabilities ``[n, n_classes]``."""
    logits = np.log(np.maximum(probabilities.astype(np.float64), SMALLEST)) / temperature
    raised = np.exp(logits - logits.max(axis=1, keepdims=True))
    scaled: NDArray[np.float64] = raised / raised.sum(axis=1, keepdims=True)
    return scaled


def choose_temperature(probabilities: NDArray[np.floating], targets: NDArray[np.integer]) -> float:
    """Return the temperature with the least negative log-likelihood, which is convex in 1 / T.

    Args:
        probabilities: ``[n, n_classes]`` of dev
        targets: ``[n]``, indices of the true classes
    """

    def loss(log_temperature: float) -> float:
        return negative_log_likelihood(with_temperature(probabilities, np.exp(log_temperature)), targets)

    found = minimize_scalar(loss, bounds=(np.log(COLDEST), np.log(HOTTEST)), method="bounded")
    return float(np.exp(found.x))


def temperatures(runs: pl.DataFrame, truth: pl.DataFrame) -> pl.DataFrame:
    """Choose a temperature for each run on dev.

    Args:
        runs: rows of :data:`emofuse.core.schema.PREDICTIONS`
        truth: ``fold, split, utterance_id, target``

    Returns:
        ``model, seed, fold, temperature``, one row a run that predicts dev

    Raises:
        ScoringError: a prediction of dev has no label in ``truth``
    """
    dev, labels = (
        table.filter(pl.col("split") == "dev").with_columns(pl.col("fold").cast(pl.Int32)) for table in (runs, truth)
    )
    joined = dev.join(labels.select("fold", "utterance_id", "target"), on=["fold", "utterance_id"], how="left")
    unknown = joined.filter(pl.col("target").is_null())
    if len(unknown):
        model, seed, fold, name = unknown.select(*RUN, "utterance_id").row(0)
        raise ScoringError(f"model {model!r}, seed {seed}, fold {fold}: {name!r} of dev has no label")
    rows = [
        (*run, choose_temperature(_probabilities(own), own["target"].to_numpy()))
        for run, own in joined.sort(*RUN, "utterance_id").group_by(RUN, maintain_order=True)
    ]
    kinds = {"model": pl.String, "seed": pl.Int32, "fold": pl.Int32, "temperature": pl.Float64}
    return pl.DataFrame(rows, schema=kinds, orient="row")


def tempered(runs: pl.DataFrame, chosen: pl.DataFrame) -> pl.DataFrame:
    """Apply each run's temperature to all that it predicts.

    Args:
        runs: rows of :data:`emofuse.core.schema.PREDICTIONS`
        chosen: what :func:`temperatures` gave

    Returns:
        rows of the same columns, of the runs that have a temperature
    """
    joined = runs.with_columns(pl.col("fold").cast(pl.Int32), pl.col("seed").cast(pl.Int32)).join(chosen, on=RUN)
    parts = [
        own.with_columns(
            pl.Series(
                "probabilities",
                with_temperature(_probabilities(own), temperature).tolist(),
                dtype=pl.List(pl.Float32),
            )
        )
        for (temperature,), own in joined.group_by("temperature", maintain_order=True)
    ]
    return pl.concat(parts).drop("temperature") if parts else runs.clear()


def _probabilities(rows: pl.DataFrame) -> NDArray[np.float32]:
    n_classes = len(rows["probabilities"][0])
    probabilities: NDArray[np.float32] = rows["probabilities"].list.to_array(n_classes).to_numpy()
    return probabilities
