"""Ensembles of the seeds of a model, as rows of their own.

The mean of several networks' probabilities is most often better than each of them, so that an ensemble is another
system than its model, of as many times the size: neither stands in the other's row.
"""

import numpy as np
import polars as pl

from emofuse.models.registry import ENSEMBLE

__all__ = ["COMPARED", "of_seeds"]

COMPARED = (
    "An ensemble is one run without seeds of its own. It is compared with other ensembles and with models of a single "
    "seed, and its intervals and p-values do not cover the variance between training runs."
)
"""How ensembles are compared, for the table that holds them."""


def of_seeds(runs: pl.DataFrame) -> pl.DataFrame:
    """Average the probabilities of each model's seeds, fold by fold.

    Args:
        runs: rows of :data:`emofuse.core.schema.PREDICTIONS`

    Returns:
        rows of the same columns, of seed 0, for the models that have several seeds
    """
    several = runs.group_by("model").agg(pl.col("seed").n_unique()).filter(pl.col("seed") > 1)["model"]
    keys = ["task", "model", "fold", "split", "utterance_id"]
    # Sorted, because a mean of floats depends on its order.
    rows = runs.filter(pl.col("model").is_in(several.implode())).sort(*keys, "seed").group_by(keys, maintain_order=True)
    gathered = rows.agg("probabilities")
    means = [np.mean(each, axis=0, dtype=np.float64).tolist() for each in gathered["probabilities"].to_list()]
    return gathered.select(
        "task",
        (pl.col("model") + f"/{ENSEMBLE}").alias("model"),
        pl.lit(0, pl.Int32).alias("seed"),
        "fold",
        "split",
        "utterance_id",
        pl.Series("probabilities", means, dtype=pl.List(pl.Float32)),
    )
