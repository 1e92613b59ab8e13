"""Corpora as their owners ship them, with the parameters as they are shipped: from the raw folder to audio features."""

import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from emofuse.core.params import Params
from emofuse.core.store import Store
from emofuse.corpora.ingest import CorpusConfig, ingest
from emofuse.corpora.meld import CLIPS
from emofuse.features.extract import ExtractConfig, Extracted, FeatureConfig, extract


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
    said = [f"{each} [000.0000-000.9000]: Excuse me." for each in ids]
    (session / "dialog/transcriptions/Ses01F_impro01.txt").write_text("\n".join(said))
    for each in ids:
        save_clip(session / f"sentences/wav/Ses01F_impro01/{each}.wav", 0.4)
    return tmp_path / "raw"


@pytest.mark.parametrize("corpus", ["meld", "mosi", "iemocap"])
def test_an_owner_s_release_becomes_features(
    root: Path, tmp_path: Path, request: pytest.FixtureRequest, corpus: str
) -> None:
    source = {"source": str(request.getfixturevalue(corpus))}
    params = switched_on(root, tmp_path, corpus).changed(f"corpora.{corpus}", source, "this test")
    config = params.get(f"corpora.{corpus}", CorpusConfig)
    ingest(corpus, config, tmp_path / "corpus", tmp_path / "corpus.json")
    done = extracted(params, corpus, tmp_path)
    rows = pl.read_parquet(tmp_path / "features/*.parquet")
    assert done.encoded == rows.height == pl.read_parquet(tmp_path / "corpus/utterances.parquet").height
    assert (done.masked, rows["masked"].any()) == (0, False)
    assert set(rows["dim"]) == {40}
    assert rows["n_frames"].min() > 10


def test_without_sound_it_is_said_what_to_do(root: Path, tmp_path: Path, meld: Path) -> None:
    for folder in CLIPS.values():
        shutil.rmtree(meld / folder)
    params = switched_on(root, tmp_path, "meld").changed("corpora.meld", {"source": str(meld)}, "this test")
    ingest("meld", params.get("corpora.meld", CorpusConfig), tmp_path / "data/corpora/meld", tmp_path / "meld.json")
    command = [sys.executable, root / "stages/extract.py", "meld-audio"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 1
    fault = "extract@meld-audio: features.meld-audio: meld has no audio that could be encoded; `emofuse corpora` says"
    assert done.stderr.startswith(fault)


def switched_on(root: Path, folder: Path, corpus: str) -> Params:
    shipped = (root / "params.yaml").read_text(encoding="utf-8")
    (folder / "params.yaml").write_text(re.sub(rf"(?m)^#{corpus} ", "", shipped), encoding="utf-8")
    return Params.load(folder / "params.yaml")


def extracted(params: Params, corpus: str, folder: Path) -> Extracted:
    """Encode the audio in this process."""
    name = f"{corpus}-audio"
    config, how = params.get(f"features.{name}", FeatureConfig), ExtractConfig(threads=1, workers=1)
    shards = params.get(f"corpora.{corpus}", CorpusConfig).shards
    return extract(name, config, how, shards, folder / "corpus", folder / "features", Store(folder / "store"))
