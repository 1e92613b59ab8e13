"""A causal network that is given one turn after the other gives what it gives for the whole, whatever its options."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from emofuse.core.schema import IGNORE
from emofuse.inference.stepping import stepping
from emofuse.models.concat import Concat, ConcatConfig
from emofuse.models.hbaf import HBAF, HBAFConfig
from emofuse.models.hcam import HCAM, HCAMConfig
from emofuse.models.parts.base import Batch, Network, Output
from emofuse.models.unimodal import ContextConfig, ContextNetwork

DIMS = {"audio": 6, "text": 10}
SPEAKERS = torch.tensor([0, 1, 1, -1, 2, 0, 0, 2, 1, 3])
CONTRAST: dict[str, Any] = {"contrastive": 0.1, "temperature": 0.1}
FULL: dict[str, Any] = {"absolute": 0.1, "relative": 0.1, "text_loss": 0.1, "audio_loss": 0.1, "temperature": 0.1}
SWITCHES = ("context", "gate", "self_attention", "cross_attention")


def context(speaker: Any) -> Network:
    return ContextNetwork(ContextConfig(8, 2, 2, 0.3, **CONTRAST, speaker=speaker), 10, 3, True)


def hcam(speaker: Any) -> Network:
    config = HCAMConfig(8, True, 2, 2, 0.3, **CONTRAST, speaker=speaker, skip=True)
    return HCAM(config, DIMS, 3, True)


def hbaf(speaker: Any) -> Network:
    switches = dict.fromkeys(SWITCHES, True) | {"skip": True}
    config = HBAFConfig(hidden=8, audio_hidden=6, heads=2, dropout=0.3, **switches, **FULL, speaker=speaker)
    return HBAF(config, DIMS, 3, True)


def concat(speaker: Any) -> Network:
    return Concat(ConcatConfig(8, 2, 0.3, speaker, skip=True), DIMS, 3, True)


def batch(dims: dict[str, int], turns: slice) -> Batch:
    generator = torch.Generator().manual_seed(1)
    frames = {name: torch.randn(len(SPEAKERS), 1, dim, generator=generator)[turns] for name, dim in dims.items()}
    count = len(SPEAKERS[turns])
    ones, targets = torch.ones(count, dtype=torch.long), torch.full((count,), IGNORE)
    return Batch(frames, dict.fromkeys(dims, ones), torch.arange(count)[None], SPEAKERS[turns], targets)


def seeded(network: Network) -> Network:
    generator = torch.Generator().manual_seed(2)
    for weight in network.parameters():
        nn.init.normal_(weight, std=0.5, generator=generator)
    return network.eval()


@pytest.mark.parametrize("speaker", ["none", "same", "role"])
@pytest.mark.parametrize(
    ("make", "dims"),
    [(context, {"text": 10}), (hcam, DIMS), (hbaf, DIMS), (concat, DIMS)],
    ids=["context", "hcam", "hbaf", "concat"],
)
@torch.no_grad()
def test_turn_by_turn_is_as_the_whole(make: Callable[..., Network], dims: dict[str, int], speaker: str) -> None:
    network = seeded(make(speaker))
    whole = network(batch(dims, slice(None)))
    for _ in range(2):  # one has nothing of another's state
        steps = stepping(network, dims)
        assert steps is not None
        parts = [steps(batch(dims, slice(turn, turn + 1))) for turn in range(len(SPEAKERS))]
        torch.testing.assert_close(torch.cat([each.logits_UC for each in parts]), whole.logits_UC, atol=1e-5, rtol=1e-4)
        for name, vectors in whole.vectors.items():
            torch.testing.assert_close(torch.cat([each.vectors[name] for each in parts]), vectors, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(network(batch(dims, slice(None))).logits_UC, whole.logits_UC)


class Mean(Network):
    """A network that looks at the turns before in a way that nothing here knows."""

    unit = "dialogue"

    def forward(self, batch: Batch) -> Output:
        (frames,) = batch.frames.values()
        means: Tensor = frames[:, 0].cumsum(dim=0) / torch.arange(1, len(frames) + 1)[:, None]
        return Output(means)


def test_what_keeps_its_past_elsewhere_is_found_out() -> None:
    assert stepping(Mean().eval(), {"text": 10}) is None
    both_ways = ContextNetwork(ContextConfig(8, 1, 2, 0.3, **CONTRAST), 10, 3, False)
    assert stepping(seeded(both_ways), {"text": 10}) is None
