"""The scores of trained models under a worse condition, beside those without it."""

import polars as pl

from emofuse.core.files import checked, write_text
from emofuse.core.layout import Layout, Pair
from emofuse.core.store import Store
from emofuse.inference.bundle import read_json
from emofuse.plan import Plan
from emofuse.robustness.conditions import MEASURED
from emofuse.robustness.predictions import predict_corrupted
from emofuse.scoring.inputs import run_folders, truth_of
from emofuse.scoring.scores import ScoringConfig, score
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
    """Write ``metrics/<task>/<pair>/robustness/<condition>.csv``.

    Its columns are ``model, metric, as_recorded, mean, sd, low, high, n_runs, word_error_rate, dialogues``;
    ``as_recorded`` is the mean without the condition, of the same utterances. The word error rate is what was measured
    of changed words, and ``dialogues`` how many were asked about, the same in every row.

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
    table = models.join(plain, on=["model", "metric"], how="left", maintain_order="left")
    measured = (
        layout.corrupted(plan.corpus, condition, pair.encoder("audio" if modality == "audio" else "text")) / MEASURED
    )
    rate = read_json(measured)["word_error_rate"] if measured.exists() else None
    table = table.with_columns(word_error_rate=pl.lit(rate, pl.Float64), dialogues=truth["dialogue_id"].n_unique())
    columns = ["model", "metric", "as_recorded", "mean", "sd", "low", "high", "n_runs", "word_error_rate", "dialogues"]
    path = layout.metrics(task.name, pair) / "robustness" / f"{condition}.csv"
    write_text(path, table.select(columns).write_csv())
