"""BERT and Whisper's encoder in torch alone, layer for layer as transformers has them, whose import takes two seconds.

Weights have transformers' names, so that they are loaded as they are stored. The numbers are those of transformers'
networks, which tests compare. What has other activations, positions or attention is left to transformers.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer
from torch import Tensor, nn
from torch.nn.functional import gelu, scaled_dot_product_attention

__all__ = ["Bert", "WhisperEncoder", "WhisperLayer", "Words", "load_bert", "load_words"]

_BERT = {"model_type": "bert", "hidden_act": "gelu", "position_embedding_type": "absolute"}
"""Of a configuration, what is read here; each is the default, too."""

_CONTROLLED = ("is_decoder", "add_cross_attention", "quantization_config")
"""Keys of a configuration that make another network of it."""

_UNUSED = ("pooler.", "embeddings.position_ids")


def load_bert(folder: Path) -> "Bert | None":
    """Return the network of a folder in float32; None if it is another one than is read here.

    Args:
        folder: with ``config.json`` and ``model.safetensors``
    """
    config = _read(folder / "config.json")
    if any(config.get(key, value) != value for key, value in _BERT.items()) or any(map(config.get, _CONTROLLED)):
        return None
    try:
        stored = load_file(folder / "model.safetensors")
        weights = {name.removeprefix("bert."): each.float() for name, each in stored.items()}
        network = Bert(config)
        own = {name: each for name, each in weights.items() if not name.startswith(_UNUSED)}
        network.load_state_dict(own, assign=True)
    except Exception:  # whatever is wrong with it, transformers says it
        return None
    return network.eval().requires_grad_(False)


# Layers without first weights, since read ones take their place: to draw them takes a tenth of a second, and on torch's
# device without memory the first import of its compiler, half a second.


class _Embedding(nn.Embedding):
    def reset_parameters(self) -> None:
        pass


class _Linear(nn.Linear):
    def reset_parameters(self) -> None:
        pass


class _Conv1d(nn.Conv1d):
    def reset_parameters(self) -> None:
        pass


class Bert(nn.Module):
    """Devlin et al. 2019: embeddings, and layers of self-attention with the norm behind each part.

    Args:
        config: of ``config.json``
    """

    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__()
        self.config = SimpleNamespace(
            is_encoder_decoder=False,
            num_hidden_layers=config["num_hidden_layers"],
            hidden_size=config["hidden_size"],
            max_position_embeddings=config["max_position_embeddings"],
        )
        width, epsilon = config["hidden_size"], config.get("layer_norm_eps", 1e-12)
        self.embeddings = nn.ModuleDict(
            {
                "word_embeddings": _Embedding(config["vocab_size"], width),
                "position_embeddings": _Embedding(config["max_position_embeddings"], width),
                "token_type_embeddings": _Embedding(config["type_vocab_size"], width),
                "LayerNorm": nn.LayerNorm(width, epsilon),
            }
        )
        sizes = (width, config["intermediate_size"], config["num_attention_heads"], epsilon)
        layers = nn.ModuleList(_BertLayer(*sizes) for _ in range(config["num_hidden_layers"]))
        self.encoder = nn.ModuleDict({"layer": layers})

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        return next(self.parameters()).device

    def forward(self, input_ids: Tensor, attention_mask: Tensor, **_: Any) -> SimpleNamespace:
        """Return ``hidden_states``, ``[B, T, width]`` each, of token ids and their mask, both int64 ``[B, T]``."""
        parts: Any = self.embeddings
        layers: Any = self.encoder["layer"]
        # The sum in transformers' order, for its last bits.
        states_BTD = parts["word_embeddings"](input_ids) + parts["token_type_embeddings"].weight[0]
        states_BTD = states_BTD + parts["position_embeddings"].weight[: input_ids.shape[1]]
        states = [parts["LayerNorm"](states_BTD)]
        mask = None if bool(attention_mask.all()) else attention_mask[:, None, None, :].bool()
        for layer in layers:
            states.append(layer(states[-1], mask))
        return SimpleNamespace(hidden_states=tuple(states))


class _BertLayer(nn.Module):
    def __init__(self, width: int, inner: int, heads: int, epsilon: float) -> None:
        super().__init__()
        self._heads = heads
        projections = {name: _Linear(width, width) for name in ("query", "key", "value")}
        after = {"dense": _Linear(width, width), "LayerNorm": nn.LayerNorm(width, epsilon)}
        self.attention = nn.ModuleDict({"self": nn.ModuleDict(projections), "output": nn.ModuleDict(after)})
        self.intermediate = nn.ModuleDict({"dense": _Linear(width, inner)})
        self.output = nn.ModuleDict({"dense": _Linear(inner, width), "LayerNorm": nn.LayerNorm(width, epsilon)})

    def forward(self, states_BTD: Tensor, mask: Tensor | None) -> Tensor:
        parts: Any = self.attention
        heard = _attend(states_BTD, parts["self"], ("query", "key", "value"), self._heads, mask)
        after, output = parts["output"], self.output
        states_BTD = after["LayerNorm"](after["dense"](heard) + states_BTD)
        inner = output["dense"](gelu(self.intermediate["dense"](states_BTD)))
        result: Tensor = output["LayerNorm"](inner + states_BTD)
        return result


class WhisperEncoder(nn.Module):
    """Radford et al. 2023: two convolutions over a spectrogram, positions, and layers with the norm before each part.

    Args:
        bands: of the spectrogram
        width: of a state
        inner: of the feed-forward layers
        heads: of the attention
        layers: how many
        positions: states at most
    """

    def __init__(self, bands: int, width: int, inner: int, heads: int, layers: int, positions: int) -> None:
        super().__init__()
        self.config = SimpleNamespace(model_type="whisper", d_model=width, max_source_positions=positions)
        self.conv1 = _Conv1d(bands, width, 3, padding=1)
        self.conv2 = _Conv1d(width, width, 3, stride=2, padding=1)
        self.embed_positions = _Embedding(positions, width)
        self.layers = nn.ModuleList(WhisperLayer(width, inner, heads) for _ in range(layers))
        self.layer_norm = nn.LayerNorm(width)

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        return self.conv1.weight.device

    @property
    def dtype(self) -> torch.dtype:
        """In which it computes."""
        return self.conv1.weight.dtype

    def get_encoder(self) -> "WhisperEncoder":
        """Return itself, as transformers' whole network returns its encoder."""
        return self

    def forward(self, mel_BMT: Tensor) -> tuple[Tensor]:
        """Return the last hidden states ``[B, T / 2, width]`` of spectrograms ``[B, bands, T]``."""
        states_BTD = gelu(self.conv2(gelu(self.conv1(mel_BMT)))).mT
        states_BTD = states_BTD + self.embed_positions.weight[: states_BTD.shape[1]]
        for layer in self.layers:
            states_BTD = layer(states_BTD, None)
        return (self.layer_norm(states_BTD),)


class WhisperLayer(nn.Module):
    """A layer of Whisper's encoder."""

    def __init__(self, width: int, inner: int, heads: int) -> None:
        super().__init__()
        self._heads = heads
        names = ("q_proj", "k_proj", "v_proj", "out_proj")
        self.self_attn = nn.ModuleDict({name: _Linear(width, width, bias=name != "k_proj") for name in names})
        self.self_attn_layer_norm = nn.LayerNorm(width)
        self.fc1, self.fc2 = _Linear(width, inner), _Linear(inner, width)
        self.final_layer_norm = nn.LayerNorm(width)

    def forward(self, states_BTD: Tensor, mask: Tensor | None) -> Tensor:
        """Return the states after it, ``[B, T, width]``; True in a mask ``[B, 1, 1, T]`` is what counts."""
        normed = self.self_attn_layer_norm(states_BTD)
        heard = _attend(normed, self.self_attn, ("q_proj", "k_proj", "v_proj"), self._heads, mask)
        states_BTD = states_BTD + self.self_attn["out_proj"](heard)
        result: Tensor = states_BTD + self.fc2(gelu(self.fc1(self.final_layer_norm(states_BTD))))
        return result


def _attend(x_BTD: Tensor, parts: nn.ModuleDict, names: Sequence[str], heads: int, mask: Tensor | None) -> Tensor:
    """Self-attention without what follows it; True in a mask ``[B, 1, 1, T]`` is what counts."""
    query, key, value = (parts[name](x_BTD).unflatten(-1, (heads, -1)).transpose(1, 2) for name in names)
    heard_BTD: Tensor = scaled_dot_product_attention(query, key, value, attn_mask=mask).transpose(1, 2).flatten(2)
    return heard_BTD


class Words:
    """A tokenizer that is called as those of transformers are, as far as this package calls them.

    Args:
        tokenizer: without truncation and padding
        longest: tokens that its network reads at most

    Attributes:
        model_max_length: the same
    """

    def __init__(self, tokenizer: Tokenizer, longest: int) -> None:
        self._tokenizer, self.model_max_length = tokenizer, longest

    def __call__(
        self, texts: str | Sequence[str], truncation: bool, max_length: int | None = None, **_: Any
    ) -> dict[str, Any]:
        """Return ``input_ids``, and of several texts ``special_tokens_mask``, lists of int."""
        self._tokenizer.no_truncation()
        if isinstance(texts, str):
            return {"input_ids": self._tokenizer.encode(texts).ids}
        if truncation and max_length is not None:
            self._tokenizer.enable_truncation(max_length)
        found = self._tokenizer.encode_batch(list(texts))
        return {"input_ids": [x.ids for x in found], "special_tokens_mask": [x.special_tokens_mask for x in found]}

    def pad(self, tokens: Mapping[str, Sequence[Sequence[int]]], max_length: int, **_: Any) -> dict[str, Tensor]:
        """Return ``input_ids`` and ``attention_mask``, int64 ``[B, max_length]``; what is filled up is masked."""
        rows = tokens["input_ids"]
        ids, mask = torch.zeros(len(rows), max_length, dtype=torch.long), torch.zeros(len(rows), max_length).long()
        for row, (place, seen) in zip(rows, zip(ids, mask, strict=True), strict=True):
            place[: len(row)], seen[: len(row)] = torch.tensor(row), 1
        return {"input_ids": ids, "attention_mask": mask}


def load_words(folder: Path) -> Words | None:
    """Return the tokenizer of a BERT's folder, None if it is another one than is read here."""
    path = folder / "tokenizer.json"
    settings = _read(folder / "tokenizer_config.json")
    if not path.is_file() or not str(settings.get("tokenizer_class", "")).startswith("BertTokenizer"):
        return None
    tokenizer = Tokenizer.from_file(str(path))
    tokenizer.no_padding()
    return Words(tokenizer, int(settings.get("model_max_length", 512)))


def _read(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
