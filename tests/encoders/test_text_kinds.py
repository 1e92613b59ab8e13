"""Text networks of every kind: what transformers gives for a text alone, whatever else is in the batch."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoTokenizer

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
def test_a_smaller_type_is_close_and_says_what_it_costs(
    kind: str, folders: Callable[[str], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    encoder = build(folders(kind), dtype="bfloat16")
    for found, exact in zip(encoder.encode(TEXTS), build(folders(kind)).encode(TEXTS), strict=True):
        if len(exact):
            assert 1e-5 < np.abs(found - exact).max() / np.abs(exact).max() < 0.05
    assert f"folder:{kind}: bfloat16 changes " in capsys.readouterr().err


def test_a_network_that_is_no_text_encoder_is_refused(folders: Callable[[str], Path], tmp_path: Path) -> None:
    AutoTokenizer.from_pretrained(folders("bert")).save_pretrained(tmp_path)
    for path in folders("whisper").glob("*"):
        (tmp_path / path.name).symlink_to(path)
    with pytest.raises(EncoderError, match="is of the type 'whisper', which is no encoder of text"):
        build(tmp_path)
