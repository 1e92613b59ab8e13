"""Real recordings from raw audio to a checked task and features, where they lie beside the repository."""

import shutil
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import soundfile

from emofuse.core.params import Params
from emofuse.core.schema import SPLITS
from emofuse.core.store import Store
from emofuse.corpora.ingest import CorpusConfig, ingest
from emofuse.corpora.propose import propose, write_corpus
from emofuse.features.extract import EncoderConfig, ExtractConfig, Extracted, extract
from emofuse.plan import plans
from emofuse.tasks import Task, TaskConfig

HOP = 640
"""Samples from a frame of log-mel bands to the next, 40 ms."""


@pytest.fixture(scope="module")
def shared(root: Path) -> Path:
    folder = root.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"{folder} is not there")
    return folder


def ingested(folder: Path, params: Params, **changed: Any) -> pl.DataFrame:
    config = params.changed("corpus", changed, "this test").get("corpus", CorpusConfig)
    ingest(config, folder / "corpus", folder / "corpus.json")
    return pl.read_parquet(folder / "corpus" / "utterances.parquet")


def extracted(folder: Path, params: Params) -> tuple[Extracted, pl.DataFrame]:
    """Encode the sound as log-mel bands."""
    config, how, out = params.get("encoders.logmel", EncoderConfig), ExtractConfig(threads=1, workers=1), folder / "out"
    done = extract(
        "logmel", config, how, params.get("corpus.shards", int), folder / "corpus", out, Store(folder / "store")
    )
    return done, pl.read_parquet(out / "*.parquet", columns=["utterance_id", "masked", "n_frames", "dim"])


def test_meld_s_tasks_run_on_four_real_clips_beside_the_transcripts(root: Path, shared: Path, tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    raw.mkdir()
    for path in (shared / "meld").iterdir():
        (raw / path.name).symlink_to(path)
    clips = raw / "output_repeated_splits_test"
    clips.mkdir()
    for path in (shared / "meld_clips").iterdir():
        (clips / path.name).symlink_to(path)
    params = Params.load("corpora/meld/params.yaml", root)
    # All but four clips are missing, which the shipped limit rightly takes for a broken corpus.
    utterances = ingested(tmp_path, params, source=str(raw), max_defective=1.0)
    heard = utterances.filter(pl.col("audio_sha256").is_not_null())
    assert heard["utterance_id"].to_list() == [
        *("test_dia0_utt0", "test_dia100_utt1", "test_dia100_utt5", "test_dia101_utt0")
    ]
    frames = {path.stem: soundfile.info(path).frames for path in (shared / "meld_clips").glob("*.wav")}
    for name, n_samples in heard.select("utterance_id", "n_samples").iter_rows():
        assert abs(n_samples - frames[name.removeprefix("test_")] * 16_000 / 44_100) < 1
    missing = utterances.filter(pl.col("defects").list.contains("audio_missing"))
    assert missing.height == 13_708 - 4
    for name in ("meld-7", "meld-3"):
        task = Task(name, params.get(f"tasks.{name}", TaskConfig), utterances)
        assert task.differences() == []
        assert task.counts(0) == {"train": 9_989, "dev": 1_109, "test": 2_610}
    done, rows = extracted(tmp_path, params)
    assert (done.encoded, done.masked) == (13_708, 13_708 - 4)
    found = rows.filter(~pl.col("masked")).sort("utterance_id")
    assert found["utterance_id"].to_list() == heard["utterance_id"].to_list()
    assert found["n_frames"].to_list() == [1 + n // HOP for n in heard["n_samples"]]


def test_mosi_s_task_has_the_counts_of_the_whole_corpus(root: Path, shared: Path, tmp_path: Path) -> None:
    params = Params.load("corpora/mosi/params.yaml", root)
    utterances = ingested(tmp_path, params, source=str(shared / "mosi"))
    task = Task("mosi-2", params.get("tasks.mosi-2", TaskConfig), utterances)
    assert task.differences() == []
    assert task.counts(0) == {"train": 1_284, "dev": 229, "test": 686}
    found = task.truth().filter(pl.col("split") == "test")
    assert found["target"].value_counts().sort("target").rows() == [(0, 379), (1, 307)]
    assert (found["sentiment"] == 0).sum() == 30


def test_a_stranger_s_corpus_is_emodb_with_its_speakers_apart(root: Path, shared: Path, tmp_path: Path) -> None:
    for name in ("params.yaml", "dvc.yaml"):
        shutil.copy(root / name, tmp_path)
    write_corpus(propose("emodb", shared / "emodb", folds=1), shared / "emodb", tmp_path)
    assert [plan.corpus for plan in plans(tmp_path)] == ["demo", "emodb"]
    params = Params.load("corpora/emodb/params.yaml", tmp_path)
    utterances = ingested(tmp_path, params, source=str(shared / "emodb"))
    assert utterances.height == 535
    assert utterances["defects"].list.len().sum() == 0
    # The recordings are 16 kHz and mono already, so they are stored sample for sample.
    frames = {path.stem: soundfile.info(path).frames for path in (shared / "emodb" / "wav").glob("*.wav")}
    assert dict(utterances.select("utterance_id", "n_samples").iter_rows()) == frames
    task = Task("emodb", params.get("tasks.emodb", TaskConfig), utterances)
    fold = task.fold(0)
    heard = [set(fold.speakers[fold.splits == split]) for split in range(len(SPLITS))]
    assert [len(speakers) for speakers in heard] == [6, 2, 2]
    assert not heard[0] & heard[1]
    assert not (heard[0] | heard[1]) & heard[2]
    done, rows = extracted(tmp_path, params)
    assert (done.encoded, done.masked) == (535, 0)
    assert dict(rows.select("utterance_id", "n_frames").iter_rows()) == {
        name: 1 + count // HOP for name, count in frames.items()
    }
