"""Constructed data with a known answer: each network solves what its design can, and cannot what it cannot."""

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from emofuse.core.files import write_digests
from emofuse.core.schema import IGNORE, SPLITS
from emofuse.models.cma import CMA
from emofuse.models.concat import Concat, ConcatConfig
from emofuse.models.hbaf import HBAF, HBAFConfig
from emofuse.models.hcam import HCAM, HCAMConfig
from emofuse.models.parts.base import Batch, Network, Output, Unit
from emofuse.models.parts.layers import AttentionPooling, Standardize
from emofuse.models.parts.mixture import choose_weights, combine
from emofuse.models.unimodal import ContextNetwork, UtteranceNetwork
from emofuse.tasks import Fold
from emofuse.training.attention import save_attention
from emofuse.training.data import Sequences, pooled, single_frames
from emofuse.training.fit import FitConfig, Fitted, Seeds, dev_scores, fit, standardize
from emofuse.training.runs import Run, read_vectors, save_run
from networks import config_of

MakeFold = Callable[..., Fold]
Project = Any
"""The class of the fixtures, in ``conftest.py``."""

SOLVED, GUESSED = 0.93, 0.65
"""Accuracy on test above which two even classes count as understood, and below which as not."""

ADDED = 0.87
"""Accuracy over which answers do more than add up: a sum gets three of the four cases of an XOR right at most, and this
is three standard deviations over 120 utterances above."""

UTTERANCE, CONTEXT, CONCAT, FUSION = (config_of(each, hidden=16) for each in ("utterance", "context", "concat", "hcam"))
CROSS = config_of("cma", channels=16, hidden=16)
BIMODAL = config_of("hbaf", hidden=16, audio_hidden=16)


def accuracy(
    build: Callable[[], Network], inputs: Mapping[str, Sequences], fold: Fold, targets: np.ndarray, **changes: float
) -> float:
    """Train and return the accuracy on test."""
    return right(fitted(build, inputs, fold, **changes), fold, targets)


def fitted(build: Callable[[], Network], inputs: Mapping[str, Sequences], fold: Fold, **changes: float) -> Fitted:
    """Train a network."""
    values = {
        "epochs": 15,
        "patience": 15,
        "batch_size": 64,
        "learning_rate": 0.01,
        "weight_decay": 0.0,
        "max_grad_norm": 1.0,
    }
    torch.manual_seed(0)
    network = build()
    standardize(network, inputs, fold)
    return fit(network, inputs, fold, FitConfig(**{**values, "max_grad_norm": 1.0, **changes}), Seeds("any", 0, 0))  # type: ignore[arg-type]


def right(trained: Fitted, fold: Fold, targets: np.ndarray) -> float:
    """Share of test that a network gets right."""
    test = (fold.splits == SPLITS.index("test")) & (targets != IGNORE)
    return float((trained.probabilities[test].argmax(axis=1) == targets[test]).mean())


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


@pytest.mark.parametrize(("network_class", "config"), [(Concat, CONCAT), (HCAM, FUSION), (HBAF, BIMODAL)])
def test_fusion_solves_xor_of_the_modalities(
    make_fold: MakeFold, network_class: type[Concat | HCAM | HBAF], config: ConcatConfig | HCAMConfig | HBAFConfig
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


def frames_of_xor(make_fold: MakeFold) -> tuple[dict[str, Sequences], Fold, np.ndarray]:
    """The same for frames: audio is one, a sign; text is two, one for each sign, which hold opposite answers."""
    rng = np.random.default_rng(3)
    count = 480
    sign, answer = rng.integers(0, 2, (2, count))
    text_N2D = np.stack([np.array([[-1.0, 2 * each - 1], [1.0, 1 - 2 * each]]) for each in answer])
    inputs = {
        "audio": as_vectors((2.0 * sign - 1)[:, None, None] + 0.1 * rng.normal(size=(count, 1, 1))),
        "text": Sequences(
            torch.from_numpy((text_N2D + 0.1 * rng.normal(size=text_N2D.shape)).reshape(-1, 2)).float(),
            2 * torch.arange(count + 1),
        ),
    }
    targets = sign ^ answer
    return inputs, split_dialogues(make_fold, targets[:, None]), targets


def test_cma_solves_xor_of_frames_by_its_cross_attention_alone(make_fold: MakeFold) -> None:
    """Pooled vectors that only meet in a linear layer can do no more than add up."""
    inputs, fold, targets = frames_of_xor(make_fold)
    dims = {"audio": 1, "text": 2}
    assert accuracy(lambda: CMA(CROSS, dims, 2, False), inputs, fold, targets, epochs=30) > SOLVED
    alone = replace(CROSS, attention=False)
    assert accuracy(lambda: CMA(alone, dims, 2, False), inputs, fold, targets, epochs=10) < ADDED


@pytest.mark.parametrize("modality", ["audio", "text"])
def test_no_single_modality_solves_their_xor(make_fold: MakeFold, modality: str) -> None:
    inputs, fold, targets = xor_of_modalities(make_fold, marked=True)
    own = {modality: inputs[modality]}
    dim = inputs[modality].dim
    assert accuracy(lambda: ContextNetwork(CONTEXT, dim, 2, False), own, fold, targets, epochs=8) < GUESSED
    assert accuracy(lambda: UtteranceNetwork(UTTERANCE, dim, 2), own, fold, targets, epochs=8) < GUESSED


def test_late_fusion_cannot_solve_it_either(make_fold: MakeFold) -> None:
    """A mixture adds up two answers, and each of them is a guess."""
    inputs, fold, targets = xor_of_modalities(make_fold, marked=True)
    probabilities = {}
    for name, sequences in inputs.items():
        dim = sequences.dim
        alone = fitted(lambda dim=dim: ContextNetwork(CONTEXT, dim, 2, False), {name: sequences}, fold, epochs=8)  # type: ignore[misc]
        probabilities[name] = alone.probabilities
    weights = choose_weights(probabilities, lambda mixed: dev_scores(mixed, fold)["weighted_f1"])
    test = fold.splits == SPLITS.index("test")
    assert (combine(probabilities, weights)[test].argmax(axis=1) == targets[test]).mean() < ADDED


def previous_turn(make_fold: MakeFold) -> tuple[dict[str, Sequences], Fold, np.ndarray]:
    """The class of a turn is the sign of the turn before it; the first turn has no label."""
    rng = np.random.default_rng(1)
    sign_BL = rng.integers(0, 2, (160, 6))
    targets_BL = np.concatenate([np.full((160, 1), IGNORE), sign_BL[:, :-1]], axis=1)
    values_BLD = (2.0 * sign_BL - 1)[..., None] + 0.2 * rng.normal(size=(160, 6, 2))
    return {"text": as_vectors(values_BLD)}, split_dialogues(make_fold, targets_BL), targets_BL.reshape(-1)


@pytest.mark.parametrize("causal", [False, True])
def test_context_solves_a_label_that_is_in_the_turn_before(make_fold: MakeFold, causal: bool) -> None:
    inputs, fold, targets = previous_turn(make_fold)
    assert accuracy(lambda: ContextNetwork(CONTEXT, 2, 2, causal), inputs, fold, targets) > SOLVED


@pytest.mark.parametrize(("network_class", "config"), [(Concat, CONCAT), (HBAF, BIMODAL)])
def test_fusion_with_context_of_its_own_solves_it_too(
    make_fold: MakeFold, network_class: type[Concat | HBAF], config: ConcatConfig | HBAFConfig
) -> None:
    (inputs, fold, targets), dims = previous_turn(make_fold), {"audio": 1, "text": 2}
    inputs["audio"] = silence(fold)
    build = lambda: network_class(config, dims, 2, True)  # type: ignore[arg-type]  # noqa: E731
    assert accuracy(build, inputs, fold, targets) > SOLVED


def test_without_context_the_turn_before_is_unknown(make_fold: MakeFold) -> None:
    inputs, fold, targets = previous_turn(make_fold)
    assert accuracy(lambda: UtteranceNetwork(UTTERANCE, 2, 2), inputs, fold, targets, epochs=8) < GUESSED
    inputs["audio"] = silence(fold)
    assert accuracy(lambda: CMA(CROSS, {"audio": 1, "text": 2}, 2, False), inputs, fold, targets, epochs=8) < GUESSED


def test_stage_three_of_hcam_leaves_the_order_of_turns_to_stage_two(make_fold: MakeFold) -> None:
    """Its attention knows no positions, so that of a turn's neighbours it cannot tell which one came before."""
    inputs, fold, targets = previous_turn(make_fold)
    inputs["audio"] = silence(fold)
    assert accuracy(lambda: HCAM(FUSION, {"audio": 1, "text": 2}, 2, False), inputs, fold, targets) < 0.85


def test_all_stages_of_hcam_together_solve_it(make_fold: MakeFold) -> None:
    """Also where a turn alone says nothing of its class, so that stage I learns nothing to hand on."""
    inputs, fold, targets = previous_turn(make_fold)
    first = fitted(lambda: UtteranceNetwork(UTTERANCE, 2, 2), inputs, fold, epochs=4)
    vectors = {"text": single_frames(first.vectors["utterance"])}
    second = fitted(lambda: ContextNetwork(CONTEXT, 16, 2, False), vectors, fold)
    read = {"audio": silence(fold), "text": single_frames(second.vectors["context"])}
    assert accuracy(lambda: HCAM(FUSION, {"audio": 1, "text": 16}, 2, False), read, fold, targets) > SOLVED


def silence(fold: Fold) -> Sequences:
    """A modality that says nothing."""
    return single_frames(torch.zeros(len(fold.targets), 1))


def test_causal_context_cannot_read_the_turn_after(make_fold: MakeFold) -> None:
    inputs, fold, targets = previous_turn(make_fold)
    backwards = fold.targets.reshape(160, 6)[:, ::-1].reshape(-1)
    turned = split_dialogues(make_fold, targets.reshape(160, 6)[:, ::-1])
    assert np.array_equal(turned.targets, backwards)
    values_BLD = inputs["text"].values.reshape(160, 6, 2).flip(1)
    reversed_inputs = {"text": single_frames(values_BLD.reshape(-1, 2))}
    truth = targets.reshape(160, 6)[:, ::-1].reshape(-1)
    scores = {
        causal: accuracy(lambda causal=causal: ContextNetwork(CONTEXT, 2, 2, causal), reversed_inputs, turned, truth)  # type: ignore[misc]
        for causal in (False, True)
    }
    assert scores[False] > SOLVED
    assert scores[True] < GUESSED


def one_of_two_hundred(make_fold: MakeFold) -> tuple[dict[str, Sequences], Fold, np.ndarray]:
    """The class is the sign of one large value in 200 frames of noise."""
    rng = np.random.default_rng(2)
    count, steps, dim = 240, 200, 2
    targets = rng.integers(0, 2, count)
    values_NTD = rng.normal(size=(count, steps, dim))
    values_NTD[np.arange(count), rng.integers(0, steps, count), 0] = 8.0 * (2 * targets - 1)
    frames = torch.from_numpy(values_NTD.reshape(-1, dim)).float()
    sequences = Sequences(frames, torch.arange(count + 1) * steps)
    return {"audio": sequences}, split_dialogues(make_fold, targets[:, None]), targets


SCHEDULE = {"epochs": 10, "batch_size": 8, "learning_rate": 0.03}


class Pooled(Network):
    """Frames that are pooled and classified, with nothing in between."""

    unit: ClassVar[Unit] = "utterance"

    def __init__(self, *, attend: bool) -> None:
        super().__init__()
        self.standardize = Standardize(2)
        self.input_projection = torch.nn.Linear(2, 16)
        self.pooling = AttentionPooling(16) if attend else None
        self.classifier = torch.nn.Linear(16, 2)

    def forward(self, batch: Batch) -> Output:
        x_UTH = self.input_projection(self.standardize(batch.frames["audio"]))
        return Output(
            self.classifier(self.pooling(x_UTH, batch.lengths["audio"]) if self.pooling else x_UTH.mean(dim=1)), {}
        )


def test_one_frame_of_two_hundred_is_found_by_attention_pooling(make_fold: MakeFold) -> None:
    """Their mean is 8 / 200 from zero at a deviation of 1 / sqrt(200): it is right in 72 % of cases, 89 % at three
    standard deviations over the 60 of test."""
    inputs, fold, targets = one_of_two_hundred(make_fold)
    assert accuracy(lambda: Pooled(attend=True), inputs, fold, targets, **SCHEDULE) > SOLVED
    assert accuracy(lambda: Pooled(attend=False), inputs, fold, targets, **SCHEDULE) < 0.89


def test_one_frame_of_two_hundred_is_found_by_stage_one(make_fold: MakeFold) -> None:
    """By its frames, where a mean in their place has lost it."""
    inputs, fold, targets = one_of_two_hundred(make_fold)
    build = lambda: UtteranceNetwork(UTTERANCE, 2, 2)  # noqa: E731
    assert accuracy(build, inputs, fold, targets, **SCHEDULE) > SOLVED
    means = {"audio": pooled(inputs["audio"], deviation=False)}
    assert accuracy(build, means, fold, targets, **SCHEDULE) < 0.89


def test_one_frame_of_two_hundred_is_found_by_cma(make_fold: MakeFold) -> None:
    """Statistics of recurrent states hold what the mean of the frames has lost."""
    inputs, fold, targets = one_of_two_hundred(make_fold)
    inputs["text"] = silence(fold)
    slowly = {"epochs": 20, "batch_size": 8, "learning_rate": 0.01}
    for attention in (False, True):
        config = replace(CROSS, attention=attention)
        build = lambda config=config: CMA(config, {"audio": 2, "text": 1}, 2, False)  # noqa: E731
        assert accuracy(build, inputs, fold, targets, **slowly) > SOLVED, attention


def test_the_gate_closes_where_the_other_modality_is_wrong(make_fold: MakeFold, tmp_path: Path) -> None:
    """Audio knows the class or says anything; text knows it four times out of five, and whether audio is wrong.

    Without its gate the network solves it too: attention's values and the layer norm after it can do as much.
    """
    rng = np.random.default_rng(4)
    count = 600
    targets, wrong = rng.integers(0, 2, (2, count))
    heard = np.where(wrong, rng.integers(0, 2, count), targets)
    read = np.where(rng.random(count) < 0.8, targets, 1 - targets)
    inputs = {
        "audio": as_vectors(4.0 * heard[:, None, None] - 2),
        "text": as_vectors(np.stack([2.0 * read - 1 + 0.1 * rng.normal(size=count), 2.0 * wrong - 1], axis=1)[:, None]),
    }
    fold = split_dialogues(make_fold, targets[:, None])
    tested = np.flatnonzero(fold.splits == SPLITS.index("test"))
    for gated in (False, True):
        config = replace(BIMODAL, context=False, gate=gated)
        trained = fitted(lambda config=config: HBAF(config, {"audio": 1, "text": 2}, 2, False), inputs, fold, epochs=40)  # type: ignore[misc]
        said_right = trained.probabilities[tested].argmax(axis=1) == targets[tested]
        assert said_right[wrong[tested] == 0].mean() > SOLVED
        assert said_right[wrong[tested] == 1].mean() > 0.7

    def gate(row: int) -> float:
        one = replace(fold, splits=np.where(np.arange(count) == row, SPLITS.index("test"), SPLITS.index("train")))
        save_attention(tmp_path, trained.network, inputs, one)
        return float(json.loads((tmp_path / "attention.json").read_text())["gate"]["audio into text"][0])

    open_right, open_wrong = ([gate(row) for row in tested[wrong[tested] == each][:20]] for each in (0, 1))
    assert np.mean(open_right) > 1.5 * np.mean(open_wrong)


def test_weights_of_probabilities_are_chosen_by_weighted_f1_and_not_by_accuracy(trained: Project) -> None:
    """All mixtures get five of eight utterances of dev right: those of even weights call almost all of them happy."""
    fold = trained.task().fold(0)
    dev = np.flatnonzero((fold.splits == SPLITS.index("dev")) & (fold.targets != IGNORE))
    happy, sad = (dev[fold.targets[dev] == each] for each in (0, 1))
    assert (len(happy), len(sad)) == (4, 4)
    text, audio = (np.full((len(fold.utterance_ids), 2), 0.5, dtype=np.float32) for _ in range(2))
    for rows, of_text, of_audio in (
        (happy[:3], 0.9, 0.9),
        (happy[3:], 0.4, 0.9),  # text alone is wrong; with a fifth or more of audio it is right
        (sad[:1], 0.1, 0.1),
        (sad[1:2], 0.4, 0.9),  # text alone is right
        (sad[2:], 0.9, 0.9),
    ):
        text[rows], audio[rows] = (of_text, 1 - of_text), (of_audio, 1 - of_audio)
    for modality, probabilities in (("text", text), ("audio", audio)):
        name = f"{modality}-context"
        run = Run("tiny", name, {modality: trained.pair.encoder(modality)}, "by hand", 0, 0)
        save_run(trained.folder(name), run, fold, probabilities, {})
        write_digests(trained.folder(name))
    assert dev_scores(text, fold)["accuracy"] == dev_scores(audio, fold)["accuracy"] == 0.625
    assert dev_scores(text, fold)["weighted_f1"] > dev_scores(audio, fold)["weighted_f1"]
    trained.fuse("late")
    weights = json.loads((trained.folder("late") / "config.json").read_text())["weights"]
    assert weights["text"] > 0.8


@pytest.mark.parametrize(
    ("model", "stage"), [("hcam", "context"), ("hcam/no-context", "utterance"), ("hbaf", "utterance")]
)
def test_fusion_reads_the_vectors_of_its_stage(trained: Project, model: str, stage: str) -> None:
    """Told by the mean that the network standardizes with."""
    trained.ablate("hcam")
    fold = trained.task().fold(0)
    weights = load_file(trained.folder(model) / "model.safetensors")
    train = torch.from_numpy(fold.splits == SPLITS.index("train"))
    for modality in ("audio", "text"):
        vectors_ND = read_vectors(trained.folder(f"{modality}-{stage}"), stage)
        torch.testing.assert_close(weights[f"standardize.{modality}.mean_D"], vectors_ND[train].mean(dim=0))


def test_seeds_of_every_network_start_from_other_weights(project: Project) -> None:
    """With a learning rate of almost nothing, what is kept is what training began with."""

    def still(tree: Any) -> None:
        for key, value in tree.items():
            if key == "fit":
                tree[key] = value | {"epochs": 1, "learning_rate": 1e-12, "weight_decay": 0.0}
            elif isinstance(value, dict):
                still(value)

    still(project.tree["models"])
    project.everything()
    found: dict[str, list[dict[str, torch.Tensor]]] = {}
    for path in sorted(project.layout.models.rglob("model.safetensors")):
        model = json.loads((path.parent / "record.json").read_text())["model"]
        found.setdefault(model, []).append(load_file(path))
    assert len(found.pop("linear")) == 1  # It draws nothing.
    assert len(found) == 8
    for model, (one, other) in found.items():
        drawn = [name for name in one if one[name].ndim == 2 and one[name].abs().max() > 1e-6]  # Gates begin at zero.
        assert drawn
        for name in drawn:
            assert not torch.allclose(one[name], other[name], atol=1e-3), (model, name)
