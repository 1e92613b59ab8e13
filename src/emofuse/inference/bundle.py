"""A trained model with all that predicting takes, as one folder: what is released, and what the tracker registers.

::

    bundle.json                         the manifest: task, classes, encoders, protocol, scores
    README.md                           the model card
    networks/<name>/config.json         what a network is built from; a mixture of probabilities has no weights
    networks/<name>/model.safetensors

Beside the model itself there are the networks that it reads from, and of each modality the network that answers where
the other modality is missing. Reading a bundle needs neither DVC nor MLflow.
"""

import json
import shutil
from collections.abc import Mapping
from dataclasses import asdict
from dataclasses import dataclass as plain_dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from emofuse.core.files import replace_directory, write_json, write_text
from emofuse.core.params import STRICT, ParamsError, validate
from emofuse.inference.card import model_card

__all__ = ["MANIFEST", "Bundle", "BundleError", "Features", "Manifest", "read_bundle", "read_json", "write_bundle"]

MANIFEST = "bundle.json"
FILES = ("config.json", "model.safetensors")

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]+(/[A-Za-z0-9_-]+)*$")]


class BundleError(ValueError):
    """A bundle or a trained model is not there, damaged, or does not fit this version; the message names the file."""


@dataclass(frozen=True, config=STRICT)
class Features:
    """The frozen encoder of one modality.

    Attributes:
        family: which family of :mod:`emofuse.encoders`
        options: the family's own options
        identity: what the encoder said of itself when the training features were made
    """

    family: str
    options: dict[str, Any]
    identity: dict[str, Any]


@dataclass(frozen=True, config=STRICT)
class Manifest:
    """What a bundle says of its model.

    Attributes:
        format: of the bundle
        task: key of the task
        model: name in the results table
        seed: of the run
        fold: of the run
        runs: number of runs, of which this one is the best on dev
        dev: its scores on dev, fractions
        classes: names, in the order of the probabilities
        networks: names of the folders under ``networks``, the model's own among them
        features: encoders by modality
        max_seconds: a longer clip is cut there
        protocol: what the scores rest on; None if the model was not scored
        scores: on test, over all runs: by metric ``mean, sd, low, high, n_runs``; None if the model was not scored
    """

    format: Literal[1]
    task: Name
    model: Name
    seed: int
    fold: int
    runs: int
    dev: dict[str, float]
    classes: tuple[str, ...]
    networks: tuple[Name, ...]
    features: dict[Literal["audio", "text"], Features]
    max_seconds: Annotated[float, Field(gt=0)]
    protocol: dict[str, Any] | None
    scores: dict[str, dict[str, float | None]] | None


@plain_dataclass(frozen=True)
class Bundle:
    """A trained model on disk, in a bundle or in a project.

    Attributes:
        manifest: what is said of it
        folders: of its networks, by name
    """

    manifest: Manifest
    folders: Mapping[str, Path]


def read_bundle(folder: Path) -> Bundle:
    """Read a bundle.

    Raises:
        BundleError: it is no bundle, or of another format
    """
    try:
        manifest = validate(read_json(folder / MANIFEST), Manifest, str(folder / MANIFEST))
    except ParamsError as error:
        raise BundleError(str(error)) from error
    return Bundle(manifest, {name: folder / "networks" / name for name in manifest.networks})


def write_bundle(bundle: Bundle, out: Path) -> None:
    """Write a bundle; the folder appears whole or not at all.

    Raises:
        BundleError: there is something under that name already that is no bundle
    """
    if out.exists() and not (out / MANIFEST).exists() and (not out.is_dir() or any(out.iterdir())):
        raise BundleError(f"{out}: there is something else already; name a new folder")
    with replace_directory(out) as folder:
        write_json(folder / MANIFEST, asdict(bundle.manifest))
        write_text(folder / "README.md", model_card(bundle.manifest))
        for name, source in bundle.folders.items():
            target = folder / "networks" / name
            target.mkdir(parents=True)
            for file in FILES:
                if (source / file).exists():
                    shutil.copyfile(source / file, target / file)


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object of a bundle or a run.

    Raises:
        BundleError: the file is missing, or holds something else
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise BundleError(f"{path}: {error.strerror}") from error
    except ValueError as error:
        raise BundleError(f"{path}: not valid JSON: {error}") from error
    if not isinstance(value, dict):
        raise BundleError(f"{path}: expected a JSON object")
    return value
