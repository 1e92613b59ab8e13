"""What every benchmark prints above its table: the machine and the versions."""

import os
import platform

import numpy
import pyarrow
import torch

__all__ = ["describe", "table"]


def describe() -> str:
    """Return one line that names processor, cores and versions."""
    return (
        f"{_processor()}, {len(os.sched_getaffinity(0))} cores, Python {platform.python_version()}, "
        f"torch {torch.__version__}, pyarrow {pyarrow.__version__}, numpy {numpy.__version__}"
    )


def table(header: list[str], rows: list[list[str]]) -> str:
    """Return a Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as stream:  # noqa: PTH123 - a pseudo file
            return next(line.split(":", 1)[1].strip() for line in stream if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
