"""Sound files as they come: headers of crashed recorders, rare codecs, other ranges, bombs; what is there is kept."""

import io
import re
import struct
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile

from emofuse.audio import decode as decoding
from emofuse.audio.clips import prepare
from emofuse.audio.flac import decode
from emofuse.audio.sound import AudioFile, Sound, read_sound

RATE = 16_000


def tone(seconds: float = 1.0, rate: int = RATE) -> np.ndarray:
    return (0.3 * np.sin(2 * np.pi * 440 * np.arange(round(seconds * rate)) / rate)).astype(np.float32)


def wav(samples: np.ndarray, rate: int = RATE, subtype: str = "PCM_16") -> bytearray:
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, rate, format="WAV", subtype=subtype)
    return bytearray(buffer.getvalue())


def patched(data: bytearray, place: int, value: int) -> bytearray:
    return data[:place] + struct.pack("<I", value) + data[place + 4 :]


def save(folder: Path, data: bytes, name: str = "a.wav") -> AudioFile:
    (folder / name).write_bytes(data)
    return AudioFile(folder / name)


def pitch(data: bytes) -> float:
    samples = decode(data)
    spectrum = np.abs(np.fft.rfft(samples * np.hanning(len(samples))))
    return float(spectrum.argmax() * RATE / len(samples))


def packed(source: Path, path: Path) -> None:
    """Put a sound file's stream, as it is, into a container that FFmpeg alone reads."""
    with av.open(str(source)) as found, av.open(str(path), "w", format="matroska") as container:
        stream = container.add_stream_from_template(found.streams.audio[0])
        for packet in found.demux(found.streams.audio[0]):
            if packet.dts is not None:
                packet.stream = stream
                container.mux(packet)


def ffmpeg_wav(path: Path, codec: str, rate: int, bit_rate: int | None = None) -> AudioFile:
    """Write a tone in a WAV file by a codec that libsndfile may not know."""
    with av.open(path, "w", format="wav") as container:
        stream = container.add_stream(codec, rate=rate, layout="mono")
        if bit_rate:
            stream.bit_rate = bit_rate
        stream.codec_context.open()
        size = stream.codec_context.frame_size or 1024
        resampler = av.AudioResampler(
            format=stream.codec_context.format.name, layout="mono", rate=rate, frame_size=size
        )
        frame = av.AudioFrame.from_ndarray(tone(1.0, rate)[None], format="fltp", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = rate, 0, Fraction(1, rate)
        for each in [*resampler.resample(frame), *resampler.resample(None)]:
            container.mux(stream.encode(each))
        container.mux(stream.encode(None))
    return AudioFile(path)


# What libsndfile cannot read, or not to the end


@pytest.mark.parametrize("subtype", ["GSM610", "G721_32", "IMA_ADPCM", "MS_ADPCM", "ALAW"])
def test_telephone_codecs_are_read(tmp_path: Path, subtype: str) -> None:
    clip = prepare(save(tmp_path, wav(tone(1.0, 8_000), 8_000, subtype)), 40.0)
    assert clip.defects == ()
    assert clip.data is not None
    assert RATE <= clip.n_samples <= 1.1 * RATE
    assert pitch(clip.data) == pytest.approx(440, abs=2)


@pytest.mark.parametrize(
    ("codec", "rate", "bit_rate"),
    [
        *[("ac3", 48_000, 96_000), ("g722", 16_000, None), ("g723_1", 8_000, 6_300), ("adpcm_g726", 8_000, 32_000)],
        *[("wmav2", 44_100, 64_000), ("adpcm_yamaha", 44_100, None), ("libmp3lame", 44_100, 64_000)],
    ],
)
def test_what_only_ffmpeg_reads_in_a_wav_is_read(tmp_path: Path, codec: str, rate: int, bit_rate: int | None) -> None:
    clip = prepare(ffmpeg_wav(tmp_path / "a.wav", codec, rate, bit_rate), 40.0)
    assert clip.defects == ()
    assert clip.data is not None
    assert 0.9 * RATE <= clip.n_samples <= 1.15 * RATE
    assert pitch(clip.data) == pytest.approx(440, abs=5)


def test_the_words_are_those_of_the_reader_that_was_asked_last(tmp_path: Path) -> None:
    data = wav(tone())
    data[20:22] = b"\xff\x7f"  # a codec that nobody has
    clip = prepare(save(tmp_path, data), 40.0)
    assert clip.defects == ("audio_unreadable",)
    assert clip.reason is not None
    assert "FFmpeg does not know" in clip.reason or "not a sound file that can be decoded" in clip.reason


def test_a_film_whose_sound_has_no_known_codec_is_a_defect(tmp_path: Path) -> None:
    with av.open(tmp_path / "a.mp4", "w") as container:
        stream = container.add_stream("aac", rate=RATE, layout="mono")
        frame = av.AudioFrame.from_ndarray(tone()[None], format="fltp", layout="mono")
        frame.sample_rate = RATE
        for packet in [*stream.encode(frame), *stream.encode()]:
            container.mux(packet)
    data = (tmp_path / "a.mp4").read_bytes()
    # The codec is named by four letters, and by a number in the box `esds`.
    data, count = re.subn(
        rb"(?s)(\x04\x80\x80\x80.)\x40", lambda found: found[1] + b"\xfe", data.replace(b"mp4a", b"xxxx")
    )
    assert count == 1
    clip = prepare(save(tmp_path, data, "b.mp4"), 40.0)
    assert clip.defects == ("audio_unreadable",)
    assert clip.reason == f"{tmp_path / 'b.mp4'}: its sound is in a form that FFmpeg does not know"


# Headers that do not say the truth


@pytest.mark.parametrize("riff", [True, False])
def test_the_sound_of_a_recorder_that_crashed_is_kept(tmp_path: Path, riff: bool) -> None:
    data = patched(wav(tone()), 40, 0)
    clip = prepare(save(tmp_path, patched(data, 4, 0) if riff else data), 40.0)
    whole = prepare(save(tmp_path, wav(tone())), 40.0)
    assert (clip.defects, clip.n_samples, clip.sha256) == (("audio_header_wrong",), RATE, whole.sha256)
    assert (
        clip.reason == "a.wav: its header says that it has no samples, but 32000 bytes follow, which are read as sound"
    )


def test_what_stands_behind_no_sound_is_not_heard(tmp_path: Path) -> None:
    data = wav(tone(0.0)) + struct.pack("<4sI", b"LIST", 400) + bytes(range(200)) * 2
    assert prepare(save(tmp_path, data), 40.0).defects == ("audio_empty",)


@pytest.mark.parametrize(
    "behind", [bytes(4_096), b"ID3\x03\0" + bytes(100_000), b"_PMX" + (100_000).to_bytes(4, "little") + bytes(100_000)]
)
def test_padding_and_chunks_behind_the_sound_are_no_fault(tmp_path: Path, behind: bytes) -> None:
    clip = prepare(save(tmp_path, wav(tone()) + behind), 40.0)
    assert (clip.defects, clip.n_samples) == ((), RATE)


@pytest.mark.parametrize("missing", [1, 2, 7])
def test_a_size_a_little_over_the_truth_costs_no_clip(tmp_path: Path, missing: int) -> None:
    data = wav(tone())
    clip = prepare(save(tmp_path, data[:-missing]), 40.0)
    assert clip.defects == ("audio_cut_off",)
    assert clip.n_samples == RATE - (missing + 1) // 2
    assert clip.reason is not None
    assert "at least 32044 bytes, but it has" in clip.reason


@pytest.mark.parametrize("channels", [33, 1_000])
def test_channels_that_no_recording_has_are_refused(tmp_path: Path, channels: int) -> None:
    soundfile.write(tmp_path / "a.wav", np.zeros((100, channels), np.float32), 48_000, subtype="PCM_16")
    clip = prepare(AudioFile(tmp_path / "a.wav"), 2.0)
    assert clip.defects == ("audio_unreadable",)
    assert clip.reason is not None
    assert clip.reason.endswith("channels, which no recording has")


# Range and channels


@pytest.mark.parametrize("subtype", ["FLOAT", "DOUBLE"])
def test_float_samples_that_are_16_bit_integers_are_scaled_and_told(tmp_path: Path, subtype: str) -> None:
    pcm = np.rint(tone() * 32_768)
    clip = prepare(save(tmp_path, wav(pcm, subtype=subtype)), 40.0)
    assert clip.defects == ("audio_rescaled",)
    assert clip.data is not None
    np.testing.assert_array_equal(decode(clip.data) * 32_768, pcm)


@pytest.mark.parametrize("scale", [32_767.3, 8_388_608, 1e30])
def test_float_samples_far_beyond_full_scale_are_not_made_a_square_wave(tmp_path: Path, scale: float) -> None:
    clip = prepare(save(tmp_path, wav(tone() * scale, subtype="FLOAT")), 40.0)
    assert (clip.defects, clip.data) == (("audio_out_of_range",), None)
    assert clip.reason is not None
    assert "where full scale is 1" in clip.reason
    assert prepare(Sound("a", tone()[None] * np.float32(scale), RATE), 40.0).defects == ("audio_out_of_range",)


@pytest.mark.parametrize(("gain", "defects"), [(3.2, ()), (3.5, ("audio_clipped",)), (20.0, ("audio_clipped",))])
def test_loud_samples_are_cut_off_and_told_where_they_are_many(gain: float, defects: tuple[str, ...]) -> None:
    assert prepare(Sound("a", tone()[None] * np.float32(gain), RATE), 40.0).defects == defects


@pytest.mark.parametrize("gain", [1.0, 0.9, 1.1])
def test_of_channels_that_cancel_the_loudest_is_taken(tmp_path: Path, gain: float) -> None:
    stereo = np.stack([tone() * gain, -tone()], axis=1)
    clip = prepare(save(tmp_path, wav(stereo)), 40.0)
    assert clip.defects == ("audio_channels_cancel",)
    assert clip.data is not None
    np.testing.assert_allclose(decode(clip.data), stereo[:, 0 if gain >= 1 else 1], atol=1e-4)


def test_channels_that_do_not_cancel_are_averaged() -> None:
    noise = np.random.default_rng(0).normal(0, 0.1, (6, RATE)).astype(np.float32)
    centre = np.zeros((6, RATE), np.float32)
    centre[2] = tone()
    for samples in (noise, centre, np.stack([tone(), 0 * tone()])):
        assert prepare(Sound("a", samples, RATE), 40.0).defects == ()
    silent = prepare(Sound("a", np.zeros((2, RATE), np.float32), RATE), 40.0)
    assert silent.defects == ("audio_silent",)


@pytest.mark.parametrize(("channels", "subtype"), [(2, "FLOAT"), (12, "PCM_16"), (20, "FLOAT"), (20, "PCM_24")])
def test_ffmpeg_gives_every_channel_in_its_place(tmp_path: Path, channels: int, subtype: str) -> None:
    """Also of more than eight, which it keeps elsewhere than the first ones."""
    samples = np.random.default_rng(0).uniform(-0.5, 0.5, (RATE, channels)).astype(np.float32)
    soundfile.write(tmp_path / "a.wav", samples, RATE, subtype=subtype)
    packed(tmp_path / "a.wav", tmp_path / "a.mka")
    expected, _ = soundfile.read(tmp_path / "a.wav", dtype="float32")
    sound = read_sound((tmp_path / "a.mka").read_bytes(), "a")
    np.testing.assert_allclose(sound.samples, expected.T, atol=1e-6)


# No more is decoded than is kept


@pytest.mark.parametrize(("name", "reader"), [("a.flac", "_blocks"), ("a.mka", "_frames")])
def test_no_more_is_decoded_than_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, reader: str
) -> None:
    soundfile.write(tmp_path / "a.flac", np.zeros(300 * RATE, np.int16), RATE)
    if name != "a.flac":
        packed(tmp_path / "a.flac", tmp_path / name)
    decoded: list[int] = []
    blocks = getattr(decoding, reader)

    def counted(file: object) -> Iterator[np.ndarray]:
        for block in blocks(file):
            decoded.append(block.shape[1])
            yield block

    monkeypatch.setattr(decoding, reader, counted)
    clip = prepare(AudioFile(tmp_path / name), 2.0)
    assert clip.defects == ("audio_too_long", "audio_silent")
    assert clip.reason == f"{name}: 300.0 s, cut at 2 s; every sample is zero"
    assert 3 * RATE <= sum(decoded) <= 3 * RATE + decoding._BLOCK
    assert read_sound((tmp_path / name).read_bytes(), "a", max_seconds=2.0).samples.shape == (1, 2 * RATE)


def test_a_chunk_that_would_end_far_behind_the_file_is_the_same_in_memory(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    soundfile.write(buffer, tone(), RATE, format="CAF", subtype="PCM_16")
    whole = buffer.getvalue()
    place = whole.index(b"free")
    # What follows becomes a chunk of 7e18 bytes, which no file system can seek to.
    damaged = whole[:place] + b"\xff\xff\xff\x7f" + whole[place:]
    samples, rate = save(tmp_path, damaged, "a.caf").load()
    assert (samples.shape, rate) == ((1, RATE), RATE)
    np.testing.assert_array_equal(read_sound(damaged, "a.caf").samples, samples)
