"""Where a pretrained network lies, which weights it has, and reading them without running code that came with them.

Weights are safetensors where there are some, else ``pytorch_model.bin`` through torch's weights-only unpickler, or a
Whisper as CTranslate2 writes it. The digest of the file that is read is part of what a network is. A network whose
weights do not all fit is an error, not a warning: transformers would fill the gaps with random numbers.
"""

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError

from emofuse.core.files import digest, file_digest
from emofuse.encoders import ctranslate2
from emofuse.encoders.base import EncoderError

__all__ = ["Source", "is_cached", "load_extractor", "load_network", "locate", "model_folder"]

_WEIGHTS = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
    ctranslate2.WEIGHTS,
)
"""Files of weights, or indexes of several, the first that is there; transformers prefers them in the same order."""

_SMALL = {".json", ".txt", ".model"}
"""Other files of a model folder that shape its features: configuration, vocabulary."""

_UNUSED = re.compile(r"(^|\.)(pooler\..*|masked_spec_embed|position_ids|inv_freq)$")
"""Weights that may be missing or left over: no feature depends on them, or the network computes them itself."""

_ASK_SECONDS = 10.0
"""How long the hub may take to say what a repository holds; transformers' own way tries for half a minute."""


@dataclass(frozen=True)
class Source:
    """Where a network lies.

    Attributes:
        folder: with all its files
        weights: name of its file of weights, or of the index of several
        identity: what says which network it is: ``id``, ``revision``, and ``weights``, the digest of those
    """

    folder: Path
    weights: str
    identity: dict[str, str]

    @property
    def name(self) -> str:
        """What messages call it."""
        return self.identity["id"]

    def load(self, loader: Any, **options: Any) -> Any:
        """Call ``loader.from_pretrained``, which asks no hub.

        Raises:
            EncoderError: it failed; the message names the network and the reason
        """
        try:
            return loader.from_pretrained(str(self.folder), local_files_only=True, trust_remote_code=False, **options)
        except (OSError, ValueError, RuntimeError, ImportError, SafetensorError) as error:
            raise _fault(self.name, str(error)) from error


def locate(
    model: str,
    revision: str | None = None,
    *,
    needs: Sequence[str] = (),
    sha256: str | None = None,
    ask_hub: bool = False,
) -> Source:
    """Find a network, and bring it into the local cache where the hub may be asked.

    Args:
        model: ``package:<name>/<folder>``, a local folder, or a hub id
        revision: commit of a hub model
        needs: names of files, one of which must be there beside the weights and the configuration
        sha256: digest that its weights must have: of their file, or of what ``sha256sum`` prints for several, by name
        ask_hub: whether the hub may be asked for what the local cache does not have

    Raises:
        EncoderError: there is no such package or folder, a hub id without a revision, files are missing, the weights
            have another digest, or an adapter changes what the network is
    """
    folder, hub = model_folder(model), False
    if folder is None:
        if revision is None:
            raise EncoderError(f"{model}: no such folder, and a hub model needs a pinned revision")
        folder, hub = _snapshot(model, revision, needs, ask_hub), True
    # The place of a folder is no part of what it is.
    name = model if hub or model.startswith("package:") else f"folder:{folder.resolve().name}"
    _refuse_adapters(name, folder)
    try:
        main, *parts = _weights(folder)
    except ValueError as error:
        raise _fault(name, str(error)) from error
    hashes = {each.name: file_digest(each) for each in parts or [main]}
    found = _digest_of(hashes)
    if sha256 not in (None, found):
        what = main.name if len(hashes) == 1 else f"the list of {len(hashes)} files of weights"
        raise _fault(name, f"the sha256 of {what} is {found}; expected {sha256}")
    if not hub:
        small = {path.name: file_digest(path) for path in folder.iterdir() if path.suffix in _SMALL}
        revision = digest(small | hashes)[:16]
    return Source(folder, main.name, {"id": name, "revision": str(revision), "weights": found})


def model_folder(model: str) -> Path | None:
    """Return the folder of ``package:<name>/<folder>`` or of a local folder's path; None if it is neither.

    The package has a module of its name, which is not imported: what it carries is data.

    Raises:
        EncoderError: there is no such package, or it has no such folder
    """
    if not model.startswith("package:"):
        return Path(model) if Path(model).is_dir() else None
    name, _, inside = model.removeprefix("package:").partition("/")
    try:
        installed = distribution(name)
    except (PackageNotFoundError, ValueError) as error:
        raise EncoderError(f"{model}: the package {name} is not installed") from error
    # What the installer noted: a search for the module would find what lies under its name in the working folder.
    place = (name, *filter(None, inside.split("/")))
    folder = Path(str(installed.locate_file("/".join(place))))
    if not any(each.parts[: len(place)] == place for each in installed.files or ()) or not folder.is_dir():
        raise EncoderError(f"{model}: the package {name} has no folder {inside!r}")
    return folder


def is_cached(model: str, revision: str) -> bool:
    """Return whether a commit of a hub model is in the local cache, with its weights; nothing is read or hashed.

    Raises:
        ValueError: it is no hub id
    """
    from huggingface_hub import snapshot_download

    try:
        folder = Path(snapshot_download(model, revision=revision, local_files_only=True))
    except FileNotFoundError:
        return False
    return _lacking(folder, ()) is None


def load_network(source: Source) -> Any:
    """Load a network in float32, in evaluation mode.

    Raises:
        EncoderError: it is damaged, holds more than weights, or its weights do not fit
    """
    if source.weights == ctranslate2.WEIGHTS:
        return ctranslate2.load(source.folder, source.name)
    from transformers import AutoModel  # here, as transformers is slow to import
    from transformers.utils import logging

    logging.disable_progress_bar()
    logging.set_verbosity_error()  # Its report of weights that do not fit is an error of ours.
    safe = source.weights.startswith("model.safetensors")
    if not safe:
        _check_pickles(source)
    reported = {"output_loading_info": True, "ignore_mismatched_sizes": True}
    network, report = source.load(AutoModel, use_safetensors=safe, weights_only=True, dtype=torch.float32, **reported)
    _check_weights(source, network, report)
    return network.eval().requires_grad_(False)


def load_extractor(source: Source) -> Any:
    """Load the feature extractor of a speech network.

    Raises:
        EncoderError: the network has none
    """
    if source.weights == ctranslate2.WEIGHTS:
        return ctranslate2.load_extractor(source.folder)
    from transformers import AutoFeatureExtractor

    try:
        return source.load(AutoFeatureExtractor)
    except EncoderError as error:
        if (source.folder / "preprocessor_config.json").exists():
            raise
        reason = "preprocessor_config.json is not among its files; is it a speech encoder?"
        raise _fault(source.name, reason) from error


def _fault(name: str, reason: str) -> EncoderError:
    return EncoderError(f"{name} cannot be loaded: {' '.join(reason.split())}")


def _digest_of(hashes: dict[str, str]) -> str:
    """Digest of one file, or of what ``sha256sum`` prints for several."""
    if len(hashes) == 1:
        return next(iter(hashes.values()))
    lines = (f"{found}  {name}\n" for name, found in sorted(hashes.items()))
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def _weights(folder: Path) -> list[Path]:
    """Return the file of weights; or an index, and the files that it lists.

    Raises:
        ValueError: there is none, or it is not whole
    """
    main = next((folder / each for each in _WEIGHTS if (folder / each).is_file()), None)
    if main is None:
        hint = (
            "; it is a hub's cache of a model, whose folders are those in snapshots/" * (folder / "snapshots").is_dir()
        )
        raise ValueError(f"it has no weights; expected {_WEIGHTS[0]} or {_WEIGHTS[2]}{hint}")
    if main.suffix != ".json":
        return [main]
    try:
        listed = sorted(set(json.loads(main.read_text(encoding="utf-8"))["weight_map"].values()))
    except (ValueError, LookupError, AttributeError, TypeError) as error:
        raise ValueError(f"{main.name} is not an index of weights") from error
    if stray := [each for each in listed if Path(each).name != each]:
        raise ValueError(f"{main.name} names the file {stray[0]!r}, which is outside the folder")
    if missing := [each for each in listed if not (folder / each).is_file()]:
        raise ValueError(f"{len(missing)} of its {len(listed)} files of weights are missing, such as {missing[0]}")
    return [main, *(folder / each for each in listed)]


def _snapshot(model: str, revision: str, needs: Sequence[str], ask_hub: bool) -> Path:
    """Return a commit's folder in the local cache, filled from the hub if it lacks something."""
    from huggingface_hub import HfApi, constants, snapshot_download

    try:
        folder = Path(snapshot_download(model, revision=revision, local_files_only=True))
        lacking = _lacking(folder, needs)
    except FileNotFoundError:
        folder, lacking = None, f"commit {revision} is not in the local cache"
    except ValueError as error:
        raise _fault(model, f"there is no such folder, and it is not a hub id: {error}") from error
    if lacking is None and folder is not None:
        return folder
    if not ask_hub or constants.HF_HUB_OFFLINE:
        reason = ", since HF_HUB_OFFLINE is set" if constants.HF_HUB_OFFLINE else ""
        raise _fault(model, f"{lacking}, and the hub is not asked{reason}")
    try:
        listing = HfApi().model_info(model, revision=revision, timeout=_ASK_SECONDS).siblings or []
        wanted = _wanted([each.rfilename for each in listing])
        folder = Path(snapshot_download(model, revision=revision, allow_patterns=wanted))
    except Exception as error:  # The hub's client raises what its library for HTTP raises, and that changes.
        reason = str(error).strip().partition("\n")[0]
        raise _fault(model, f"{lacking}, and could not be downloaded: {type(error).__name__}: {reason}") from error
    if lacking := _lacking(folder, needs):
        raise _fault(model, lacking)
    return folder


def _lacking(folder: Path, needs: Sequence[str]) -> str | None:
    """Say what a commit's folder in the local cache does not have."""
    if not (folder / "config.json").is_file():
        return "config.json is not among its files in the local cache"
    if needs and not any((folder / each).is_file() for each in needs):
        return f"{' or '.join(needs[:2])} is not among its files in the local cache"
    try:
        _weights(folder)
    except ValueError as error:
        return str(error)
    return None


def _wanted(names: Sequence[str]) -> list[str]:
    """Choose of a repository's files those that are read: small ones, and weights of one kind."""
    main = next((each for each in _WEIGHTS if each in names), "")
    stem = main.partition(".")[0]
    parts = re.compile(rf"{stem}-\d+-of-\d+\.(safetensors|bin)") if main.endswith(".index.json") else None
    small = [each for each in names if "/" not in each and Path(each).suffix in _SMALL]
    return [each for each in names if each in small or each == main or (parts and parts.fullmatch(each))]


def _refuse_adapters(name: str, folder: Path) -> None:
    """What would be left out without a word: low-rank weights beside the base, and layers behind the transformer."""
    if (folder / "adapter_config.json").is_file():
        raise _fault(
            name, "adapter_config.json: an adapter lies beside the weights and is not applied; merge it into them"
        )
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return  # transformers says what is wrong with it
    if config.get("add_adapter"):
        raise _fault(name, "add_adapter: true in config.json: layers behind the transformer are not applied")
    if config.get("transformers_weights"):
        raise _fault(name, "transformers_weights in config.json: weights of another name are not read")


def _check_pickles(source: Source) -> None:
    """Refuse a pickle that is damaged or asks for more than tensors, with a reason that fits a line."""
    for path in _weights(source.folder):
        if path.suffix == ".json":
            continue
        try:
            torch.load(path, map_location="meta", weights_only=True)
        except Exception as error:  # A damaged pickle fails in as many ways as there are operations in one.
            found = re.search(r"GLOBAL (\S+)", str(error))
            reason = f"holds more than weights ({found[1]}), which is not run" if found else "is damaged or cut short"
            raise _fault(source.name, f"{path.name} {reason}") from error


def _check_weights(source: Source, network: Any, report: dict[str, Any]) -> None:
    parts = {"adapter", *(name for name, _ in network.named_children())}
    stray = [each for each in report["unexpected_keys"] if _part(each, network.base_model_prefix) in parts]
    faults = {
        "missing": report["missing_keys"],
        "not used": stray,
        "of another shape": [each[0] for each in report["mismatched_keys"]],
    }
    for what, keys in faults.items():
        found = sorted(each for each in keys if not _UNUSED.search(each))
        if found:
            raise _fault(source.name, f"{len(found)} of its weights are {what}, such as {found[:3]}")


def _part(key: str, prefix: str) -> str:
    return key.removeprefix(f"{prefix}.").partition(".")[0]
