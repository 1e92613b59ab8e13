"""What stands beside the scores."""

from typing import Any

import pytest

from emofuse.reporting.protocol import losses, model_facts
from emofuse.scoring.predictions import ScoringError

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
    facts = model_facts(records({**SIZES, model: own}), known, FEATURES)[model]
    assert (facts["n_parameters"], facts["n_parameters_in_all"]) == (own, in_all)


def test_labels_are_seen_by_what_reads_features_that_have_seen_them() -> None:
    facts = model_facts(records({**SIZES, "concat": 7}), configs(READS), FEATURES)
    seen = ["text-utterance", "text-context", "concat"]
    assert [model for model, own in facts.items() if own["labels_seen"] and "/" not in model] == seen


def test_an_ensemble_has_the_parameters_of_all_its_seeds() -> None:
    facts = model_facts(records({**SIZES, "concat": 7}), configs(READS), FEATURES)
    assert facts["concat/ensemble"]["n_parameters"] == 14
    assert facts["text-context/ensemble"]["n_parameters_in_all"] == 2 * facts["text-context"]["n_parameters_in_all"]


def test_a_cross_entropy_that_is_not_the_plain_one_is_stated() -> None:
    fits = {"concat": (0.0, 0.0), "hcam": (0.5, 0.0), "cma": (0.0, 2.0), "hbaf": (1.0, 1.0)}
    known = [
        {"model": model, "seed": seed, "config": {"fit": {"balance": balance, "focus": focus}}}
        for model, (balance, focus) in fits.items()
        for seed in range(2)
    ]
    assert losses([*known, {"model": "late", "config": {}}]) == {
        "hcam": "classes weighed by frequency ** -0.5",
        "cma": "focal loss with exponent 2",
        "hbaf": "classes weighed by frequency ** -1, focal loss with exponent 1",
    }


def test_a_model_without_what_it_reads_from_is_an_error() -> None:
    with pytest.raises(ScoringError, match="no run of 'text-context', which another model reads from"):
        model_facts(records({"audio-context": 1, "late": 0}), configs({"late": "probabilities"}), FEATURES)
