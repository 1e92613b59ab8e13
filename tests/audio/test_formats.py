import struct
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile

from emofuse.audio import resample as resampling
from emofuse.audio.clips import prepare
from emofuse.audio.flac import decode
from emofuse.audio.resample import resample
from emofuse.audio.sound import AudioFile

RATE = 16_000


def tone(seconds: float = 1.0, rate: int = RATE, channels: int = 1, hertz: float = 440.0) -> np.ndarray:
    times = np.arange(round(seconds * rate)) / rate
    return np.repeat(0.3 * np.sin(2 * np.pi * hertz * times)[None], channels, axis=0).astype(np.float32)


def write(path: Path, codec: str, rate: int = 44_100, channels: int = 2, video: bool = False, **options: str) -> Path:
    """Write one second of a tone through FFmpeg, with a picture track if asked for."""
    layout = {1: "mono", 2: "stereo", 6: "5.1"}[channels]
    with av.open(path, "w", options=options) as container:
        sound = container.add_stream(codec, rate=rate, layout=layout)
        packets = []
        if video:
            picture = container.add_stream("mpeg4", rate=25)
            picture.width, picture.height, picture.pix_fmt = 32, 32, "yuv420p"
            black = np.zeros((32, 32, 3), np.uint8)
            for _ in range(25):
                packets += picture.encode(av.VideoFrame.from_ndarray(black, format="rgb24"))
            packets += picture.encode()
        frame = av.AudioFrame.from_ndarray(tone(1.0, rate, channels), format="fltp", layout=layout)
        frame.sample_rate = rate
        for packet in [*packets, *sound.encode(frame), *sound.encode()]:
            container.mux(packet)
    return path


def pitch(samples: np.ndarray, rate: int) -> float:
    spectrum = np.abs(np.fft.rfft(samples * np.hanning(len(samples))))
    return float(spectrum.argmax() * rate / len(samples))


@pytest.mark.parametrize("name", ["a.mp4", "a.m4a", "a.mkv", "a.mov", "a.avi"])
def test_films_are_read_through_ffmpeg(tmp_path: Path, name: str) -> None:
    samples, rate = AudioFile(write(tmp_path / name, "aac", video=name != "a.m4a")).load()
    assert (samples.dtype, samples.shape[0], rate) == (np.float32, 2, 44_100)
    # aac pads at both ends, so the length is about that of the sound and never expected to be it.
    assert 0.99 * rate <= samples.shape[1] <= 1.15 * rate
    assert pitch(samples[0], rate) == pytest.approx(440, abs=2)
    assert np.abs(samples).max() == pytest.approx(0.3, abs=0.05)


@pytest.mark.parametrize("rate", [8_000, 22_050, 48_000])
@pytest.mark.parametrize("channels", [1, 2, 6])
def test_mp4_of_any_rate_and_channels_is_stored_as_16_khz_mono(tmp_path: Path, rate: int, channels: int) -> None:
    clip = prepare(AudioFile(write(tmp_path / "a.mp4", "aac", rate, channels)), 40.0)
    assert clip.defects == ()
    assert clip.reason is None
    assert clip.data is not None
    stored = decode(clip.data)
    assert len(stored) == clip.n_samples
    assert 0.99 * RATE <= len(stored) <= 1.3 * RATE
    assert pitch(stored, RATE) == pytest.approx(440, abs=2)


@pytest.mark.parametrize("name", ["a.wav", "a.flac", "a.mp3", "a.ogg"])
@pytest.mark.parametrize(("rate", "channels"), [(8_000, 1), (16_000, 1), (44_100, 2), (48_000, 2)])
def test_sound_files_are_read_through_libsndfile(tmp_path: Path, name: str, rate: int, channels: int) -> None:
    soundfile.write(tmp_path / name, tone(1.0, rate, channels).T, rate)
    samples, found = AudioFile(tmp_path / name).load()
    assert (found, samples.shape) == (rate, (channels, rate))
    assert pitch(samples[-1], rate) == pytest.approx(440, abs=2)


@pytest.mark.parametrize("options", [{}, {"write_xing": "0"}])
def test_an_mp3_whose_length_is_an_estimate_is_whole(tmp_path: Path, options: dict[str, str]) -> None:
    samples, _ = AudioFile(write(tmp_path / "a.mp3", "libmp3lame", **options)).load()
    assert samples.shape[1] >= 44_100


@pytest.mark.parametrize("name", ["film.wav", "film.raw", "film.mp3", "film"])
def test_the_content_decides_and_not_the_name(tmp_path: Path, name: str) -> None:
    write(tmp_path / "a.mp4", "aac", 16_000, 1).rename(tmp_path / name)
    assert prepare(AudioFile(tmp_path / name), 40.0).defects == ()
    soundfile.write(tmp_path / "b.wav", tone()[0], RATE)
    (tmp_path / "b.wav").rename(tmp_path / "b.mp4")
    assert prepare(AudioFile(tmp_path / "b.mp4"), 40.0).n_samples == RATE


def cut(path: Path, share: float) -> Path:
    data = path.read_bytes()
    part = path.with_name(f"part{path.suffix}")
    part.write_bytes(data[: int(len(data) * share)])
    return part


@pytest.mark.parametrize("share", [0.4, 0.8, 0.98])
@pytest.mark.parametrize("front", [True, False])
def test_a_film_that_was_cut_off_is_refused(tmp_path: Path, share: float, front: bool) -> None:
    options = {"movflags": "faststart"} if front else {}
    path = cut(write(tmp_path / "a.mp4", "aac", video=True, **options), share)
    with pytest.raises(OSError, match=r"part\.mp4: "):
        AudioFile(path).load()


@pytest.mark.parametrize(
    ("name", "defect"), [("a.wav", "audio_cut_off"), ("a.flac", "audio_damaged"), ("a.aiff", "audio_cut_off")]
)
@pytest.mark.parametrize("share", [0.5, 0.95])
def test_what_there_is_of_a_sound_file_that_was_cut_off_is_kept(
    tmp_path: Path, name: str, defect: str, share: float
) -> None:
    soundfile.write(tmp_path / name, tone(3.0)[0], RATE)
    path = cut(tmp_path / name, share)
    clip = prepare(AudioFile(path), 40.0)
    assert clip.defects == (defect,)
    assert clip.data is not None
    whole = prepare(AudioFile(tmp_path / name), 40.0).data
    assert whole is not None
    np.testing.assert_array_equal(decode(clip.data), decode(whole)[: clip.n_samples])
    assert 3 * RATE * share - 4_096 < clip.n_samples <= 3 * RATE * share
    with pytest.raises(OSError, match=rf"part\{path.suffix}: "):
        AudioFile(path).load()


@pytest.mark.parametrize(("name", "share"), [("a.flac", 0.01), ("a.ogg", 0.01), ("a.wav", 0.0003)])
def test_nothing_is_kept_of_a_sound_file_without_a_sample(tmp_path: Path, name: str, share: float) -> None:
    soundfile.write(tmp_path / name, tone(3.0)[0], RATE)
    path = cut(tmp_path / name, share)
    clip = prepare(AudioFile(path), 40.0)
    assert (clip.defects, clip.data) == (("audio_unreadable",), None)
    assert clip.reason is not None
    assert clip.reason.startswith(f"{path}: ")


@pytest.mark.parametrize(("share", "defect"), [(0.01, "audio_unreadable"), (0.95, "audio_empty")])
def test_an_ogg_that_was_cut_off_is_a_defect(tmp_path: Path, share: float, defect: str) -> None:
    soundfile.write(tmp_path / "a.ogg", tone(3.0)[0], RATE)
    assert prepare(AudioFile(cut(tmp_path / "a.ogg", share)), 40.0).defects == (defect,)


def test_a_cut_wav_says_how_much_is_missing(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", tone()[0], RATE)
    with pytest.raises(
        OSError, match=r"cut off: by its headers it should have at least 32044 bytes, but it has 16022$"
    ):
        AudioFile(cut(tmp_path / "a.wav", 0.5)).load()


@pytest.mark.parametrize("length", [0xFFFFFFFF, 0x7FFFF000])
def test_a_wav_that_was_written_to_a_pipe_is_whole(tmp_path: Path, length: int) -> None:
    path = tmp_path / "a.wav"
    soundfile.write(path, tone()[0], RATE)
    data = bytearray(path.read_bytes())
    data[40:44] = struct.pack("<I", length)
    path.write_bytes(data)
    samples, _ = AudioFile(path).load()
    assert samples.shape == (1, RATE)


def test_chunks_before_and_after_the_sound_are_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    soundfile.write(path, tone()[0], RATE)
    data = path.read_bytes()
    note = struct.pack("<4sI", b"note", 3) + b"abc\0"
    path.write_bytes(data[:36] + note + data[36:] + note)
    assert prepare(AudioFile(path), 40.0).n_samples == RATE


def random_bytes() -> bytes:
    return np.random.default_rng(0).bytes(20_000)


@pytest.mark.parametrize("ending", ["wav", "mp3", "mp4", "flac"])
@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (lambda: b"", "empty, 0 bytes"),
        (lambda: b"This is no sound.\n" * 50, "not a sound file that can be decoded: "),
        (random_bytes, "not a sound file that can be decoded: "),
        (lambda: b"%PDF-1.4\n" + random_bytes(), "not a sound file that can be decoded: "),
    ],
)
def test_what_is_no_sound_is_refused_by_name(
    tmp_path: Path, ending: str, content: Callable[[], bytes], fault: str
) -> None:
    path = tmp_path / f"clip.{ending}"
    path.write_bytes(content())
    with pytest.raises(OSError, match=rf"clip\.{ending}: {fault}"):
        AudioFile(path).load()


def test_a_film_without_sound_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    with av.open(path, "w") as container:
        picture = container.add_stream("mpeg4", rate=25)
        picture.width, picture.height, picture.pix_fmt = 32, 32, "yuv420p"
        frame = av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8), format="rgb24")
        for packet in [*picture.encode(frame), *picture.encode()]:
            container.mux(packet)
    with pytest.raises(OSError, match=r"a\.mp4: no sound in it"):
        AudioFile(path).load()


def test_a_playlist_opens_no_other_file(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "secret.mp3", tone()[0], RATE)
    playlist = f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{tmp_path}/secret.mp3\n#EXT-X-ENDLIST\n"
    (tmp_path / "a.m3u8").write_text(playlist)
    assert prepare(AudioFile(tmp_path / "a.m3u8"), 40.0).defects == ("audio_unreadable",)


def test_a_missing_file_and_a_folder_are_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"none\.mp4: not found"):
        AudioFile(tmp_path / "none.mp4").load()
    missing = prepare(AudioFile(tmp_path / "none.mp4"), 40.0)
    assert (missing.defects, missing.reason) == (("audio_missing",), f"{tmp_path / 'none.mp4'}: not found")
    assert prepare(AudioFile(tmp_path), 40.0).defects == ("audio_unreadable",)


def test_a_number_that_is_not_finite_is_a_defect_with_its_file(tmp_path: Path) -> None:
    samples = tone()[0]
    samples[5_000] = np.nan
    soundfile.write(tmp_path / "a.wav", samples, RATE, subtype="FLOAT")
    clip = prepare(AudioFile(tmp_path / "a.wav"), 40.0)
    assert (clip.defects, clip.data) == (("audio_not_finite",), None)
    assert clip.reason == "a.wav: a sample is not a finite number"


@pytest.mark.parametrize(("seconds", "defects"), [(0.0999, ("audio_too_short",)), (0.1, ())])
def test_a_very_short_clip_is_kept_and_listed(tmp_path: Path, seconds: float, defects: tuple[str, ...]) -> None:
    soundfile.write(tmp_path / "a.wav", tone(seconds, 48_000, 2).T, 48_000)
    clip = prepare(AudioFile(tmp_path / "a.wav"), 40.0)
    assert clip.defects == defects
    assert clip.reason == ("a.wav: 0.100 s, under 0.1 s" if defects else None)
    assert clip.data is not None
    assert clip.n_samples == pytest.approx(seconds * RATE, abs=1)


@pytest.mark.parametrize("rate", [8_000, 44_100])
def test_what_is_cut_off_a_long_clip_is_not_heard_in_what_is_kept(tmp_path: Path, rate: int) -> None:
    long, short = tone(5.0, rate), tone(2.0, rate)
    soundfile.write(tmp_path / "long.wav", long[0], rate)
    soundfile.write(tmp_path / "short.wav", short[0], rate)
    clips = [prepare(AudioFile(tmp_path / name), 1.0) for name in ("long.wav", "short.wav")]
    assert [clip.defects for clip in clips] == [("audio_too_long",)] * 2
    assert [clip.reason for clip in clips] == ["long.wav: 5.0 s, cut at 1 s", "short.wav: 2.0 s, cut at 1 s"]
    assert clips[0].n_samples == RATE
    assert clips[0].sha256 == clips[1].sha256


@pytest.mark.parametrize("rate", [44_101, 191_999, 7_919, 15_882, 22_254, 767_999])
def test_a_rate_without_a_common_divisor_takes_little_memory(rate: int) -> None:
    assert resampling._resampler(resampling._near(rate)).kernel.numel() < 20_000_000
    resampled = resample(tone(1.0, rate)[0], rate)
    assert len(resampled) == pytest.approx(RATE, rel=0.001)
    assert pitch(resampled, RATE) == pytest.approx(440, abs=2)


@pytest.mark.parametrize("rate", [1, 999, 768_001, 16_777_213])
def test_a_rate_that_no_recording_has_is_refused(tmp_path: Path, rate: int) -> None:
    soundfile.write(tmp_path / "a.wav", tone(2.0)[0], rate)
    clip = prepare(AudioFile(tmp_path / "a.wav"), 2.0)
    assert clip.defects == ("audio_unreadable",)
    assert clip.reason == f"{tmp_path / 'a.wav'}: its header says {rate} Hz and 1 channels, which no recording has"


@pytest.mark.parametrize("rate", [1_000, 767_999])
def test_rates_at_the_bounds_are_read(tmp_path: Path, rate: int) -> None:
    soundfile.write(tmp_path / "a.wav", tone(0.5, rate, hertz=220)[0], rate)
    clip = prepare(AudioFile(tmp_path / "a.wav"), 2.0)
    assert clip.defects == ()
    assert clip.data is not None
    assert clip.n_samples == pytest.approx(RATE / 2, rel=0.002)
    assert pitch(decode(clip.data), RATE) == pytest.approx(220, abs=2)
