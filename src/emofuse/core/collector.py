"""Faster imports of large packages."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["collector_paused"]


@contextmanager
def collector_paused() -> Iterator[None]:
    """Keep Python from looking for garbage while modules are imported, and from looking at those objects later.

    Modules make many objects that stay. Looking through them again and again took a fifth of the time that importing
    torch and transformers takes.
    """
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.freeze()
            gc.enable()
