"""Learnt weights of layers: read from what runs saved, and drawn as bars."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from emofuse.models.cma import CMA
from emofuse.models.concat import Concat
from emofuse.models.parts.layers import LayerWeights
from emofuse.models.unimodal import UtteranceNetwork
from emofuse.reporting.layers import read_layer_shares
from networks import config_of

BOTH = {"audio": "ears", "text": "eyes"}
DIMS = {"audio": 12, "text": 4}


def learnt(layer_weights: torch.nn.Module, *shares: float) -> None:
    """Let a network weigh layers so; what is added to all logits makes no difference."""
    assert isinstance(layer_weights, LayerWeights)
    assert layer_weights.logits is not None
    with torch.no_grad():
        layer_weights.logits.copy_(torch.tensor(shares).log() + 3)


def hearing(*shares: float) -> UtteranceNetwork:
    network = UtteranceNetwork(config_of("utterance"), DIMS["audio"], 2, len(shares) or 1)
    if shares:
        learnt(network.layer_weights, *shares)
    return network


def crossing(audio: tuple[float, ...], text: tuple[float, ...]) -> CMA:
    network = CMA(config_of("cma"), DIMS, 2, False, {"audio": len(audio), "text": len(text)})
    learnt(network.layer_weights["audio"], *audio)
    learnt(network.layer_weights["text"], *text)
    return network


def test_shares_are_means_over_runs_by_model_and_modality(tmp_path: Path, leave_run: Callable[..., Path]) -> None:
    ears = {"audio": "ears"}
    folders = [
        leave_run(tmp_path / "a", "cma", network=crossing((0.5, 0.25, 0.25), (0.75, 0.25)), encoders=BOTH),
        leave_run(tmp_path / "b", "audio-utterance", network=hearing(0.6, 0.3, 0.1), encoders=ears),
        leave_run(tmp_path / "c", "audio-utterance", 1, network=hearing(0.2, 0.3, 0.5), encoders=ears),
        leave_run(tmp_path / "d", "majority"),
    ]
    found = read_layer_shares(folders)
    assert [(each.model, each.modality, each.encoder, each.n_runs) for each in found] == [
        ("audio-utterance", "audio", "ears", 2),
        ("cma", "audio", "ears", 1),
        ("cma", "text", "eyes", 1),
    ]
    assert (found[0].caption, found[1].caption) == ("audio, ears, 2 runs", "audio, ears, 1 run")
    for each, expected in zip(found, ([0.4, 0.3, 0.3], [0.5, 0.25, 0.25], [0.75, 0.25]), strict=True):
        assert each.shares == pytest.approx(expected, abs=1e-6)


def test_networks_that_take_frames_as_they_are_weigh_nothing(tmp_path: Path, leave_run: Callable[..., Path]) -> None:
    concat = Concat(config_of("concat"), DIMS, 2, False)
    folders = [
        leave_run(tmp_path / "a", "audio-utterance", network=hearing(), encoders={"audio": "ears"}),
        leave_run(tmp_path / "b", "concat", network=concat, encoders=BOTH),
    ]
    assert read_layer_shares(folders) == []
