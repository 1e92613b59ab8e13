"""The report of a task and a pair of encoders: one self-contained HTML file.

What is shown is put together here; ``report.html.jinja`` says how it is laid out, :mod:`emofuse.reporting.figures`
draws.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import polars as pl

from emofuse.core.percent import bounds, in_percent
from emofuse.models.registry import MODELS, base_name, in_order, is_ablation
from emofuse.reporting.cells import Cell
from emofuse.reporting.dialogues import Dialogue
from emofuse.reporting.figures import Estimate, calibration, confusion, dots, learning, shares
from emofuse.reporting.layers import LayerShares
from emofuse.reporting.pages import render
from emofuse.reporting.palette import emotion_colours
from emofuse.reporting.protocol import PARAMETERS, TIMES, count, protocol_lines, repeat, seen, unranked
from emofuse.reporting.provenance import provenance_lines
from emofuse.reporting.svg import Markup
from emofuse.reporting.tables import MODEL, PART_TITLES, Grid, best_model, grids, kind_of, rows_of
from emofuse.reporting.turns import Turns, as_json
from emofuse.reporting.verdicts import between, pair_row, standing, verdict
from emofuse.scoring.calibration import BINS
from emofuse.scoring.ensembles import COMPARED
from emofuse.scoring.literature import paper, published
from emofuse.scoring.names import ECE, METRIC, NOT_COVERED, SUFFIXES
from emofuse.scoring.scores import Scores
from emofuse.scoring.write import learning_curves

__all__ = ["KNOWN", "confusion_figures", "report", "scores_figure"]

EMBEDDED = "demo"
"""The corpus that is made up."""

SIZES = ("Runs", "Parameters in all", "Labels seen")
"""Columns beside the scores."""

KNOWN = '<script type="application/json" id="known">{}</script>'
"""Where a page has what an out cannot have: training times by model, and the commit."""


def report(
    scores: Scores,
    protocol: Mapping[str, Any],
    records: Sequence[Mapping[str, Any]],
    dialogues: Sequence[Dialogue],
    layers: Sequence[LayerShares] = (),
    turns: Turns | None = None,
) -> str:
    """Return the page of a task.

    Args:
        scores: what :func:`emofuse.scoring.scores.score` gave
        protocol: what :func:`emofuse.reporting.benchmark.protocol` gave
        records: the ``record.json`` of all runs
        dialogues: what models made of a dialogue, to show
        layers: what :func:`emofuse.reporting.layers.read_layer_shares` gave
        turns: of test, with the corpus's words, for the page under ``data/``; None for the one that goes into git
    """
    models = in_order(scores.models["model"].to_list())
    own = [model for model in models if kind_of(model) == MODEL]
    pair = "+".join(protocol["encoders"].values())
    return render(
        "report.html.jinja",
        title=f"{protocol['task']}, {' + '.join(protocol['encoders'].values())}",
        task=protocol["task"],
        pair=pair,
        corpus=protocol["corpus"],
        # From the page's folder to the project's root.
        root="../../../" if turns is None else "../../../../",
        scores=scores,
        synthetic=protocol["corpus"] == EMBEDDED,
        confidence_level=f"{100 * scores.config.confidence_level:g}",
        not_covered=NOT_COVERED,
        compared=COMPARED,
        bins=BINS,
        summary=standing(scores.models, scores.pairs, scores.config.confidence_level, unranked(protocol)),
        tables=_tables(scores, protocol),
        intervals=scores_figure(scores),
        best=best_model(scores, [model for model in own if model not in unranked(protocol)]),
        reference=_reference(scores, own),
        forests=_forests(scores, own),
        pairs=_pairs(scores, scores.pairs),
        ensemble_pairs=_pairs(scores, scores.ensemble_pairs),
        ablations=_ablations(scores, models),
        by_class=_parts(scores, lambda part: _by_class(scores, own, part)),
        confusions=_parts(scores, lambda part: _sorted(models, confusion_figures(scores, part))),
        curves=_sorted(models, _curves(records)),
        layers=_layers(layers),
        calibrations=_parts(scores, lambda part: _sorted(models, _calibrations(scores, models, part))),
        dialogues=[_dialogue(each, scores.classes) for each in dialogues],
        colours=emotion_colours(scores.classes),
        turns=None if turns is None else _turns(turns, scores, protocol["task"]),
        n_dialogues=None if turns is None else (turns.table["dialogue_id"].n_unique(), turns.n_dialogues),
        published=published(protocol["task"]),
        protocol=protocol_lines(protocol),
        provenance=provenance_lines(protocol),
        systems=[(name, MODELS[name].title, paper(name)) for name in own if name in MODELS],
        known=KNOWN.format("{}"),
        notes={"parameters": PARAMETERS, "times": TIMES, "repeat": repeat(protocol)},
    )


def scores_figure(scores: Scores) -> Markup:
    """Draw weighted F1 of all models but ablations and ensembles, the best on top."""
    rows = {row["model"]: row for row in scores.models.filter(pl.col("metric") == METRIC).to_dicts()}
    listed = pl.col("fold").is_null() if scores.pooled else pl.lit(value=True)
    runs = scores.runs.filter((pl.col("metric") == METRIC) & listed)
    ranked = _ranked([model for model in in_order(rows) if kind_of(model) == MODEL], _means(scores))
    estimates = [
        Estimate(
            model,
            100 * rows[model]["mean"],
            100 * rows[model]["low"],
            100 * rows[model]["high"],
            f"{in_percent(rows[model]['mean'])} {bounds(rows[model]['low'], rows[model]['high'])}",
            tuple(100 * value for value in runs.filter(pl.col("model") == model)["value"]),
            outlier=_reads_nothing(model),
        )
        for model in ranked
    ]
    return dots(estimates, "weighted F1 on test, %")


def confusion_figures(scores: Scores, part: str) -> dict[str, Markup]:
    """Draw the confusion matrix of each model, summed over runs."""
    own = scores.confusion.filter(pl.col("utterances") == part)
    return {str(model): confusion(table, str(model)) for (model,), table in own.group_by("model", maintain_order=True)}


def _reads_nothing(model: str) -> bool:
    """Whether a model knows the classes' frequencies alone; it is far off all others."""
    return model in MODELS and not MODELS[model].modalities


def _ranked(models: Sequence[str], means: Mapping[str, float]) -> list[str]:
    """Models from the best to the last; of equals the earlier in the order of tables first."""
    return sorted(models, key=lambda model: -means[model])


def _sorted(models: Sequence[str], figures: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Figures by kind of model and model, in the order of tables."""
    kinds: dict[str, dict[str, Any]] = {MODEL: {}, "ensemble": {}, "ablation": {}}
    for model in models:
        if model in figures:
            kinds[kind_of(model)][model] = figures[model]
    return kinds


def _parts(scores: Scores, make: Callable[[str], Any]) -> dict[str, Any]:
    """What is made of each part of the utterances, by its title."""
    return {PART_TITLES[part]: make(part) for part in scores.confusion["utterances"].unique(maintain_order=True)}


def _reference(scores: Scores, models: Sequence[str]) -> str:
    """The model that the forest shows first: the better one of the baselines."""
    baselines = [name for name in models if name in MODELS and MODELS[name].baseline]
    return best_model(scores, baselines or models)


def _forests(scores: Scores, models: Sequence[str]) -> dict[str, Markup]:
    """For each model as the reference, the differences of all others to it, the best on top."""
    means = _means(scores)
    figures = {}
    for reference in models if len(models) > 1 else ():
        rows = [_difference(scores, name, reference) for name in _ranked(models, means) if name != reference]
        figures[reference] = dots(rows, f"points of weighted F1 over {reference}", zero=True, pick=True)
    return figures


def _difference(scores: Scores, name: str, reference: str, title: str = "") -> Estimate:
    pair = pair_row(scores.pairs, name, reference)
    mean, low, high = (100 * pair[end] for end in ("difference", "low", "high"))
    sure = pair["p_adjusted"] < 1 - scores.config.confidence_level
    words = f"{between(pair)}, p {pair['p_adjusted']:.2g}"
    return Estimate(title or name, mean, low, high, words, sure=sure, outlier=_reads_nothing(name))


def _ablations(scores: Scores, models: Sequence[str]) -> dict[str, Markup]:
    """For each model that has ablations, their differences to it."""
    found: dict[str, list[Estimate]] = {}
    for name in filter(is_ablation, models):
        base = base_name(name)
        if base in models:
            found.setdefault(base, []).append(_difference(scores, name, base, name.removeprefix(f"{base}/")))
    return {base: dots(rows, f"points of weighted F1 over {base}", zero=True) for base, rows in found.items()}


def _pairs(scores: Scores, table: pl.DataFrame) -> list[dict[str, str]]:
    return [
        {
            "first": row["model_a"],
            "second": row["model_b"],
            "text": between(row),
            "p": f"{row['p']:.2g}",
            "p_adjusted": f"{row['p_adjusted']:.2g}",
            "verdict": verdict(row, scores.config.confidence_level),
        }
        for row in table.filter(pl.col("metric") == METRIC).to_dicts()
    ]


def _means(scores: Scores) -> dict[str, float]:
    return dict(scores.models.filter(pl.col("metric") == METRIC).select("model", "mean").rows())


def _tables(scores: Scores, protocol: Mapping[str, Any]) -> dict[str, list[dict[str, Any]]]:
    """The tables of scores by what their rows are."""
    found: dict[str, list[dict[str, Any]]] = {MODEL: [], "ensemble": [], "ablation": []}
    for grid in grids(scores):
        found[grid.rows].append(_grid(scores, protocol, grid))
    return found


def _grid(scores: Scores, protocol: Mapping[str, Any], grid: Grid) -> dict[str, Any]:
    names = sorted(grid.columns, key=lambda name: METRIC not in name)  # what rows are ranked by stands first
    found, sizes = rows_of(scores, grid, names, unranked(protocol)), protocol["models"]
    rows = [
        {"model": model, "cells": [*found[model][0], *_size_cells(sizes[model], found[model][1])]}
        for model in _ranked(list(found), {model: first["mean"] for model, (_, first) in found.items()})
    ]
    titles = [*(grid.columns[name] for name in names), *SIZES]
    return {"title": grid.title, "titles": titles, "rows": rows}


def _size_cells(sizes: Mapping[str, Any], row: Mapping[str, Any]) -> list[Cell]:
    size, labels = sizes["n_parameters_in_all"], seen(sizes["labels_seen"])
    return [
        Cell(row["n_runs"], str(row["n_runs"])),
        Cell(size or 0, count(size), "" if size is None else f"own stage {sizes['n_parameters']:,}"),
        Cell(("no", "unknown", "yes").index(labels), labels),
    ]


def _by_class(scores: Scores, models: Sequence[str], part: str) -> list[dict[str, Any]]:
    means = {(model, metric): mean for model, metric, mean in scores.models.select("model", "metric", "mean").rows()}
    names = [f"f1/{name}{SUFFIXES[part]}" for name in scores.classes]
    return [{"model": model, "values": [means[model, name] for name in names]} for model in models]


def _curves(records: Sequence[Mapping[str, Any]]) -> dict[str, Markup]:
    kept: dict[str, dict[tuple[int, int], int | None]] = {}
    for each in records:
        kept.setdefault(each["model"], {})[each["seed"], each["fold"]] = each["best_epoch"]
    curves = learning_curves(records).group_by("model", maintain_order=True)
    return {str(model): learning(table, kept[str(model)], str(model)) for (model,), table in curves}


def _layers(layers: Sequence[LayerShares]) -> list[tuple[str, str, Markup]]:
    """Model, caption and figure of learnt weights, all on one scale."""
    most = max((share for each in layers for share in each.shares), default=1.0)
    return [(each.model, each.caption, shares(each.shares, most, f"{each.model}, {each.caption}")) for each in layers]


def _calibrations(scores: Scores, models: Sequence[str], part: str) -> dict[str, tuple[str, Markup]]:
    """The calibration error and its figure by model, of those that say how sure they are."""
    errors = dict(scores.models.filter(pl.col("metric") == f"{ECE}{SUFFIXES[part]}").select("model", "mean").rows())
    own = scores.calibration.filter(pl.col("utterances") == part)
    return {
        model: (in_percent(errors[model]), calibration(own.filter(pl.col("model") == model).to_dicts(), model))
        for model in models
        if model in errors
    }


def _turns(turns: Turns, scores: Scores, task: str) -> dict[str, Any]:
    n_runs = dict(scores.models.filter(pl.col("metric") == METRIC).select("model", "n_runs").rows())
    colours = list(emotion_colours(scores.classes).values())
    folder = f"../../../sound/{task}/"
    return as_json(turns, scores.classes, n_runs) | {"colours": colours, "folder": folder}


def _dialogue(dialogue: Dialogue, classes: Sequence[str]) -> dict[str, Any]:
    colours = emotion_colours(classes)
    turns = []
    for number, turn in enumerate(dialogue.turns.to_dicts()):
        target = turn.get("target")
        gates = [{"title": title, "value": values[number]} for title, values in dialogue.gate.items()]
        turns.append(
            {
                "predicted": turn["predicted"],
                "confidence": None if turn["confidence"] is None else f"{100 * turn['confidence']:.0f}",
                "hue": colours.get(turn["predicted"], "transparent"),
                "missed": target if target != turn["predicted"] else None,
                "speaker": turn.get("speaker"),
                "text": turn.get("text"),
                "gates": gates,
                "attention": [_strip(title, rows[number], number) for title, rows in dialogue.attention.items()],
            }
        )
    return {"model": dialogue.model, "seed": dialogue.seed, "words": dialogue.has_words, "turns": turns}


def _strip(title: str, weights: Sequence[float], own: int) -> dict[str, Any]:
    largest = max(weights) or 1.0
    cells = [round(weight / largest, 3) for weight in weights]
    return {"title": title, "cells": cells, "own": own, "strongest": cells.index(max(cells)) + 1}
