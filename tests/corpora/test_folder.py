"""Every reader sees what DVC sees: links to files, no links to folders, and nothing outside of the corpus."""

import io
import os
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile

from emofuse import corpora
from emofuse.corpora import READERS, CorpusError
from emofuse.corpora.folder import AUDIO_ENDINGS, Folder, inside, is_sound
from emofuse.corpora.own import sound_names
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


@pytest.mark.parametrize("reader", sorted(set(READERS) - {"demo"}))
@pytest.mark.parametrize("name", [b"gr\xfcn.wav", b"s\xe91/a.wav", b"notes-\xff.txt", b".hidden\xfe"])
def test_a_name_that_is_no_utf_8_is_refused_by_every_reader(tmp_path: Path, reader: str, name: bytes) -> None:
    """DVC cannot track it, and what it says of it helps nobody."""
    path = tmp_path / os.fsdecode(name)
    path.parent.mkdir(exist_ok=True)
    path.touch()
    shown = name.decode("utf-8", "backslashreplace").partition("/")[0]
    with pytest.raises(CorpusError) as raised:
        corpora.read(reader, tmp_path, {}, "x")
    assert str(raised.value).startswith(f"{tmp_path}/{shown}: a name that is no UTF-8; DVC cannot track it, so rename")
    with pytest.raises(CorpusError, match="a name that is no UTF-8"):
        sound_names(tmp_path)


# What is sound.


def film(form: str, codec: str) -> bytes:
    """A fifth of a second of noise as FFmpeg writes it."""
    buffer = io.BytesIO()
    samples = np.random.default_rng(0).uniform(-0.1, 0.1, 9_216).astype(np.float32)
    with av.open(buffer, "w", format=form) as container:
        stream = container.add_stream(codec, rate=44_100, layout="mono")
        stream.bit_rate = 64_000
        frame = av.AudioFrame.from_ndarray(samples[None], format="fltp", layout="mono")
        frame.sample_rate = 44_100
        container.mux([*stream.encode(frame), *stream.encode(None)])
    return buffer.getvalue()


def written(form: str) -> bytes:
    buffer = io.BytesIO()
    soundfile.write(buffer, np.full(1_600, 0.25), 16_000, format=form)
    return buffer.getvalue()


FORMS = {
    **{form: written(form) for form in ("WAV", "FLAC", "OGG", "MP3", "AIFF", "AU", "CAF", "W64", "NIST")},
    **{form: film(form, codec) for form, codec in (("avi", "libmp3lame"), ("flv", "libmp3lame"), ("asf", "wmav2"))},
    **{form: film(form, "aac") for form in ("mp4", "matroska", "adts", "mpegts")},
}


@pytest.mark.parametrize("name", ["clip", "clip.dat", "clip.txt", "clip.csv", "clip.xyz"])
@pytest.mark.parametrize("form", FORMS)
def test_a_file_with_sound_in_it_is_sound_whatever_its_ending(tmp_path: Path, form: str, name: str) -> None:
    (tmp_path / name).write_bytes(FORMS[form])
    assert is_sound(tmp_path / name)


OTHERS = {
    "empty": b"",
    "text": "für dich\n".encode() * 2_000,
    "text in UTF-16": "für dich\n".encode("utf-16"),
    "text in Latin-1": "für dich\n".encode("latin-1") * 100,
    "a playlist": b"#EXTM3U\n/etc/passwd\nfile:///etc/passwd\n",
    "a picture": b"\x89PNG\r\n\x1a\n" + bytes(500),
    "zeros": bytes(50_000),
    "numbers": np.random.default_rng(0).standard_normal(20_000).astype(np.float32).tobytes(),
    "noise": np.random.default_rng(1).bytes(100_000),
}


@pytest.mark.parametrize("kind", OTHERS)
def test_a_file_without_sound_is_none_but_where_its_ending_says_so(tmp_path: Path, kind: str) -> None:
    """One that says so and is damaged becomes a defect: it is not passed over."""
    (tmp_path / "clip.dat").write_bytes(OTHERS[kind])
    assert not is_sound(tmp_path / "clip.dat")
    for ending in (".wav", ".AMR", ".oga", ".wma", ".avi", ".flv"):
        (tmp_path / f"clip{ending}").write_bytes(OTHERS[kind])
        assert is_sound(tmp_path / f"clip{ending}")
        assert ending.lower() in AUDIO_ENDINGS


def test_folders_and_pipes_are_no_sound(tmp_path: Path) -> None:
    (tmp_path / "a.wav").mkdir()
    os.mkfifo(tmp_path / "b.wav")
    (tmp_path / "c.wav").symlink_to(tmp_path / "nowhere")
    assert not any(map(is_sound, tmp_path.iterdir()))
