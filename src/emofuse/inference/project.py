"""A trained model in a project's ``data/models/``, as a bundle: which seed, which networks, which encoders."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from emofuse.core.params import Params
from emofuse.encoders.base import HOW
from emofuse.features.extract import FeatureConfig
from emofuse.inference.bundle import Bundle, BundleError, Features, Manifest, read_json
from emofuse.inference.graph import MODALITIES
from emofuse.reporting.protocol import modalities, needs

__all__ = ["best_models", "bundle_of_model", "folders_of_run"]

MODELS = Path("data/models")


def bundle_of_model(folder: Path) -> Bundle:
    """Return the best run of a trained model as a bundle.

    Args:
        folder: a model's, such as ``data/models/demo/hcam``, of whose runs the one with the best weighted F1 on dev is
            taken; or one run's, ``data/models/demo/hcam/seed-1-fold-0``

    Raises:
        BundleError: there is no trained model, or one that cannot predict
        ParamsError: the project's parameters have nothing on its features
    """
    root, task = _project(folder)
    runs = [folder] if (folder / "record.json").exists() else sorted(folder.glob("seed-*-fold-*"), key=_seed_and_fold)
    if not runs:
        raise BundleError(f"{folder}: no trained runs in it; name a model, as {MODELS}/<task>/<model>")
    records = {path: read_json(path / "record.json") for path in runs}
    best = max(runs, key=lambda path: records[path]["dev"]["weighted_f1"])
    record = records[best]
    if not (best / "config.json").exists():
        raise BundleError(f"{best}: {record['model']} says the same of every utterance; choose another model")
    folders = folders_of_run(best, root / MODELS / task)
    configs = {name: read_json(path / "config.json") for name, path in folders.items()}
    params = Params.load(root / "params.yaml")
    corpus = params.get(f"tasks.{task}.corpus", str)
    scores = _scores(root / "metrics" / task / "scores.json", record["model"])
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
        features=_features(params, corpus, configs),  # type: ignore[arg-type]
        max_seconds=params.get(f"corpora.{corpus}.max_seconds", float),
        **scores,
    )
    return Bundle(manifest, folders)


def best_models(root: Path = Path()) -> list[Path]:
    """Return for each task of a project the folder of the model with the best run on dev."""
    best: dict[str, tuple[float, Path]] = {}
    for path in sorted((root / MODELS).rglob("record.json")):
        if (path.parent / "config.json").exists():
            record = json.loads(path.read_text(encoding="utf-8"))
            found = (record["dev"]["weighted_f1"], path.parent.parent)
            best[record["task"]] = max(best.get(record["task"], found), found, key=lambda each: each[0])
    return [folder for _, folder in best.values()]


def _seed_and_fold(run: Path) -> tuple[int, ...]:
    """What runs are sorted by, so that of equally good ones the first counts: ``seed-2`` stands before ``seed-10``."""
    return tuple(map(int, run.name.split("-")[1::2]))


def _project(folder: Path) -> tuple[Path, str]:
    """The root of the project that a model's folder is in, and its task."""
    whole = folder.absolute()
    for root in whole.parents:
        if (root / "params.yaml").exists() and whole.is_relative_to(root / MODELS):
            return root, whole.relative_to(root / MODELS).parts[0]
    raise BundleError(f"{folder}: neither a bundle nor a model's folder in a project, {MODELS}/<task>/<model>")


def folders_of_run(run: Path, models: Path) -> dict[str, Path]:
    """Return the run's network, those that it reads from, and those that answer where a modality is missing, by name.

    Args:
        run: its folder
        models: of its task, such as ``data/models/demo``
    """
    config = read_json(run / "config.json")
    folders = {config["model"]: run}
    waiting = needs(config)
    if modalities(config["model"]) == MODALITIES:
        waiting += [f"{each}-context" for each in MODALITIES]
    while waiting:
        name = waiting.pop(0)
        if name not in folders:
            modality, level = name.split("-")
            folders[name] = models / modality / level / run.name
            waiting += needs(read_json(folders[name] / "config.json"))
    return folders


def _features(params: Params, corpus: str, configs: Mapping[str, Mapping[str, Any]]) -> dict[str, Features]:
    identities = {name: each for config in configs.values() for name, each in config.get("features", {}).items()}
    entries = params.get("features", dict[str, FeatureConfig])
    made = {each.modality: each for each in entries.values() if each.corpus == corpus}
    missing = sorted(set(identities) - set(made))
    if missing:
        raise BundleError(f"{params.path}: features: no {' and no '.join(missing)} of the corpus {corpus}")
    return {
        name: Features(family=made[name].family, options=_portable(made[name].options), identity=identity)
        for name, identity in identities.items()
    }


def _portable(options: Mapping[str, Any]) -> dict[str, Any]:
    """Options without those that another machine may not be able to follow, and that change nothing."""
    return {name: value for name, value in options.items() if name not in HOW}


def _scores(path: Path, model: str) -> dict[str, Any]:
    if not path.exists():
        return {"protocol": None, "scores": None}
    found = read_json(path)
    return {"protocol": found["protocol"], "scores": found["scores"].get(model)}
