"""Which model is better, in words."""

import polars as pl

from emofuse.reporting.verdicts import standing
from emofuse.scoring.estimates import PAIRS

MODELS = {"majority": 0.3, "text-context": 0.62, "concat": 0.6, "hcam": 0.61, "hcam/no-contrastive": 0.9}


def tables(*pairs: tuple[str, float, float, float, float]) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Models of known means, and by how much the best of them was found to be better."""
    means = [(name, "weighted_f1", mean, mean - 0.05, mean + 0.05) for name, mean in MODELS.items()]
    models = pl.DataFrame(means, schema=["model", "metric", "mean", "low", "high"], orient="row")
    rows = [("text-context", name, "weighted_f1", *numbers[:3], 0.01, numbers[3]) for name, *numbers in pairs]
    return models, pl.DataFrame(rows, schema=PAIRS, orient="row")


def test_the_best_model_is_named_and_what_it_is_better_than() -> None:
    """An ablation is not among the models, even where it is better."""
    found = tables(
        ("majority", 0.32, 0.3, 0.34, 0.001), ("concat", 0.02, 0.0001, 0.04, 0.4), ("hcam", 0.01, -0.0002, 0.03, 1.0)
    )
    assert standing(*found, 0.95) == [
        "text-context has the best weighted F1 of 4 models: 62.0 % [57.0, 67.0].",
        "Significantly better, after Holm correction over 3 pairs: majority +32.0 [+30.0, +34.0].",
        "Better, but not significantly after that correction (the interval excludes zero): concat +2.0 [+0.01, +4.0].",
        "No significant difference from: hcam +1.0 [-0.02, +3.0].",
    ]


def test_a_model_alone_is_the_best() -> None:
    models, pairs = tables()
    assert len(standing(models.filter(model="hcam"), pairs, 0.95)) == 1
