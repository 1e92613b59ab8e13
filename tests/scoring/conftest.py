"""Small tasks whose predictions are made, so that what the scores must be is known."""

from collections.abc import Callable, Sequence

import numpy as np
import polars as pl
import pytest

CLASSES = ("angry", "happy", "sad")


def _truth(n_dialogues: int = 12, n_turns: int = 6, fold: int = 0, prefix: str = "") -> pl.DataFrame:
    """Test targets of one fold, drawn at random; dialogue d has utterances d_0, d_1, …"""
    targets = np.random.default_rng(5).integers(0, len(CLASSES), (n_dialogues, n_turns))
    rows = [
        (fold, "test", f"{prefix}d{dialogue}_{turn}", f"{prefix}d{dialogue}", int(target))
        for (dialogue, turn), target in np.ndenumerate(targets)
    ]
    return pl.DataFrame(rows, schema=["fold", "split", "utterance_id", "dialogue_id", "target"], orient="row")


def _answer(
    truth: pl.DataFrame, said: Sequence[int] | np.ndarray, model: str = "hcam", seed: int = 0, split: str = "test"
) -> pl.DataFrame:
    """Predictions that say ``said[i]`` to row i of ``truth``, with a probability of 0.8."""
    probabilities = np.full((len(truth), len(CLASSES)), 0.1, np.float32)
    probabilities[np.arange(len(truth)), said] = 0.8
    return pl.DataFrame(
        {
            "task": "tiny",
            "model": model,
            "seed": pl.Series([seed] * len(truth), dtype=pl.Int32),
            "fold": truth["fold"].cast(pl.Int32),
            "split": split,
            "utterance_id": truth["utterance_id"],
            "probabilities": pl.Series(probabilities.tolist(), dtype=pl.List(pl.Float32)),
        }
    )


def _guess(truth: pl.DataFrame, skill: float, model: str, seeds: Sequence[int] = (0, 1, 2)) -> pl.DataFrame:
    """Predictions of several seeds that are right with probability ``skill`` and wrong by one class otherwise."""
    target = truth["target"].to_numpy()
    rng = np.random.default_rng([*model.encode(), len(seeds)])
    runs = [np.where(rng.random(len(target)) < skill, target, (target + 1) % len(CLASSES)) for _ in seeds]
    return pl.concat([_answer(truth, said, model, seed) for said, seed in zip(runs, seeds, strict=True)])


@pytest.fixture
def truth() -> Callable[..., pl.DataFrame]:
    return _truth


@pytest.fixture
def answer() -> Callable[..., pl.DataFrame]:
    return _answer


@pytest.fixture
def guess() -> Callable[..., pl.DataFrame]:
    return _guess


@pytest.fixture
def classes() -> tuple[str, ...]:
    return CLASSES
