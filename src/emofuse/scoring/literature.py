"""What others have published for a task, from ``literature.yaml`` beside this file, which cites each figure."""

from pathlib import Path
from typing import Annotated

import yaml
from pydantic import Field
from pydantic.dataclasses import dataclass

from emofuse.core.params import STRICT, validate

__all__ = ["Published", "published"]

_FILE = Path(__file__).with_name("literature.yaml")

Text = Annotated[str, Field(min_length=1)]


@dataclass(frozen=True, config=STRICT)
class Published:
    """One publication.

    Attributes:
        model: what its authors call it
        source: authors, year and where it is published
        seen: where the figures, and how the epoch was chosen, were read
        published: by task, the figure in percent, or words where it is relative to another system or was not seen
        metric: what is counted
        modalities: what it reads
        encoders: ``tuned`` on the task, ``frozen``, or ``unknown``
        epoch: how the epoch was chosen that is reported, or ``unknown``
    """

    model: Text
    source: Text
    seen: Text
    published: dict[str, float | str]
    metric: Text
    modalities: Text
    encoders: Text
    epoch: Text


def published(task: str) -> list[Published]:
    """Return the publications that have a figure for a task, in the order of the file.

    Raises:
        ParamsError: an entry of the file lacks a key or has an unknown one
    """
    entries = validate(yaml.safe_load(_FILE.read_text(encoding="utf-8")), list[Published], _FILE.name)
    return [entry for entry in entries if task in entry.published]
