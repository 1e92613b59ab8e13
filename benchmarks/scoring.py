"""Scoring: 20 models and 10 seeds at MELD's size, against a bootstrap of 10,000 resamples with scikit-learn in a loop.

The resamples here are of the calibration error; everything else follows from leaving out a dialogue at a time.

Usage: python benchmarks/scoring.py
"""

import time

import numpy as np
import polars as pl
from machine import describe, table
from sklearn.metrics import f1_score

from emofuse.scoring.estimates import ScoringConfig
from emofuse.scoring.scores import score

MODELS, SEEDS, UTTERANCES, DIALOGUES, CLASSES, RESAMPLES = 20, 10, 2610, 280, 7, 10_000
LOOP = 200
"""Resamples of one run that the loop is timed on; its cost is linear in runs and resamples."""


def main() -> None:
    """Measure and print the table."""
    generator = np.random.default_rng(0)
    dialogue = np.sort(generator.integers(DIALOGUES, size=UTTERANCES))
    target = generator.integers(CLASSES, size=UTTERANCES)
    ids = [f"u{index}" for index in range(UTTERANCES)]
    truth = pl.DataFrame(
        {
            "fold": pl.Series([0] * UTTERANCES, dtype=pl.Int32),
            "split": ["test"] * UTTERANCES,
            "utterance_id": ids,
            "dialogue_id": [f"d{each}" for each in dialogue],
            "target": target,
        }
    )
    runs = pl.concat([predictions(model, seed, ids, generator) for model in range(MODELS) for seed in range(SEEDS)])
    start = time.process_time()
    score(runs, truth, [f"c{each}" for each in range(CLASSES)], ScoringConfig(resamples=RESAMPLES))
    ours = time.process_time() - start
    loop = loop_seconds(dialogue, target, generator) * MODELS * SEEDS * RESAMPLES / LOOP
    size = f"{MODELS} models, {SEEDS} seeds, {RESAMPLES:,} resamples, {UTTERANCES:,} utterances"
    print(f"# {size}\n\n{describe()}\n")
    rows = [
        ["this project, all metrics, intervals and 190 paired tests", f"{ours:,.1f}", f"{loop / ours:,.0f}"],
        ["scikit-learn in a loop, weighted F1 and its interval alone (extrapolated)", f"{loop:,.0f}", "1"],
    ]
    print(table(["", "seconds of the processor", "times the loop"], rows))


def predictions(model: int, seed: int, ids: list[str], generator: np.random.Generator) -> pl.DataFrame:
    """Return the predictions of one random run."""
    probabilities = generator.dirichlet(np.ones(CLASSES), size=UTTERANCES).astype(np.float32)
    return pl.DataFrame(
        {
            "task": "t",
            "model": f"m{model:02d}",
            "seed": pl.Series([seed] * UTTERANCES, dtype=pl.Int32),
            "fold": pl.Series([0] * UTTERANCES, dtype=pl.Int32),
            "split": "test",
            "utterance_id": ids,
            "probabilities": pl.Series(probabilities.tolist(), dtype=pl.List(pl.Float32)),
        }
    )


def loop_seconds(dialogue: np.ndarray, target: np.ndarray, generator: np.random.Generator) -> float:
    """Return the processor's seconds of bootstrapping one run's weighted F1 the obvious way."""
    predicted = generator.integers(CLASSES, size=UTTERANCES)
    members = [np.flatnonzero(dialogue == each) for each in range(DIALOGUES)]
    start = time.process_time()
    for _ in range(LOOP):
        rows = np.concatenate([members[each] for each in generator.integers(DIALOGUES, size=DIALOGUES)])
        f1_score(target[rows], predicted[rows], average="weighted", zero_division=0)
    return time.process_time() - start


if __name__ == "__main__":
    main()
