"""Speech recognisers of transformers give transcripts, from safetensors and without a network."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import Wav2Vec2Config, Wav2Vec2CTCTokenizer, Wav2Vec2FeatureExtractor, Wav2Vec2ForCTC

from emofuse.encoders import EncoderError
from emofuse.inference.transcripts import Recogniser

LETTERS = "abcdefghijklmnopqrstuvwxyz'|"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small recogniser with seeded weights; what it hears is noise, but always the same."""
    folder = tmp_path_factory.mktemp("recogniser")
    vocabulary = {letter: index for index, letter in enumerate(["<pad>", "<unk>", "<s>", "</s>", *LETTERS])}
    (folder / "vocab.json").write_text(json.dumps(vocabulary))
    torch.manual_seed(0)
    config = Wav2Vec2Config(
        vocab_size=len(vocabulary),
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        conv_dim=(8, 8),
        conv_kernel=(10, 8),
        conv_stride=(20, 16),
        num_feat_extract_layers=2,
        num_conv_pos_embeddings=4,
        num_conv_pos_embedding_groups=2,
    )
    Wav2Vec2ForCTC(config).save_pretrained(folder)
    Wav2Vec2FeatureExtractor().save_pretrained(folder)
    Wav2Vec2CTCTokenizer(str(folder / "vocab.json"), word_delimiter_token="|").save_pretrained(folder)  # noqa: S106
    return folder


def test_each_clip_has_its_own_transcript(folder: Path, tone: np.ndarray) -> None:
    recognise = Recogniser(str(folder))
    noise = np.random.default_rng(0).standard_normal(12_000).astype(np.float32)
    clips = [tone.astype(np.float32) / 32_768, noise, noise[:8_000]]
    texts = recognise(clips)
    assert len(texts) == 3
    assert set("".join(texts)) <= set(LETTERS.replace("|", " "))
    assert any(texts)
    assert [recognise([clip])[0] for clip in clips] == texts


def test_weights_that_are_no_safetensors_are_refused(folder: Path, tmp_path: Path) -> None:
    for path in folder.iterdir():
        if path.name != "model.safetensors":
            (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / "pytorch_model.bin").write_bytes(b"a pickle")
    with pytest.raises(EncoderError, match="safetensors"):
        Recogniser(str(tmp_path))


def test_a_hub_model_needs_a_revision_and_the_cache() -> None:
    with pytest.raises(EncoderError, match="as id@revision"):
        Recogniser("some/recogniser")
    revision = "0" * 40
    with pytest.raises(EncoderError, match=f"`hf download some/recogniser --revision {revision}` fetches"):
        Recogniser(f"some/recogniser@{revision}")
