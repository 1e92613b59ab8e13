"""Provenance of a task's results: versions, and digests of code and data.

Neither the commit nor the version of emofuse is among them. Results are part of their commit, so they cannot name it,
and the version comes from git tags, so a new tag would change them. The digest of the code stands for both.
"""

from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from platform import python_version_tuple
from typing import Any

from emofuse.core.files import digest, file_digest
from emofuse.core.imports import closure, code_of

__all__ = ["provenance", "provenance_lines"]

_PACKAGES = ("numpy", "polars")
"""What scores are computed with."""

_SHOWN = 16
"""Digits of a digest, for people to compare."""


def provenance(utterances: Path, runs: Sequence[Path]) -> dict[str, Any]:
    """Return versions and digests of a scoring.

    Args:
        utterances: the corpus's table
        runs: folders of all runs
    """
    code = [code_of(module) for module in closure("reporting.benchmark")]
    return {
        "versions": {
            "python": ".".join(python_version_tuple()[:2]),
            **{name: ".".join(version(name).split(".")[:2]) for name in _PACKAGES},
        },
        "sha256": {
            "scoring code": digest(code)[:_SHOWN],
            "utterances": file_digest(utterances)[:_SHOWN],
            "predictions": digest([file_digest(folder / "predictions.parquet") for folder in runs])[:_SHOWN],
        },
    }


def provenance_lines(protocol: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return versions and digests in words, as pairs of name and text.

    Args:
        protocol: what :func:`emofuse.reporting.benchmark.protocol` gave
    """
    found = protocol["provenance"]
    lines = [("Scored with", _listed(found["versions"]))]
    for name, made in protocol["features"].items():
        if made.get("versions"):
            lines.append((f"Features, {name}", _listed(made["versions"])))
        lines += [(f"Weights, {name}, SHA-256", made["weights"][:_SHOWN])] if made.get("weights") else []
    return lines + [(f"{name.capitalize()}, SHA-256", text) for name, text in found["sha256"].items()]


def _listed(versions: Mapping[str, str]) -> str:
    return ", ".join(f"{name} {number}" for name, number in versions.items())
