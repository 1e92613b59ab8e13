"""Small networks of every kind, with seeded random weights, saved as the model folders that a user has."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import (
    AutoModel,
    PreTrainedTokenizerFast,
    Wav2Vec2FeatureExtractor,
    WhisperFeatureExtractor,
)

_WAVEFORM: dict[str, Any] = {
    "hidden_size": 32,
    "num_hidden_layers": 5,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "conv_dim": (16,) * 7,
    "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 4,
    "classifier_proj_size": 8,
    "vocab_size": 8,
}
_STABLE = {"do_stable_layer_norm": True, "feat_extract_norm": "layer", "conv_bias": True}

SPEECH: dict[str, tuple[str, dict[str, Any]]] = {
    "group": ("Wav2Vec2", _WAVEFORM),
    "layer": ("Wav2Vec2", _WAVEFORM | _STABLE),
    "hubert": ("Hubert", _WAVEFORM | {"feat_proj_layer_norm": False}),
    "hubert-batch-norm": ("Hubert", _WAVEFORM | {"conv_pos_batch_norm": True}),
    "wavlm": ("WavLM", _WAVEFORM | {"num_buckets": 20, "max_bucket_distance": 40}),
    "wavlm-layer": ("WavLM", _WAVEFORM | _STABLE | {"num_buckets": 20, "max_bucket_distance": 40}),
    "data2vec": ("Data2VecAudio", _WAVEFORM | {"conv_pos_kernel_size": 5, "num_conv_pos_embeddings": 3}),
    "conformer": ("Wav2Vec2Conformer", _WAVEFORM | {"position_embeddings_type": "relative"}),
    "conformer-rotary": ("Wav2Vec2Conformer", _WAVEFORM | _STABLE | {"position_embeddings_type": "rotary"}),
}
"""Kinds of networks that read the waveform: class and configuration."""

_TEXT: dict[str, Any] = {
    "hidden_size": 32,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "vocab_size": 40,
    "max_position_embeddings": 40,
    "pad_token_id": 0,
}

TEXT: dict[str, tuple[str, dict[str, Any]]] = {
    "bert": ("Bert", _TEXT),
    "roberta": ("Roberta", _TEXT | {"type_vocab_size": 1}),
    "deberta": (
        "DebertaV2",
        _TEXT
        | {"relative_attention": True, "pos_att_type": ["c2p", "p2c"], "position_buckets": 8, "conv_kernel_size": 3},
    ),
    "modernbert": ("ModernBert", _TEXT | {"local_attention": 8, "global_attn_every_n_layers": 2}),
}
"""Kinds of text networks: class and configuration."""


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> Iterator[None]:
    """Threads that wait for each other make small networks slow on a busy machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Give the folder of a kind of :data:`SPEECH` or :data:`TEXT`, or of ``whisper``."""
    root = tmp_path_factory.mktemp("models")

    def folder(kind: str) -> Path:
        place = root / kind
        if not place.exists():
            _save(kind, place)
        return place

    return folder


@pytest.fixture(scope="session")
def networks(folders: Callable[[str], Path]) -> Callable[[str], Any]:
    """Give transformers' own network of a kind, loaded once."""
    loaded: dict[str, Any] = {}

    def network(kind: str) -> Any:
        if kind not in loaded:
            loaded[kind] = AutoModel.from_pretrained(folders(kind)).eval()
        return loaded[kind]

    return network


def _save(kind: str, place: Path) -> None:
    if kind == "whisper":
        sizes = {"d_model": 32, "encoder_layers": 4, "encoder_attention_heads": 4, "encoder_ffn_dim": 48}
        sizes |= {"decoder_layers": 1, "decoder_attention_heads": 4, "decoder_ffn_dim": 48, "num_mel_bins": 80}
        _random("Whisper", sizes | {"vocab_size": 60, "pad_token_id": 0, "decoder_start_token_id": 1}, place)
        WhisperFeatureExtractor().save_pretrained(place)
    elif kind in SPEECH:
        _random(*SPEECH[kind], place)
        Wav2Vec2FeatureExtractor(do_normalize=kind != "wavlm").save_pretrained(place)
    else:
        _random(*TEXT[kind], place)
        _tokenizer(first="<s>" if kind == "roberta" else "[CLS]").save_pretrained(place)


def _random(name: str, sizes: dict[str, Any], place: Path) -> None:
    torch.manual_seed(len(name))
    network = getattr(transformers, f"{name}Model")(getattr(transformers, f"{name}Config")(**sizes)).eval()
    with torch.no_grad():  # Norms and biases begin at one and at zero, where a mistake does not show.
        for each in [*network.parameters(), *network.buffers()]:
            if each.is_floating_point() and each.ndim == 1:
                each.add_(0.3 * torch.rand_like(each))
    network.save_pretrained(place)


def _tokenizer(first: str) -> PreTrainedTokenizerFast:
    last = first.replace("<", "</").replace("CLS", "SEP")
    letters = [*"abcdefghijklmnopqrstuvwxyz", *(f"##{each}" for each in "aeiou")]
    vocabulary = {each: number for number, each in enumerate(["[PAD]", first, last, "[UNK]", *letters])}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))  # noqa: S106 - no password
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{first} $A {last}", special_tokens=[(first, 1), (last, 2)]
    )
    names = {"pad_token": "[PAD]", "cls_token": first, "sep_token": last, "unk_token": "[UNK]"}
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_max_length=32, **names)
