"""Fuzzing what comes in, for a given time: sound headers, tables, pickles, parameters, conversations, requests.

Each is damaged, and then answered or refused. Sound is read as a corpus's clips, as ``predict``'s recordings, and as
the server's turns; conversations are the tables and the files of segments that ``predict`` reads. Parameters are the
project's own files, and requests are read as behind ``mlflow models serve``, but for the networks.

A process of its own reads every input, with its memory and its time watched. What counts as a fault: an error that is
not the reader's own, a process that ends, growth of memory over 1 GB, an answer that takes over 30 s. Inputs that bring
one about are kept, and the exit status is 1.

Usage: python benchmarks/fuzz.py [SECONDS] [--seed N] [--keep FOLDER]
"""

import argparse
import base64
import io
import json
import logging
import multiprocessing
import pickle
import random
import resource
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from functools import cache
from importlib import import_module
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import soundfile
from machine import describe, table

from emofuse.audio.clips import prepare
from emofuse.audio.recordings import NoSoundError, decode_recording
from emofuse.audio.sound import AudioFile, read_sound
from emofuse.core.params import Params, ParamsError, corpus_files, validate
from emofuse.corpora import CorpusError
from emofuse.corpora.folder import is_sound
from emofuse.corpora.ingest import CorpusConfig
from emofuse.corpora.own import Config, read
from emofuse.corpora.tables import TableConfig, read_table
from emofuse.features.extract import ExtractConfig
from emofuse.health.check import report
from emofuse.inference.conversation import ConversationError, read_conversation
from emofuse.inference.segments import SegmentError, read_segments
from emofuse.plan import plans
from emofuse.robustness.conditions import Change
from emofuse.scoring.estimates import ScoringConfig
from emofuse.scoring.external import read_external
from emofuse.scoring.predictions import ScoringError
from emofuse.tasks import TaskConfig, TaskError
from emofuse.tracking.address import TrackingConfig

ROOT = Path(__file__).resolve().parent.parent
MOST_SECONDS, MOST_BYTES = 30.0, 1_000_000_000
READY_SECONDS = 300.0
"""In which a process has to be ready: it imports first what readers import when they are first called."""

MOST_WORDS = 2_000
"""Characters of a message."""

TRUTH = pl.DataFrame(
    [
        (0, split, name, name, number % 2)
        for number, name in enumerate("abcd")
        for split in [("dev", "test")[number // 2]]
    ],
    schema={
        "fold": pl.Int32,
        "split": pl.String,
        "utterance_id": pl.String,
        "dialogue_id": pl.String,
        "target": pl.Int64,
    },
    orient="row",
)
"""What predictions of others are for."""

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
    print(describe(), f"{arguments.seconds:g} s, seed {arguments.seed}, {sum(counts.values()):,} inputs", "", sep="\n")
    answers = ("read", "refused", "fault")
    kinds = sorted({kind for kind, _ in counts})
    print(table(["kind", *answers], [[kind, *(f"{counts[kind, each]:,}" for each in answers)] for kind in kinds]))
    print(f"\nfaults: {len(faults)}", *faults, sep="\n  ")
    sys.exit(1 if faults else 0)


def fuzz(
    seconds: float, generator: random.Random, folder: Path, keep: Path
) -> tuple[Counter[tuple[str, str]], list[str]]:
    """Read damaged inputs until the time is up; return how many of each kind came to what, and the faults."""
    kinds = {
        "sound": sounds(),
        "table, pickle": tables(),
        "parameters": parameters(),
        "conversation": conversations(),
        "request": requests(),
    }
    seeds = {name: data for kind in kinds.values() for name, data in kind.items()}
    counts: Counter[tuple[str, str]] = Counter()
    faults: list[str] = []
    worker = Worker()
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        kind = generator.choice(list(kinds))
        name = generator.choice(sorted(kinds[kind]))
        is_text = Path(name).suffix in (".yaml", ".json") and generator.random() < 0.7
        data = edited(seeds[name], generator) if is_text else damaged(seeds[name], generator)
        path = folder / name
        path.write_bytes(data)
        answer = worker.ask(path)
        counts[kind, answer if answer in ("read", "refused") else "fault"] += 1
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
        if not self._connection.poll(READY_SECONDS):
            raise TimeoutError(f"no process within {READY_SECONDS:g} s")
        self._connection.recv()


def answer_all(connection: Connection) -> None:
    """Read each input that is named, and say what came of it."""
    # So that an input that asks for all memory gets an error, and not the memory of everybody else.
    resource.setrlimit(resource.RLIMIT_AS, (16_000_000_000, 16_000_000_000))
    warm_up()
    connection.send("ready")
    while True:
        path = Path(connection.recv())
        before = peak()
        answer = consume(path)
        grown = peak() - before
        connection.send(f"{grown / 1e9:.1f} GB more memory" if grown > MOST_BYTES else answer)


def warm_up() -> None:
    """Read a whole input of each kind."""
    whole = {**sounds(), **tables(), **parameters(), **conversations(), **requests()}
    with tempfile.TemporaryDirectory() as folder:
        for name, data in whole.items():
            path = Path(folder) / name
            path.write_bytes(data)
            consume(path)


def peak() -> int:
    """The most memory that this process has had, in bytes."""
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def consume(path: Path) -> str:
    """Read an input as the project does."""
    if path.suffix == ".yaml":
        return consume_parameters(path)
    if path.name.startswith("request"):
        return consume_request(path)
    if path.name.startswith(("turns", "segments")):
        return consume_conversation(path)
    try:
        if path.name.startswith("utterances"):
            read(path.parent, Config(ignore=("note",)))
        elif path.name.startswith("external"):
            read_external(path, "asked", "task", TRUTH, ("angry", "sad"), TRUTH["utterance_id"].to_list())
        elif path.suffix in (".csv", ".tsv", ".parquet", ".npz", ".pkl", ".pt"):
            read_table(path.parent, TableConfig(path=path.name))
        else:
            return consume_sound(path)
    except (CorpusError, ScoringError) as error:
        return (
            "refused" if str(path.parent) in str(error) and len(str(error)) < MOST_WORDS else f"message {error!s:.300}"
        )
    except BaseException as error:  # whatever it is, it is a fault
        return f"{type(error).__name__}: {error!s:.300}"
    finally:
        if path.name.startswith("utterances"):
            path.unlink()
    return "read"


def consume_sound(path: Path) -> str:
    """Read a sound file as a clip of a corpus, as a recording and its channels, as a turn of a request, and guess."""
    is_sound(path.rename(path.with_suffix(".bin")))
    path.with_suffix(".bin").rename(path)
    clip = prepare(AudioFile(path), 40.0)
    words = []
    readers: tuple[Callable[[], object], ...] = (
        lambda: decode_recording(AudioFile(path)),
        lambda: decode_recording(AudioFile(path), apart=True),
        lambda: read_sound(path.read_bytes(), "turn 1", 600.1),
    )
    for reader in readers:
        try:
            reader()
        except (OSError, NoSoundError) as error:
            words.append(str(error))
    if any(len(each) > MOST_WORDS or not each for each in words):
        return f"message {words[0]:.300}"
    if words and not clip.defects:
        return f"a clip, but no recording: {words[0]:.300}"
    return "refused" if clip.defects else "read"


def consume_conversation(path: Path) -> str:
    """Read a table of turns, or a file of segments of another program."""
    try:
        read_segments(path, "a") if path.name.startswith("segments") else read_conversation(path)
    except (ConversationError, SegmentError, OSError) as error:
        return (
            "refused" if str(path.parent) in str(error) and len(str(error)) < MOST_WORDS else f"message {error!s:.300}"
        )
    except BaseException as error:  # whatever it is, it is a fault
        return f"{type(error).__name__}: {error!s:.300}"
    return "read"


def consume_parameters(path: Path) -> str:
    """Read a project's parameters with this file among them, and check what they say as ``emofuse`` does."""
    root = path.parent / "project"
    if not root.exists():
        for each in corpus_files(ROOT):
            (root / each).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / each, root / each)
    file = Path("params.yaml") if path.stem == "params" else Path("corpora", path.stem, "params.yaml")
    kept = (root / file).read_bytes()
    (root / file).write_bytes(path.read_bytes())
    try:
        check_parameters(file, root)
    except (ParamsError, TaskError) as error:
        # A fault quotes what it is about; a whole section of the file is no message.
        return "refused" if len(str(error)) < 20_000 else f"message {error!s:.300}"
    except BaseException as error:  # whatever it is, it is a fault
        return f"{type(error).__name__}: {error!s:.300}"
    finally:
        (root / file).write_bytes(kept)
    return "read"


def check_parameters(file: Path, root: Path) -> None:
    """Read every section, and check the tasks on utterances that have all their labels."""
    params = Params.load(file, root)
    corpus = params.get("corpus", CorpusConfig)
    validate(corpus.options, import_module(f"emofuse.corpora.{corpus.reader}").Config, "corpus.options")
    for name in params.names("conditions"):
        params.get(f"conditions.{name}", Change)  # type: ignore[arg-type]
    for key, kind in (("extract", ExtractConfig), ("scoring", ScoringConfig), ("tracking", TrackingConfig)):
        params.get(key, kind)
    labels = [label for name in params.names("tasks") for label in params.get(f"tasks.{name}", TaskConfig).labels]
    (plan,) = (each for each in plans(root) if Path(each.file) == file)
    report(plan, params, utterances(labels or ["none"]))


def utterances(labels: Sequence[str]) -> pl.DataFrame:
    """A corpus in which each label stands in every split."""
    rows = [
        (f"{split}-{index}", f"{split}-{index}", split, f"Ses0{place + 1}", label, -1.0 + 2 * (index % 2), split)
        for place, split in enumerate(("train", "dev", "test"))
        for index, label in enumerate([*labels, *labels])
    ]
    names = ["utterance_id", "dialogue_id", "speaker", "session", "label", "sentiment", "split"]
    return pl.DataFrame(rows, schema=names, orient="row")


def consume_request(path: Path) -> str:
    """Answer a request as the server does, without networks."""
    from mlflow.exceptions import MlflowException
    from mlflow.pyfunc import scoring_server

    kind, model = "text/csv" if path.suffix == ".csv" else "application/json", server()
    try:
        answer = scoring_server.invocations(path.read_bytes(), kind, model, model.metadata.get_input_schema())
        status, reply = answer.status, answer.response
    except MlflowException as error:
        status, reply = error.get_http_status_code(), error.serialize_as_json()
    except BaseException as error:  # whatever it is, it is a fault
        return f"{type(error).__name__}: {error!s:.300}"
    if status == 200:
        return "read"
    is_clear = 400 <= status < 500 and len(reply) < 5_000 and "Traceback" not in reply and "stack_trace" not in reply
    return "refused" if is_clear else f"status {status}: {reply:.300}"


@cache
def server() -> Any:
    """The served model, of which every answer is neutral, and MLflow's server as it is patched for it."""
    from mlflow.models import Model
    from mlflow.pyfunc import PyFuncModel, scoring_server

    from emofuse.inference import serving
    from emofuse.inference.conversation import Conversation
    from emofuse.inference.model import Prediction, TurnPrediction
    from emofuse.inference.scoring_server import explain_errors, refuse_unknown

    class Neutral:
        def predict_all(self, conversations: Sequence[Conversation], transcribe: None) -> list[Prediction]:
            reply = TurnPrediction(None, None, "neutral", {"neutral": 1.0}, ())
            return [Prediction("none", None, (reply,) * len(each.turns)) for each in conversations]

    logging.disable()
    served = serving.Served()
    served._model = Neutral()  # type: ignore[assignment]

    class Implementation:
        def predict(self, table: Any, params: Any = None) -> list[dict[str, Any]]:
            return served.predict(None, table, params)  # type: ignore[arg-type]

    refuse_unknown(scoring_server)
    explain_errors(scoring_server)
    flavors = {"python_function": {"loader_module": "emofuse"}}
    return PyFuncModel(Model(signature=serving.SIGNATURE, flavors=flavors), Implementation())


def edited(data: bytes, generator: random.Random) -> bytes:
    """Change a text as a person might: take out, double, move or indent lines, or put another value in."""
    lines = data.decode().splitlines()
    for _ in range(generator.randint(1, 4)):
        place = generator.randrange(len(lines))
        head, colon, _ = lines[place].partition(":")
        way = generator.random()
        if way < 0.5 and colon:
            lines[place] = f"{head}: {generator.choice(VALUES)}" + "," * lines[place].rstrip().endswith(",")
        elif way < 0.6:
            lines.insert(generator.randrange(len(lines)), lines[place])
        elif way < 0.7:
            lines[place] = generator.choice(("", " ", "  ", "- ", "? ", "<<: ")) + lines[place].lstrip()
        elif way < 0.85 and len(lines) > 1:
            del lines[place : place + generator.choice((1, 1, 5))]
            lines = lines or [""]
        else:
            lines[place] = lines[place].replace(generator.choice("aeios:-[{"), generator.choice(VALUES), 1)
    return "\n".join(lines).encode("utf-8", "surrogatepass")


VALUES = (
    *("", "0", "-1", "1e9", "1e400", ".nan", "-.inf", "null", "~", "true", "no", "[]", "{}", "''", '""', "[[]]"),
    *("{a: 1}", "[a, a]", "../..", "a/b", "2026-02-30", "2026-01-01", "1:30", "0x" + 40 * "f", 5_000 * "9", "&a [*a]"),
    *("*a", "[1, no]", "!!float x", "!!binary =", "!!set {a}", "!!python/name:os.system", '"\\ud800"', '"\\0"'),
    *(2_000 * "[", '"' + 100_000 * "x" + '"', "${corpus.name}", "|", ">", "%", "@", "`", "- -", "? ?"),
    *("{<<: [1]}", "<<", "[null]", "💥"),
)  # fmt: skip
"""What an edit puts in: values of other kinds and sizes, and what YAML and JSON have meanings for."""


def parameters() -> dict[str, bytes]:
    """The project's own files of parameters: the shared one, and each corpus's by the corpus's name."""
    found = {("params" if each.parent == Path() else each.parent.name): ROOT / each for each in corpus_files(ROOT)}
    return {f"{name}.yaml": path.read_bytes() for name, path in found.items()}


def conversations() -> dict[str, bytes]:
    """What ``predict`` reads beside sound, by file name."""
    turns = [
        {"speaker": "Ann", "text": "You are late.", "start_s": None, "end_s": None},
        {"speaker": "Ben", "text": "Sorry, I “know”!"},
    ]
    times = "00:00:00,500 --> 00:00:01,250"
    grid = (
        'File type = "ooTextFile"\nObject class = "TextGrid"\n\nxmin = 0\nxmax = 2\n'
        "tiers? <exists>\nsize = 1\nitem []:\n"
        '    item [1]:\n        class = "IntervalTier"\n        name = "Ann"\n        xmin = 0\n        xmax = 2\n'
        "        intervals: size = 1\n        intervals [1]:\n            xmin = 0.5\n            xmax = 1.25\n"
        '            text = "You are ""late"""\n'
    )
    whisper = {"segments": [{"start": 0.5, "end": 1.25, "text": "You are late.", "speaker": "Ann"}]}
    return {
        "turns.json": json.dumps(turns, indent=1).encode(),
        "turns.csv": b'speaker,text,start_s,end_s\nAnn,You are late.,,\nBen,"Sorry, I ""know""!",,\n',
        "segments.json": json.dumps(whisper, indent=1).encode(),
        "segments.rttm": 2 * b"SPEAKER a 1 0.5 0.75 <NA> <NA> Ann <NA> <NA>\n",
        "segments.srt": f"1\n{times}\n[Ann]: You are late.\n\n2\n{times}\nSorry!\n".encode(),
        "segments.vtt": f"WEBVTT\n\n{times.replace(',', '.')}\n<v Ann>You are &lt;late&gt;.\n".encode(),
        "segments.txt": b"0.5\t1.25\t[Ann]: You are late.\n1.5\t2\tSorry!\n",
        "segments.TextGrid": grid.encode(),
    }


def requests() -> dict[str, bytes]:
    """Bodies of requests in the forms that MLflow's server reads, with sound and without."""
    audio = {name: base64.b64encode(data).decode() for name, data in sounds().items() if name in ("flac.flac", "a.mp4")}
    turns = [
        {"conversation": "a", "speaker": "Ann", "text": "You are late."},
        {"speaker": "Ben", "text": "Sorry, I “know”!", "audio": audio["flac.flac"]},
        {"audio": audio["a.mp4"]},
    ]
    split = {"columns": ["text", "speaker"], "data": [["You are late.", "Ann"], ["Sorry!", None]]}
    bodies: dict[str, object] = {
        "records": {"dataframe_records": turns},
        "split": {"dataframe_split": split},
        "inputs": {"inputs": {"text": ["You are late.", "Sorry!"]}, "params": {"channels": False}},
        "params": {"dataframe_records": turns, "params": {"channels": False, "transcribe": "all"}},
        "instances": {"instances": turns[:1]},
        "words": {"dataframe_records": 20 * turns[:1]},
    }
    found = {f"request-{name}.json": json.dumps(body, indent=1).encode() for name, body in bodies.items()}
    return found | {"request.csv": pl.DataFrame(turns[:1]).write_csv().encode()}


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
    answers = 'utterance_id,label,why\na,sad,\nb,angry,"a ""sigh"""\nc,sad,x\nd,sad,y\n'
    words = 'utterance_id,text,speaker,start_s,note\nu0,"Hi, you",ann,0.5,x\nu1,"He said ""no""",ben,1.5,\n'
    writers: dict[str, Callable[[io.BytesIO], object]] = {
        "t.csv": lambda out: out.write(frame.write_csv().encode()),
        "t.parquet": frame.write_parquet,
        "utterances.csv": lambda out: out.write(words.encode()),
        "external.csv": lambda out: out.write(answers.encode()),
        "external.parquet": pl.DataFrame(
            {"utterance_id": ["c", "d"], "angry": [0.25, 0.5], "sad": [0.75, 0.5]}
        ).write_parquet,
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
