"""What stands beside the scores."""

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from emofuse.core.layout import Layout, Pair
from emofuse.features.shards import Row, write_cut, write_shard
from emofuse.reporting.benchmark import protocol
from emofuse.reporting.protocol import cut_off, losses, model_sizes, protocol_markdown
from emofuse.scoring.predictions import ScoringError
from emofuse.tasks import Task, TaskConfig

FEATURES = {"audio": {"labels_seen": False}, "text": {"labels_seen": True}}
SIZES = {"audio-utterance": 1, "audio-context": 20, "text-utterance": 300, "text-context": 4000}
READS = {"audio-context": "utterance", "text-context": "utterance", "late": "probabilities", "concat": "pooled"}


def records(sizes: dict[str, int]) -> list[dict[str, Any]]:
    return [
        {"model": model, "n_parameters": size, "seed": seed, "fold": 0}
        for model, size in sizes.items()
        for seed in range(2)
    ]


def configs(reads: dict[str, str]) -> list[dict[str, Any]]:
    return [{"model": model, "reads": of} for model, of in reads.items()]


@pytest.mark.parametrize(
    ("model", "own", "reads", "in_all"),
    [
        ("hcam", 50_000, "context", 54_321),
        ("hcam/no-context", 50_000, "utterance", 50_301),
        ("late", 0, "probabilities", 4321),
        ("concat", 7, "pooled", 7),
        ("majority", 0, None, 0),
    ],
)
def test_parameters_in_all_are_those_of_every_network_behind_an_answer_once(
    model: str, own: int, reads: str | None, in_all: int
) -> None:
    known = configs(READS | ({model: reads} if reads else {}))
    facts = model_sizes(records({**SIZES, model: own}), known, FEATURES)[model]
    assert (facts["n_parameters"], facts["n_parameters_in_all"]) == (own, in_all)


def test_labels_are_seen_by_what_reads_features_that_have_seen_them() -> None:
    facts = model_sizes(records({**SIZES, "concat": 7}), configs(READS), FEATURES)
    seen = ["text-utterance", "text-context", "concat"]
    assert [model for model, own in facts.items() if own["labels_seen"] and "/" not in model] == seen


def test_an_ensemble_has_the_parameters_of_all_its_seeds() -> None:
    facts = model_sizes(records({**SIZES, "concat": 7}), configs(READS), FEATURES)
    assert facts["concat/ensemble"]["n_parameters"] == 14
    assert facts["text-context/ensemble"]["n_parameters_in_all"] == 2 * facts["text-context"]["n_parameters_in_all"]


def test_a_cross_entropy_that_is_not_the_plain_one_is_stated() -> None:
    fits = {"concat": (0.0, 0.0), "hcam": (0.5, 0.0), "cma": (0.0, 2.0), "hbaf": (1.0, 1.0)}
    known = [
        {"model": model, "seed": seed, "config": {"fit": {"class_weight_power": balance, "focal_gamma": focus}}}
        for model, (balance, focus) in fits.items()
        for seed in range(2)
    ]
    assert losses([*known, {"model": "late", "config": {}}]) == {
        "hcam": "classes weighed by frequency ** -0.5",
        "cma": "focal loss with gamma 2",
        "hbaf": "classes weighed by frequency ** -1, focal loss with gamma 1",
    }


def test_models_that_were_best_where_their_budget_ended_are_named() -> None:
    ends = {"hcam": (True, False), "late": (None, None), "concat": (False, False), "audio-context": (True, True)}
    runs = [{"model": model, "cut_off": each} for model, own in ends.items() for each in own]
    assert list(cut_off(runs).items()) == [("audio-context", "2 of 2"), ("hcam", "1 of 2")]
    assert cut_off(runs[2:6]) == {}


def test_a_model_without_what_it_reads_from_is_an_error() -> None:
    with pytest.raises(ScoringError, match="no run of 'text-context', which another model reads from"):
        model_sizes(records({"audio-context": 1, "late": 0}), configs({"late": "probabilities"}), FEATURES)


LABELS = ("happy", "sad", "Happy", "sadness", "<script>", "a|b", None)


def test_labels_that_no_class_takes_and_texts_that_are_cut_are_in_scores_and_table(tmp_path: Path) -> None:
    rows = [
        (f"{split}-{turn}", split, turn, label, split)
        for split in ("train", "dev", "test")
        for turn, label in enumerate([*LABELS, "Happy"])
    ]
    names = ["utterance_id", "dialogue_id", "turn", "label", "split"]
    nothing = {"speaker": pl.lit(None, pl.String), "sentiment": pl.lit(None, pl.Float64)}
    table = pl.DataFrame(rows, schema=names, orient="row").with_columns(**nothing)
    config = TaskConfig({"joy": ("happy",), "woe": ("sad",)}, 1, "full", "keep", "shared", "as the corpus has it")
    layout, pair = Layout(tmp_path), Pair("ears", "eyes")
    for encoder, options in (("ears", {}), ("eyes", {"max_tokens": 8})):
        folder = layout.features("toy", encoder)
        folder.mkdir(parents=True)
        features = [Row(name, "digest", np.ones((1, 2))) for name in table["utterance_id"]]
        identity = {"labels_seen": False, "id": encoder} | options
        write_shard(folder / "shard-00000-of-00001.parquet", features, 2, identity)
    write_cut(layout.features("toy", "eyes"), ["dev-1", "test-2"])
    ended = [{"model": model, "cut_off": True, "n_parameters": 1, "fold": 0} for model in ("cma", "linear")]
    facts = protocol(Task("toy-2", config, table, "toy"), pair, layout, ended, [])
    assert facts["labels_no_class_takes"] == {"<script>": 3, "Happy": 6, "a|b": 3, "sadness": 3}
    assert facts["utterances_cut"] == {"text": 2}
    lines = protocol_markdown(facts, []).splitlines()
    listed = "linear 1 of 1 runs, cma 1 of 1 runs"
    assert f"- Best at the end of the budget: {listed}; a larger budget might score higher" in lines
    assert "- Labels that belong to no class: &lt;script&gt; 3, Happy 6, a\\|b 3, sadness 3" in lines
    assert "- Utterances cut, text: 2, longer than the 8 tokens that the encoder reads" in lines
