"""What every encoder family offers to the extraction."""

import inspect
import sys
from collections.abc import Iterator, Sequence
from typing import Any, Literal, Protocol

import numpy as np

from emofuse.files import digest

__all__ = ["Encoder", "EncoderError", "code_version"]


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
            ``dtype``, ``frame_rate`` (Hz, or null), ``labels_seen`` (whether its weights have seen emotion labels) and
            ``code`` (of :func:`code_version`)
    """

    reads: str
    modality: Literal["audio", "text"]
    dim: int
    identity: dict[str, Any]

    def encode(self, contents: Sequence[Any]) -> Iterator[np.ndarray]:
        """Yield for each content, in order, its frames: float ``[n_frames, dim]``; none at all if it is too short."""


def code_version(*modules: str) -> str:
    """Return a digest of the source code of imported modules, by name."""
    return digest([inspect.getsource(sys.modules[each]) for each in modules])[:16]
