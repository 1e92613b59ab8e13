"""Fuzzing what comes in: damaged sound headers, tables and pickles, for a given time; each is answered or refused.

A process of its own reads every input, with its memory and its time watched. What counts as a fault: an error that is
not the reader's own, a process that ends, growth of memory over 1 GB, an answer that takes over 30 s. Inputs that bring
one about are kept, and the exit status is 1.

Usage: python benchmarks/fuzz.py [SECONDS] [--seed N] [--keep FOLDER]
"""

import argparse
import io
import multiprocessing
import pickle
import random
import resource
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
import polars as pl
import soundfile

from emofuse.audio.clips import prepare
from emofuse.audio.source import AudioFile
from emofuse.corpora import CorpusError
from emofuse.corpora.own import Config, read
from emofuse.corpora.tables import TableConfig, read_table

MOST_SECONDS, MOST_BYTES = 30.0, 1_000_000_000
TELLING = (b"\xff" * 4, b"\0" * 4, b"\xff\xff\xff\x7f", b'"', b"\n", b",", b"\xe2\x80\xa8", b"data", b"r", b"\x85")
"""What damage is made of, beside random bytes: the largest and smallest numbers, and signs that formats know."""


def main() -> None:
    """Fuzz for the time that was asked for, and tell what came of it."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("seconds", nargs="?", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, default=Path(tempfile.gettempdir()) / "emofuse-fuzz")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        counts, faults = fuzz(arguments.seconds, random.Random(arguments.seed), Path(folder), arguments.keep)
    for what, count in sorted(counts.items()):
        print(f"{what}: {count:,}")
    print(f"faults: {len(faults)}", *faults, sep="\n  ")
    sys.exit(1 if faults else 0)


def fuzz(seconds: float, generator: random.Random, folder: Path, keep: Path) -> tuple[Counter[str], list[str]]:
    """Read damaged inputs until the time is up; return how many of each kind came to what, and the faults."""
    seeds = {**sounds(), **tables()}
    counts: Counter[str] = Counter()
    faults: list[str] = []
    worker = Worker()
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        name = generator.choice(sorted(seeds))
        data = damaged(seeds[name], generator)
        path = folder / name
        path.write_bytes(data)
        answer = worker.ask(path)
        counts[f"{path.suffix[1:]} {answer if answer in ('read', 'refused') else 'fault'}"] += 1
        if answer not in ("read", "refused"):
            keep.mkdir(parents=True, exist_ok=True)
            kept = keep / f"{len(faults)}-{name}"
            kept.write_bytes(data)
            faults.append(f"{kept}: {answer}")
    worker.close()
    return counts, faults


class Worker:
    """A process that reads one input after the other, and is replaced when it ends or takes too long."""

    def __init__(self) -> None:
        self._context = multiprocessing.get_context("spawn")
        self._start()

    def ask(self, path: Path) -> str:
        """Return ``read``, ``refused``, or what went wrong."""
        self._connection.send(str(path))
        try:
            if self._connection.poll(MOST_SECONDS):
                return str(self._connection.recv())
            words = f"no answer within {MOST_SECONDS:g} s"
        except (EOFError, ConnectionError):
            self._process.join()
            words = f"the process ended with {self._process.exitcode}"
        self.close()
        self._start()
        return words

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.join()

    def _start(self) -> None:
        self._connection, other = self._context.Pipe()
        self._process = self._context.Process(target=answer_all, args=(other,), daemon=True)
        self._process.start()
        other.close()


def answer_all(connection: Connection) -> None:
    """Read each input that is named, and say what came of it."""
    # So that an input that asks for all memory gets an error, and not the memory of everybody else.
    resource.setrlimit(resource.RLIMIT_AS, (16_000_000_000, 16_000_000_000))
    while True:
        path = Path(connection.recv())
        before = peak()
        answer = consume(path)
        grown = peak() - before
        connection.send(f"{grown / 1e9:.1f} GB more memory" if grown > MOST_BYTES else answer)


def peak() -> int:
    """The most memory that this process has had, in bytes."""
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def consume(path: Path) -> str:
    """Read an input as the project does."""
    try:
        if path.name.startswith("utterances"):
            read(path.parent, Config(ignore=("note",)))
        elif path.suffix in (".csv", ".tsv", ".parquet", ".npz", ".pkl", ".pt"):
            read_table(path.parent, TableConfig(path=path.name))
        else:
            return "refused" if prepare(AudioFile(path), 40.0).defects else "read"
    except CorpusError as error:
        return "refused" if str(path.parent) in str(error) and len(str(error)) < 2_000 else f"message {error!s:.300}"
    except BaseException as error:  # whatever it is, it is a fault
        return f"{type(error).__name__}: {error!s:.300}"
    finally:
        if path.name.startswith("utterances"):
            path.unlink()
    return "read"


def damaged(data: bytes, generator: random.Random) -> bytes:
    """Change a few places, mostly near the beginning, where headers are; now and then cut or repeat a part."""
    result = bytearray(data)
    for _ in range(generator.randint(1, 6)):
        place = generator.randrange(min(len(result), generator.choice((64, 256, 1 << 30))) or 1)
        piece = generator.choice((*TELLING, generator.randbytes(generator.choice((1, 2, 4, 8)))))
        way = generator.random()
        if way < 0.7:
            result[place : place + len(piece)] = piece
        elif way < 0.8:
            result[place:place] = piece
        elif way < 0.9:
            del result[place : place + generator.choice((1, 4, 100, len(result)))]
        else:
            result[place:place] = result[place : place + 200] * generator.choice((1, 2, 100))
    return bytes(result)


def sounds() -> dict[str, bytes]:
    """Half a second of a tone in many forms, by file name."""
    samples = 0.3 * np.sin(2 * np.pi * 440 * np.arange(8_000) / 16_000)
    forms = {
        **{
            f"{each.lower()}.{each.lower()}": (each, None)
            for each in ("WAV", "FLAC", "OGG", "MP3", "AIFF", "AU", "CAF")
        },
        **{f"{each.lower()}.wav": ("WAV", each) for each in ("FLOAT", "IMA_ADPCM", "MS_ADPCM", "GSM610", "G721_32")},
        **{f"{each.lower()}.{each.lower()}": (each, None) for each in ("W64", "RF64", "NIST")},
    }
    found = {}
    for name, (form, subtype) in forms.items():
        buffer = io.BytesIO()
        soundfile.write(buffer, samples, 16_000, format=form, subtype=subtype)
        found[name] = buffer.getvalue()
    return found | {f"a.{form}": film(samples, form) for form in ("mp4", "matroska", "avi", "asf", "adts", "flv")}


def film(samples: np.ndarray, form: str) -> bytes:
    """A tone as FFmpeg writes it."""
    import av

    codec = {"avi": "libmp3lame", "asf": "wmav2", "flv": "libmp3lame"}.get(form, "aac")
    buffer = io.BytesIO()
    with av.open(buffer, "w", format=form) as container:
        stream = container.add_stream(codec, rate=44_100, layout="mono")
        assert isinstance(stream, av.AudioStream)
        stream.bit_rate = 64_000
        frame = av.AudioFrame.from_ndarray(samples[None].astype(np.float32), format="fltp", layout="mono")
        frame.sample_rate = 44_100
        for packet in [*stream.encode(frame), *stream.encode()]:
            container.mux(packet)
    return buffer.getvalue()


def tables() -> dict[str, bytes]:
    """Tables of features and of utterances, by file name."""
    import torch

    values = np.arange(12.0).reshape(4, 3)
    ids = [f"u{number}" for number in range(4)]
    frame = pl.DataFrame({"utterance_id": ids, "x": values[:, 0], "y": values[:, 1]})
    tree = {"u0": values[0], "u1": list(values[1]), "u2": tuple(values[2]), "u3": np.float32(values[3])}
    tensors = {key: torch.tensor(row) for key, row in zip(ids, values, strict=True)}
    words = 'utterance_id,text,speaker,start_s,note\nu0,"Hi, you",ann,0.5,x\nu1,"He said ""no""",ben,1.5,\n'
    writers: dict[str, Callable[[io.BytesIO], object]] = {
        "t.csv": lambda out: out.write(frame.write_csv().encode()),
        "t.parquet": frame.write_parquet,
        "utterances.csv": lambda out: out.write(words.encode()),
        "utterances.parquet": lambda out: pl.read_csv(words.encode()).write_parquet(out),
        "t.npz": lambda out: np.savez(out, **tree),
        "c.npz": lambda out: np.savez_compressed(out, **tree),
        "t.pt": lambda out: torch.save(tensors, out),
        "old.pt": lambda out: torch.save(tensors, out, _use_new_zipfile_serialization=False),
        "frame.pkl": lambda out: out.write(pickle.dumps(frame.to_pandas())),
    }  # fmt: skip
    found = {f"{each}.pkl": pickle.dumps(tree, each) for each in range(6)}
    for name, write in writers.items():
        buffer = io.BytesIO()
        write(buffer)
        found[name] = buffer.getvalue()
    return found


if __name__ == "__main__":
    main()
