"""Published results of a task, from ``literature.yaml``."""

import re
from pathlib import Path
from typing import Annotated

import yaml
from pydantic import Field
from pydantic.dataclasses import dataclass

from emofuse.core.params import STRICT, validate

__all__ = ["Published", "paper", "published"]

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
    return [entry for entry in _entries() if task in entry.published]


def paper(model: str) -> tuple[str, str] | None:
    """Return who published a model of this project, and the paper's address; None of those that nobody did.

    >>> paper("cma")
    ('Krishna 2021, arXiv 2108.09669', 'https://arxiv.org/abs/2108.09669')
    """
    source = next((entry.source for entry in _entries() if entry.model.lower() == model), None)
    number = re.search(r"arXiv (\S+)$", source or "")
    return (source, f"https://arxiv.org/abs/{number[1]}") if source and number else None


def _entries() -> list[Published]:
    return validate(yaml.safe_load(_FILE.read_text(encoding="utf-8")), list[Published], _FILE.name)
