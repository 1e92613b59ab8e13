"""Utterance-level values that others published, joined by utterance id: one frame an utterance, values as they are."""

from collections.abc import Iterator, Sequence
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field
from pydantic.dataclasses import dataclass

from emofuse.core.params import STRICT
from emofuse.encoders.base import code_version

__all__ = ["Config", "Published"]


@dataclass(frozen=True, config=STRICT)
class Config:
    """Options of the family.

    Attributes:
        table: name of a table that the corpus's reader found
        modality: what its values stand for
        columns: number of values an utterance
        labels_seen: whether what made the values has seen emotion labels
        source: who published them
    """

    table: str
    modality: Literal["audio", "text"]
    columns: Annotated[int, Field(ge=1)]
    labels_seen: bool
    source: str


class Published:
    """Hands values through; a missing value stays NaN. See :class:`emofuse.encoders.base.Encoder`."""

    cost = None

    def __init__(self, config: Config) -> None:
        self.reads = f"table:{config.table}"
        self.modality = config.modality
        self.dim = config.columns
        self.identity: dict[str, Any] = {
            "id": f"published:{config.table}",
            "revision": config.source,
            "layer": "values",
            "dtype": "float64",
            "frame_rate": None,
            "labels_seen": config.labels_seen,
            "code": code_version(__name__),
            "versions": {},
        }

    def encode(self, contents: Sequence[np.ndarray]) -> Iterator[np.ndarray]:
        """Yield ``[1, n_columns]`` for each row of values."""
        for values in contents:
            yield values[None, :]
