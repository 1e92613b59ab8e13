"""Bundles of the trained models in a project's ``data/models/``."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from emofuse.core.files import DamagedError, checked
from emofuse.core.layout import Layout, Pair
from emofuse.core.params import Params
from emofuse.core.schema import MODALITIES
from emofuse.encoders.base import HOW
from emofuse.encoders.catalogue import EncoderConfig
from emofuse.inference.bundle import FILES, Bundle, BundleError, read_json
from emofuse.inference.manifest import Features, Manifest
from emofuse.models.registry import model, sources, unimodal
from emofuse.plan import params_of_task

__all__ = ["best_models", "bundle_of_model", "folders_of_run"]

_SHAPE = "data/models/<task>/<audio>+<text>/<model>"


def bundle_of_model(folder: Path) -> Bundle:
    """Return the best run of a trained model as a bundle.

    Args:
        folder: a model's, such as ``data/models/demo/logmel+minilm/hcam``, of whose runs the one with the best weighted
            F1 on dev is taken; or one run's, ``data/models/demo/logmel+minilm/hcam/seed-1-fold-0``

    Raises:
        BundleError: there is no trained model, or one that cannot predict
        ParamsError: the project's parameters have nothing on its features
    """
    layout, task = _project(folder)
    runs = [folder] if (folder / "record.json").exists() else sorted(folder.glob("seed-*-fold-*"), key=_seed_and_fold)
    if not runs:
        raise BundleError(f"{folder}: no trained runs in it; name a model, as {_SHAPE}")
    records = {path: read_json(path / "record.json") for path in runs}
    best = max(runs, key=lambda path: records[path]["dev"]["weighted_f1"])
    record = records[best]
    if not (best / "config.json").exists():
        raise BundleError(f"{best}: {record['model']} predicts the same for every utterance; choose another model")
    folders = folders_of_run(best, layout)
    _check(folders)
    configs = {name: read_json(path / "config.json") for name, path in folders.items()}
    params = params_of_task(task, layout.root)
    scores = _scores(layout, task, record)
    manifest = Manifest(
        format=2,
        task=task,
        model=record["model"],
        seed=record["seed"],
        fold=record["fold"],
        runs=len(runs),
        dev=record["dev"],
        classes=tuple(configs[record["model"]]["classes"]),
        networks=tuple(folders),
        features=_features(params, configs),  # type: ignore[arg-type]
        max_seconds=params.get("corpus.max_seconds", float),
        **scores,
    )
    return Bundle(manifest, folders)


def best_models() -> list[Path]:
    """Return for each task of the project the folder of the model with the best run on dev."""
    best: dict[str, tuple[float, Path]] = {}
    for path in sorted(Layout().models.rglob("record.json")):
        if (path.parent / "config.json").exists():
            record = json.loads(path.read_text(encoding="utf-8"))
            found = (record["dev"]["weighted_f1"], path.parent.parent)
            best[record["task"]] = max(best.get(record["task"], found), found, key=lambda each: each[0])
    return [folder for _, folder in best.values()]


def _seed_and_fold(run: Path) -> tuple[int, ...]:
    """What runs are sorted by, so that of equally good ones the first counts: ``seed-2`` stands before ``seed-10``."""
    return tuple(map(int, run.name.split("-")[1::2]))


def _project(folder: Path) -> tuple[Layout, str]:
    """The project that a model's folder is in, and its task."""
    whole = folder.absolute()
    for root in whole.parents:
        layout = Layout(root)
        if (root / "params.yaml").exists() and whole.is_relative_to(layout.models):
            return layout, whole.relative_to(layout.models).parts[0]
    raise BundleError(f"{folder}: neither a bundle nor a model's folder in a project, {_SHAPE}")


def folders_of_run(run: Path, layout: Layout) -> dict[str, Path]:
    """Return the run's network, those that it reads from, and those that answer where a modality is missing, by name.

    Args:
        run: its folder
        layout: of its project
    """
    config = read_json(run / "config.json")
    encoders, folders = config["encoders"], {config["model"]: run}
    waiting = list(sources(config).items())
    if model(config["model"]).modalities == MODALITIES:
        waiting += [(each, unimodal(each, "context")) for each in MODALITIES]
    while waiting:
        modality, network = waiting.pop(0)
        if network.name not in folders:
            folder = layout.unimodal(config["task"], encoders[modality]) / network.folder / run.name
            folders[network.name] = folder
            waiting += sources(read_json(folder / "config.json")).items()
    return folders


def _check(folders: Mapping[str, Path]) -> None:
    """Compare what networks are built from with what training wrote."""
    try:
        for path in (folder / file for folder in folders.values() for file in FILES):
            if path.exists():
                checked(path)
    except DamagedError as error:
        raise BundleError(str(error)) from error


def _features(params: Params, configs: Mapping[str, Mapping[str, Any]]) -> dict[str, Features]:
    found = {}
    for config in configs.values():
        for modality, identity in config.get("features", {}).items():
            encoder = params.get(f"encoders.{config['encoders'][modality]}", EncoderConfig)
            found[modality] = Features(encoder.family, _portable(encoder.options), identity)
    return found


def _portable(options: Mapping[str, Any]) -> dict[str, Any]:
    """Options without those that another machine may not be able to follow, and that change nothing."""
    return {name: value for name, value in options.items() if name not in HOW}


def _scores(layout: Layout, task: str, record: Mapping[str, Any]) -> dict[str, Any]:
    """Protocol and scores of a model; of a unimodal one from any pair that its encoder is in."""
    wanted = record["encoders"]
    for path in sorted((layout.root / "metrics" / task).glob("*/scores.json")):
        pair = Pair.parse(path.parent.name)
        if all(pair.encoder(modality) == encoder for modality, encoder in wanted.items()):
            found = read_json(path)
            return {"protocol": found["protocol"], "scores": found["scores"].get(record["model"])}
    return {"protocol": None, "scores": None}
