"""Ingesting sound: hours a minute from files on disk to stored shards, against decoding the same files and no more.

The programs of `ingest` take seconds to start, whatever the corpus, and each loads torch where it has to resample: an
ingest of a few clips for each program shows it, and the rate is also given for what is left of the time without it. A
file stands for several utterances, each decoded anew.

Usage: python benchmarks/ingest.py
"""

import contextlib
import io
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import av
import numpy as np
import soundfile
import torch
from machine import describe, table
from scipy.signal import resample_poly

from emofuse.audio.clips import prepare
from emofuse.audio.sound import AudioFile
from emofuse.core.process import cores
from emofuse.corpora.demo.voice import Speech
from emofuse.corpora.ingest import CorpusConfig, ingest

FILES, TIMES, SECONDS, REPEATS = 200, 3, 10, 3
HOURS = FILES * TIMES * SECONDS / 3600
FORMATS = {
    "wav, 16 kHz mono": ("wav", 16_000, 1),
    "wav, 44.1 kHz stereo": ("wav", 44_100, 2),
    "flac, 48 kHz mono": ("flac", 48_000, 1),
    "mp4 (aac), 44.1 kHz stereo": ("mp4", 44_100, 2),
}


def main() -> None:
    """Measure and print the table."""
    torch.set_num_threads(1)  # or one core would be two
    lines = []
    for name, (ending, rate, channels) in FORMATS.items():
        with tempfile.TemporaryDirectory() as folder:
            source = Path(folder) / "raw"
            files = write(source, ending, rate, channels)
            # In turns, so that a busy machine slows all of them alike.
            ways: dict[str, Callable[[], object]] = {
                "decoder": partial(decode, files * TIMES),
                "one core": partial(convert, files * TIMES),
                "ingest": partial(whole, source, files * TIMES),
                "start": partial(whole, source, files[: 8 * cores()]),
            }
            taken = seconds(ways)
        start = taken.pop("start")
        speeds = {way: 60 * HOURS / each for way, each in taken.items()}
        after = 60 * HOURS / (taken["ingest"] - start)
        columns = [*speeds.values(), start, after, after / speeds["decoder"]]
        lines.append([name, *(f"{each:.1f}" for each in columns[:-1]), f"{columns[-1]:.2f}"])
    head = [
        "files",
        "decoder alone, one core",
        "and 16 kHz mono FLAC, one core",
        "ingest, all cores",
        "start of its programs, s",
        "ingest without the start",
        "that / decoder",
    ]
    print(f"# Ingest, hours of audio a minute: {HOURS:.2f} hours in clips of {SECONDS} s, fastest of {REPEATS}\n")
    print(f"{describe()}\n")
    print(table(head, lines))


def write(source: Path, ending: str, rate: int, channels: int) -> list[Path]:
    """Write a corpus of one's own: clips of speech, each beginning elsewhere in it."""
    sentence = "I never said that you could take the boat, and now the harbour is closed until the end of the month."
    spoken, own_rate = Speech(sentence, "en-us", 170, 50, 50, 100, "spoken.wav").load()
    samples = np.resize(resample_poly(spoken[0], rate, own_rate), SECONDS * rate).astype(np.float32)
    (source / "audio").mkdir(parents=True)
    paths = [source / "audio" / f"u{clip}.{ending}" for clip in range(FILES)]
    for clip, path in enumerate(paths):
        planes = np.repeat(np.roll(samples, 977 * clip)[None], channels, axis=0)
        if ending == "mp4":
            write_mp4(path, planes, rate)
        else:
            soundfile.write(path, planes.T, rate)
    return paths


def write_mp4(path: Path, planes: np.ndarray, rate: int) -> None:
    """Write ``[channels, n_samples]`` as AAC."""
    layout = {1: "mono", 2: "stereo"}[len(planes)]
    with av.open(path, "w") as container:
        stream = container.add_stream("aac", rate=rate, layout=layout)
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(planes), format="fltp", layout=layout)
        frame.sample_rate = rate
        for packet in [*stream.encode(frame), *stream.encode()]:
            container.mux(packet)


def decode(files: list[Path]) -> None:
    """Do what the decoder does, and no more."""
    for path in files:
        AudioFile(path).load()


def convert(files: list[Path]) -> None:
    """Decode, downmix, resample and encode without loss, on one core."""
    for path in files:
        prepare(AudioFile(path), 40.0)


def whole(source: Path, files: list[Path]) -> None:
    """Ingest a corpus of these files as the stage does, the start of its processes included."""
    rows = [f"u{index},audio/{path.name}" for index, path in enumerate(files)]
    (source / "utterances.csv").write_text("\n".join(["utterance_id,audio", *rows]) + "\n")
    with tempfile.TemporaryDirectory() as name, contextlib.redirect_stdout(io.StringIO()):
        config = CorpusConfig(
            name="bench", reader="own", source=str(source), shards=4, max_seconds=40.0, max_defective=0.0
        )
        ingest(config, Path(name) / "bench", Path(name) / "bench.json")


def seconds(ways: dict[str, Callable[[], object]]) -> dict[str, float]:
    """Return the wall-clock seconds of each way, of its fastest turn: others may use the machine in between."""
    taken: dict[str, list[float]] = {way: [] for way in ways}
    for _ in range(REPEATS):
        for way, function in ways.items():
            start = time.perf_counter()
            function()
            taken[way].append(time.perf_counter() - start)
    return {way: min(each) for way, each in taken.items()}


if __name__ == "__main__":
    main()
