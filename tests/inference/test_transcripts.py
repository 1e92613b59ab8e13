"""Speech recognisers of transformers give transcripts, from safetensors and without a network."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.torch import load_file, save_file

from emofuse.cli import main
from emofuse.encoders import EncoderError
from emofuse.inference.pipelines import Recogniser

Project = Any
KINDS = ("wav2vec2", "whisper")


@pytest.fixture(scope="module")
def clips(tone: np.ndarray) -> list[np.ndarray]:
    """Clips of a second and less, the shortest of one sample."""
    noise = np.random.default_rng(0).standard_normal(12_000).astype(np.float32)
    return [tone.astype(np.float32) / 32_768, noise, noise[:8_000], noise[:1]]


@pytest.fixture
def copied(recogniser: Callable[[str], Path], tmp_path: Path) -> Callable[[str], Path]:
    """Copy a recogniser's folder, to be damaged: ``copied("whisper")``."""
    return lambda kind: Path(shutil.copytree(recogniser(kind), tmp_path / kind))


@pytest.mark.parametrize("kind", KINDS)
def test_each_clip_has_its_own_transcript(
    kind: str, recogniser: Callable[[str], Path], clips: list[np.ndarray]
) -> None:
    recognise = Recogniser(str(recogniser(kind)))
    texts = recognise(clips)
    assert len(texts) == len(clips)
    assert len(set(texts)) > 1
    assert not any("<" in text for text in texts), "a sign that steers the network is no word"
    assert [recognise([clip])[0] for clip in clips] == texts


def test_whisper_hears_more_than_its_window_and_says_nothing_beside(
    recogniser: Callable[[str], Path], capfd: pytest.CaptureFixture[str]
) -> None:
    noise = np.random.default_rng(0).standard_normal(16_000 * 33).astype(np.float32)
    recognise = Recogniser(str(recogniser("whisper")))
    assert recognise([noise])[0] != recognise([noise[: 16_000 * 30]])[0]
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("kind", KINDS)
def test_a_conversation_of_sound_alone_is_transcribed_and_answered_from_both(
    kind: str,
    project: Project,
    recogniser: Callable[[str], Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """As a person calls it: a folder of sound files, of which one has a transcript already."""
    sounds = sorted(next(iter(project.conversations.values())).glob("*.flac"))[:3]
    for sound in sounds:
        shutil.copy(sound, tmp_path)
    (tmp_path / sounds[0].with_suffix(".txt").name).write_text("You are late.")
    monkeypatch.chdir(project.root)
    model = "data/models/demo/logmel+minilm/hcam"
    assert main(["predict", str(tmp_path), "--model", model, "--transcribe", str(recogniser(kind)), "--json"]) == 0
    output = json.loads(capsys.readouterr().out)
    assert output["turns"][0]["text"] == "You are late."
    assert all(turn["text"] for turn in output["turns"])
    assert output["model"] == "hcam"


def test_weights_that_are_no_safetensors_are_refused(copied: Callable[[str], Path]) -> None:
    folder = copied("wav2vec2")
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(b"a pickle")
    with pytest.raises(EncoderError, match="safetensors"):
        Recogniser(str(folder))


@pytest.mark.parametrize(("kind", "part"), [("wav2vec2", "lm_head"), ("whisper", "decoder.layers.0")])
def test_a_network_that_lacks_weights_is_refused(kind: str, part: str, copied: Callable[[str], Path]) -> None:
    """Such as one that was trained to listen and never to write, as many on the hub are."""
    weights = copied(kind) / "model.safetensors"
    save_file({name: each for name, each in load_file(weights).items() if part not in name}, weights, {"format": "pt"})
    with pytest.raises(EncoderError, match=rf"^speech recogniser .*: \d+ of its weights are missing, .*{part}"):
        Recogniser(str(weights.parent))


@pytest.mark.parametrize(
    ("file", "content", "reason"),
    [
        ("config.json", None, "config.json"),
        ("config.json", '{"model_type": "bert"}', "of the type 'bert', which does not recognise speech"),
        ("model.safetensors", "half of it", "Error while deserializing header"),
        ("preprocessor_config.json", None, "preprocessor_config.json"),
    ],
)
def test_what_is_wrong_with_a_folder_is_one_line(
    file: str, content: str | None, reason: str, copied: Callable[[str], Path]
) -> None:
    path = copied("wav2vec2") / file
    path.unlink()
    if content:
        path.write_text(content)
    with pytest.raises(EncoderError, match=r"^speech recogniser .*wav2vec2: ") as caught:
        Recogniser(str(path.parent))
    assert reason in str(caught.value)
    assert "\n" not in str(caught.value)


def test_whisper_says_no_more_than_can_be_spoken(recogniser: Callable[[str], Path], tone: np.ndarray) -> None:
    """A network of random weights never ends by itself."""
    recognise = Recogniser(str(recogniser("whisper")))
    recognise._recognise.model.generation_config.max_length = 60
    output = recognise([tone[:4_000].astype(np.float32) / 32_768])
    tokens = recognise._recognise.tokenizer(output[0], add_special_tokens=False)["input_ids"]
    assert 0 < len(tokens) <= 20


def test_a_hub_model_needs_a_revision_and_the_cache() -> None:
    with pytest.raises(EncoderError, match="as id@revision"):
        Recogniser("some/recogniser")
    revision = "0" * 40
    with pytest.raises(EncoderError, match=f"`hf download some/recogniser --revision {revision}` fetches"):
        Recogniser(f"some/recogniser@{revision}")


def test_a_hub_model_in_the_cache_needs_no_hub(
    recogniser: Callable[[str], Path], clips: list[np.ndarray], hub: Callable[[str, Path], str]
) -> None:
    folder = recogniser("whisper")
    name = f"some/whisper@{hub('some/whisper', folder)}"
    assert Recogniser(name)(clips[:1]) == Recogniser(str(folder))(clips[:1])
