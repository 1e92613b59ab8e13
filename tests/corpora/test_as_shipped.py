"""Corpora as their owners ship them, with the parameters as they are shipped: from the raw folder to audio features."""

import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from emofuse import encoders
from emofuse.core.params import Params
from emofuse.core.store import Store
from emofuse.corpora.ingest import CorpusConfig, ingest
from emofuse.corpora.meld import CLIPS
from emofuse.features.extract import EncoderConfig, ExtractConfig, extract


@pytest.fixture
def meld(tmp_path: Path, meld_row: Callable[..., Any], write_meld: Callable[..., Path], save_clip: Any) -> Path:
    """Transcripts and clips, and nothing that others published."""
    source = write_meld(tmp_path / "raw", {split: [meld_row(0, turn, "Hi.") for turn in (0, 1)] for split in CLIPS})
    for folder in CLIPS.values():
        for turn in (0, 1):
            save_clip(source / folder / f"dia0_utt{turn}.mp4", 0.4)
    return source


@pytest.fixture
def mosi(tmp_path: Path, save_clip: Any) -> Path:
    """The owner's layout: a video of each fold."""
    raw = tmp_path / "raw/Raw"
    videos = ("03bSnISJMiM", "_dI--eQ6qVU", "c7UH_rxdZv4")
    for folder in ("Labels", "Transcript/Segmented"):
        (raw / folder).mkdir(parents=True)
    labels = [f"{turn},{turn + 1},{video},{turn},1.5" for video in videos for turn in (1, 2)]
    (raw / "Labels/OpinionLevelSentiment.csv").write_text("\n".join(labels))
    for video in videos:
        (raw / f"Transcript/Segmented/{video}.annotprocessed").write_text("1_DELIM_HERE_GOOD\n2_DELIM_HERE_SO\n")
        for turn in (1, 2):
            save_clip(raw / f"Audio/WAV_16000/Segmented/{video}_{turn}.wav", 0.4)
    return raw.parent


@pytest.fixture
def iemocap(tmp_path: Path, save_clip: Any) -> Path:
    """A session of two turns."""
    session, ids = tmp_path / "raw/IEMOCAP_full_release/Session1", ("Ses01F_impro01_F000", "Ses01F_impro01_M000")
    for folder in ("dialog/EmoEvaluation", "dialog/transcriptions"):
        (session / folder).mkdir(parents=True)
    evaluated = [f"[{turn}.0 - {turn}.9]\t{each}\tneu\t[2.5, 2.5, 2.5]" for turn, each in enumerate(ids)]
    (session / "dialog/EmoEvaluation/Ses01F_impro01.txt").write_text("\n".join(evaluated))
    lines = [f"{each} [000.0000-000.9000]: Excuse me." for each in ids]
    (session / "dialog/transcriptions/Ses01F_impro01.txt").write_text("\n".join(lines))
    for each in ids:
        save_clip(session / f"sentences/wav/Ses01F_impro01/{each}.wav", 0.4)
    return tmp_path / "raw"


@pytest.mark.parametrize("corpus", ["meld", "mosi", "iemocap"])
def test_an_owner_s_release_becomes_features(
    root: Path, tmp_path: Path, request: pytest.FixtureRequest, corpus: str
) -> None:
    source = {"source": str(request.getfixturevalue(corpus))}
    params = Params.load(f"corpora/{corpus}/params.yaml", root).changed("corpus", source, "this test")
    config = params.get("corpus", CorpusConfig)
    assert config.name == corpus
    ingest(config, tmp_path / "corpus", tmp_path / "corpus.json")
    encoder, how = params.get("encoders.logmel", EncoderConfig), ExtractConfig(threads=1, workers=1)
    done = extract(
        "logmel", encoder, how, config.shards, tmp_path / "corpus", tmp_path / "features", Store(tmp_path / "store")
    )
    rows = pl.read_parquet(tmp_path / "features/*.parquet")
    assert done.encoded == rows.height == pl.read_parquet(tmp_path / "corpus/utterances.parquet").height
    assert (done.masked, rows["masked"].any()) == (0, False)
    assert set(rows["dim"]) == {40}
    assert rows["n_frames"].min() > 10


def test_sound_is_heard_unless_what_others_published_is_asked_for(root: Path) -> None:
    for corpus, table in (("meld", "meld-prosody"), ("mosi", "mosi-opensmile73")):
        params = Params.load(f"corpora/{corpus}/params.yaml", root)
        (heard,) = params.get("run.audio", list[str])
        assert params.get(f"encoders.{heard}", EncoderConfig).family == "speech"
        entry = params.get(f"encoders.{table}", EncoderConfig)
        published = encoders.load(entry.family, entry.options, "here")
        assert (published.modality, published.reads) == ("audio", f"table:{table.removeprefix(f'{corpus}-')}")


def test_recordings_without_words_are_read_all_the_same(root: Path, tmp_path: Path, save_clip: Any) -> None:
    for label in ("joy", "rage"):
        (tmp_path / "data/raw/mine" / label).mkdir(parents=True)
        save_clip(tmp_path / "data/raw/mine" / label / "a.wav", 0.4)
    (tmp_path / "corpora/mine").mkdir(parents=True)
    shutil.copy(root / "params.yaml", tmp_path)
    text = (root / "corpora/mosi/params.yaml").read_text(encoding="utf-8").replace("bert-base", "minilm")
    text = text.replace("mosi", "mine").replace("reader: mine", "reader: own")
    (tmp_path / "corpora/mine/params.yaml").write_text(text, encoding="utf-8")
    config = Params.load("corpora/mine/params.yaml", tmp_path).get("corpus", CorpusConfig)
    config = replace(config, source=str(tmp_path / "data/raw/mine"), options={"names": "(?P<label>.*)/.*"})
    ingest(config, tmp_path / "data/corpora/mine", tmp_path / "mine.json")
    command = [sys.executable, root / "stages/extract.py", "corpora/mine/params.yaml", "minilm"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "mine has no text: networks that read text alone predict the same for every utterance" in done.stdout
    assert pl.read_parquet(tmp_path / "data/features/mine/minilm/*.parquet")["masked"].to_list() == [True, True]


def test_without_sound_it_is_said_what_to_do(root: Path, tmp_path: Path, meld: Path) -> None:
    for folder in CLIPS.values():
        shutil.rmtree(meld / folder)
    (tmp_path / "corpora/meld").mkdir(parents=True)
    for file in ("params.yaml", "corpora/meld/params.yaml"):
        text = (root / file).read_text(encoding="utf-8").replace("- wav2vec2-base", "- logmel")
        (tmp_path / file).write_text(text, encoding="utf-8")
    config = Params.load("corpora/meld/params.yaml", tmp_path).changed("corpus", {"source": str(meld)}, "this test")
    ingest(config.get("corpus", CorpusConfig), tmp_path / "data/corpora/meld", tmp_path / "meld.json")
    command = [sys.executable, root / "stages/extract.py", "corpora/meld/params.yaml", "logmel"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 1
    fault = "extract corpora/meld/params.yaml logmel: meld has nothing that logmel could encode; `emofuse corpora` says"
    assert done.stderr.startswith(fault)
