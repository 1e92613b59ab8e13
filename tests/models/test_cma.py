"""CMA's statistics pooling, and what its attention lets through."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from emofuse.core.params import ParamsError, validate
from emofuse.models.cma import CMA, CMAConfig, statistics_pooling
from emofuse.models.parts.base import Batch
from networks import config_of

CONFIG = config_of("cma", channels=4, kernel=3, hidden=4)


@settings(max_examples=60, deadline=None)
@given(lengths=st.lists(st.integers(1, 6), min_size=1, max_size=5), seed=st.integers(0, 2**16))
def test_statistics_are_mean_and_deviation_of_own_frames(lengths: list[int], seed: int) -> None:
    x_UTH = torch.from_numpy(np.random.default_rng(seed).normal(size=(len(lengths), max(lengths), 3)))
    mask_UT = torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]
    found_UH = statistics_pooling(x_UTH, mask_UT)
    for row, length in enumerate(lengths):
        own_TH = x_UTH[row, :length].numpy()
        expected = np.concatenate([own_TH.mean(axis=0), own_TH.std(axis=0)])
        # The deviation is that of the square root's guard, 1e-4 at most.
        np.testing.assert_allclose(found_UH[row].numpy(), expected, atol=1.1e-4)


def test_one_frame_deviates_by_nothing_and_has_a_slope() -> None:
    x_UTH = torch.tensor([[[1.0, -2.0]]], requires_grad=True)
    found_UH = statistics_pooling(x_UTH, torch.ones(1, 1, dtype=torch.bool))
    assert found_UH[0].tolist() == pytest.approx([1.0, -2.0, 0.0, 0.0], abs=1e-9)
    found_UH.sum().backward()
    assert x_UTH.grad is not None
    assert x_UTH.grad[0, 0].tolist() == pytest.approx([1.0, 1.0])


def test_a_single_frame_of_audio_answers_every_frame_of_text_alike() -> None:
    """So that text is heard by audio's query alone, as the module says."""
    torch.manual_seed(0)
    network = CMA(CONFIG, {"audio": 2, "text": 3}, 2, causal=False).eval()
    audio_UTD, text_UTD = torch.randn(2, 1, 2), torch.randn(2, 5, 3)
    lengths = {"audio": torch.tensor([1, 1]), "text": torch.tensor([5, 5])}
    places_BL = torch.tensor([[0], [1]])

    def fused(text_UTD: torch.Tensor) -> tuple[torch.Tensor, ...]:
        batch = Batch({"audio": audio_UTD, "text": text_UTD}, lengths, places_BL, places_BL[:, 0], places_BL[:, 0])
        return network(batch).vectors["fused"].detach().chunk(2, dim=1)

    (by_audio, by_text), (by_audio_too, by_text_too) = fused(text_UTD), fused(torch.randn(2, 5, 3))
    torch.testing.assert_close(by_text, by_text_too)
    assert not torch.isclose(by_audio, by_audio_too)[:, :4].any(), "the means; of one frame there is no deviation"


def test_a_kernel_without_a_middle_is_refused() -> None:
    with pytest.raises(ParamsError, match=r"models\.cma: .*kernel: 4 is even"):
        validate({**CONFIG.__dict__, "kernel": 4}, CMAConfig, "models.cma")
    assert replace(CONFIG, kernel=5).kernel == 5
