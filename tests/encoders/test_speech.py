"""Speech encoders: what transformers gives for a clip alone, whatever else is in the batch."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from transformers import AutoFeatureExtractor

from emofuse.encoders import EncoderError, load, speech
from emofuse.encoders.speech import SpeechEncoder

WAVEFORM = ["group", "layer", "hubert", "hubert-batch-norm", "wavlm", "wavlm-layer", "data2vec", "conformer"]
KINDS = [*WAVEFORM, "conformer-rotary", "whisper"]
OWN = "whisper without padding"
LENGTHS = (400, 16_000, 719, 16_123, 5_000, 15_990, 720, 9_999)

GOLDEN = [[2.2047255, 0.2509179, 1.8006407], [2.2055368, 0.24944526, 1.8033985], [2.20595, 0.2505428, 1.8017397]]
"""Frames 0, 5 and 11 of a network whose weights follow a formula: computed by transformers' network alone, into which
they were put one by one. Another positional convolution changes them by 1 to 4 %."""

Build = Callable[..., SpeechEncoder]


def noise(n_samples: int, level: float = 0.1) -> np.ndarray:
    generator = np.random.default_rng(n_samples)
    return (level * generator.standard_normal(n_samples) + 0.02).astype(np.float32)


def error(found: np.ndarray, expected: np.ndarray) -> float:
    """Largest difference, relative to the largest value."""
    assert found.shape == expected.shape
    return float(np.abs(found - expected).max() / np.abs(expected).max())


@pytest.fixture(scope="session")
def build(folders: Callable[[str], Path]) -> Build:
    """Make an encoder: ``build(kind, **options)``, once for the same options."""
    made: dict[str, SpeechEncoder] = {}

    def make(kind: str, **options: Any) -> SpeechEncoder:
        key = f"{kind} {sorted(options.items())}"
        if key not in made:
            padding = {"padding": "full"} if kind == "whisper" else {}
            options = (
                {"model": str(folders("whisper" if kind == OWN else kind)), "labels_seen": False} | padding | options
            )
            made[key] = load("speech", options, "here")  # type: ignore[assignment]
        return made[key]

    return make


@pytest.fixture(scope="session")
def alone(folders: Callable[[str], Path], networks: Callable[[str], Any]) -> Callable[..., list[np.ndarray]]:
    """All hidden states that transformers gives for one clip."""

    @torch.inference_mode()
    def states(kind: str, samples: np.ndarray) -> list[np.ndarray]:
        whisper = kind in ("whisper", OWN)
        extractor = AutoFeatureExtractor.from_pretrained(folders("whisper" if whisper else kind))
        inputs = extractor(samples, sampling_rate=16_000, return_tensors="pt")
        network = networks("whisper").get_encoder() if whisper else networks(kind)
        output = network(next(iter(inputs.values())), output_hidden_states=True)
        n_frames = -(-len(samples) // 320) if whisper else None
        found = [each[:, :n_frames] for each in (*output.hidden_states[:-1], output.last_hidden_state)]
        if kind == OWN:  # transformers' layers on the clip's frames alone
            for number, layer in enumerate(network.layers):
                found[number + 1] = layer(found[number], None)
            found[-1] = network.layer_norm(found[-1])
        return [each[0].numpy() for each in found]

    return states


@pytest.mark.parametrize("kind", [*KINDS, OWN])
def test_a_batch_gives_what_transformers_gives_for_each_clip_alone(kind: str, build: Build, alone: Any) -> None:
    clips = [noise(each) for each in (LENGTHS if kind != "whisper" else LENGTHS[:3])]
    encoder = build(kind, layers=[0, 2, 4])
    for clip, found in zip(clips, encoder.encode(clips), strict=True):
        states = alone(kind, clip)
        assert error(found, np.concatenate([states[0], states[2], states[4]], axis=1)) <= 1e-4, len(clip)
        assert found.shape[1] == encoder.dim == 3 * 32


@pytest.mark.parametrize("kind", KINDS)
def test_attention_is_torchs_own_where_the_architecture_has_it(kind: str, build: Build) -> None:
    network = build(kind, layers=[0, 2, 4])._network.transformer
    assert network.config._attn_implementation == ("sdpa" if network._supports_sdpa else "eager")
    assert network._supports_sdpa == (not kind.startswith("wavlm"))


@pytest.mark.parametrize(
    ("layers", "pick"),
    [
        ("last", lambda states: states[5]),
        ("mean4", lambda states: (states[2] + states[3] + states[4] + states[5]) / 4),
        ("concat4", lambda states: np.concatenate(states[2:], axis=1)),
        ([5], lambda states: states[5]),
        ([3], lambda states: states[3]),
        ([0], lambda states: states[0]),
        ([4, 1], lambda states: np.concatenate([states[4], states[1]], axis=1)),
        ("all", lambda states: np.concatenate(states, axis=1)),
    ],
    ids=lambda value: None if callable(value) else str(value),  # a function's address differs between processes
)
@pytest.mark.parametrize("kind", ["group", "layer"])
def test_layers(kind: str, layers: Any, pick: Callable[[Any], np.ndarray], build: Build, alone: Any) -> None:
    encoder = build(kind, layers=layers)
    (found,) = encoder.encode([noise(8_000)])
    assert error(found, pick(alone(kind, noise(8_000)))) <= 1e-4
    assert encoder.dim == found.shape[1]
    assert encoder.identity["layer"] == layers


@pytest.mark.parametrize("kind", ["layer", OWN])
def test_all_layers_say_how_many_there_are(kind: str, build: Build, alone: Any) -> None:
    encoder = build(kind, layers="all")
    states = alone(kind, noise(8_000))
    (found,) = encoder.encode([noise(8_000)])
    assert error(found, np.concatenate(states, axis=1)) <= 1e-4
    assert encoder.identity["n_layers"] == len(states) == encoder.dim // 32
    assert build(kind, layers=[0, 1]).identity["n_layers"] == 1, "these are one frame as they are"


@pytest.mark.parametrize(("kind", "options"), [("group", {}), (OWN, {}), ("group", {"layers": "all"})])
def test_a_stride_averages_adjacent_frames(kind: str, options: dict[str, Any], build: Build) -> None:
    clips = [noise(each) for each in (9_000, 100, 400, 4_000)]
    strided = build(kind, stride=4, **options)
    for found, each in zip(strided.encode(clips), build(kind, **options).encode(clips), strict=True):
        expected = [each[start : start + 4].mean(axis=0) for start in range(0, len(each), 4)]
        np.testing.assert_allclose(found, np.reshape(expected, (-1, strided.dim)), rtol=1e-4, atol=1e-5)
    assert strided.identity["frame_rate"] == 12.5
    assert strided.identity["stride"] == 4


def test_the_mean_of_all_layers_is_one_frame_of_them(build: Build) -> None:
    encoder = build("group", layers="all", output="mean")
    (found,) = encoder.encode([noise(9_000)])
    assert found.shape == (1, 6 * 32)
    assert encoder.identity["n_layers"] == 6


@pytest.mark.parametrize("n_samples", [400, 3_200, 3_201, 16_123, 480_000])
def test_without_padding_whisper_embeds_a_clip_as_with_it(n_samples: int, build: Build) -> None:
    """To the last frame, whose convolution reads on: the silence that follows, or nothing where 30 s end."""
    own, full = (next(build(kind, layers=[0]).encode([noise(n_samples)])) for kind in (OWN, "whisper"))
    assert error(own, full) <= 1e-5


def test_padding_is_part_of_what_whisper_is(build: Build, folders: Callable[[str], Path]) -> None:
    own, full = (build(kind) for kind in (OWN, "whisper"))
    assert (own.identity["padding"], full.identity["padding"]) == ("none", "full")
    assert error(next(own.encode([noise(8_000)])), next(full.encode([noise(8_000)]))) > 1e-3
    with pytest.raises(EncoderError, match="padding: full: folder:group is of type 'wav2vec2', which reads a clip"):
        load("speech", {"model": str(folders("group")), "labels_seen": False, "padding": "full"}, "here")


@settings(max_examples=15)
@given(st.sampled_from(["group", "layer", OWN]), st.lists(st.integers(0, 12_000), min_size=2, max_size=7))
def test_a_clip_does_not_depend_on_its_batch(build: Build, kind: str, lengths: list[int]) -> None:
    encoder = build(kind)
    clips = [noise(each, level=0.01 + 0.1 * (index % 3)) for index, each in enumerate(lengths)]
    for clip, found in zip(clips, encoder.encode(clips), strict=True):
        (single,) = encoder.encode([clip])
        assert found.dtype == np.float32
        n_frames = (len(clip) - 400) // 320 + 1 if kind != OWN else -(-len(clip) // 320)
        assert found.shape == (n_frames if len(clip) >= 400 else 0, 32)
        if len(found):
            assert error(found, single) <= 1e-4


def test_many_batches_come_back_in_order(build: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    clips = [noise(1_000 + 700 * (5 * each % 12)) for each in range(12)]
    expected = list(build("group").encode(clips))
    monkeypatch.setitem(speech._BATCH_SECONDS, "cpu", 0.6)
    for found, each in zip(build("group").encode(clips), expected, strict=True):
        assert error(found, each) <= 1e-4


@pytest.mark.parametrize("kind", ["group", "layer", "whisper", OWN])
@pytest.mark.parametrize("n_samples", [0, 1, 399])
def test_a_clip_shorter_than_a_frame_has_none(kind: str, n_samples: int, build: Build) -> None:
    before, found, after = build(kind).encode([noise(720), noise(n_samples), noise(400)])
    assert found.shape == (0, 32)
    assert len(before) > 0
    assert len(after) > 0


@pytest.mark.parametrize("kind", ["group", "layer", "whisper", OWN])
def test_silence_is_finite(kind: str, build: Build) -> None:
    (found,) = build(kind).encode([np.zeros(8_000, np.float32)])
    assert np.isfinite(found).all()


def test_no_clips(build: Build) -> None:
    assert list(build("group", dtype="bfloat16").encode([])) == []


@pytest.mark.parametrize("kind", ["group", "layer"])
def test_windows_leave_no_seam_where_a_frame_sees_enough_on_either_side(kind: str, build: Build) -> None:
    """The embedding reads 16 frames, 0.32 s; windows that overlap by 0.8 s must give the frames of the whole clip."""
    clip = noise(16_000 * 5 + 123)
    (whole,) = build(kind, layers=[0]).encode([clip])
    (cut,) = build(kind, layers=[0], max_seconds=1.5, overlap_seconds=0.8).encode([clip])
    assert error(cut, whole) <= 1e-4
    (seamed,) = build(kind, layers=[0], max_seconds=1.5, overlap_seconds=0.1).encode([clip])
    assert error(seamed, whole) > 1e-3


@pytest.mark.parametrize("kind", ["group", "whisper", OWN])
def test_a_window_gives_what_the_network_gives_for_it(kind: str, build: Build, alone: Any) -> None:
    clip = noise(16_000 * 3)
    (found,) = build(kind, layers="last", max_seconds=2.0, overlap_seconds=1.0).encode([clip])
    assert found.shape == ((48_000 - 400) // 320 + 1 if kind == "group" else 150, 32)
    if kind != "group":
        first, last = alone(kind, clip[:32_000])[-1], alone(kind, clip[16_000:])[-1]
        assert error(found, np.concatenate([first[:75], last[25:]])) <= 1e-4


def test_the_mean_is_that_of_the_frames(build: Build) -> None:
    clips = [noise(9_000), noise(100), noise(4_000)]
    pooled, frames = (list(build("group", output=each).encode(clips)) for each in ("mean", "frames"))
    for found, each in zip(pooled, frames, strict=True):
        assert found.shape == (min(1, len(each)), 32)
        np.testing.assert_allclose(found * len(each), each.sum(axis=0)[None][: len(each)], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("kind", ["group", "layer", OWN])
def test_a_smaller_type_is_close_and_says_what_it_costs(
    kind: str, dtype: str, folders: Callable[[str], Path], build: Build
) -> None:
    clips = [noise(9_000), noise(12_000)]
    options = {"model": str(folders("whisper" if kind == OWN else kind)), "labels_seen": False, "dtype": dtype}
    encoder = load("speech", options, "here")
    list(encoder.encode([noise(10)]))
    assert encoder.cost is None, "a clip that is too short for a frame tells no cost"
    for found, exact in zip(encoder.encode(clips), build(kind).encode(clips), strict=True):
        assert found.dtype == np.float32
        assert 1e-5 < error(found, exact) < 0.05
    cost = encoder.cost
    assert cost is not None
    assert 1e-5 < cost < 0.05
    assert build(kind).cost is None
    list(encoder.encode(clips[:1]))
    assert encoder.cost == cost
    assert encoder.identity["dtype"] == dtype


def rewrite(folder: Path, target: Path, change: Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]]) -> str:
    """Copy a model folder with other weights."""
    shutil.copytree(folder, target)
    weights = load_file(target / "model.safetensors")
    save_file(change(weights), target / "model.safetensors", {"format": "pt"})
    return str(target)


def test_the_older_names_of_a_weight_norm_are_understood(
    folders: Callable[[str], Path], build: Build, tmp_path: Path
) -> None:
    """Published checkpoints name them ``weight_g`` and ``weight_v``."""
    names = {"parametrizations.weight.original0": "weight_g", "parametrizations.weight.original1": "weight_v"}

    def rename(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        for new, old in names.items():
            weights = {key.replace(new, old): value for key, value in weights.items()}
        return weights

    model = rewrite(folders("group"), tmp_path / "old", rename)
    assert "encoder.pos_conv_embed.conv.weight_g" in load_file(Path(model) / "model.safetensors")
    (found,) = load("speech", {"model": model, "labels_seen": False}, "here").encode([noise(9_000)])
    (expected,) = build("group").encode([noise(9_000)])
    np.testing.assert_array_equal(found, expected)


def test_weights_by_formula_give_the_golden_frames(folders: Callable[[str], Path], tmp_path: Path) -> None:
    """Weights that were skipped, swapped or filled at random would give other numbers."""

    def formula(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        for number, key in enumerate(sorted(weights)):
            count = torch.arange(weights[key].numel(), dtype=torch.float64)
            values = torch.sin(0.37 * count * count + number) / 4 + (1.0 if weights[key].ndim == 1 else 0.0)
            weights[key] = values.reshape(weights[key].shape).float()
        return weights

    model = rewrite(folders("group"), tmp_path / "formula", formula)
    samples = np.sin(np.arange(4_000) ** 1.5 / 50).astype(np.float32)
    (found,) = load("speech", {"model": model, "labels_seen": False}, "here").encode([samples])
    np.testing.assert_allclose(found[[0, 5, 11], :3], GOLDEN, rtol=1e-4)


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (lambda key: key.replace("original0", "original7"), "1 of its weights are missing, such as .*original0"),
        (lambda key: key.replace("layers.1.attention", "layers.1.attend"), "8 of its weights are missing"),
        (lambda key: key.replace("layers.4.", "layers.5."), "17 of its weights are missing, such as .*layers.4"),
    ],
)
def test_weights_that_do_not_fit_are_an_error(
    change: Callable[[str], str], fault: str, folders: Callable[[str], Path], tmp_path: Path
) -> None:
    model = rewrite(folders("group"), tmp_path / "odd", lambda each: {change(key): each[key] for key in each})
    with pytest.raises(EncoderError, match=f"folder:odd cannot be loaded: {fault}"):
        load("speech", {"model": model, "labels_seen": False}, "here")


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"num_hidden_layers": 4}, "16 of its weights are not used, such as .*layers.4"),
        ({"intermediate_size": 40}, "15 of its weights are of another shape, such as"),
    ],
)
def test_a_configuration_of_another_network_is_an_error(
    change: dict[str, int], fault: str, folders: Callable[[str], Path], tmp_path: Path
) -> None:
    model = Path(rewrite(folders("group"), tmp_path / "odd", lambda each: each))
    config = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps(config | change))
    with pytest.raises(EncoderError, match=fault):
        load("speech", {"model": str(model), "labels_seen": False}, "here")


@pytest.mark.parametrize(
    ("kind", "options", "fault"),
    [
        ("group", {"layers": [6]}, r"layers \[6\]: folder:group has layers 0 to 5"),
        ("group", {"max_seconds": 2.0, "overlap_seconds": 2.0}, "overlap_seconds 2.0: must be below max_seconds, 2.0"),
        ("whisper", {"max_seconds": 31.0}, "max_seconds 31.0: folder:whisper reads at most 30 s"),
        ("bert", {}, "folder:bert cannot be loaded: .*preprocessor_config.json"),
    ],
)
def test_what_cannot_be_done_is_named(
    kind: str, options: dict[str, Any], fault: str, folders: Callable[[str], Path]
) -> None:
    with pytest.raises(EncoderError, match=fault):
        load("speech", {"model": str(folders(kind)), "labels_seen": False} | options, "here")


def test_another_kind_of_network_is_refused(folders: Callable[[str], Path], tmp_path: Path) -> None:
    model = shutil.copytree(folders("bert"), tmp_path / "bert")
    shutil.copy(folders("group") / "preprocessor_config.json", model)
    with pytest.raises(EncoderError, match="folder:bert is of type 'bert'; this family reads data2vec-audio, hubert"):
        load("speech", {"model": str(model), "labels_seen": False}, "here")


def test_a_folder_without_a_preprocessor_is_one_clear_line(folders: Callable[[str], Path], tmp_path: Path) -> None:
    model = shutil.copytree(folders("group"), tmp_path / "bare", ignore=shutil.ignore_patterns("preprocessor*"))
    with pytest.raises(EncoderError, match=r"^folder:bare cannot be loaded: preprocessor_config.json is not among its"):
        load("speech", {"model": str(model), "labels_seen": False}, "here")


def test_another_sample_rate_is_refused(folders: Callable[[str], Path], tmp_path: Path) -> None:
    model = shutil.copytree(folders("group"), tmp_path / "slow")
    path = model / "preprocessor_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"sampling_rate": 8_000}))
    with pytest.raises(EncoderError, match="folder:slow reads 8000 Hz; this project's audio has 16000 Hz"):
        load("speech", {"model": str(model), "labels_seen": False}, "here")
