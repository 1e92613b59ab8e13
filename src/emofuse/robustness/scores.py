"""Scores under a condition, compared with those without it."""

from typing import Any

import polars as pl

from emofuse.core.files import checked, write_json
from emofuse.core.layout import Layout, Pair
from emofuse.core.store import Store
from emofuse.inference.bundle import read_json
from emofuse.plan import Plan
from emofuse.robustness.conditions import MEASURED
from emofuse.robustness.predictions import predict_corrupted
from emofuse.scoring.estimates import ScoringConfig
from emofuse.scoring.inputs import run_folders, truth_of
from emofuse.scoring.scores import score
from emofuse.tasks import Task

__all__ = ["robustness"]


def robustness(
    task: Task,
    pair: Pair,
    plan: Plan,
    condition: str,
    modality: str,
    config: ScoringConfig,
    layout: Layout,
    store: Store,
) -> None:
    """Write ``metrics/<task>/<pair>/robustness/<condition>.json``.

    Its ``scores`` are by model and metric, as those of ``scores.json``, with ``as_recorded``, the mean without the
    condition, of the same utterances. ``word_error_rate`` is what was measured of changed words, and ``dialogues`` how
    many were asked about.

    Args:
        task: with its test labels
        pair: the encoders
        plan: what is run of the corpus
        condition: its name
        modality: that the condition changes, or ``both``
        config: of intervals
        layout: the project's folders
        store: where finished predictions are kept
    """
    folders = run_folders(task, pair, plan, layout)
    predictions = predict_corrupted(task, pair, folders, condition, modality, layout, store)
    asked = predictions["utterance_id"].unique()
    truth = truth_of(task).filter(pl.col("utterance_id").is_in(asked.implode()))
    models = score(predictions, truth, task.classes, config).models
    recorded = pl.concat(pl.read_parquet(checked(each / "predictions.parquet")) for each in folders)
    recorded = recorded.filter(pl.col("split") == "test", pl.col("utterance_id").is_in(asked.implode()))
    plain = score(recorded, truth, task.classes, config).models.select("model", "metric", as_recorded="mean")
    measured = (
        layout.corrupted(plan.corpus, condition, pair.encoder("audio" if modality == "audio" else "text")) / MEASURED
    )
    scores: dict[str, dict[str, Any]] = {}
    for row in models.join(plain, on=["model", "metric"], how="left", maintain_order="left").to_dicts():
        scores.setdefault(row.pop("model"), {})[row.pop("metric")] = row
    found = {
        "condition": condition,
        "dialogues": truth["dialogue_id"].n_unique(),
        "word_error_rate": read_json(measured)["word_error_rate"] if measured.exists() else None,
        "scores": scores,
    }
    write_json(layout.robustness(task.name, pair, condition), found)
