"""How often p is below 0.05 and 0.01 where two models are equal: this project's, and two common ones.

Models find other dialogues difficult (a deviation of 8 points in each dialogue's share of right answers), and seeds or
folds differ in skill; weighted F1 of three classes. The interval of a percentile bootstrap over dialogues and seeds is
what many tables print. Satterthwaite's degrees of freedom are the usual ones for a variance with several sources.

Usage: python benchmarks/levels.py
"""

from collections.abc import Callable

import numpy as np
from machine import table
from scipy import stats

from emofuse.scoring.intervals import Spread, holm, influences, p_value, spread
from emofuse.scoring.metrics import measure

TRIALS, FEWER, CHUNK, RESAMPLES, WEIGHTED_F1 = 4000, 1000, 100, 300, 2
SIZES = {"MELD, 280 dialogues": 280, "CMU-MOSI, 31 videos": 31, "10 speakers": 10}
UTTERANCES = {280: 9, 31: 22, 10: 50}
"""Of a dialogue, on average."""

DEVIATIONS = (0.0, 0.026, 0.051)
LEVELS = (0.05, 0.01)

Floats = np.ndarray


def tallies_of(skill: Floats, n_dialogues: int, generator: np.random.Generator) -> Floats:
    """Tallies ``[3, 3, trial, model, run, dialogue]`` of models whose runs have a skill ``[trial, model, run]``."""
    n_trials, n_models, _ = skill.shape
    mean = UTTERANCES[n_dialogues] * np.array([0.6, 0.25, 0.15]).reshape(3, 1, 1, 1, 1)
    true = generator.poisson(mean, (3, n_trials, 1, 1, n_dialogues))
    true = np.broadcast_to(true, (3, *skill.shape, n_dialogues))
    ease = generator.uniform(0.2, 0.8, (n_trials, 1, 1, n_dialogues))
    ease = ease + generator.normal(0, 0.08, (n_trials, n_models, 1, n_dialogues))
    hits = generator.binomial(true, np.clip(ease + skill[..., None], 0, 1))
    predicted = hits + np.roll(true - hits, 1, axis=0)
    return np.stack([hits, predicted, true]).astype(float)


def apart(tallies: Floats) -> tuple[Floats, Floats]:
    """Weighted F1 ``[trial, model, run]`` and the influences of dialogues on it."""
    shape = tallies.shape[2:]
    values = measure(tallies.sum(axis=-1))[WEIGHTED_F1]
    return values, influences(tallies.reshape(3, 3, -1, shape[-1]))[WEIGHTED_F1].reshape(shape)


def difference(values: Floats, moved: Floats) -> Spread:
    """Spread of the first of two models less the second, by trial."""
    return spread(values[:, 0] - values[:, 1], moved[:, 0] - moved[:, 1])


def ours(tallies: Floats, _: np.random.Generator) -> Floats:
    """p of this project, by trial."""
    return p_value(difference(*apart(tallies)))


def satterthwaite(tallies: Floats, _: np.random.Generator) -> Floats:
    """p of the same variances by one t distribution."""
    found = difference(*apart(tallies))
    variance = found.of_repetitions + found.of_units
    parts = found.of_repetitions**2 / (found.n_repetitions - 1) + found.of_units**2 / (found.n_units - 1)
    p: Floats = 2 * stats.t.sf(abs(found.mean) / np.sqrt(variance), variance**2 / parts)
    return p


def percentile(tallies: Floats, generator: np.random.Generator) -> Floats:
    """p of a percentile bootstrap over dialogues and n - 1 of n seeds, by trial."""
    n_runs, n_dialogues = tallies.shape[-2:]
    dialogues = generator.multinomial(n_dialogues, np.full(n_dialogues, 1 / n_dialogues), RESAMPLES).astype(float)
    runs = generator.multinomial(n_runs - 1, np.full(n_runs, 1 / n_runs), RESAMPLES) / (n_runs - 1)
    values = measure(tallies @ dialogues.T)[WEIGHTED_F1]
    draws = np.einsum("tmrd,dr->tmd", values, runs)
    below = (draws[:, 0] <= draws[:, 1]).sum(axis=-1)
    p: Floats = np.minimum(1, 2 * (1 + np.minimum(below, RESAMPLES - below)) / (1 + RESAMPLES))
    return p


RULES: dict[str, Callable[[Floats, np.random.Generator], Floats]] = {
    "percentile bootstrap": percentile,
    "t, Satterthwaite": satterthwaite,
    "this project": ours,
}


def levels(n_dialogues: int, n_seeds: int, deviation: float) -> list[str]:
    """Return a row: what share of p is at most each level, in percent, by rule."""
    generator = np.random.default_rng([n_dialogues, n_seeds, int(1000 * deviation)])
    found: dict[str, list[Floats]] = {name: [] for name in RULES}
    for _ in range(TRIALS // CHUNK):
        skill = generator.normal(0, deviation, (CHUNK, 2, n_seeds))
        tallies = tallies_of(skill, n_dialogues, generator)
        for name, rule in RULES.items():
            found[name].append(rule(tallies, generator))
    return [f"{100 * (np.concatenate(p) <= level).mean():.1f}" for p in found.values() for level in LEVELS]


def of_folds(of_fold: float, of_seed: float) -> list[str]:
    """Return the same of four folds of five seeds that test the same, taken as 20 runs and as four."""
    generator = np.random.default_rng(7)
    as_runs, as_folds = [], []
    for _ in range(FEWER // CHUNK):
        skill = generator.normal(0, of_fold, (CHUNK, 2, 4, 1)) + generator.normal(0, of_seed, (CHUNK, 2, 4, 5))
        values, moved = apart(tallies_of(skill.reshape(CHUNK, 2, 20), 280, generator))
        as_runs.append(p_value(difference(values, moved)))
        by_fold = values.reshape(CHUNK, 2, 4, 5).mean(axis=3), moved.reshape(CHUNK, 2, 4, 5, -1).mean(axis=3)
        as_folds.append(p_value(difference(*by_fold)))
    return [f"{100 * (np.concatenate(p) <= level).mean():.1f}" for p in (as_runs, as_folds) for level in LEVELS]


def family(deviation: float, n_models: int = 10) -> str:
    """Return how often, in percent, any of all pairs of equal models has p of at most 0.05 after Holm's correction."""
    generator, found = np.random.default_rng(11), []
    for _ in range(FEWER // CHUNK):
        values, moved = apart(tallies_of(generator.normal(0, deviation, (CHUNK, n_models, 5)), 280, generator))
        a, b = np.tril_indices(n_models, -1)
        pairs = zip(a, b, strict=True)
        p = [p_value(spread(values[:, i] - values[:, j], moved[:, i] - moved[:, j])) for i, j in pairs]
        found.append((holm(np.stack(p, axis=-1)) <= LEVELS[0]).any(axis=-1))
    return f"{100 * np.concatenate(found).mean():.1f}"


def main() -> None:
    """Simulate and print the tables."""
    print(f"# Percent of p at or below 5 and 1 percent where models are equal, {TRIALS:,} trials, {FEWER:,} below\n")
    head = ["test", "seeds", "their deviation, points", *(f"{name}, {100 * at:g}" for name in RULES for at in LEVELS)]
    rows = [
        [name, str(n_seeds), f"{100 * deviation:g}", *levels(size, n_seeds, deviation)]
        for name, size in SIZES.items()
        for n_seeds in (3, 5)
        for deviation in DEVIATIONS
    ]
    print(table(head, rows))
    print("\nFour folds of five seeds that test the same 280 dialogues; seeds deviate by 2 points:\n")
    head = ["folds deviate by, points", "as 20 runs, 5", "as 20 runs, 1", "as 4 folds, 5", "as 4 folds, 1"]
    print(table(head, [[f"{100 * own:g}", *of_folds(own, 0.02)] for own in (0.0, 0.02, 0.04)]))
    print("\nTen equal models of five seeds, 280 dialogues: any of 45 pairs at or below 5 percent after Holm:\n")
    print(table(["seeds deviate by, points", "percent"], [[f"{100 * own:g}", family(own)] for own in DEVIATIONS]))


if __name__ == "__main__":
    main()
