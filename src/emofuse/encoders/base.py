"""What every encoder family offers to the extraction."""

from collections.abc import Iterator, Sequence
from importlib.metadata import version
from typing import Any, Literal, Protocol

import numpy as np

from emofuse.core.files import digest
from emofuse.core.imports import closure, code_of

__all__ = ["HOW", "Encoder", "EncoderError", "code_version", "series"]


HOW = ("attention", "compile")
"""Options that say how features are computed and not which: one machine's concern, and no part of an identity."""


class EncoderError(ValueError):
    """An encoder cannot be loaded, or cannot encode what it is given."""


class Encoder(Protocol):
    """A frozen encoder.

    Attributes:
        reads: what it encodes: ``audio`` (float32 ``[n_samples]`` at 16 kHz), ``text`` (str), or ``table:<name>``, a
            published table (float64 ``[n_columns]``)
        modality: what its features stand for
        dim: size of a frame
        identity: all that its output depends on, as JSON-able values; among them ``id``, ``revision``, ``layer``,
            ``dtype``, ``frame_rate`` (Hz, or null), ``labels_seen`` (whether its weights have seen emotion labels),
            ``code`` (of :func:`code_version`) and ``versions`` (of :func:`series`); and ``n_layers``, where a frame has
            several layers side by side for the network that reads it to weigh
        cost: what computing in ``dtype`` instead of float32 changed in the first contents that it encoded: the root
            mean square of the change over that of the features; null in float32
    """

    reads: str
    modality: Literal["audio", "text"]
    dim: int
    identity: dict[str, Any]
    cost: float | None

    def encode(self, contents: Sequence[Any]) -> Iterator[np.ndarray]:
        """Yield for each content, in order, its frames: float ``[n_frames, dim]``; none at all if it is too short."""


def code_version(module: str) -> str:
    """Return a digest of the code of a module and of all that computes features among what it imports.

    Args:
        module: its full name
    """
    # Names of columns and splits are no part of a feature: to encode a corpus again takes hours.
    modules = [each for each in closure(module.partition(".")[2]) if not each.startswith("core.")]
    return digest({each: code_of(each) for each in modules})[:16]


def series(*packages: str) -> dict[str, str]:
    """Return the series of the packages that compute features, such as 2.11 of 2.11.0+cu130.

    Another series may compute other features; within one there are corrections alone, and members of a team whose
    builds differ in them use the same features.
    """
    return {each: ".".join(version(each).split(".")[:2]) for each in packages}
