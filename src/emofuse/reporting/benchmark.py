"""The results of a task: the only place where test predictions are compared with test labels."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from emofuse.core.files import checked, write_text
from emofuse.core.layout import Layout, Pair
from emofuse.core.schema import MODALITIES
from emofuse.features.shards import cut, defects, is_empty, metadata
from emofuse.models.registry import FUSION, MODELS, base_name, in_order, is_ablation, unimodal
from emofuse.plan import Plan
from emofuse.reporting.dialogues import read_dialogues, words
from emofuse.reporting.layers import read_layer_shares
from emofuse.reporting.protocol import cut_off, losses, model_sizes, protocol_markdown, sizes_of_others, unranked
from emofuse.reporting.provenance import provenance
from emofuse.reporting.report import confusion_figures, report, scores_figure
from emofuse.reporting.svg import as_file
from emofuse.reporting.tables import best_model, markdown_table
from emofuse.reporting.turns import read_turns
from emofuse.scoring.ensembles import of_seeds
from emofuse.scoring.estimates import ScoringConfig
from emofuse.scoring.external import taken_in
from emofuse.scoring.inputs import run_folders, truth_of
from emofuse.scoring.literature import published
from emofuse.scoring.names import ALL, NONZERO
from emofuse.scoring.scores import Scores, score
from emofuse.scoring.write import learning_curves, scores_on_dev, write_csv, write_runs, write_scores
from emofuse.tasks import Task

__all__ = ["benchmark", "comparisons", "protocol"]


def benchmark(task: Task, pair: Pair, plan: Plan, config: ScoringConfig, layout: Layout) -> str:
    """Score every run of a task and a pair of encoders, and write the folders of its metrics and scores.

    Args:
        task: with its test labels
        pair: the encoders
        plan: what is run of the corpus
        config: intervals and tests
        layout: the project's folders

    Returns:
        the results table, Markdown

    Raises:
        ScoringError: a model lacks a run, or its predictions do not fit the labels
    """
    folders = run_folders(task, pair, plan, layout)
    records, configs = (_read(folders, name) for name in ("record.json", "config.json"))
    others, about = taken_in(task.name, pair, plan, layout)
    runs = pl.concat([*(pl.read_parquet(checked(folder / "predictions.parquet")) for folder in folders), *others])
    kept_epochs = [pl.read_parquet(path) for path in (folder / "epochs.parquet" for folder in folders) if path.exists()]
    epochs = pl.concat(kept_epochs) if kept_epochs else None
    whole = runs.filter(~pl.col("model").map_elements(is_ablation, pl.Boolean))
    scores, dev = score(runs, truth_of(task), task.classes, config, epochs, of_seeds(whole)), scores_on_dev(records)
    pairs, rules = comparisons(scores, list(about)), protocol(task, pair, layout, records, configs, about)
    rules["intervals_over"] = {"unit": scores.unit, "units": scores.n_units}
    scored = [*folders, *(layout.external(task.name, pair, name) for name in about)]
    rules["provenance"] = provenance(layout.corpus(task.corpus) / "utterances.parquet", scored)
    text = markdown_table(scores, pairs, unranked=unranked(rules))
    table = f"{text}\n{protocol_markdown(rules, published(task.name))}"
    out, kept = layout.metrics(task.name, pair), layout.scores(task.name, pair)
    write_scores(out, scores, dev, rules, table)
    write_csv(out / "learning.csv", learning_curves(records))
    _plot(out / "plots", scores)
    write_runs(kept, scores)
    layers = read_layer_shares(folders)
    turns = read_turns(task, layout, runs)
    for folder, utterances, own in ((out, None, None), (kept, words(task, layout), turns)):
        shown = read_dialogues(folders, runs, task.classes, utterances)
        write_text(folder / "report.html", report(scores, rules, records, shown, layers, own))
    return table


def comparisons(scores: Scores, others: Sequence[str] = ()) -> list[tuple[str, str]]:
    """Return the pairs that a reader asks for.

    They are context against none; each fusion against the better unimodal network; each that is no baseline against
    those that are; each model against itself without a part; and what others predicted against the best of ours.

    Args:
        scores: what :func:`emofuse.scoring.scores.score` gave
        others: rows of predictions of others
    """
    known = set(scores.models["model"])
    contextual = [unimodal(name, "context").name for name in MODALITIES]
    pairs = [
        (name, unimodal(modality, "utterance").name) for name, modality in zip(contextual, MODALITIES, strict=True)
    ]
    there = [name for name in contextual if name in known]
    if there:
        better = best_model(scores, there)
        pairs += [(each.name, better) for each in FUSION if each.modalities]
    baselines = [each.name for each in FUSION if each.baseline and each.modalities]
    pairs += [(each.name, baseline) for each in FUSION if not each.baseline for baseline in baselines]
    pairs += [(base_name(name), name) for name in in_order(list(known)) if is_ablation(name)]
    pairs += [(name, best_model(scores, sorted(known & set(MODELS)))) for name in others]
    return [pair for pair in pairs if set(pair) <= known]


def protocol(
    task: Task,
    pair: Pair,
    layout: Layout,
    records: Sequence[Mapping[str, Any]],
    configs: Sequence[Mapping[str, Any]],
    others: Mapping[str, Mapping[str, Any]] | None = None,
) -> dict[str, Any]:
    """Return what the numbers rest on: task, splits, context, features, models, and how epochs were chosen.

    Args:
        task: that is scored
        pair: the encoders
        layout: the project's folders
        records: the ``record.json`` of all runs
        configs: the ``config.json`` of those that have one
        others: ``source, labels_seen, kind`` of the predictions of others, by name

    Raises:
        ScoringError: a network that a model reads from is not among the runs
        FeatureError: a modality has no features
    """
    config = task.config
    folders = {name: layout.features(task.corpus, pair.encoder(name)) for name in MODALITIES}
    features = {name: metadata(folder) for name, folder in folders.items()}
    without = {name: {kind: len(ids) for kind, ids in defects(folder).items()} for name, folder in folders.items()}
    cuts = {name: len(ids) for name, folder in folders.items() if (ids := cut(folder))}
    stated = {
        "losses": losses(configs),
        "cut_off": cut_off(records),
        "labels_no_class_takes": task.untaken(),
        "utterances_cut": cuts,
        "modalities_absent": [name for name, folder in folders.items() if is_empty(folder)],
        "external": dict(others or {}),
    }
    return {
        "task": task.name,
        "corpus": task.corpus,
        "encoders": {name: pair.encoder(name) for name in MODALITIES},
        "classes": list(task.classes),
        "labelled_utterances": [task.counts(fold) for fold in range(task.folds)],
        "unlike_a_full_corpus": task.differences(),
        "splits": task.split_source,
        "folds": task.folds,
        "seeds": config.seeds,
        "context": config.context,
        "unlabelled_turns": config.unlabelled,
        "speakers_across_splits": config.speakers,
        "transcript": config.transcript,
        "epoch_chosen_on": "dev weighted F1",
        "features": features,
        "utterances_without_features": without,
        "models": model_sizes(records, configs, features) | sizes_of_others(others or {}),
    } | {name: each for name, each in stated.items() if each}


def _read(folders: Sequence[Path], name: str) -> list[dict[str, Any]]:
    """A JSON file of all runs that have it."""
    paths = (folder / name for folder in folders)
    return [json.loads(path.read_text(encoding="utf-8")) for path in paths if path.exists()]


def _plot(out: Path, scores: Scores) -> None:
    """Write the figures that stand beside those of other revisions in ``dvc plots``."""
    write_text(out / "scores.svg", as_file(scores_figure(scores)))
    for part, suffix in ((ALL, ""), (NONZERO, "-nonzero")):
        for model, figure in confusion_figures(scores, part).items():
            write_text(out / f"confusion-{model.replace('/', '-')}{suffix}.svg", as_file(figure))
