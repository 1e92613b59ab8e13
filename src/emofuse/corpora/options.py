"""Options of a reader that has none, as one whose corpus comes in one form."""

from pydantic.dataclasses import dataclass

from emofuse.core.params import STRICT

__all__ = ["NoOptions"]


@dataclass(frozen=True, config=STRICT)
class NoOptions:
    """Any option is refused."""
