"""Extraction encodes what changed and nothing else, and a killed one continues where it stopped."""

import re
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from emofuse import encoders
from emofuse.audio.flac import encode
from emofuse.core import schema
from emofuse.core.sharding import shard_name, shard_of
from emofuse.core.store import Store
from emofuse.encoders import EncoderError
from emofuse.features.extract import EncoderConfig, ExtractConfig, Extracted, extract
from emofuse.features.shards import FeatureError, FeatureStore, cut, defects, metadata

SHARDS = 4
TURNS = 3
DIALOGUES = [f"d{number}" for number in range(12)]
HERE = ExtractConfig(workers=1)
"""In this process, whose encoder tests look into."""


@dataclass
class Counting:
    """Encodes a text as one frame a letter, remembers what it was asked for, and can fail on the way."""

    version: int = 1
    fail_at: str | None = None
    modality: Literal["audio", "text"] = "text"
    reads: str = "text"
    dim: int = 2
    cost: float | None = None
    seen: list[str] = field(default_factory=list)
    calls: int = 0

    @property
    def identity(self) -> dict[str, Any]:
        return {"id": "counting", "revision": str(self.version), "labels_seen": False}

    def encode(self, contents: Sequence[str]) -> Iterator[np.ndarray]:
        self.calls += 1
        for text in contents:
            if text == self.fail_at:
                raise KeyboardInterrupt
            self.seen.append(text)
            yield np.array([[ord(letter) % 100, len(text) * self.version] for letter in text.strip()]).reshape(-1, 2)


@dataclass
class Corpus:
    """A corpus on disk, and its features."""

    folder: Path
    monkeypatch: pytest.MonkeyPatch
    texts: dict[str, str | None]

    def write(self) -> None:
        dialogues = sorted({each.partition("-")[0] for each in self.texts}, key=DIALOGUES.index)
        rows = [
            dict.fromkeys(schema.UTTERANCES.names)
            | {"utterance_id": each, "dialogue_id": dialogue, "turn": turn, "text": self.texts[each], "defects": []}
            | {"n_samples": 60 * schema.SAMPLE_RATE}
            for dialogue in dialogues
            for turn, each in enumerate(each for each in self.texts if each.partition("-")[0] == dialogue)
        ]
        self.folder.joinpath("corpus").mkdir(exist_ok=True)
        pq.write_table(pa.Table.from_pylist(rows, schema.UTTERANCES), self.folder / "corpus" / "utterances.parquet")

    def extract(self, encoder: Any = None, shards: int = SHARDS, **config: Any) -> dict[str, int]:
        entry: dict[str, Any] = {"modality": "text", "family": "text"} | config
        if encoder is not None:
            self.monkeypatch.setattr(encoders, "load", lambda *_: encoder)
        store = Store(self.folder / "store")
        done = extract(
            "small",
            EncoderConfig(entry["family"], entry.get("options", {})),
            *(HERE, shards, self.folder / "corpus", self.out, store, entry["modality"]),
        )
        assert done.bytes == sum(path.stat().st_size for path in self.out.glob("*.parquet"))
        assert done.seconds > 0
        return {name: getattr(done, name) for name in ("encoded", "reused", "masked")}

    @property
    def out(self) -> Path:
        return self.folder / "features"

    def files(self) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in sorted(self.out.iterdir())}

    def members(self, dialogue: str) -> set[str]:
        """The texts of all utterances that share the shard of a dialogue."""
        shard = shard_of(dialogue, SHARDS)
        return {text for each, text in self.texts.items() if shard_of(each.partition("-")[0], SHARDS) == shard and text}


@pytest.fixture
def corpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Corpus:
    texts = {f"{each}-{turn}": f"{each} says {turn}" for each in DIALOGUES for turn in range(TURNS)}
    made = Corpus(tmp_path, monkeypatch, dict(texts))
    made.write()
    return made


def test_the_corpus_fills_every_shard_in_part(corpus: Corpus) -> None:
    shards = {each: corpus.members(each) for each in DIALOGUES}
    assert len({frozenset(each) for each in shards.values()}) == SHARDS


def test_every_text_is_encoded_once_and_comes_back(corpus: Corpus) -> None:
    encoder = Counting()
    assert corpus.extract(encoder) == {"encoded": 36, "reused": 0, "masked": 0}
    assert sorted(encoder.seen) == sorted(map(str, corpus.texts.values()))
    assert encoder.calls == SHARDS
    ids = list(reversed(corpus.texts))
    frames = FeatureStore(corpus.out).align(ids)
    for index, each in enumerate(ids):
        (expected,) = Counting().encode([str(corpus.texts[each])])
        np.testing.assert_array_equal(frames.values[frames.offsets[index] : frames.offsets[index + 1]], expected)
    output = metadata(corpus.out)
    assert {
        "terms": "",
        "id": "counting",
        "revision": "1",
        "sample_rate": 16_000,
        "schema_version": 1,
    }.items() <= output.items()


def test_a_second_extraction_encodes_nothing(corpus: Corpus) -> None:
    corpus.extract(Counting())
    before = corpus.files()
    encoder = Counting()
    assert corpus.extract(encoder) == {"encoded": 0, "reused": 36, "masked": 0}
    assert (encoder.calls, encoder.seen) == (0, [])
    assert corpus.files() == before


def test_emptied_outs_come_back_from_the_store(corpus: Corpus) -> None:
    corpus.extract(Counting())
    before = corpus.files()
    for path in corpus.out.iterdir():
        path.unlink()
    encoder = Counting()
    corpus.extract(encoder)
    assert encoder.seen == []
    assert corpus.files() == before


def test_without_the_store_the_same_bytes_are_made(corpus: Corpus) -> None:
    corpus.extract(Counting())
    before = corpus.files()
    (corpus.folder / "store").rename(corpus.folder / "gone")
    assert corpus.extract(Counting())["encoded"] == 36
    assert corpus.files() == before


@pytest.mark.parametrize("text", ["something else", None])
def test_one_changed_text_encodes_its_shard_again(corpus: Corpus, text: str | None) -> None:
    corpus.extract(Counting())
    before = corpus.files()
    corpus.texts["d5-1"] = text
    corpus.write()
    encoder = Counting()
    counts = corpus.extract(encoder)
    assert set(encoder.seen) == corpus.members("d5")
    assert counts["encoded"] + counts["reused"] == 36
    assert counts["masked"] == (text is None)
    changed = {name for name, data in corpus.files().items() if before[name] != data}
    assert changed == {shard_name(shard_of("d5", SHARDS), SHARDS)}


def test_a_new_dialogue_changes_one_shard(corpus: Corpus) -> None:
    last = {each: corpus.texts.pop(each) for each in ("d11-0", "d11-1", "d11-2")}
    corpus.write()
    corpus.extract(Counting())
    before = corpus.files()
    corpus.texts |= last
    corpus.write()
    encoder = Counting()
    corpus.extract(encoder)
    assert set(encoder.seen) == corpus.members("d11")
    changed = {name for name, data in corpus.files().items() if before.get(name) != data}
    assert changed == {shard_name(shard_of("d11", SHARDS), SHARDS)}


def test_a_changed_encoder_encodes_all(corpus: Corpus) -> None:
    corpus.extract(Counting())
    encoder = Counting(version=2)
    assert corpus.extract(encoder) == {"encoded": 36, "reused": 0, "masked": 0}
    assert metadata(corpus.out)["revision"] == "2"


def test_a_killed_extraction_continues_with_what_is_missing(corpus: Corpus) -> None:
    corpus.extract(Counting())
    expected = corpus.files()
    (corpus.folder / "store").rename(corpus.folder / "gone")
    by_shard = sorted(DIALOGUES, key=lambda each: shard_of(each, SHARDS))
    last = max(each for each in by_shard if shard_of(each, SHARDS) == 2)
    first = Counting(fail_at=f"{last} says 2")
    with pytest.raises(KeyboardInterrupt):
        corpus.extract(first)
    finished = set(first.seen) - corpus.members(last)
    assert finished >= corpus.members(by_shard[0])
    second = Counting()
    counts = corpus.extract(second)
    assert sorted(second.seen) == sorted(set(map(str, corpus.texts.values())) - finished)
    assert counts == {"encoded": 36 - len(finished), "reused": len(finished), "masked": 0}
    assert corpus.files() == expected


COUNT_AND_SLEEP = """
import sys, time
from pathlib import Path
import numpy as np
from emofuse import encoders
from emofuse.features.extract import ExtractConfig, EncoderConfig, extract
from emofuse.core.store import Store

class Slow:
    __module__ = "emofuse.encoders.base"  # Its code is part of the key, and this has no file.
    modality = reads = "text"
    dim, identity, cost = 2, {"id": "slow"}, None
    def encode(self, contents):
        for text in contents:
            with open("encoded", "a") as log:
                log.write(text + "\\n")
            time.sleep(float(sys.argv[2]))
            yield np.full((1, 2), len(text))

encoders.load = lambda *_: Slow()
config = EncoderConfig("text")
print(extract("small", config, ExtractConfig(workers=1), 4, Path("corpus"), Path(sys.argv[1]), Store(Path("store"))))
"""
Start = Callable[..., subprocess.Popen[str]]


def finished(corpus: Corpus) -> set[str]:
    """Texts of the shards in the store that are whole."""
    manifests = (corpus.folder / "store" / "features").glob("[!.]*/manifest.json")
    ids = [each for path in manifests for shard in path.parent.glob("shard-*") for each in ids_of(shard)]
    return {str(corpus.texts[each]) for each in ids}


def ids_of(shard: Path) -> list[str]:
    ids: list[str] = pq.read_table(shard, columns=["utterance_id"])["utterance_id"].to_pylist()
    return ids


def encoded(corpus: Corpus) -> list[str]:
    """Every text that a process of its own has encoded, as often as it has."""
    log = corpus.folder / "encoded"
    return log.read_text().splitlines() if log.exists() else []


def test_after_kill_9_at_any_moment_what_is_missing_is_encoded(corpus: Corpus, start: Start) -> None:
    for reached in (lambda: len(encoded(corpus)) > 0, lambda: len(finished(corpus)) > 0):
        process = start(COUNT_AND_SLEEP, corpus.folder, "features", 0.1)
        while not reached():
            assert process.poll() is None, "it ended before it could be killed"
            time.sleep(0.005)
        process.kill()
        process.communicate()
    kept, before = finished(corpus), len(encoded(corpus))
    assert 0 < len(kept) < 36
    output, complaint = start(COUNT_AND_SLEEP, corpus.folder, "features", 0).communicate(timeout=300)
    assert complaint == ""
    assert sorted(encoded(corpus)[before:]) == sorted(set(map(str, corpus.texts.values())) - kept)
    assert output.startswith(f"{36 - len(kept)} utterances encoded, {len(kept)} reused, 0 defective and masked, ")
    assert len(FeatureStore(corpus.out)) == 36


def test_two_processes_share_the_work_and_harm_nothing(corpus: Corpus, start: Start) -> None:
    processes = [start(COUNT_AND_SLEEP, corpus.folder, name, 0.02) for name in ("features", "others")]
    output = [process.communicate(timeout=300) for process in processes]
    assert [complaint for _, complaint in output] == ["", ""]
    assert sorted(encoded(corpus)) == sorted(map(str, corpus.texts.values()))
    assert sum(int(line.partition(" ")[0]) for line, _ in output) == 36
    others = {path.name: path.read_bytes() for path in sorted((corpus.folder / "others").iterdir())}
    assert others == corpus.files()
    assert len(FeatureStore(corpus.out)) == 36


@pytest.mark.parametrize(
    "harm",
    [
        lambda data: data[: len(data) // 2],
        lambda data: data[:60] + bytes([data[60] ^ 1]) + data[61:],
        lambda data: b"",
    ],
)
def test_a_truncated_or_altered_shard_is_encoded_again(corpus: Corpus, harm: Callable[[bytes], bytes]) -> None:
    corpus.extract(Counting())
    before = corpus.files()
    # The store's file and the out's are one: this harms both.
    harmed = corpus.out / shard_name(shard_of("d5", SHARDS), SHARDS)
    harmed.write_bytes(harm(harmed.read_bytes()))
    encoder = Counting()
    corpus.extract(encoder)
    assert set(encoder.seen) == corpus.members("d5")
    assert corpus.files() == before


def test_a_shard_that_was_replaced_in_the_out_comes_back_from_the_store(corpus: Corpus) -> None:
    corpus.extract(Counting())
    before = corpus.files()
    other = corpus.out / shard_name(0, SHARDS)
    other.unlink()
    other.write_bytes(b"another")
    encoder = Counting()
    corpus.extract(encoder)
    assert encoder.seen == []
    assert corpus.files() == before


def test_progress_shows_clips_hours_rate_and_time_left(
    corpus: Corpus, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    corpus.extract(Counting())
    corpus.texts["d5-1"] = "something else"
    corpus.write()
    monkeypatch.setattr("emofuse.features.extract.quiet", lambda: False)
    corpus.extract(Counting())
    last = capsys.readouterr().err.split("\r")[-1]
    assert re.search(r"^small: 100%\|.*\| 36/36 \[\d\d:\d\d<\d\d:\d\d, +[\d.]+clip/s, 0.60 of 0.60 h\]", last), last


def test_shards_of_another_number_do_not_stay(corpus: Corpus) -> None:
    corpus.extract(Counting(), shards=2)
    corpus.extract(Counting())
    assert set(corpus.files()) == {shard_name(index, SHARDS) for index in range(SHARDS)}
    assert len(FeatureStore(corpus.out)) == 36


def test_masked_utterances_are_counted(corpus: Corpus) -> None:
    corpus.texts |= {"d0-0": None, "d3-2": "", "d7-1": " "}
    corpus.write()
    encoder = Counting()
    assert corpus.extract(encoder) == {"encoded": 36, "reused": 0, "masked": 3}
    assert corpus.extract(Counting()) == {"encoded": 0, "reused": 36, "masked": 3}
    assert None not in encoder.seen
    ids = list(corpus.texts)
    masked = FeatureStore(corpus.out).align(ids).masked
    assert {each for each, is_masked in zip(ids, masked, strict=True) if is_masked} == {"d0-0", "d3-2", "d7-1"}
    found = defects(corpus.out)
    assert {kind: set(each) for kind, each in found.items()} == {
        "nothing_to_encode": {"d0-0", "d3-2"},
        "too_short": {"d7-1"},
    }
    assert "\ntoo_short: 1, such as d7-1" in str(Extracted(36, 0, found, [], 1.0, 1))


def test_a_shard_without_any_text_is_all_masked(corpus: Corpus) -> None:
    for each in corpus.texts:
        corpus.texts[each] = None
    corpus.write()
    assert corpus.extract(Counting())["masked"] == 36


def test_the_wrong_modality_is_refused(corpus: Corpus) -> None:
    with pytest.raises(EncoderError, match=r"^small encodes text; name it under run\.text, not run\.audio$"):
        corpus.extract(Counting(), modality="audio")
    assert not corpus.out.exists()


def test_an_encoder_that_breaks_its_promise_leaves_nothing(corpus: Corpus) -> None:
    with pytest.raises(FeatureError, match=r"frames of shape .*; expected \[n_frames, 3\]"):
        corpus.extract(Counting(dim=3))
    assert corpus.files() == {}


def test_an_encoder_that_skips_a_text_is_an_error(corpus: Corpus, monkeypatch: pytest.MonkeyPatch) -> None:
    encode = Counting.encode
    monkeypatch.setattr(Counting, "encode", lambda self, contents: encode(self, contents[1:]))
    with pytest.raises(ValueError, match="shorter"):
        corpus.extract(Counting())
    assert corpus.files() == {}


@pytest.fixture
def published() -> dict[str, Any]:
    options = {"table": "values", "modality": "audio", "columns": 2, "labels_seen": False, "source": "them"}
    return {"modality": "audio", "family": "published", "options": options}


def write_values(corpus: Corpus, values: dict[str, Sequence[float | None]]) -> None:
    folder = corpus.folder / "corpus" / "tables"
    folder.mkdir(exist_ok=True)
    rows = [(each, *row) for each, row in values.items()]
    pl.DataFrame(rows, schema=["utterance_id", "a", "b"], orient="row").write_parquet(folder / "values.parquet")


def test_published_values(corpus: Corpus, published: dict[str, Any]) -> None:
    values: dict[str, Sequence[float | None]] = {
        each: (float(index), -0.5) for index, each in enumerate(reversed(corpus.texts))
    }
    values |= {"d4-0": (None, float("nan")), "d4-1": (None, 2.0)}
    del values["d9-2"]
    write_values(corpus, values)
    assert corpus.extract(**published) == {"encoded": 36, "reused": 0, "masked": 1}
    ids = list(corpus.texts)
    frames = FeatureStore(corpus.out).align(ids)
    assert frames.offsets.tolist() == list(range(37))
    for each, row, masked in zip(ids, frames.values, frames.masked, strict=True):
        assert masked == (each == "d9-2")
        expected = [np.nan if value is None else value for value in values.get(each, (0.0, 0.0))]
        np.testing.assert_array_equal(row, np.array(expected, np.float16))
    before = corpus.files()
    values["d9-0"] = (77.0, 77.0)
    write_values(corpus, dict(reversed(values.items())))
    assert corpus.extract(**published)["reused"] == 36 - len(corpus.members("d9"))
    changed = {name for name, data in corpus.files().items() if before[name] != data}
    assert changed == {shard_name(shard_of("d9", SHARDS), SHARDS)}


def test_no_such_published_table(corpus: Corpus, published: dict[str, Any]) -> None:
    with pytest.raises(FileNotFoundError, match=r"tables/values\.parquet: the corpus has no such published table"):
        corpus.extract(**published)


def test_a_published_table_of_another_width(corpus: Corpus, published: dict[str, Any]) -> None:
    write_values(corpus, dict.fromkeys(corpus.texts, (1.0, 2.0)))
    published["options"]["columns"] = 3
    with pytest.raises(FeatureError, match=r"d\d+-\d: frames of shape \(1, 2\); expected \[n_frames, 3\]"):
        corpus.extract(**published)


@pytest.fixture
def spoken(corpus: Corpus) -> Callable[[dict[str, int]], None]:
    """Give some utterances a sound of so many samples; 0 is a sound that was lost."""

    def write(lengths: dict[str, int]) -> None:
        rows = pl.read_parquet(corpus.folder / "corpus" / "utterances.parquet")
        digests = {each: f"{each} of {length} samples" for each, length in lengths.items() if length}
        ids = rows["utterance_id"].to_list()
        column = pl.Series([digests.get(each) for each in ids], dtype=pl.String)
        table = rows.with_columns(audio_sha256=column).to_arrow().cast(schema.UTTERANCES)
        pq.write_table(table, corpus.folder / "corpus" / "utterances.parquet")
        folder = corpus.folder / "corpus" / "audio"
        folder.mkdir(exist_ok=True)
        for index in range(SHARDS):
            own = [each for each in digests if shard_of(each.partition("-")[0], SHARDS) == index]
            clips = [
                {"utterance_id": each, "audio": {"bytes": encode(sound(lengths[each])), "path": each}}
                for each in reversed(own)
            ]
            if clips:
                pq.write_table(pa.Table.from_pylist(clips, schema.AUDIO), folder / shard_name(index, SHARDS))

    return write


class Short(Counting):
    """Reads four words and no more."""

    @property
    def identity(self) -> dict[str, Any]:
        return super().identity | {"max_tokens": 4}

    def count_tokens(self, text: str) -> int:
        return len(text.split())


def test_texts_that_are_cut_are_counted_and_named_also_when_nothing_is_encoded_anew(corpus: Corpus) -> None:
    corpus.texts |= {
        "d3-1": "one two three four",
        "d5-0": "one two three four five",
        "d0-2": "a b c d e f g",
        "d1-1": None,
    }
    corpus.write()
    for encoded in (36, 0):
        assert corpus.extract(Short())["encoded"] == encoded
        assert sorted(cut(corpus.out)) == ["d0-2", "d5-0"]
    entry = EncoderConfig("text", {})
    done = extract("small", entry, HERE, SHARDS, corpus.folder / "corpus", corpus.out, Store(corpus.folder / "store"))
    assert str(done).endswith(f"\ncut: 2, such as {', '.join(done.cut)}")
    corpus.texts |= {"d5-0": "one", "d0-2": "two"}
    corpus.write()
    corpus.extract(Short())
    assert cut(corpus.out) == []
    assert {path.suffix for path in corpus.out.iterdir()} == {".parquet"}


def test_a_damaged_list_of_cut_texts_is_named(tmp_path: Path) -> None:
    (tmp_path / "cut.json").write_text('["d0-')
    with pytest.raises(FeatureError, match=r"cut\.json: damaged: .*; run the extract stage"):
        cut(tmp_path)


def sound(n_samples: int) -> np.ndarray:
    return (3_000 * np.sin(np.arange(n_samples) / 7)).astype(np.int16)


def test_audio(corpus: Corpus, spoken: Callable[[dict[str, int]], None]) -> None:
    lengths = {each: 1_600 + 160 * index for index, each in enumerate(corpus.texts)}
    lengths |= {"d0-0": 0, "d2-1": 399, "d7-0": 0, "d7-1": 0, "d7-2": 0}
    spoken(lengths)
    options = {"modality": "audio", "family": "logmel", "options": {"n_mels": 8}}
    assert corpus.extract(**options) == {"encoded": 36, "reused": 0, "masked": 5}
    ids = list(corpus.texts)
    frames = FeatureStore(corpus.out).align(ids)
    logmel = encoders.load("logmel", {"n_mels": 8}, "here")
    for index, each in enumerate(ids):
        values = frames.values[frames.offsets[index] : frames.offsets[index + 1]]
        assert frames.masked[index] == (lengths[each] < 400)
        if not frames.masked[index]:
            (expected,) = logmel.encode([(sound(lengths[each]) / 32_768).astype(np.float32)])
            np.testing.assert_allclose(values, expected, rtol=1e-3, atol=1e-3)
    assert corpus.extract(**options)["reused"] == 36
    assert corpus.extract(**options | {"options": {"n_mels": 8, "window_ms": 30}})["encoded"] == 36
    assert metadata(corpus.out)["layer"] == "8 bands, 30 ms window"


def test_a_corpus_without_sound_is_all_masked(corpus: Corpus) -> None:
    assert corpus.extract(modality="audio", family="logmel")["masked"] == 36
