"""What every network owes its batch: neighbours, padding and order have no say, and ``causal`` sees no future."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, cast

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from emofuse.core.params import ParamsError, validate
from emofuse.core.schema import IGNORE
from emofuse.models.cma import CMA
from emofuse.models.concat import Concat
from emofuse.models.hbaf import HBAF
from emofuse.models.hcam import HCAM, HCAMConfig
from emofuse.models.parts.base import Batch, Network
from emofuse.models.parts.layers import Standardize
from emofuse.models.parts.losses import supervised_contrastive
from emofuse.models.unimodal import ContextConfig, ContextNetwork, UtteranceNetwork
from networks import config_of

DIMS = {"audio": 5, "text": 3}
LAYERS = {"audio": 5, "text": 3}
CLASSES = 4

_DEEP = {"layers": 2, "dropout": 0.3}
UTTERANCE = config_of("utterance", input_projection=6, input_dropout=0.2, **_DEEP)
CONTEXT = config_of("context", heads=4, contrastive=0.5, **_DEEP)
FUSION = config_of("hcam", blocks=2, heads=4, dropout=0.3, contrastive=0.5)
CONCAT = config_of("concat", **_DEEP)
CROSS = config_of("cma", channels=6, kernel=3, heads=4, dropout=0.3)
_LOSSES = {"text_loss": 0.5, "audio_loss": 0.2, "absolute": 0.1, "relative": 0.1}
BIMODAL = config_of("hbaf", audio_hidden=4, heads=4, dropout=0.3, **_LOSSES)


def _hcam(**changes: Any) -> HCAM:
    return HCAM(replace(FUSION, **changes), DIMS, CLASSES, True)


def _hbaf(causal: bool = True, **changes: Any) -> HBAF:
    return HBAF(replace(BIMODAL, **changes), DIMS, CLASSES, causal)


NETWORKS: dict[str, tuple[Callable[[], Network], tuple[str, ...]]] = {
    "utterance": (lambda: UtteranceNetwork(UTTERANCE, DIMS["audio"], CLASSES), ("audio",)),
    "context": (lambda: ContextNetwork(CONTEXT, DIMS["audio"], CLASSES, False), ("audio",)),
    "context-causal": (lambda: ContextNetwork(CONTEXT, DIMS["audio"], CLASSES, True), ("audio",)),
    "cma": (lambda: CMA(CROSS, DIMS, CLASSES, False), ("audio", "text")),
    "hbaf": (lambda: HBAF(BIMODAL, DIMS, CLASSES, False), ("audio", "text")),
    "hbaf-causal": (lambda: HBAF(BIMODAL, DIMS, CLASSES, True), ("audio", "text")),
    "concat": (lambda: Concat(CONCAT, DIMS, CLASSES, False), ("audio", "text")),
    "concat-causal": (lambda: Concat(CONCAT, DIMS, CLASSES, True), ("audio", "text")),
    "hcam": (lambda: HCAM(FUSION, DIMS, CLASSES, False), ("audio", "text")),
    "hcam-causal": (lambda: HCAM(FUSION, DIMS, CLASSES, True), ("audio", "text")),
    "context-role-causal": (lambda: ContextNetwork(replace(CONTEXT, speaker="role"), 5, CLASSES, True), ("audio",)),
    "concat-same-causal": (lambda: Concat(replace(CONCAT, speaker="same"), DIMS, CLASSES, True), ("audio", "text")),
    "hcam-role-causal": (lambda: HCAM(replace(FUSION, speaker="role"), DIMS, CLASSES, True), ("audio", "text")),
    "hbaf-same-causal": (lambda: HBAF(replace(BIMODAL, speaker="same"), DIMS, CLASSES, True), ("audio", "text")),
    "context-no-contrastive": (
        lambda: ContextNetwork(replace(CONTEXT, contrastive=0.0), 5, CLASSES, False),
        ("audio",),
    ),
    "utterance-layers": (lambda: UtteranceNetwork(UTTERANCE, DIMS["audio"], CLASSES, 5), ("audio",)),
    "cma-layers": (lambda: CMA(CROSS, DIMS, CLASSES, False, LAYERS), ("audio", "text")),
    "concat-layers-causal": (lambda: Concat(CONCAT, DIMS, CLASSES, True, LAYERS), ("audio", "text")),
    "cma-no-attention": (lambda: CMA(replace(CROSS, attention=False), DIMS, CLASSES, False), ("audio", "text")),
    "cma-mean-pooling": (lambda: CMA(replace(CROSS, pooling="mean"), DIMS, CLASSES, False), ("audio", "text")),
    "hcam-no-contrastive-causal": (lambda: _hcam(contrastive=0.0), ("audio", "text")),
    "hcam-no-co-attention-causal": (lambda: _hcam(co_attention=False), ("audio", "text")),
    "cma-residual": (lambda: CMA(replace(CROSS, residual=True), DIMS, CLASSES, False), ("audio", "text")),
    "hcam-skip-causal": (lambda: _hcam(skip=True), ("audio", "text")),
    "hbaf-skip-causal": (lambda: _hbaf(skip=True), ("audio", "text")),
    "hcam-layer-norm-off-causal": (lambda: _hcam(layer_norm=False), ("audio", "text")),
    "hbaf-layer-norm-off-causal": (lambda: _hbaf(layer_norm=False, audio_dropout=0.4), ("audio", "text")),
    "hbaf-no-audio-context-causal": (lambda: _hbaf(context=False), ("audio", "text")),
    "hbaf-no-gate-causal": (lambda: _hbaf(gate=False), ("audio", "text")),
    "hbaf-no-absolute": (lambda: _hbaf(causal=False, absolute=0.0), ("audio", "text")),
    "hbaf-no-relative": (lambda: _hbaf(causal=False, relative=0.0), ("audio", "text")),
    "hbaf-no-contrastive": (lambda: _hbaf(causal=False, absolute=0.0, relative=0.0), ("audio", "text")),
    "hbaf-no-heads": (lambda: _hbaf(causal=False, text_loss=0.0, audio_loss=0.0), ("audio", "text")),
    "hbaf-self-attention-causal": (lambda: _hbaf(cross_attention=False), ("audio", "text")),
    "hbaf-cross-attention-causal": (lambda: _hbaf(self_attention=False), ("audio", "text")),
}
"""By name, how a network is built and the modalities that it reads; the last ones are the ablations."""

SPEAKERS = (7, 3, 3, -1, 7)
"""Of the turns of a dialogue; -1 is unknown."""

READ_FRAMES = (
    "utterance",
    "utterance-layers",
    "cma",
    "cma-layers",
    "cma-no-attention",
    "cma-mean-pooling",
    "cma-residual",
)
"""Networks that read sequences of frames; the others read one vector an utterance."""

every_network = pytest.mark.parametrize("name", NETWORKS)
dialogue_network = pytest.mark.parametrize("name", [name for name in NETWORKS if name not in READ_FRAMES])
causal_network = pytest.mark.parametrize("name", [name for name in NETWORKS if name.endswith("-causal")])

Turn = dict[str, np.ndarray]
Dialogue = list[Turn]


def network_of(name: str, seed: int = 0) -> Network:
    """A network in evaluation mode, with weights and statistics that are not the initial zeros and ones."""
    torch.manual_seed(seed)
    network = NETWORKS[name][0]()
    for module in network.modules():
        if isinstance(module, Standardize):
            module.fit([torch.randn(50, len(module.mean_D)) * 2 + 1])
    for parameter in network.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    return network.eval()


def dialogues_of(name: str, sizes: Sequence[int], seed: int = 0) -> list[Dialogue]:
    """Random dialogues; several frames a turn for the utterance network, one for those that read vectors."""
    rng = np.random.default_rng(seed)
    most = 7 if name in READ_FRAMES else 1
    return [
        [
            {each: rng.normal(size=(rng.integers(1, most + 1), DIMS[each])).astype(np.float32) for each in DIMS}
            for _ in range(size)
        ]
        for size in sizes
    ]


def batch_of(
    name: str, dialogues: Sequence[Dialogue], targets: Sequence[int] | None = None, spare: int = 0, filler: float = 0.0
) -> Batch:
    """A batch with ``spare`` more frames and turns than its longest example, and ``filler`` beyond the ends."""
    turns = [turn for dialogue in dialogues for turn in dialogue]
    frames, lengths = {}, {}
    for modality in NETWORKS[name][1]:
        lengths[modality] = torch.tensor([len(turn[modality]) for turn in turns])
        padded = torch.full((len(turns), int(lengths[modality].max()) + spare, DIMS[modality]), filler)
        for row, turn in enumerate(turns):
            padded[row, : len(turn[modality])] = torch.from_numpy(turn[modality])
        frames[modality] = padded
    places_BL = torch.full((len(dialogues), max(map(len, dialogues)) + spare), -1)
    start = 0
    for row, dialogue in enumerate(dialogues):
        places_BL[row, : len(dialogue)] = torch.arange(start, start + len(dialogue))
        start += len(dialogue)
    given_targets = torch.tensor(targets if targets is not None else [row % CLASSES for row in range(len(turns))])
    found = torch.tensor([SPEAKERS[turn % len(SPEAKERS)] for dialogue in dialogues for turn in range(len(dialogue))])
    return Batch(frames, lengths, places_BL, found, given_targets)


def logits_of(network: Network, name: str, dialogues: Sequence[Dialogue], **options: float) -> list[Tensor]:
    """Logits of each dialogue, ``[L, C]``."""
    with torch.no_grad():
        logits_UC = network(batch_of(name, dialogues, **options)).logits_UC  # type: ignore[arg-type]
    return list(logits_UC.split([len(dialogue) for dialogue in dialogues]))


close = partial(torch.testing.assert_close, atol=1e-5, rtol=1e-5)
SIZES = st.lists(st.integers(1, 5), min_size=2, max_size=5)
SEEDS = st.integers(0, 2**16)


@every_network
@settings(max_examples=6, deadline=None)
@given(sizes=SIZES, seed=SEEDS)
def test_order_and_company_in_a_batch_do_not_change_a_logit(name: str, sizes: list[int], seed: int) -> None:
    network, dialogues = network_of(name, seed), dialogues_of(name, sizes, seed)
    together = logits_of(network, name, dialogues)
    order = np.random.default_rng(seed).permutation(len(dialogues))
    for place, logits in zip(order, logits_of(network, name, [dialogues[each] for each in order]), strict=True):
        close(logits, together[place])
    for dialogue, logits in zip(dialogues, together, strict=True):
        close(logits_of(network, name, [dialogue])[0], logits)


@every_network
@pytest.mark.parametrize("filler", [1e4, torch.nan, torch.inf])
def test_padding_does_not_change_a_logit(name: str, filler: float) -> None:
    network, dialogues = network_of(name), dialogues_of(name, [3, 1, 2])
    padded = logits_of(network, name, dialogues, spare=4, filler=filler)
    for logits, expected in zip(padded, logits_of(network, name, dialogues), strict=True):
        close(logits, expected)


@every_network
def test_a_longer_neighbour_does_not_change_a_logit(name: str) -> None:
    network, dialogues = network_of(name), dialogues_of(name, [3, 1])
    (longer,) = dialogues_of(name, [9], seed=1)
    longer[0] = {modality: np.repeat(frames, 20, axis=0) for modality, frames in longer[0].items()}
    for logits, expected in zip(
        logits_of(network, name, [*dialogues, longer])[:2], logits_of(network, name, dialogues), strict=True
    ):
        close(logits, expected)


def test_mean_and_maximum_of_the_frames_go_around_the_recurrence_of_stage_one() -> None:
    """All frames are below the mean of train: what is beyond an utterance's end may not pass for its maximum."""
    network, dialogues = network_of("utterance"), dialogues_of("utterance", [3, 1, 2])
    for turn in (turn for dialogue in dialogues for turn in dialogue):
        turn["audio"] -= 6
    batch = batch_of("utterance", dialogues, spare=2)
    residual = cast(torch.nn.Linear, network.residual_projection)
    with torch.no_grad():
        whole_UH = network(batch).vectors["utterance"]
        weight, bias = residual.weight.clone(), residual.bias.clone()
        residual.weight.zero_()
        residual.bias.zero_()
        without_UH = network(batch).vectors["utterance"]
        standardize = cast(Standardize, network.standardize)
        frames = [standardize(torch.from_numpy(turn["audio"])) for dialogue in dialogues for turn in dialogue]
        read_U2D = torch.stack([torch.cat([each.mean(dim=0), each.amax(dim=0)]) for each in frames])
    assert (read_U2D < 0).all()
    close(whole_UH - without_UH, read_U2D @ weight.T + bias)


@every_network
def test_vectors_stand_by_their_utterance(name: str) -> None:
    network, dialogues = network_of(name), dialogues_of(name, [3, 1, 2])
    with torch.no_grad():
        forth, back = (network(batch_of(name, each)).vectors for each in (dialogues, dialogues[::-1]))
    for key, vectors_UH in forth.items():
        one, two, three = vectors_UH.split([3, 1, 2])
        close(back[key], torch.cat([three, two, one]))


@every_network
def test_every_parameter_gets_a_finite_gradient(name: str) -> None:
    network = network_of(name).train()
    batch = batch_of(name, dialogues_of(name, [4, 1, 3, 2]))
    for modality in batch.frames:
        batch.frames[modality][1, 0, 0] = torch.nan
    output = network(batch)
    loss = sum(output.auxiliary_losses.values())
    for logits_UC in [output.logits_UC, *(logits_UC for _, logits_UC in output.auxiliary_heads.values())]:
        loss = loss + torch.nn.functional.cross_entropy(logits_UC, batch.targets_U)
    loss.backward()
    for key, parameter in network.named_parameters():
        assert parameter.grad is not None, key
        assert parameter.grad.isfinite().all(), key
        assert parameter.grad.any(), key


@every_network
def test_dropout_is_of_training_alone(name: str) -> None:
    network, batch = network_of(name), batch_of(name, dialogues_of(name, [4, 2]))
    assert torch.equal(network(batch).logits_UC, network(batch).logits_UC)
    network.train()
    assert not torch.equal(network(batch).logits_UC, network(batch).logits_UC)


@every_network
def test_inference_says_what_training_would(name: str) -> None:
    """Torch takes another path through attention where no gradient is asked for; it must mean the same masks."""
    network, batch = network_of(name), batch_of(name, dialogues_of(name, [4, 1, 2]), spare=2)
    with torch.inference_mode():
        fast = network(batch).logits_UC
    close(fast.clone(), network(batch).logits_UC.detach())


@every_network
def test_one_turn_of_one_frame_is_enough(name: str) -> None:
    network, dialogues = network_of(name), dialogues_of(name, [1])
    dialogues[0][0] = {modality: frames[:1] for modality, frames in dialogues[0][0].items()}
    (logits,) = logits_of(network, name, dialogues)
    assert logits.shape == (1, CLASSES)
    assert logits.isfinite().all()


@every_network
@pytest.mark.parametrize("missing", [("audio",), ("text",), ("audio", "text")])
def test_missing_values_give_finite_logits(name: str, missing: tuple[str, ...]) -> None:
    network, dialogues = network_of(name), dialogues_of(name, [2, 1])
    before = logits_of(network, name, dialogues)
    for modality in missing:
        dialogues[0][1][modality] = np.full((1, DIMS[modality]), np.nan, np.float32)
    after = logits_of(network, name, dialogues)
    assert torch.cat(after).isfinite().all()
    close(after[1], before[1])
    changed = not torch.allclose(after[0], before[0])
    assert changed == bool(set(missing) & set(NETWORKS[name][1]))


@causal_network
@settings(max_examples=6, deadline=None)
@given(size=st.integers(2, 6), turn=st.integers(1, 5), seed=SEEDS)
def test_causal_context_never_sees_the_future(name: str, size: int, turn: int, seed: int) -> None:
    turn = min(turn, size - 1)
    network, dialogues = network_of(name, seed), dialogues_of(name, [size, 3], seed)
    changed = [list(dialogue) for dialogue in dialogues]
    changed[0][turn] = {modality: frames + 100 for modality, frames in changed[0][turn].items()}
    before, after = (logits_of(network, name, each) for each in (dialogues, changed))
    assert torch.equal(after[0][:turn], before[0][:turn])
    assert torch.equal(after[1], before[1])
    assert not torch.isclose(after[0][turn:], before[0][turn:]).all(dim=1).any()


@dialogue_network
def test_context_is_read_from_turns_without_a_label(name: str) -> None:
    """An unlabelled turn speaks through its features, and no target speaks at all."""
    network, dialogues = network_of(name), dialogues_of(name, [3])
    (before,) = logits_of(network, name, dialogues)
    output = network(batch_of(name, dialogues, targets=[IGNORE] * 3))
    close(output.logits_UC.detach(), before)
    assert all(loss == 0 for loss in output.auxiliary_losses.values())
    dialogues[0][0] = {modality: -frames for modality, frames in dialogues[0][0].items()}
    (after,) = logits_of(network, name, dialogues)
    assert not torch.isclose(after[1:], before[1:]).all(dim=1).any()


def test_the_utterance_network_reads_no_context() -> None:
    network, dialogues = network_of("utterance"), dialogues_of("utterance", [3])
    (before,) = logits_of(network, "utterance", dialogues)
    dialogues[0][0] = {modality: -frames for modality, frames in dialogues[0][0].items()}
    (after,) = logits_of(network, "utterance", dialogues)
    close(after[1:], before[1:])
    assert not torch.isclose(after[0], before[0]).all()


@pytest.mark.parametrize(
    ("name", "losses"),
    [
        ("context", {"contrastive"}),
        ("context-no-contrastive", set()),
        ("hcam", {"contrastive"}),
        ("hcam-no-contrastive-causal", set()),
        ("hbaf", {"absolute", "relative"}),
        ("hbaf-no-absolute", {"relative"}),
        ("hbaf-no-relative", {"absolute"}),
        ("hbaf-no-contrastive", set()),
    ],
)
def test_the_contrastive_losses_can_be_switched_off(name: str, losses: set[str]) -> None:
    found = network_of(name)(batch_of(name, dialogues_of(name, [4, 3]))).auxiliary_losses
    assert set(found) == losses
    assert all(loss > 0 for loss in found.values())


@pytest.mark.parametrize(
    ("name", "option", "loss"),
    [
        ("context", "contrastive", "contrastive"),
        ("hcam", "contrastive", "contrastive"),
        ("hbaf", "absolute", "absolute"),
        ("hbaf", "relative", "relative"),
    ],
)
def test_each_contrastive_loss_has_the_weight_that_is_asked_for(name: str, option: str, loss: str) -> None:
    network, batch = network_of(name), batch_of(name, dialogues_of(name, [4, 3]))
    before = network(batch).auxiliary_losses
    network.config = replace(network.config, **{option: 3 * getattr(network.config, option)})  # type: ignore[type-var]
    after = network(batch).auxiliary_losses
    close(after[loss], 3 * before[loss])
    assert all(torch.equal(after[other], before[other]) for other in before if other != loss)


def test_each_head_of_hbaf_has_the_weight_that_is_asked_for() -> None:
    output = network_of("hbaf")(batch_of("hbaf", dialogues_of("hbaf", [4, 3])))
    assert {name: weight for name, (weight, _) in output.auxiliary_heads.items()} == {"audio": 0.2, "text": 0.5}
    assert not torch.equal(output.auxiliary_heads["audio"][1], output.auxiliary_heads["text"][1])


def test_the_contrastive_loss_of_hcam_sees_two_views_of_an_utterance() -> None:
    network = network_of("hcam")
    batch = batch_of("hcam", dialogues_of("hcam", [3, 2]), targets=[0, 1, IGNORE, 1, 2])
    output = network(batch)
    views_NH = network.contrastive_projection(torch.cat(output.vectors["fused"].chunk(2, dim=1)))  # type: ignore[operator]
    targets_N = torch.cat([batch.targets_U, batch.targets_U])
    expected = FUSION.contrastive * supervised_contrastive(views_NH, targets_N, FUSION.temperature)
    close(output.auxiliary_losses["contrastive"], expected)


@pytest.mark.parametrize("switches", [{"context": False}, {"cross_attention": False}])
def test_dropout_of_the_audio_alone_acts_before_its_context_and_inside_it(switches: dict[str, bool]) -> None:
    batch = batch_of("hbaf", dialogues_of("hbaf", [4, 2]))

    def differs(audio_dropout: float) -> bool:
        torch.manual_seed(0)
        network = _hbaf(dropout=0.0, audio_dropout=audio_dropout, **switches).train()
        return not torch.equal(network(batch).logits_UC, network(batch).logits_UC)

    assert differs(0.5)
    assert not differs(0.0)


def test_without_layer_norm_no_module_of_hcam_and_hbaf_norms() -> None:
    for build in (_hcam, _hbaf):
        norms = [
            sum(isinstance(each, torch.nn.LayerNorm) for each in build(layer_norm=on).modules()) for on in (True, False)
        ]
        assert norms[0] > 2
        assert norms[1] == 0


@pytest.mark.parametrize("config", [CONTEXT, FUSION])
def test_heads_that_do_not_divide_the_vectors_are_refused_by_name(config: ContextConfig | HCAMConfig) -> None:
    values = {**config.__dict__, "heads": 3}
    with pytest.raises(ParamsError, match=r"models\.x: .*heads: 3 .* hidden: 8"):
        validate(values, type(config), "models.x")
