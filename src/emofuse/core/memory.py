"""What Python and the C library do with memory, where it costs time or room."""

import atexit
import ctypes
import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["collector_paused", "end_quickly", "give_memory_back"]


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


def end_quickly() -> None:
    """Have Python look for no garbage when this process ends; with torch imported that takes 0.3 s."""
    atexit.register(gc.freeze)


def give_memory_back() -> None:
    """Hand the system what is free: a heap in which batches of many shapes come and go does not shrink by itself.

    Of an hour of sound that was a quarter of a gigabyte. Does nothing where the C library is not glibc.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
    if trim is not None:
        trim(0)
