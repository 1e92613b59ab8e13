"""Constructed data with a known answer: each network solves what its design can, and cannot what it cannot."""

from collections.abc import Callable, Mapping

import numpy as np
import pytest
import torch

from emofuse.models.base import Network
from emofuse.models.concat import Concat, ConcatConfig
from emofuse.models.hcam import HCAM, HCAMConfig
from emofuse.models.unimodal import ContextConfig, ContextNetwork, UtteranceConfig, UtteranceNetwork
from emofuse.tasks import IGNORE, SPLITS, Fold
from emofuse.training.data import Sequences, single_frames
from emofuse.training.fit import FitConfig, fit, standardize

MakeFold = Callable[..., Fold]

SOLVED, GUESSED = 0.93, 0.65
"""Accuracy on test above which two even classes count as understood, and below which as not."""

UTTERANCE = UtteranceConfig(project=0, hidden=16, layers=1, dropout=0.0, input_dropout=0.0)
CONTEXT = ContextConfig(hidden=16, layers=1, heads=2, dropout=0.0, contrastive=0.0, temperature=0.1)
CONCAT = ConcatConfig(hidden=16, layers=1, dropout=0.0)
FUSION = HCAMConfig(hidden=16, co_attention=True, blocks=1, heads=2, dropout=0.0, contrastive=0.0, temperature=0.1)


def accuracy(
    build: Callable[[], Network], inputs: Mapping[str, Sequences], fold: Fold, targets: np.ndarray, **changes: float
) -> float:
    """Train and return the accuracy on test."""
    values = {"epochs": 15, "patience": 15, "batch": 16, "learning_rate": 0.01, "weight_decay": 0.0, "clip": 1.0}
    torch.manual_seed(0)
    network = build()
    for name, sequences in inputs.items():
        layer = network.standardize
        standardize(layer[name] if isinstance(layer, torch.nn.ModuleDict) else layer, sequences, fold)  # type: ignore[arg-type,index]
    fitted = fit(network, inputs, fold, FitConfig(**{**values, **changes}), 0)  # type: ignore[arg-type]
    test = (fold.splits == SPLITS.index("test")) & (targets != IGNORE)
    return float((fitted.probabilities[test].argmax(axis=1) == targets[test]).mean())


def split_dialogues(make_fold: MakeFold, targets_BL: np.ndarray) -> Fold:
    """Half of the dialogues train, a quarter dev, a quarter test."""
    splits = [("train", "train", "dev", "test")[row % 4] for row in range(len(targets_BL))]
    return make_fold(targets_BL, splits)


def as_vectors(values_BLD: np.ndarray) -> Sequences:
    return single_frames(torch.from_numpy(values_BLD.reshape(-1, values_BLD.shape[-1])).float())


def xor_of_modalities(make_fold: MakeFold, *, marked: bool) -> tuple[dict[str, Sequences], Fold, np.ndarray]:
    """Each modality carries a sign, and the class is whether the signs of a turn differ.

    Where ``marked``, the vectors also say which turn of the dialogue they are of.
    """
    rng = np.random.default_rng(0)
    dialogues, turns = 240, 4
    signs = {name: rng.integers(0, 2, (dialogues, turns)) for name in ("audio", "text")}
    mark_BLL = np.broadcast_to(np.eye(turns), (dialogues, turns, turns))
    inputs = {}
    for name, sign_BL in signs.items():
        noisy_BL1 = (2.0 * sign_BL - 1 + 0.2 * rng.normal(size=sign_BL.shape))[..., None]
        inputs[name] = as_vectors(np.concatenate([noisy_BL1, mark_BLL], axis=2) if marked else noisy_BL1)
    targets_BL = signs["audio"] ^ signs["text"]
    return inputs, split_dialogues(make_fold, targets_BL), targets_BL.reshape(-1)


@pytest.mark.parametrize(("network_class", "config"), [(Concat, CONCAT), (HCAM, FUSION)])
def test_fusion_solves_xor_of_the_modalities(
    make_fold: MakeFold, network_class: type[Concat | HCAM], config: ConcatConfig | HCAMConfig
) -> None:
    inputs, fold, targets = xor_of_modalities(make_fold, marked=True)
    dims = {name: sequences.dim for name, sequences in inputs.items()}
    build = lambda: network_class(config, dims, 2, False)  # type: ignore[arg-type]  # noqa: E731
    assert accuracy(build, inputs, fold, targets, epochs=25) > SOLVED


def test_hcam_cannot_pair_turns_that_its_vectors_do_not_tell_apart(make_fold: MakeFold) -> None:
    """Attention over the turns of the other modality has no order of its own: it finds the same turn by its vector,
    which in HCAM stage II must mark. A GRU over the concatenation has the pair at hand."""
    inputs, fold, targets = xor_of_modalities(make_fold, marked=False)
    assert accuracy(lambda: HCAM(FUSION, {"audio": 1, "text": 1}, 2, False), inputs, fold, targets) < 0.85
    assert accuracy(lambda: Concat(CONCAT, {"audio": 1, "text": 1}, 2, False), inputs, fold, targets) > SOLVED


@pytest.mark.parametrize("modality", ["audio", "text"])
def test_no_single_modality_solves_their_xor(make_fold: MakeFold, modality: str) -> None:
    inputs, fold, targets = xor_of_modalities(make_fold, marked=True)
    own = {modality: inputs[modality]}
    dim = inputs[modality].dim
    assert accuracy(lambda: ContextNetwork(CONTEXT, dim, 2, False), own, fold, targets, epochs=8) < GUESSED
    assert accuracy(lambda: UtteranceNetwork(UTTERANCE, dim, 2), own, fold, targets, epochs=8) < GUESSED


def previous_turn(make_fold: MakeFold) -> tuple[dict[str, Sequences], Fold, np.ndarray]:
    """The class of a turn is the sign of the turn before it; the first turn has no label."""
    rng = np.random.default_rng(1)
    sign_BL = rng.integers(0, 2, (160, 6))
    targets_BL = np.concatenate([np.full((160, 1), IGNORE), sign_BL[:, :-1]], axis=1)
    values_BLD = (2.0 * sign_BL - 1)[..., None] + 0.2 * rng.normal(size=(160, 6, 2))
    return {"text": as_vectors(values_BLD)}, split_dialogues(make_fold, targets_BL), targets_BL.reshape(-1)


@pytest.mark.parametrize("past", [False, True])
def test_context_solves_a_label_that_is_in_the_turn_before(make_fold: MakeFold, past: bool) -> None:
    inputs, fold, targets = previous_turn(make_fold)
    assert accuracy(lambda: ContextNetwork(CONTEXT, 2, 2, past), inputs, fold, targets) > SOLVED


def test_without_context_the_turn_before_is_unknown(make_fold: MakeFold) -> None:
    inputs, fold, targets = previous_turn(make_fold)
    assert accuracy(lambda: UtteranceNetwork(UTTERANCE, 2, 2), inputs, fold, targets, epochs=8) < GUESSED


def test_past_context_cannot_read_the_turn_after(make_fold: MakeFold) -> None:
    inputs, fold, targets = previous_turn(make_fold)
    backwards = fold.targets.reshape(160, 6)[:, ::-1].reshape(-1)
    turned = split_dialogues(make_fold, targets.reshape(160, 6)[:, ::-1])
    assert np.array_equal(turned.targets, backwards)
    values_BLD = inputs["text"].values.reshape(160, 6, 2).flip(1)
    reversed_inputs = {"text": single_frames(values_BLD.reshape(-1, 2))}
    truth = targets.reshape(160, 6)[:, ::-1].reshape(-1)
    scores = {
        past: accuracy(lambda past=past: ContextNetwork(CONTEXT, 2, 2, past), reversed_inputs, turned, truth)  # type: ignore[misc]
        for past in (False, True)
    }
    assert scores[False] > SOLVED
    assert scores[True] < GUESSED


def test_one_frame_of_two_hundred_is_found(make_fold: MakeFold) -> None:
    """The mean over the frames hides what attention pooling finds."""
    rng = np.random.default_rng(2)
    count, steps, dim = 240, 200, 2
    targets = rng.integers(0, 2, (count, 1))
    values_NTD = rng.normal(size=(count, steps, dim))
    spots = rng.integers(0, steps, count)
    values_NTD[np.arange(count), spots, 0] = 8.0 * (2 * targets[:, 0] - 1)
    fold = split_dialogues(make_fold, targets)
    frames = torch.from_numpy(values_NTD.reshape(-1, dim)).float()
    sequences = Sequences(frames, torch.arange(count + 1) * steps)
    means = single_frames(frames.reshape(count, steps, dim).mean(dim=1))
    found, hidden = (
        accuracy(
            lambda: UtteranceNetwork(UTTERANCE, dim, 2),
            {"audio": each},
            fold,
            targets.reshape(-1),
            epochs=6,
            batch=8,
            learning_rate=0.03,
        )
        for each in (sequences, means)
    )
    assert found > SOLVED
    assert hidden < 0.8
