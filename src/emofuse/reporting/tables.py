"""Scores as tables for people: which there are, and as Markdown."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any, Final, Literal

import polars as pl

from emofuse.core.markdown import plain, table
from emofuse.models.registry import in_order, is_ablation, is_ensemble
from emofuse.reporting.cells import Cell, best_value, score_cell
from emofuse.reporting.verdicts import between, pair_row, standing
from emofuse.scoring.names import ALL, BEST_ON_TEST, ECE, FOLD_MEAN, METRIC, NONZERO, NOT_COVERED, SUFFIXES
from emofuse.scoring.predictions import ScoringError
from emofuse.scoring.scores import Scores

__all__ = [
    "ABLATIONS",
    "METRIC_TITLES",
    "MODEL",
    "PART_TITLES",
    "Grid",
    "best_model",
    "grids",
    "kind_of",
    "markdown_table",
    "rows_of",
]

TEMPERED = f"tempered_{ECE}"
"""The calibration error with a temperature for each run, chosen on dev; in tables alone, since dev has a say in it."""

Kind = Literal["model", "ensemble", "ablation"]
"""What the rows of a table are."""

MODEL: Final = "model"
"""Rows of tables and figures that are neither ensembles nor ablations."""

ENSEMBLES = "Ensembles: the mean probabilities of all seeds of a model"
"""What stands above the table of ensembles."""

ABLATIONS = "Ablations: models with a part switched off"
"""What stands above their tables."""

METRIC_TITLES = {
    "accuracy": "Accuracy",
    "balanced_accuracy": "Balanced accuracy",
    "weighted_f1": "Weighted F1",
    "macro_f1": "Macro F1",
    ECE: "Calibration error",
    TEMPERED: "Calibration error, tempered",
}
"""What tables and plots for people call the metrics over all classes, in the order of their columns."""

_TITLES = {
    "": "",
    FOLD_MEAN: "Mean over folds of each fold's own score, averaged over seeds (± sd over seeds)",
    BEST_ON_TEST: (
        "At each run's best epoch on test, without ensembling: too high, because test chose the epoch. No other score "
        "was chosen this way"
    ),
}
"""What stands above the tables of scores, by the prefix of their metrics."""

PART_TITLES = {ALL: "", NONZERO: "Without the utterances whose sentiment is zero"}
"""What stands above what is of a part of the utterances."""


def kind_of(model: str) -> Kind:
    """Return which tables a row is in."""
    return "ablation" if is_ablation(model) else "ensemble" if is_ensemble(model) else MODEL


def best_model(scores: Scores, among: Sequence[str]) -> str:
    """The model of the highest mean, such as the best unimodal one to compare a fusion with; the first one on a tie.

    The choice looks at test, in favour of the baseline: a comparison with it understates the other model, if anything.

    Raises:
        ScoringError: none of ``among`` was scored
    """
    rows = scores.models.filter(pl.col("model").is_in(list(among)) & (pl.col("metric") == METRIC))
    if rows.is_empty():
        raise ScoringError(f"no {METRIC!r} of any of {list(among)}; scored: {_models(scores)}")
    return str(rows.row(rows["mean"].arg_max() or 0, named=True)["model"])


def markdown_table(
    scores: Scores,
    comparisons: Sequence[tuple[str, str]] = (),
    unranked: Collection[str] = (),
) -> str:
    """What people read: which model is best, then a row a model, in percent, with the best of each column in bold.

    Args:
        scores: what :func:`emofuse.scoring.scores.score` gave
        comparisons: pairs of models; below the table one line a pair says by how much the first is better
        unranked: models that are never ranked

    Raises:
        ScoringError: a model of ``comparisons`` was not scored
    """
    lines = standing(scores.models, scores.pairs, scores.config.confidence_level, unranked)
    first, *others = (_grid(scores, grid, unranked) for grid in grids(scores))
    parts = ["\n".join(f"- {plain(line)}" for line in lines), first, _legend(scores), *others]
    if comparisons:
        lines = [_comparison(scores, *pair) for pair in comparisons]
        parts += ["Paired comparisons (difference in points):\n\n" + "\n".join(lines)]
    return "\n\n".join(parts) + "\n"


@dataclass(frozen=True)
class Grid:
    """A table of scores for people.

    Attributes:
        title: what stands above it
        columns: their titles by the metrics' names
        rows: what its rows are; ensembles of seeds and ablations stand in no other table
    """

    title: str
    columns: Mapping[str, str]
    rows: Kind = MODEL

    @property
    def bold(self) -> bool:
        """Whether the best of a column is marked; an ablation is nobody's proposal."""
        return self.rows != "ablation"


def grids(scores: Scores) -> list[Grid]:
    """Return the tables that a task has: of all utterances and without the zeros, as means over folds, and so on."""
    found = _shown(scores)["metric"].unique(maintain_order=True).to_list()
    tables = []
    for (prefix, kind), (part, of) in product(_TITLES.items(), PART_TITLES.items()):
        tables.append(Grid(". ".join(filter(None, (kind, of))), _columns(prefix, SUFFIXES[part], found)))
    names = scores.models["model"].unique().to_list()
    apart = []
    if any(map(is_ensemble, names)):
        apart.append(Grid(ENSEMBLES, _columns("", SUFFIXES[ALL], found), "ensemble"))
    if any(map(is_ablation, names)):
        apart += [
            Grid(". ".join(filter(None, (ABLATIONS, of))), _columns("", SUFFIXES[part], found), "ablation")
            for part, of in PART_TITLES.items()
        ]
    return [grid for grid in (tables[0], *apart, *tables[1:]) if grid.columns]


def _shown(scores: Scores) -> pl.DataFrame:
    """The rows of tables for people: those of ``models``, and the calibration error with temperatures."""
    tempered = scores.tempered.with_columns(metric=pl.lit("tempered_") + pl.col("metric"))
    return pl.concat([scores.models, tempered.select(scores.models.columns)])


def _columns(prefix: str, suffix: str, found: Sequence[str]) -> dict[str, str]:
    """Titles by name of those metrics that were found."""
    names = {f"{prefix}{metric}{suffix}": title for metric, title in METRIC_TITLES.items()}
    return {name: title for name, title in names.items() if name in found}


def rows_of(
    scores: Scores, grid: Grid, names: Sequence[str], unranked: Collection[str]
) -> dict[str, tuple[list[Cell], Mapping[str, Any]]]:
    """Return a table's rows by model, in order: the cells of some metrics, and the scores that the first is made of.

    Args:
        scores: what :func:`emofuse.scoring.scores.score` gave
        grid: the table
        names: the metrics; a model without the first has no row
        unranked: models that are never ranked
    """
    found = {(row["model"], row["metric"]): row for row in _shown(scores).to_dicts()}
    models = [each for each in _models(scores) if kind_of(each) == grid.rows and (each, names[0]) in found]
    ranked = [model for model in models if grid.bold and model not in unranked]
    known = {name: [found[model, name]["mean"] for model in ranked if (model, name) in found] for name in names}
    best = {name: best_value(name, means) for name, means in known.items()}

    def cell(model: str, name: str) -> Cell:
        return score_cell(found.get((model, name)), best[name] if model in ranked else None, spread=True)

    return {model: ([cell(model, name) for name in names], found[model, names[0]]) for model in models}


def _grid(scores: Scores, grid: Grid, unranked: Collection[str]) -> str:
    names = list(grid.columns)
    rows = rows_of(scores, grid, names, unranked)
    lines = [[model, *map(str, cells), str(first["n_runs"])] for model, (cells, first) in rows.items()]
    above = f"{grid.title}:\n\n" if grid.title else ""
    return above + table(["Model", *grid.columns.values(), "Runs"], ["---", *["---:"] * (len(names) + 1)], lines)


def _legend(scores: Scores) -> str:
    pooled = " Each seed's predictions are pooled over the folds into one run." if scores.pooled else ""
    interval = f"{100 * scores.config.confidence_level:g} % interval of the mean"
    return (
        f"Percent on test: {scores.n_utterances:,} utterances in {scores.n_dialogues:,} dialogues. "
        f"Mean over runs ± standard deviation "
        f"[{interval}, over {scores.unit}s and runs].{pooled} {NOT_COVERED}"
    )


def _comparison(scores: Scores, first: str, second: str) -> str:
    row = pair_row(scores.pairs, first, second)
    difference = f"{METRIC_TITLES[METRIC]} {between(row)}"
    pair = f"{plain(first)} over {plain(second)}"
    return f"- {pair}: {difference}, p = {row['p']:.2g}, Holm-adjusted {row['p_adjusted']:.2g}"


def _models(scores: Scores) -> list[str]:
    return in_order(scores.models["model"].to_list())
