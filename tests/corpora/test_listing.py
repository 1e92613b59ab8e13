import os
from pathlib import Path
from typing import Any

from emofuse.corpora import READERS
from emofuse.corpora.listing import KNOWN, listing

Entry = dict[str, Any]


def lines(raw: Path, name: str, *entries: Entry, published: tuple[str, ...] = ()) -> list[str]:
    """The listing of one corpus."""
    blocks = listing(entries, published, raw).split("\n\n")
    return next(block for block in blocks if block.startswith(f"{name}: ")).splitlines()


def test_every_reader_is_listed() -> None:
    assert set(KNOWN) == set(READERS) - {"demo"}


def test_an_absent_corpus_says_where_it_belongs_and_who_has_it(tmp_path: Path) -> None:
    text = "\n".join(lines(tmp_path, "iemocap"))
    assert f"folder    {tmp_path / 'iemocap'}  (not there" in text
    assert "SAIL, University of Southern California" in text
    assert "IEMOCAP release form" in text
    assert "expected  sound: 10,039 files Session?/sentences/wav/*/*.wav" in text
    assert "no corpus of this project is read so; `emofuse corpus new NAME FOLDER` makes one" in text


def test_what_is_there_and_what_is_missing(tmp_path: Path) -> None:
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    entry = {"name": "friends", "reader": "meld", "source": str(folder)}
    for split in ("train", "dev"):
        (folder / f"{split}_sent_emo.csv").touch()
        (folder / f"._{split}_sent_emo.csv").touch()
    found = lines(tmp_path, "friends", entry)
    assert "  run       dvc repro corpora/friends/dvc.yaml" in found
    assert "  PARTLY    transcripts: 2 of 3 files, *_sent_emo.csv" in found
    assert any(line.startswith("  MISSING   clips: ") for line in found)
    assert "  absent    prosody that others published: 3 files meld_*_audio_features.csv" in found
    (folder / "test_sent_emo.csv").touch()
    (folder / "dev_splits_complete").mkdir()
    (folder / "dev_splits_complete" / "dia0_utt0.mp4").touch()
    found = lines(tmp_path, "friends", entry)
    assert "  there     transcripts: 3 files, *_sent_emo.csv" in found
    assert "  there     clips: 1 file, */dia*_utt*.*" in found


def test_what_lies_as_the_archives_unpack_is_counted_together(tmp_path: Path) -> None:
    """Train's archive holds its transcript, those of dev and test lie beside the archives."""
    places = ("MELD.Raw/dev_sent_emo.csv", "MELD.Raw/test_sent_emo.csv", "MELD.Raw/train/train_sent_emo.csv")
    for place in (*places, "MELD.Raw/train/train_splits/dia0_utt0.mp4", "MELD.Raw/dev.tar.gz"):
        (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / place).touch()
    found = lines(tmp_path, "meld", {"name": "meld", "reader": "meld", "source": str(tmp_path)})
    assert "  there     transcripts: 3 files, */*_sent_emo.csv and */*/*_sent_emo.csv" in found
    assert "  there     clips: 1 file, */*/*/dia*_utt*.*" in found


def test_published_values_stand_in_for_sound(tmp_path: Path) -> None:
    (tmp_path / "mosi").mkdir()
    entry = {"name": "films", "reader": "mosi", "source": str(tmp_path / "mosi")}
    found = lines(tmp_path, "films", entry, published=("films",))
    assert "  features  audio features are values that others published" in found
    assert "  MISSING   openSMILE values that others published: mosi_audio_opensmile73.csv" in found
    assert any(line.startswith("  absent    sound: 2,199 files ") for line in found)
    found = lines(tmp_path, "films", entry)
    assert any(
        line.startswith("  features  audio features are computed from its sound; docs/how-to/encoders.md says how")
        for line in found
    )
    assert any(line.startswith("  MISSING   sound: ") for line in found)


def test_a_corpus_of_ones_own_has_a_table_or_names(tmp_path: Path) -> None:
    (tmp_path / "a.wav").touch()
    (tmp_path / "b.flac").touch()
    entry = {"name": "mine", "reader": "own", "source": str(tmp_path)}
    found = lines(tmp_path, "mine", entry)
    assert "  MISSING   table: utterances.csv or utterances.parquet" in found
    assert "  there     sound: 2 files, any folder" in found
    found = lines(tmp_path, "mine", entry | {"options": {"names": ".*"}})
    assert not any("table" in line for line in found)


def test_sound_is_counted_whatever_its_ending_and_links_to_folders_are_named(tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    for name in ("a.WAV", "b.avi", "c.txt"):
        (folder / name).touch()
    (folder / "more").symlink_to(tmp_path)
    (folder / os.fsdecode(b"gr\xfcn.txt")).touch()
    found = lines(tmp_path, "mine", {"name": "mine", "reader": "own", "source": str(folder)})
    assert "  there     sound: 2 files, any folder" in found
    assert f"  REFUSED   {folder / 'more'}: a link to a folder, which DVC does not follow" in found
    assert rf"  REFUSED   {folder}/gr\xfcn.txt: a name that is no UTF-8, which DVC cannot track" in found
