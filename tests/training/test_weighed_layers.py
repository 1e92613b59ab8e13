"""Features with several layers of an encoder: a network learns their weights, and is built again with its weights."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file

from emofuse.features.shards import FeatureStore, Frames, Row, metadata, write_shard
from emofuse.inference.graph import Graph
from emofuse.models.cma import CMA
from emofuse.models.concat import Concat
from emofuse.models.unimodal import UtteranceNetwork
from emofuse.tasks import Fold
from emofuse.training.data import MappedSequences, Sequences, pooled, read_features
from emofuse.training.fit import FitConfig, Seeds, fit, standardize
from emofuse.training.runs import read_probabilities
from networks import config_of

Project = Any
LAYERS, WIDTH = 3, 4
DIMS = {"audio": LAYERS * WIDTH, "text": 2}
CROSS = config_of("cma", attention=False, pooling="mean")
NETWORKS: dict[str, Callable[[], Any]] = {
    "utterance": lambda: UtteranceNetwork(config_of("utterance"), DIMS["audio"], 2, LAYERS),
    "cma": lambda: CMA(CROSS, DIMS, 2, False, {"audio": LAYERS}),
    "concat": lambda: Concat(config_of("concat"), DIMS, 2, False, {"audio": LAYERS}),
}
FIT = FitConfig(epochs=12, patience=12, batch_size=16, learning_rate=0.02, weight_decay=0.0, max_grad_norm=1.0)


@pytest.fixture
def spoken(make_fold: Callable[..., Fold]) -> tuple[dict[str, Sequences], Fold]:
    """Utterances of one frame whose class is heard in the middle layer alone; the others and the text are noise."""
    rng = np.random.default_rng(0)
    targets = rng.integers(0, 2, 160)
    audio = rng.normal(size=(160, LAYERS, WIDTH))
    audio[:, 1] += (2 * targets - 1)[:, None]
    offsets = torch.arange(161)
    inputs = {
        "audio": Sequences(torch.from_numpy(audio.reshape(160, -1)).float(), offsets, LAYERS),
        "text": Sequences(torch.from_numpy(rng.normal(size=(160, 2))).float(), offsets),
    }
    splits = ["train"] * 120 + ["dev"] * 20 + ["test"] * 20
    return inputs, make_fold(targets[:, None], splits)


@pytest.mark.parametrize("name", NETWORKS)
def test_the_layer_that_tells_the_classes_apart_comes_to_weigh_most(
    name: str, spoken: tuple[dict[str, Sequences], Fold]
) -> None:
    inputs, fold = spoken
    read = {"audio": inputs["audio"]} if name == "utterance" else inputs
    torch.manual_seed(0)
    network = NETWORKS[name]()
    standardize(network, read, fold)
    fitted = fit(network, read, fold, FIT, Seeds("any", 0, 0)).network
    layer_weights = fitted.layer_weights if name == "utterance" else fitted.layer_weights["audio"]
    first, middle, last = layer_weights.logits.softmax(dim=0).tolist()
    assert middle > 0.4 > 0.32 > max(first, last)


def write_layers(folder: Path) -> list[str]:
    """Write the shards of a folder again, the same frames as three layers of one value each."""
    store = FeatureStore(folder)
    paths, described = sorted(folder.glob("*.parquet")), metadata(folder) | {"n_layers": store.dim}
    for path in paths:
        ids = pq.read_table(path, columns=["utterance_id"])["utterance_id"].to_pylist()
        rows = [Row(each, "0", store[each].astype(np.float64)) for each in ids]
        write_shard(path, rows, store.dim, described)
    return store.utterance_ids


def test_runs_of_several_layers_are_built_again_with_what_they_learnt(project: Project) -> None:
    folder = project.layout.features("toy", project.pair.audio)
    write_layers(folder)
    for modality in ("audio", "text"):
        project.pretrain(modality)
    for model in ("cma", "concat"):
        project.fuse(model)
    fold = project.task().fold(0)
    folders = {name: project.folder(name) for name in ("audio-utterance", "cma", "concat")}
    graph = Graph(folders)
    frames = {
        each: read_features(project.layout.features("toy", project.pair.encoder(each)), fold.utterance_ids)
        for each in ("audio", "text")
    }
    for name, place in folders.items():
        saved = json.loads((place / "config.json").read_text())
        assert saved["n_layers"] == (3 if name == "audio-utterance" else {"audio": 3})
        logits = [each for key, each in load_file(place / "model.safetensors").items() if key.endswith("logits")]
        assert len(logits) == 1
        assert logits[0].any(), "they started equal and were learnt"
        probabilities, predicted = graph.probabilities(name, frames, fold), read_probabilities(place, fold)
        known = ~np.isnan(predicted[:, 0])
        np.testing.assert_allclose(probabilities[known], predicted[known], atol=1e-6)


def test_the_number_of_layers_comes_with_the_features(project: Project) -> None:
    folder = project.layout.features("toy", project.pair.audio)
    ids = FeatureStore(folder).utterance_ids
    assert read_features(folder, ids).n_layers == 1
    write_layers(folder)
    held, mapped = read_features(folder, ids), read_features(folder, ids, most=0)
    assert isinstance(mapped, MappedSequences)
    assert held.n_layers == mapped.n_layers == pooled(mapped, True).n_layers == 3
    torch.testing.assert_close(pooled(held, True).values, pooled(mapped, True).values, equal_nan=True)


@pytest.mark.parametrize("deviation", [False, True])
def test_each_layers_deviation_stands_beside_its_mean(deviation: bool) -> None:
    values = np.random.default_rng(0).normal(size=(9, LAYERS * WIDTH)).astype(np.float16)
    frames = Frames(values, np.array([0, 4, 9]), np.zeros(2, bool))
    found = pooled(Sequences.of(frames, LAYERS), deviation)
    parts = [values[:4].astype(np.float64), values[4:].astype(np.float64)]
    for row, part in zip(found.values, parts, strict=True):
        for layer, own in enumerate(row.unflatten(0, (LAYERS, -1))):
            columns = part[:, layer * WIDTH : (layer + 1) * WIDTH]
            expected = [columns.mean(axis=0), *([columns.std(axis=0)] if deviation else [])]
            np.testing.assert_allclose(own, np.concatenate(expected), rtol=1e-4, atol=1e-5)
    assert found.n_layers == LAYERS
