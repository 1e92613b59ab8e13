"""Test turns with the predictions of all models, for the error browser."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from emofuse.core.layout import Layout
from emofuse.models.registry import base_name, in_order
from emofuse.tasks import Task

__all__ = ["MOST", "MOST_BYTES", "Turns", "read_turns", "shown_utterances"]

MOST = 3000
"""Turns in a page, which has to stay under 1.5 MB; whole dialogues, the first ones."""

MOST_BYTES = 400_000
"""Their words, as the page has them."""


@dataclass(frozen=True)
class Turns:
    """Dialogues of test, turn by turn.

    Attributes:
        table: ``utterance_id, dialogue_id, speaker, text, sound, target``; the sound is the name of a file in the
            task's folder of sound, null where there is none; the target the index of a class, null where none counts
        predicted: by model, for each row the class that most of its runs predict; null where nothing was scored
        right: by model, for each row how many runs are right
        n_dialogues: that test has in all
    """

    table: pl.DataFrame
    predicted: dict[str, list[int | None]]
    right: dict[str, list[int | None]]
    n_dialogues: int


def shown_utterances(task: Task, layout: Layout) -> tuple[pl.DataFrame, int]:
    """Return the turns of the first dialogues of test, and how many dialogues there are.

    There are at most :data:`MOST` turns with :data:`MOST_BYTES` of words, or else one dialogue.

    Args:
        task: with its test labels
        layout: the project's folders

    Returns:
        the columns of :attr:`Turns.table`
    """
    truth = task.truth().filter(pl.col("split") == "test").unique("utterance_id", maintain_order=True)
    columns = ["utterance_id", "dialogue_id", "speaker", "text", "audio_sha256", "n_samples"]
    rows = pl.read_parquet(layout.corpus(task.corpus) / "utterances.parquet", columns=columns)
    rows = rows.join(truth.select("utterance_id", "target"), on="utterance_id", how="left", maintain_order="left")
    tested = rows.filter(pl.col("target").is_not_null())["dialogue_id"].unique(maintain_order=True)
    rows = rows.filter(pl.col("dialogue_id").is_in(tested.implode()))
    sizes = rows.with_columns(size=pl.col("text").map_elements(lambda each: len(json.dumps(each)), pl.Int64))
    ends = sizes.group_by("dialogue_id", maintain_order=True).agg(pl.len(), pl.col("size").sum())
    fits = (pl.col("len").cum_sum() <= MOST) & (pl.col("size").cum_sum() <= MOST_BYTES)
    kept = ends.filter(fits | (pl.int_range(pl.len()) == 0))["dialogue_id"]
    sound = pl.when(pl.col("n_samples") > 0).then(pl.col("audio_sha256").str.head(16) + ".flac")
    return (
        rows.filter(pl.col("dialogue_id").is_in(kept.implode())).select(*columns[:4], sound.alias("sound"), "target"),
        len(tested),
    )


def read_turns(task: Task, layout: Layout, runs: pl.DataFrame) -> Turns:
    """Return the turns with what each model predicts of them; ablations are left out.

    Args:
        task: with its test labels
        layout: the project's folders
        runs: the predictions of all runs
    """
    table, n_dialogues = shown_utterances(task, layout)
    predictions = (
        runs.filter(
            pl.col("split") == "test", pl.col("model").map_elements(lambda each: base_name(each) == each, pl.Boolean)
        )
        .select("model", "utterance_id", predicted=pl.col("probabilities").list.arg_max().cast(pl.Int64))
        .join(table.select("utterance_id", "target"), on="utterance_id")
    )
    votes = (
        predictions.group_by("model", "utterance_id", "predicted")
        .len()
        .sort("len", "predicted", descending=[True, False])
        .unique(["model", "utterance_id"], keep="first", maintain_order=True)
    )
    right = predictions.group_by("model", "utterance_id").agg(right=(pl.col("predicted") == pl.col("target")).sum())
    models = in_order(predictions["model"].to_list())

    def column(found: pl.DataFrame, model: str, name: str) -> list[Any]:
        own = found.filter(model=model).select("utterance_id", name)
        return (
            table.select("utterance_id").join(own, on="utterance_id", how="left", maintain_order="left")[name].to_list()
        )

    return Turns(
        table,
        {model: column(votes, model, "predicted") for model in models},
        {model: column(right, model, "right") for model in models},
        n_dialogues,
    )


def as_json(turns: Turns, classes: Sequence[str], n_runs: dict[str, int]) -> dict[str, Any]:
    """Return what the page's script reads: a list a column.

    Args:
        turns: of test
        classes: their names
        n_runs: of each model
    """
    table = turns.table
    speakers = sorted(set(table["speaker"].drop_nulls()))
    place = {name: number for number, name in enumerate(speakers)}
    return {
        "classes": list(classes),
        "speakers": speakers,
        "dialogue": table["dialogue_id"].rle_id().to_list(),
        "speaker": [place.get(each) for each in table["speaker"]],
        "text": table["text"].to_list(),
        "sound": table["sound"].to_list(),
        "target": table["target"].to_list(),
        "models": {
            name: {"runs": n_runs[name], "predicted": predicted, "right": turns.right[name]}
            for name, predicted in turns.predicted.items()
        },
    }
