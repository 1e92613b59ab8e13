"""A bundle of the small project, tables of turns, and small speech recognisers."""

import csv
import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import (
    GenerationConfig,
    Wav2Vec2Config,
    Wav2Vec2CTCTokenizer,
    Wav2Vec2FeatureExtractor,
    Wav2Vec2ForCTC,
    WhisperConfig,
    WhisperFeatureExtractor,
    WhisperForConditionalGeneration,
    WhisperTokenizer,
)

from emofuse.inference.bundle import Bundle
from emofuse.inference.models_on_disk import find

Project = Any
"""The class of the fixture, in ``tests/conftest.py``."""


@pytest.fixture(scope="session")
def bundle(project: Project) -> Bundle:
    """HCAM's."""
    return find(project.model("hcam"))


@pytest.fixture(scope="session")
def shared(root: Path) -> Path:
    """Real recordings and a real recogniser beside the repository."""
    folder = root.parent / "shared" / "data"
    if not folder.exists():
        pytest.skip(f"needs real recordings in {folder}")
    return folder


@pytest.fixture
def write_turns(tmp_path: Path) -> Callable[..., Path]:
    """Write a table of turns: ``write_turns("turns.csv", [{"text": "Hello."}])``."""

    def write(name: str, turns: Sequence[dict[str, Any]]) -> Path:
        path = tmp_path / name
        with path.open("w", encoding="utf-8", newline="") as stream:
            if name.endswith(".json"):
                json.dump(turns, stream)
            else:
                writer = csv.DictWriter(stream, sorted({key for turn in turns for key in turn}))
                writer.writeheader()
                writer.writerows(turns)
        return path

    return write


@pytest.fixture(scope="session")
def tone() -> np.ndarray:
    """A second of a tone, int16 at 16 kHz."""
    return (8000 * np.sin(np.arange(16_000) / 10)).astype(np.int16)


@pytest.fixture(scope="session")
def recogniser(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The folder of a small speech recogniser, ``wav2vec2`` or ``whisper``, with seeded random weights.

    What it hears is noise, but always the same.
    """
    root = tmp_path_factory.mktemp("recognisers")

    def folder(kind: str) -> Path:
        place = root / kind
        if not place.exists():
            place.mkdir()
            torch.manual_seed(0)
            {"wav2vec2": _save_wav2vec2, "whisper": _save_whisper}[kind](place)
        return place

    return folder


def _save_wav2vec2(folder: Path) -> None:
    signs = ["<pad>", "<unk>", "<s>", "</s>", *"abcdefghijklmnopqrstuvwxyz'|"]
    (folder / "vocab.json").write_text(json.dumps({sign: index for index, sign in enumerate(signs)}))
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    convolutions = {"conv_dim": (8, 8), "conv_kernel": (10, 8), "conv_stride": (20, 16), "num_feat_extract_layers": 2}
    positions = {"num_conv_pos_embeddings": 4, "num_conv_pos_embedding_groups": 2}
    config = Wav2Vec2Config(vocab_size=len(signs), **sizes, **convolutions, **positions)
    Wav2Vec2ForCTC(config).save_pretrained(folder)
    Wav2Vec2FeatureExtractor().save_pretrained(folder)
    Wav2Vec2CTCTokenizer(str(folder / "vocab.json"), word_delimiter_token="|").save_pretrained(folder)  # noqa: S106


def _save_whisper(folder: Path) -> None:
    """With the signs that steer Whisper's generation, and all its times."""
    tokenizer = WhisperTokenizer(vocab={chr(33 + index): index for index in range(94)}, merges=[])
    steering = ["startoftranscript", "en", "translate", "transcribe", "startofprev", "nospeech", "notimestamps"]
    tokenizer.add_tokens(["<|endoftext|>", *(f"<|{name}|>" for name in steering)], special_tokens=True)
    tokenizer.add_tokens([f"<|{index / 50:.2f}|>" for index in range(1501)])
    of = {name: tokenizer.convert_tokens_to_ids(f"<|{name}|>") for name in ["endoftext", *steering]}
    end = dict.fromkeys(("pad_token_id", "bos_token_id", "eos_token_id"), of["endoftext"])
    heads = {f"{side}_attention_heads": 2 for side in ("encoder", "decoder")}
    sizes = {f"{side}_{what}": 16 for side in ("encoder", "decoder") for what in ("layers", "ffn_dim")}
    sizes |= {"encoder_layers": 1, "decoder_layers": 1, "d_model": 16, "max_target_positions": 64}
    start = {"decoder_start_token_id": of["startoftranscript"]}
    config = WhisperConfig(vocab_size=len(tokenizer), init_std=1.0, **sizes, **heads, **end, **start)
    network = WhisperForConditionalGeneration(config)
    network.generation_config = GenerationConfig(
        is_multilingual=True,
        lang_to_id={"<|en|>": of["en"]},
        task_to_id={name: of[name] for name in ("transcribe", "translate")},
        no_timestamps_token_id=of["notimestamps"],
        prev_sot_token_id=of["startofprev"],
        begin_suppress_tokens=[of["endoftext"]],
        max_initial_timestamp_index=50,
        max_length=24,
        **end,
        **start,
    )
    network.save_pretrained(folder)
    WhisperFeatureExtractor().save_pretrained(folder)
    tokenizer.save_pretrained(folder)


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, Path], str]:
    """Put a model's folder into a local cache of the hub: ``hub("org/name", folder)``; the revision comes back."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))

    def put(name: str, folder: Path) -> str:
        revision = "1" * 40
        place = tmp_path / "hub" / f"models--{name.replace('/', '--')}"
        shutil.copytree(folder, place / "snapshots" / revision)
        (place / "refs").mkdir()
        (place / "refs" / "main").write_text(revision)
        return revision

    return put
