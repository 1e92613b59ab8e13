"""Text networks of every kind: what transformers gives for a text alone, whatever else is in the batch."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoTokenizer
from transformers.utils import is_flash_attn_2_available

from emofuse.encoders import EncoderError, load

KINDS = ["bert", "roberta", "deberta", "modernbert"]
TEXTS = [
    "a b c d e",
    "aei",
    "",
    "x y z a e i o u x y z a b",
    "a",
    "b o a i e u",
    "k l m n o p q r s t u v w x y z a b c",
]


def close(found: np.ndarray, expected: np.ndarray) -> bool:
    return found.shape == expected.shape and float(np.abs(found - expected).max()) <= 1e-4 * np.abs(expected).max()


def build(folder: Path, **options: Any) -> Any:
    return load("text", {"model": str(folder), "labels_seen": False, "max_tokens": 24} | options, "here")


@pytest.mark.parametrize("kind", KINDS)
def test_a_batch_gives_what_transformers_gives_for_each_text_alone(
    kind: str, folders: Callable[[str], Path], networks: Callable[[str], Any]
) -> None:
    encoder = build(folders(kind), layers=[0, 2, 4])
    tokenizer = AutoTokenizer.from_pretrained(folders(kind))
    for text, found in zip(TEXTS, encoder.encode(TEXTS), strict=True):
        tokens = tokenizer(text, truncation=True, max_length=24, return_tensors="pt")
        with torch.inference_mode():
            output = networks(kind)(**tokens, output_hidden_states=True)
        states = (output.hidden_states[0], output.hidden_states[2], output.last_hidden_state)
        if text:
            assert close(found, torch.cat(states, dim=-1)[0, 1:-1].numpy()), text
        else:
            assert found.shape == (0, 96)


@pytest.mark.parametrize("kind", KINDS)
def test_the_mean_leaves_special_tokens_out(kind: str, folders: Callable[[str], Path]) -> None:
    frames, pooled = (list(build(folders(kind), output=each).encode(TEXTS)) for each in ("frames", "mean"))
    for each, found in zip(frames, pooled, strict=True):
        assert found.shape == (min(1, len(each)), 32)
        if len(each):
            assert close(found, each.mean(axis=0, keepdims=True))


@pytest.mark.parametrize("kind", KINDS)
def test_a_smaller_type_is_close_and_says_what_it_costs(kind: str, folders: Callable[[str], Path]) -> None:
    encoder = build(folders(kind), dtype="bfloat16")
    list(encoder.encode(["", " "]))
    assert encoder.cost is None, "texts without a token tell no cost"
    for found, exact in zip(encoder.encode(TEXTS), build(folders(kind)).encode(TEXTS), strict=True):
        if len(exact):
            assert 1e-5 < np.abs(found - exact).max() / np.abs(exact).max() < 0.05
    assert 1e-5 < encoder.cost < 0.05


@pytest.mark.parametrize(("kind", "longest"), [("bert", 40), ("roberta", 39), ("modernbert", 40)])
def test_a_network_says_how_long_a_text_may_be_where_its_tokenizer_does_not(
    kind: str, longest: int, folders: Callable[[str], Path], tmp_path: Path
) -> None:
    """RoBERTa's kind keeps the first of its 40 positions for padding."""
    model = shutil.copytree(folders(kind), tmp_path / kind)
    path = model / "tokenizer_config.json"
    settings = json.loads(path.read_text())
    del settings["model_max_length"]
    path.write_text(json.dumps(settings))
    (found,) = build(model, max_tokens=longest).encode(["a " * 60])
    assert found.shape == (longest - 2, 32)
    with pytest.raises(EncoderError, match=f"max_tokens {longest + 1}: folder:{kind} reads at most {longest}"):
        build(model, max_tokens=longest + 1)


def test_a_tokenizer_without_a_vocabulary_is_refused(folders: Callable[[str], Path], tmp_path: Path) -> None:
    """transformers makes one up, to which every word is the same unknown one."""
    for name in ("config.json", "model.safetensors"):
        shutil.copy(folders("bert") / name, tmp_path)
    with pytest.raises(EncoderError, match="cannot be loaded: its tokenizer has no vocabulary"):
        build(tmp_path)


def test_a_speech_network_is_no_text_encoder(folders: Callable[[str], Path]) -> None:
    with pytest.raises(EncoderError, match=r"^folder:group cannot be loaded: it has no tokenizer; is it a text"):
        build(folders("group"))


@pytest.mark.parametrize(
    ("options", "fault"),
    [
        ({}, "attention: flash_attention_2: needs the dtype bfloat16 or float16"),
        (
            {"dtype": "bfloat16"},
            "attention: flash_attention_2: cannot be used with folder:bert here: .*FlashAttention2",
        ),
    ],
)
@pytest.mark.skipif(is_flash_attn_2_available(), reason="flash-attn is installed, and there is a GPU")
def test_flash_attention_that_cannot_be_had_is_named(
    options: dict[str, Any], fault: str, folders: Callable[[str], Path]
) -> None:
    encoder = build(folders("bert"), attention="flash_attention_2", **options)
    with pytest.raises(EncoderError, match=fault):
        list(encoder.encode(TEXTS))


def test_a_network_that_is_no_text_encoder_is_refused(folders: Callable[[str], Path], tmp_path: Path) -> None:
    AutoTokenizer.from_pretrained(folders("bert")).save_pretrained(tmp_path)
    for path in folders("whisper").glob("*"):
        (tmp_path / path.name).symlink_to(path)
    with pytest.raises(EncoderError, match="is of type 'whisper', which is not a text encoder"):
        build(tmp_path)
