"""Real recordings from raw audio to a checked task and features, where they lie beside the repository."""

import re
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import soundfile
import yaml

from emofuse.core.params import validate
from emofuse.core.store import Store
from emofuse.corpora.ingest import CorpusConfig, ingest
from emofuse.features.extract import ExtractConfig, Extracted, FeatureConfig, extract
from emofuse.tasks import SPLITS, Task, TaskConfig


@pytest.fixture(scope="module")
def shared(root: Path) -> Path:
    folder = root.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"{folder} is not there")
    return folder


def ingested(folder: Path, name: str, config: dict[str, Any]) -> pl.DataFrame:
    corpus = validate(config, CorpusConfig, f"corpora.{name}")
    ingest(name, corpus, folder / name, folder / f"{name}.json")
    return pl.read_parquet(folder / name / "utterances.parquet")


def extracted(folder: Path, corpus: str, features: dict[str, Any], shards: int) -> tuple[Extracted, pl.DataFrame]:
    config = validate(features, FeatureConfig, f"features.{corpus}-audio")
    how, out = ExtractConfig(threads=1, workers=1), folder / "features"
    done = extract(f"{corpus}-audio", config, how, shards, folder / corpus, out, Store(folder / "store"))
    return done, pl.read_parquet(out / "*.parquet", columns=["utterance_id", "masked", "n_frames", "dim"])


def switched_on(root: Path, corpus: str) -> dict[str, Any]:
    text = (root / "params.yaml").read_text(encoding="utf-8")
    params: dict[str, Any] = yaml.safe_load(re.sub(rf"(?m)^#{corpus} ", "", text))
    return params


def test_meld_s_tasks_run_on_four_real_clips_beside_the_transcripts(root: Path, shared: Path, tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    raw.mkdir()
    for path in (shared / "meld").iterdir():
        (raw / path.name).symlink_to(path)
    clips = raw / "output_repeated_splits_test"
    clips.mkdir()
    for path in (shared / "meld_clips").iterdir():
        (clips / path.name).symlink_to(path)
    params = switched_on(root, "meld")
    # All but four clips are missing, which the shipped limit rightly takes for a broken corpus.
    changed = {"source": str(raw), "max_defective": 1.0}
    utterances = ingested(tmp_path, "meld", params["corpora"]["meld"] | changed)
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
        task = Task(name, validate(params["tasks"][name], TaskConfig, name), utterances)
        assert task.differences() == []
        assert task.counts(0) == {"train": 9_989, "dev": 1_109, "test": 2_610}
    corpus = params["corpora"]["meld"]
    done, rows = extracted(tmp_path, "meld", params["features"]["meld-audio"], corpus["shards"])
    assert (done.encoded, done.masked) == (13_708, 13_708 - 4)
    found = rows.filter(~pl.col("masked")).sort("utterance_id")
    assert found["utterance_id"].to_list() == heard["utterance_id"].to_list()
    assert found["n_frames"].to_list() == [1 + n // 480 for n in heard["n_samples"]]


def test_mosi_s_task_has_the_counts_of_the_whole_corpus(root: Path, shared: Path, tmp_path: Path) -> None:
    params = switched_on(root, "mosi")
    utterances = ingested(tmp_path, "mosi", params["corpora"]["mosi"] | {"source": str(shared / "mosi")})
    task = Task("mosi-2", validate(params["tasks"]["mosi-2"], TaskConfig, "tasks.mosi-2"), utterances)
    assert task.differences() == []
    assert task.counts(0) == {"train": 1_284, "dev": 229, "test": 686}
    told = task.truth().filter(pl.col("split") == "test")
    assert told["target"].value_counts().sort("target").rows() == [(0, 379), (1, 307)]
    assert (told["sentiment"] == 0).sum() == 30


def test_the_example_of_the_documentation_is_emodb_with_its_speakers_apart(
    root: Path, shared: Path, tmp_path: Path
) -> None:
    page = (root / "docs" / "own-corpus.md").read_text(encoding="utf-8")
    block = next(each for each in re.findall(r"```yaml\n(.*?)```", page, re.DOTALL) if "emodb:" in each)
    params = yaml.safe_load(block.replace("*minilm", "{}"))
    utterances = ingested(tmp_path, "emodb", params["corpora"]["emodb"] | {"source": str(shared / "emodb")})
    assert utterances.height == 535
    assert utterances["defects"].list.len().sum() == 0
    # The recordings are 16 kHz and mono already, so they are stored sample for sample.
    frames = {path.stem: soundfile.info(path).frames for path in (shared / "emodb" / "wav").glob("*.wav")}
    assert dict(utterances.select("utterance_id", "n_samples").iter_rows()) == frames
    task = Task("emodb", validate(params["tasks"]["emodb"], TaskConfig, "tasks.emodb"), utterances)
    fold = task.fold(0)
    heard = [set(fold.speakers[fold.splits == split]) for split in range(len(SPLITS))]
    assert [len(speakers) for speakers in heard] == [6, 2, 2]
    assert not heard[0] & heard[1]
    assert not (heard[0] | heard[1]) & heard[2]
    done, rows = extracted(tmp_path, "emodb", params["features"]["emodb-audio"], params["corpora"]["emodb"]["shards"])
    assert (done.encoded, done.masked) == (535, 0)
    assert dict(rows.select("utterance_id", "n_frames").iter_rows()) == {
        name: 1 + count // 320 for name, count in frames.items()
    }
