import gzip
import io
import json
import os
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest

from emofuse.audio.sound import AudioFile
from emofuse.core.store import Store
from emofuse.corpora import Corpus, CorpusError
from emofuse.corpora.archives import unpack
from emofuse.corpora.ingest import CorpusConfig, ingest
from emofuse.corpora.meld import CLIPS, Config, read, repair

Row = Callable[..., dict[str, str]]
SaveClip = Callable[..., Path]

# Where the corpus's folders stand: as the owner packs them, side by side, or under the archives' own names.
LAYOUTS = [("", ""), ("MELD.Raw", ""), ("MELD.Raw", "by split"), ("", "by split")]


@pytest.fixture
def transcripts(meld_row: Row) -> dict[str, list[dict[str, str]]]:
    """Ids repeat from split to split."""
    return {
        "train": [meld_row(0, 0, "One"), meld_row(0, 1, "Two"), meld_row(3, 4, "Three")],
        "dev": [meld_row(0, 0, "Four"), meld_row(0, 1, "Five")],
        "test": [meld_row(0, 0, "Six"), meld_row(0, 1, "Seven")],
    }


@pytest.fixture
def corpus(tmp_path: Path, transcripts: dict, write_meld: Callable[..., Path], save_clip: SaveClip) -> Path:
    """A corpus with clips as mp4; one is missing, one cannot be read, one is very short, one is long."""
    source = write_meld(tmp_path / "raw", transcripts)
    save_clip(source / "train_splits/dia0_utt0.mp4", 0.5, 48_000, 2)
    save_clip(source / "train_splits/dia0_utt1.mp4", 0.6, 44_100, 2)
    (source / "train_splits/dia3_utt4.mp4").write_bytes(b"\0" * 5_000)
    save_clip(source / "dev_splits_complete/dia0_utt1.mp4", 3.0, 8_000, 1)
    save_clip(source / "output_repeated_splits_test/dia0_utt0.mp4", 0.7, 44_100, 2)
    save_clip(source / "output_repeated_splits_test/dia0_utt1.wav", 0.05)
    return source


def clips(found: Corpus, source: Path) -> dict[str, str]:
    paths = {each.utterance_id: each.audio.path for each in found.utterances if isinstance(each.audio, AudioFile)}
    return {utterance: str(path.relative_to(source)) for utterance, path in paths.items()}


def test_each_utterance_gets_the_clip_of_its_own_split(corpus: Path) -> None:
    found = read(corpus, Config())
    assert clips(found, corpus) == {
        "train_dia0_utt0": "train_splits/dia0_utt0.mp4",
        "train_dia0_utt1": "train_splits/dia0_utt1.mp4",
        "train_dia3_utt4": "train_splits/dia3_utt4.mp4",
        "dev_dia0_utt0": "dev_splits_complete/dia0_utt0.mp4",
        "dev_dia0_utt1": "dev_splits_complete/dia0_utt1.mp4",
        "test_dia0_utt0": "output_repeated_splits_test/dia0_utt0.mp4",
        "test_dia0_utt1": "output_repeated_splits_test/dia0_utt1.wav",
    }
    assert {each.session for each in found.utterances} == {"s01e02"}
    assert [note for note in found.notes if "prosody" not in note] == []


def test_one_bad_clip_never_stops_a_corpus(corpus: Path, tmp_path: Path) -> None:
    config = CorpusConfig("meld", "meld", str(corpus), shards=3, max_seconds=2.0, max_defective=1.0)
    ingest(config, tmp_path / "out", tmp_path / "summary.json")
    table = pl.read_parquet(tmp_path / "out" / "utterances.parquet")
    assert table.select("utterance_id", "defects").rows() == [
        ("train_dia0_utt0", []),
        ("train_dia0_utt1", []),
        ("train_dia3_utt4", ["audio_unreadable"]),
        ("dev_dia0_utt0", ["audio_missing"]),
        ("dev_dia0_utt1", ["audio_too_long"]),
        ("test_dia0_utt0", []),
        ("test_dia0_utt1", ["audio_too_short"]),
    ]
    lengths = dict(table.select("utterance_id", "n_samples").iter_rows())
    assert lengths["test_dia0_utt1"] == 800
    assert lengths["dev_dia0_utt1"] == 32_000
    # aac pads, so the length is about that of the sound.
    assert lengths["train_dia0_utt0"] == pytest.approx(8_000, abs=1_500)
    assert [lengths[each] for each in ("train_dia3_utt4", "dev_dia0_utt0")] == [0, 0]
    summary = json.loads((tmp_path / "summary.json").read_text())
    expected = {"audio_missing": 1, "audio_too_long": 1, "audio_too_short": 1, "audio_unreadable": 1}
    assert summary["defects"] == expected


def test_without_any_clip_nothing_is_missing(corpus: Path) -> None:
    for folder in CLIPS.values():
        shutil.rmtree(corpus / folder)
    found = read(corpus, Config())
    assert {each.audio for each in found.utterances} == {None}
    assert {each.defects for each in found.utterances} == {()}
    assert found.notes[0].startswith("no sound: no clips in folders named train_splits, dev_splits_complete,")


def test_a_split_without_clips_is_missing_where_another_has_some(corpus: Path) -> None:
    shutil.rmtree(corpus / "dev_splits_complete")
    assert clips(read(corpus, Config()), corpus)["dev_dia0_utt1"] == "dev_splits_complete/dia0_utt1.mp4"


def test_copies_second_versions_and_clips_of_no_utterance(corpus: Path, save_clip: SaveClip) -> None:
    test = corpus / "output_repeated_splits_test"
    for name in ("._dia0_utt0.mp4", "dia0_utt0 copy.mp4", "._dia0_utt1.wav", ".DS_Store"):
        (test / name).write_bytes(b"\0\x05\x16\x07")
    save_clip(test / "final_videos_testdia0_utt0.mp4")
    save_clip(test / "dia99_utt9.mp4")
    save_clip(test / "dia0_utt1.mp4")
    found = read(corpus, Config())
    assert clips(found, corpus)["test_dia0_utt0"] == "output_repeated_splits_test/dia0_utt0.mp4"
    assert clips(found, corpus)["test_dia0_utt1"] == "output_repeated_splits_test/dia0_utt1.wav"
    assert list(found.notes[:2]) == [
        "clips of no utterance: 1, such as test_dia99_utt9",
        "second versions of clips, named final_videos_test…, which are not read: 1",
    ]


def arrange(corpus: Path, target: Path, outer: str, by_split: bool) -> Path:
    """Move the corpus into another of its layouts; `train` holds its own transcript, as in the owner's archive."""
    base = target / outer
    for split, folder in CLIPS.items():
        place = base / split if by_split else base
        shutil.copytree(corpus / folder, place / folder)
        within = place if split == "train" else base
        within.mkdir(parents=True, exist_ok=True)
        shutil.copy(corpus / f"{split}_sent_emo.csv", within)
    return target


@pytest.mark.parametrize(("outer", "by_split"), LAYOUTS)
def test_folders_may_stand_where_the_archives_put_them(corpus: Path, tmp_path: Path, outer: str, by_split: str) -> None:
    source = arrange(corpus, tmp_path / "arranged", outer, bool(by_split))
    beside = source / "__MACOSX" / "train_splits"
    beside.mkdir(parents=True)
    names = [Path(each).name for each in clips(read(corpus, Config()), corpus).values()]
    found = read(source, Config())
    assert [Path(each).name for each in clips(found, source).values()] == names
    assert all((source / each).exists() for key, each in clips(found, source).items() if key != "dev_dia0_utt0")


def pack(folder: Path, archive: Path) -> Path:
    archive.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(archive, "w:gz") as opened:
        for path in sorted(folder.iterdir()):
            opened.add(path, path.name)
    return archive


@pytest.fixture
def packed(corpus: Path, tmp_path: Path) -> Path:
    """The splits' archives beside the transcripts of dev and test, as they lie in MELD.Raw."""
    source = arrange(corpus, tmp_path / "loose", "", by_split=True)
    (source / "train/train_splits/._dia0_utt0.mp4").write_bytes(b"\0")
    for split in CLIPS:
        pack(source / split, source / f"{split}.tar.gz")
        shutil.rmtree(source / split)
    return source


def listing(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))


def test_packed_splits_are_unpacked_outside_the_raw_folder(packed: Path, corpus: Path, in_empty_folder: Path) -> None:
    before = listing(packed)
    found = read(packed, Config())
    assert listing(packed) == before
    audio = {each.utterance_id: each.audio for each in found.utterances}
    loaded = {utterance: sound.path for utterance, sound in audio.items() if isinstance(sound, AudioFile)}
    assert [key for key, path in loaded.items() if not path.exists()] == ["dev_dia0_utt0"]
    first = loaded["train_dia0_utt0"]
    assert first.resolve().is_relative_to(in_empty_folder / ".emofuse" / "unpacked")
    assert first.read_bytes() == (corpus / "train_splits/dia0_utt0.mp4").read_bytes()
    assert not list(in_empty_folder.rglob("._*"))


def test_the_archive_of_archives_is_unpacked(packed: Path, tmp_path: Path, in_empty_folder: Path) -> None:
    whole = tmp_path / "whole"
    inner = tmp_path / "outer" / "MELD.Raw"
    shutil.copytree(packed, inner)
    pack(inner.parent, whole / "MELD.Raw.tar.gz")
    found = read(whole, Config())
    assert len(found.utterances) == 7
    audio = found.utterances[0].audio
    assert isinstance(audio, AudioFile)
    assert audio.path.exists()
    assert not list(in_empty_folder.rglob("*.tar.gz"))


def test_what_was_unpacked_is_used_again_until_the_archive_changes(packed: Path, in_empty_folder: Path) -> None:
    def unpacked() -> dict[str, int]:
        return {str(path): path.stat().st_ino for path in in_empty_folder.rglob("*.mp4")}

    read(packed, Config())
    first = unpacked()
    read(packed, Config())
    assert unpacked() == first
    (packed / "dev.tar.gz").write_bytes((packed / "train.tar.gz").read_bytes())
    read(packed, Config())
    assert len(unpacked()) > len(first)


def hostile(path: Path, name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> Path:
    with tarfile.open(path, "w:gz") as archive:
        member = tarfile.TarInfo(name)
        member.type, member.linkname = kind, link
        content = b"" if link else b"written"
        member.size = len(content)
        archive.addfile(member, io.BytesIO(content))
        if link:
            through = tarfile.TarInfo(f"{name}/dia0_utt0.mp4")
            through.size = 7
            archive.addfile(through, io.BytesIO(b"written"))
    return path


@pytest.mark.parametrize("name", ["../dia0_utt0.mp4", "train_splits/../../../dia0_utt0.mp4"])
def test_an_archive_that_reaches_out_of_its_folder_is_refused(
    corpus: Path, tmp_path: Path, in_empty_folder: Path, name: str
) -> None:
    shutil.rmtree(corpus / "train_splits")
    hostile(corpus / "train.tar.gz", name)
    with pytest.raises(CorpusError, match=r"train\.tar\.gz: refused, since unpacking it is not safe: .*dia0_utt0\.mp4"):
        read(corpus, Config())
    assert not list(in_empty_folder.rglob("*.mp4"))
    assert not list(tmp_path.glob("*.mp4"))


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE])
def test_links_in_an_archive_are_not_followed(tmp_path: Path, in_empty_folder: Path, kind: bytes) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    folder = unpack(hostile(tmp_path / "a.tar.gz", "link.mp4", kind, str(outside)), ["*.mp4"])
    assert listing(outside) == []
    assert (folder / "link.mp4" / "dia0_utt0.mp4").read_bytes() == b"written"


def test_an_absolute_name_stays_in_the_folder(tmp_path: Path, in_empty_folder: Path) -> None:
    target = tmp_path / "outside.mp4"
    folder = unpack(hostile(tmp_path / "a.tar.gz", str(target)), ["*.mp4"])
    assert not target.exists()
    assert [path.read_bytes() for path in folder.rglob("*.mp4")] == [b"written"]


def test_an_inner_archive_that_reaches_out_is_refused(tmp_path: Path, in_empty_folder: Path) -> None:
    inner = tmp_path / "inner"
    inner.mkdir()
    hostile(inner / "train.tar.gz", "../../dia0_utt0.mp4")
    with pytest.raises(CorpusError, match="refused, since unpacking it is not safe"):
        unpack(pack(inner, tmp_path / "outer.tar.gz"), ["*.mp4", "*.tar.gz"])
    assert not list(in_empty_folder.rglob("*.mp4"))


@pytest.mark.parametrize("share", [0.0, 0.5])
def test_a_damaged_archive_is_named_and_leaves_nothing(packed: Path, in_empty_folder: Path, share: float) -> None:
    path = packed / "train.tar.gz"
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(CorpusError, match=r"train\.tar\.gz: cannot be unpacked: "):
        read(packed, Config())
    assert not list(in_empty_folder.rglob("*.mp4"))


@pytest.mark.parametrize("share", [0.3, 0.6, 0.9])
def test_a_flipped_bit_in_a_packed_archive_is_an_error(packed: Path, in_empty_folder: Path, share: float) -> None:
    """The contents come out wrong, and what tells is the checksum behind the end of the archive."""
    path = packed / "train.tar.gz"
    tar = bytearray(gzip.decompress(path.read_bytes()))
    # Stored without compression, so that a flipped bit is one of a clip and nothing else.
    data = bytearray(gzip.compress(bytes(tar), compresslevel=0))
    data[int(len(data) * share)] ^= 1
    path.write_bytes(data)
    with pytest.raises(CorpusError, match=r"train\.tar\.gz: cannot be unpacked: .*"):
        read(packed, Config())
    assert not list(in_empty_folder.rglob("*.mp4"))


def test_a_damaged_header_is_not_taken_for_the_end(tmp_path: Path, in_empty_folder: Path) -> None:
    for name in ("a.mp4", "b.mp4", "c.mp4"):
        (tmp_path / name).write_bytes(b"x" * 1_000)
    with tarfile.open(tmp_path / "t.tar", "w") as archive:
        for name in ("a.mp4", "b.mp4", "c.mp4"):
            archive.add(tmp_path / name, name)
    with tarfile.open(tmp_path / "t.tar") as archive:
        place = archive.getmember("b.mp4").offset
    data = bytearray((tmp_path / "t.tar").read_bytes())
    data[place] ^= 1
    (tmp_path / "t.tar").write_bytes(data)
    with pytest.raises(CorpusError, match=rf"damaged: what begins at byte {place:,} of it is no member"):
        unpack(tmp_path / "t.tar", ["*.mp4"])


def test_clips_that_are_read_again_are_not_pruned(packed: Path, in_empty_folder: Path) -> None:
    store = Store(in_empty_folder / ".emofuse")
    read(packed, Config())
    for manifest in store.root.glob("unpacked/*/manifest.json"):
        os.utime(manifest, (0, 0))
    read(packed, Config())
    assert store.prune(1) == (0, 0)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no device that is always full")
def test_a_full_disk_while_unpacking_says_what_helps(
    packed: Path, in_empty_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def to_a_full_disk(archive: tarfile.TarFile, member: tarfile.TarInfo, target: str) -> None:
        Path("/dev/full").write_bytes(b"more than there is room for")

    monkeypatch.setattr(tarfile.TarFile, "makefile", to_a_full_disk)
    with pytest.raises(
        OSError, match=r"No space left on device: .* free; .* make room, such as by `emofuse store prune"
    ):
        read(packed, Config())
    assert not list(in_empty_folder.rglob("*.mp4"))


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("I donâ€™t know", "I don’t know"),
        ("â€œWaitâ€¦â€\x9d", "“Wait…”"),
        ("youâ\x80\x99re", "you’re"),
        ("cafÃ© â€” Â£5", "café — £5"),
        ("twice Ã¢â‚¬â„¢s", "twice ’s"),
        ("it\x92s", "it’s"),
        ("café…” and Âge, “â”", "café…” and Âge, “â”"),
    ],
)
def test_mojibake_is_repaired_and_real_letters_stay(given: str, expected: str) -> None:
    assert repair(given) == expected


def test_repaired_and_stripped_texts_are_counted(
    tmp_path: Path, meld_row: Row, write_meld: Callable[..., Path]
) -> None:
    rows = [
        meld_row(0, 0, "I donâ€™t"),
        meld_row(0, 1, "Thats what I dont like"),
        meld_row(0, 2, "Its fine, were fine"),
    ]
    source = write_meld(tmp_path, {"train": rows, "dev": rows[:1], "test": [meld_row(0, 0, "I’m here, you're not")]})
    found = read(source, Config())
    assert [each.text for each in found.utterances[:2]] == ["I don’t", "Thats what I dont like"]
    assert list(found.notes[:3]) == [
        "train_sent_emo.csv: texts with UTF-8 read as Windows-1252, which were repaired: 1",
        "train_sent_emo.csv: texts with stripped apostrophes, left so: 1, such as 'Thats'",
        "dev_sent_emo.csv: texts with UTF-8 read as Windows-1252, which were repaired: 1",
    ]


def test_the_four_real_clips_beside_the_real_transcripts(root: Path, tmp_path: Path) -> None:
    shared = root.parent / "shared" / "data"
    if not (shared / "meld_clips").is_dir() or not (shared / "meld").is_dir():
        pytest.skip(f"{shared} has no meld and meld_clips")
    for path in (shared / "meld").iterdir():
        (tmp_path / path.name).symlink_to(path)
    clips = tmp_path / "output_repeated_splits_test"
    clips.mkdir()
    for path in (shared / "meld_clips").iterdir():
        (clips / path.name).symlink_to(path)
    found = read(tmp_path, Config())
    present = {
        each.utterance_id: each.audio
        for each in found.utterances
        if isinstance(each.audio, AudioFile) and each.audio.path.exists()
    }
    expected = ["test_dia0_utt0", "test_dia100_utt1", "test_dia100_utt5", "test_dia101_utt0"]
    assert sorted(present) == expected
    for utterance in expected:
        samples, rate = present[utterance].load()
        assert (samples.shape[0], rate) == (2, 44_100)
    times = {each.utterance_id: (each.start_s, each.end_s) for each in found.utterances}
    start, end = times["test_dia0_utt0"]
    samples, rate = present["test_dia0_utt0"].load()
    assert start is not None
    assert end is not None
    assert samples.shape[1] / rate == pytest.approx(end - start, abs=0.1)
