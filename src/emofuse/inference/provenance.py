"""A sentence about the origin of a model: corpus, language, score, and limits."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from emofuse.inference.manifest import Manifest

__all__ = ["LANGUAGES", "SYNTHETIC", "corpus_of", "trained_on"]

LANGUAGES: Mapping[str, str] = MappingProxyType(
    {"demo": "English", "iemocap": "English", "meld": "English", "mosi": "English"}
)
"""What is spoken in the corpora that this package has readers for."""

SYNTHETIC = ("demo",)
"""Corpora that no person has spoken."""


def corpus_of(manifest: "Manifest") -> str | None:
    """Return the name of the corpus that a model was trained on; None if it was not scored, so that nothing tells."""
    corpus = (manifest.protocol or {}).get("corpus")
    return None if corpus is None else str(corpus)


def trained_on(manifest: "Manifest") -> str:
    """Return what a model was trained on and how well it does there, in a line."""
    corpus = corpus_of(manifest)
    name = corpus or f"the corpus of the task {manifest.task}"
    details = [LANGUAGES.get(corpus or manifest.task, "language unknown")]
    if (corpus or manifest.task) in SYNTHETIC:
        details.append("synthetic speech, not real people")
    return (
        f"trained on {name} ({', '.join(details)}), {_score(manifest)}; "
        "not evaluated on other speakers, languages or recordings"
    )


def _score(manifest: "Manifest") -> str:
    found = (manifest.scores or {}).get("weighted_f1")
    if found is None or found["mean"] is None:
        return f"weighted F1 {100 * manifest.dev['weighted_f1']:.1f} on its dev, not scored on its test"
    between = ""
    if found["low"] is not None and found["high"] is not None:
        between = f" ({100 * found['low']:.1f} to {100 * found['high']:.1f})"
    return f"weighted F1 {100 * found['mean']:.1f}{between} on its test"
