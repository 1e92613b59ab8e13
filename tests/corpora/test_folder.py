"""Every reader sees what DVC sees: links to files, no links to folders, and nothing outside of the corpus."""

import os
from pathlib import Path

import pytest

from emofuse import corpora
from emofuse.corpora import READERS, CorpusError
from emofuse.corpora.folder import Folder, inside
from emofuse.corpora.tables import TableConfig, read_table


@pytest.mark.parametrize("reader", sorted(set(READERS) - {"demo"}))
@pytest.mark.parametrize("place", ["audio", "audio/s1", "Session1"])
def test_a_link_to_a_folder_is_refused_by_every_reader(tmp_path: Path, reader: str, place: str) -> None:
    source, elsewhere = tmp_path / "raw", tmp_path / "elsewhere"
    (source / place).parent.mkdir(parents=True)
    elsewhere.mkdir()
    (source / place).symlink_to(elsewhere)
    with pytest.raises(CorpusError, match=rf"{source / place}: a link to a folder; DVC does not follow it"):
        corpora.read(reader, source, {}, "corpora.x.options")


def test_the_corpus_itself_may_be_a_link(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "utterances.csv").write_text("utterance_id\na\n")
    (tmp_path / "raw").symlink_to(tmp_path / "real")
    assert len(corpora.read("own", tmp_path / "raw", {}, "x").utterances) == 1


@pytest.mark.parametrize("name", ["../secret", "a/../../b", "/etc/passwd", "a\0b", ""])
def test_names_that_leave_the_folder_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match="is no file below"):
        inside(tmp_path, name)
    (tmp_path / "audio").mkdir()
    if name and "\0" not in name:
        (tmp_path / "utterances.csv").write_text(f"utterance_id\n{name}\n")
        with pytest.raises(
            CorpusError, match=r"utterances\.csv: row 1: utterance_id is .*; expected a name for a file"
        ):
            corpora.read("own", tmp_path, {}, "x")


def test_ids_of_other_readers_do_not_leave_the_folder_either(tmp_path: Path) -> None:
    (tmp_path / "Raw").mkdir()
    (tmp_path / "label.csv").write_text("video_id,clip_id,text,label,mode\n../../x,1,Hi,1,train\n")
    with pytest.raises(CorpusError, match=r"label\.csv: row 1: video_id is '\.\./\.\./x'; expected a name for a file"):
        corpora.read("mosi", tmp_path, {}, "x")
    with pytest.raises(CorpusError, match="outside the corpus's folder"):
        read_table(tmp_path / "Raw", TableConfig(path="../label.csv"))


def test_names_are_found_however_they_are_spelt(tmp_path: Path) -> None:
    (tmp_path / "Mu\u0308ller").mkdir()
    (tmp_path / "Mu\u0308ller" / "gru\u0308n.wav").touch()
    asked = tmp_path / "M\u00fcller" / "gr\u00fcn.wav"
    assert Folder().find(asked, tmp_path) == tmp_path / "Mu\u0308ller" / "gru\u0308n.wav"
    absent = tmp_path / "M\u00fcller" / "blau.wav"
    assert Folder().find(absent, tmp_path) == absent


def test_a_table_that_is_a_named_pipe_is_refused(tmp_path: Path) -> None:
    for name in ("t.csv", "t.pkl", "t.npz", "t.parquet"):
        os.mkfifo(tmp_path / name)
        with pytest.raises(CorpusError, match=rf"{name}: not a regular file"):
            read_table(tmp_path, TableConfig(path=name))
