"""A sentence about the origin of a model: corpus, language, score, and limits."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from emofuse.inference.manifest import Manifest

__all__ = ["SYNTHETIC", "corpus_of", "trained_on"]

SYNTHETIC = ("demo",)
"""Corpora that no person has spoken."""


def corpus_of(manifest: "Manifest") -> str | None:
    """Return the name of the corpus that a model was trained on; None if it was not scored, so that nothing tells."""
    corpus = (manifest.protocol or {}).get("corpus")
    return None if corpus is None else str(corpus)


def trained_on(manifest: "Manifest", network: str | None = None, unlike: tuple[str, ...] = ()) -> str:
    """Return what a model was trained on and how well it does there, in a line.

    Args:
        manifest: of the model that was asked for
        network: name of the network that answers; by default the model's own
        unlike: what the score rests on and the conversation lacks, such as the corpus's transcripts
    """
    corpus = corpus_of(manifest)
    name = corpus or f"the corpus of the task {manifest.task}"
    details = [manifest.language or "language unknown"]
    if (corpus or manifest.task) in SYNTHETIC:
        details.append("synthetic speech, not real people")
    own = f", with the corpus's own {' and '.join(unlike)}" if unlike else ""
    return (
        f"trained on {name} ({', '.join(details)}), {_score(manifest, network or manifest.model)}{own}; "
        "not evaluated on other speakers, languages or recordings"
    )


def _score(manifest: "Manifest", network: str) -> str:
    if network == manifest.model:
        return _of_the_model(manifest)
    alone = _on_test(manifest.scores_alone.get(network))
    if alone:
        return f"{alone} for {network} alone"
    return f"{_of_the_model(manifest)} for the whole model, and not known for {network} alone"


def _of_the_model(manifest: "Manifest") -> str:
    dev = f"weighted F1 {100 * manifest.dev['weighted_f1']:.1f} on its dev, not scored on its test"
    return _on_test(manifest.scores) or dev


def _on_test(scores: Mapping[str, Mapping[str, float | None]] | None) -> str | None:
    found = (scores or {}).get("weighted_f1")
    if found is None or found["mean"] is None:
        return None
    between = ""
    if found["low"] is not None and found["high"] is not None:
        between = f" ({100 * found['low']:.1f} to {100 * found['high']:.1f})"
    return f"weighted F1 {100 * found['mean']:.1f}{between} on its test"
