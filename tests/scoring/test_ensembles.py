"""The ensemble of a model's seeds."""

from collections.abc import Callable

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from emofuse.scoring.ensembles import of_seeds

Make = Callable[..., pl.DataFrame]


def test_probabilities_are_the_mean_over_seeds_and_models_without_several_have_none(truth: Make, guess: Make) -> None:
    targets = truth()
    hcam = guess(targets, 0.5, "hcam/no-gate")
    found = of_seeds(pl.concat([hcam, guess(targets, 0.4, "late", seeds=(0,))]))
    assert found.schema == hcam.schema
    assert found.select("model", "seed", "fold").unique().rows() == [("hcam/no-gate/ensemble", 0, 0)]
    probabilities = np.array(hcam["probabilities"].to_list()).reshape(3, len(targets), 3)
    expected = dict(zip(targets["utterance_id"], probabilities.mean(axis=0), strict=True))
    for name, probabilities in found.select("utterance_id", "probabilities").rows():
        assert probabilities == pytest.approx(expected[name])


def test_folds_and_splits_stay_apart_and_the_order_of_rows_does_not_matter(truth: Make, guess: Make) -> None:
    """An utterance that is dev in one fold is test in another."""
    folds = pl.concat([truth(fold=fold) for fold in range(2)])
    runs = guess(folds, 0.5, "hcam").with_columns(
        split=pl.when(pl.col("fold") == 0).then(pl.lit("dev")).otherwise("split")
    )
    found = of_seeds(runs)
    assert len(found) == len(folds)
    assert set(found.select("fold", "split").unique().rows()) == {(0, "dev"), (1, "test")}
    assert_frame_equal(of_seeds(runs.sample(fraction=1, shuffle=True, seed=1)), found, check_exact=True)


def test_no_model_with_several_seeds_is_no_ensemble(truth: Make, guess: Make) -> None:
    assert of_seeds(guess(truth(), 0.4, "late", seeds=(0,))).is_empty()
