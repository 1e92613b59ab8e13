"""Predicting from a bundle: how long a person waits, how many turns a second go through, and live.

Processor time is that of the work itself; time by the clock is what a person sees, and grows with other work on the
machine, of which the load average tells.

Trains a small model of the embedded corpus first, in a temporary folder; its sizes are those of `params.yaml`.

Usage: python benchmarks/predict.py [RECOGNISER]

The recogniser, as of `emofuse predict --transcribe`, writes the words of live answers; by default the packaged one.
"""

import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow.parquet as pq
import soundfile
import yaml
from machine import describe, table
from shards import seconds

from emofuse.audio.sound import Sound, read_sound
from emofuse.core.schema import SAMPLE_RATE
from emofuse.inference.bundle import write_bundle
from emofuse.inference.conversation import Turn
from emofuse.inference.live import BLOCK, Session, follow
from emofuse.inference.model import Model, TurnPrediction
from emofuse.inference.transcripts import recogniser as load_recogniser
from emofuse.tracking.fetch import find, load

ENCODERS = {"audio": "logmel", "text": "minilm"}
PAIR = "+".join(ENCODERS.values())
FUSED = ("late", "concat", "hcam", "cma", "hbaf")
MODELS = {f"{modality}-context": f"{encoder}/context" for modality, encoder in ENCODERS.items()}
MODELS |= {name: f"{PAIR}/{name}" for name in FUSED}
STAGES = (
    "ingest.py params.yaml",
    *(f"extract.py params.yaml {encoder}" for encoder in ENCODERS.values()),
    *(f"pretrain.py params.yaml demo {modality} {encoder}" for modality, encoder in ENCODERS.items()),
    *(f"fuse.py params.yaml demo {PAIR} {name}" for name in FUSED),
)
ROOT = Path(__file__).parents[1]


def main() -> None:
    """Measure and print the tables."""
    load_before = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        train(folder)
        conversations = read_conversations(folder / "data/corpora/demo")
        for model, place in MODELS.items():
            write_bundle(find(folder / "data/models/demo" / place), folder / "bundles" / model)
        text, sound, heard, doctor = starts(folder / "bundles/hcam", conversations)
        rows = [row(folder / "bundles" / model, conversations) for model in MODELS]
        live = live_rows(folder / "bundles/hcam", conversations, sys.argv[1] if len(sys.argv) > 1 else None)
    turns = sum(map(len, conversations))
    size = f"{len(conversations)} conversations, {turns} turns, {spoken(conversations):.0f} s of speech"
    print("# Predicting from a bundle, median of 5\n")
    print(f"{describe()}\n")
    print(f"Load average of other work before it began: {load_before:.1f}; times by the clock are longer with more.\n")
    print(f"{size} of the embedded corpus, in memory: log-mel frames, MiniLM and the networks are counted.\n")
    print(
        "The command `emofuse predict` with HCAM takes, by the clock and in brackets in processor time, "
        f"{text} for two turns of text, {sound} for ten seconds of a recording without words, "
        f"and {heard} with words by the packaged recogniser, as it is by default. Torch's import is most of it. "
        f"`emofuse doctor` takes {doctor}.\n"
    )
    print(
        table(["model", "loading s", "one turn ms", "one conversation ms", "turns/s, one by one", "turns/s, all"], rows)
    )
    print("\n## Live, with HCAM\n")
    print(f"{LIVE}\n")
    print(table(LIVE_HEADER, live))


def live_rows(bundle: Path, conversations: list[list[Turn]], recogniser: str | None) -> list[list[str]]:
    """Return lines of the table of live answers: of sound alone, and with words by a recogniser."""
    sound = recording(conversations)
    name = f"sound and words ({Path(recogniser).name if recogniser else 'Whisper tiny.en of the package'})"
    with_words = Session(load(bundle), load_recogniser(recogniser))
    return [
        live_row("sound alone", Session(load(bundle)), sound),
        live_row(name, with_words, sound[: 60 * SAMPLE_RATE]),
    ]


LIVE = (
    "A turn ends with half a second of silence, of which a tenth belongs to it, so that no answer can come sooner than "
    "0.4 s after it. On top come up to 0.1 s until a block of samples is full, and what an answer takes. The latency "
    "is by the clock, from the turn's end to its answer, of sound that comes at the speed of speech; an answer's own "
    "time is processor time, which other work on the machine does not stretch. The real-time factor, of processor "
    "time, counts voice activity, recogniser, encoders and networks."
)
LIVE_HEADER = [
    *("of", "sound s", "turns", "latency ms", "95 % within ms"),
    *("an answer ms", "95 % within ms", "the last ten ms", "real-time factor"),
]


def live_row(name: str, session: Session, sound: np.ndarray) -> list[str]:
    """Return a line of the table of live answers, of a recording, float32 `[n_samples]` at 16 kHz."""
    session.predict(Turn(Sound("first", sound[None, : 2 * SAMPLE_RATE], SAMPLE_RATE)))  # loads what is loaded once
    took: list[float] = []
    come = [0, 0.0]  # samples that have been spoken, and when the last of them came
    predict = session.predict

    def timed(turn: Turn) -> TurnPrediction:
        before = time.process_time()
        prediction = predict(turn)
        took.append(time.process_time() - before)
        return prediction

    def blocks() -> Iterator[np.ndarray]:
        """The sound without the waiting: as if each block came when it was spoken, and no answer held up the next."""
        for start in range(0, len(sound), BLOCK):
            block = sound[start : start + BLOCK]
            come[:] = [start + len(block), time.perf_counter()]
            yield block

    session.predict = timed  # type: ignore[method-assign]
    before = time.process_time()
    latencies = [
        come[0] / SAMPLE_RATE - (turn.end_s or 0.0) + time.perf_counter() - come[1]
        for turn in follow(blocks(), session, "talk")
    ]
    factor = (time.process_time() - before) * SAMPLE_RATE / len(sound)
    waited, milliseconds = 1000 * np.array(latencies), 1000 * np.array(took)
    figures = [np.median(waited), np.percentile(waited, 95)]
    figures += [np.median(milliseconds), np.percentile(milliseconds, 95), np.median(milliseconds[-10:])]
    counts = (f"{len(sound) / SAMPLE_RATE:.0f}", f"{len(latencies)}")
    return [name, *counts, *(f"{each:.0f}" for each in figures), f"{factor:.3f}"]


def recording(conversations: list[list[Turn]]) -> np.ndarray:
    """Return all turns one after another with silence between, float32 `[n_samples]` at 16 kHz."""
    silence = np.zeros(round(0.7 * SAMPLE_RATE), np.float32)
    clips = [turn.audio.load()[0][0] for each in conversations for turn in each if turn.audio]
    return np.concatenate([part for clip in clips for part in (silence, clip)])


def train(folder: Path) -> None:
    """Run the stages on a small corpus."""
    tree = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    tree["corpus"]["options"]["dialogues"] = 20
    tree["run"] |= {each: [encoder] for each, encoder in ENCODERS.items()}
    tree["tasks"]["demo"]["seeds"] = 1
    for name in ("audio", "text"):
        for level in tree["models"][name].values():
            level["fit"] = level["fit"] | {"epochs": 1}
    for name in ("concat", "hcam", "cma", "hbaf"):
        tree["models"][name]["fit"] = tree["models"][name]["fit"] | {"epochs": 1}
    (folder / "params.yaml").write_text(yaml.safe_dump(tree, sort_keys=False), encoding="utf-8")
    (folder / "src").symlink_to(ROOT / "src")
    for stage in STAGES:
        script, *names = stage.split()
        subprocess.run([sys.executable, ROOT / "stages" / script, *names], cwd=folder, check=True, capture_output=True)
    shutil.rmtree(folder / ".emofuse")


def read_conversations(corpus: Path) -> list[list[Turn]]:
    """Return all dialogues of a corpus as turns with their sound in memory."""
    clips = pl.concat([pl.DataFrame(pq.read_table(path)) for path in (corpus / "audio").glob("*.parquet")])
    sounds = {row["utterance_id"]: row["audio"]["bytes"] for row in clips.to_dicts()}
    utterances = pl.read_parquet(corpus / "utterances.parquet")
    return [
        [
            Turn(read_sound(sounds[row["utterance_id"]], row["utterance_id"]), row["text"], row["speaker"])
            for row in rows.to_dicts()
        ]
        for _, rows in utterances.group_by("dialogue_id", maintain_order=True)
    ]


def spoken(conversations: list[list[Turn]]) -> float:
    """Return the seconds of speech."""
    sounds = [turn.audio.load() for each in conversations for turn in each if turn.audio]
    return sum(samples.shape[1] / rate for samples, rate in sounds)


def row(bundle: Path, conversations: list[list[Turn]]) -> list[str]:
    """Return a line of the table."""
    model = load(bundle)
    model.load_encoders()
    turns = sum(map(len, conversations))
    loading = seconds(lambda: load(bundle).load_encoders())
    turn = seconds(lambda: model.predict(conversations[0][:1]))
    conversation = seconds(lambda: model.predict(conversations[0]))
    single = seconds(each_alone(model, conversations))
    batch = seconds(lambda: model.predict_all(conversations))
    figures = (f"{loading:.2f}", f"{1000 * turn:.0f}", f"{1000 * conversation:.0f}")
    return [bundle.name, *figures, f"{turns / single:.0f}", f"{turns / batch:.0f}"]


def each_alone(model: Model, conversations: list[list[Turn]]) -> Callable[[], object]:
    """Return a call that predicts conversation by conversation."""
    return lambda: [model.predict(each) for each in conversations]


def start(*asked: str) -> str:
    """Return the seconds that a command takes by the clock, and in brackets of processors: medians of five."""
    command = [sys.executable, "-m", "emofuse.cli", *asked]
    waited, took = [], []
    for _ in range(5):
        before, began = os.times(), time.perf_counter()
        done = subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True)
        waited.append(time.perf_counter() - began)
        after = os.times()
        took.append(after.children_user + after.children_system - before.children_user - before.children_system)
        # The doctor may find something that is not well with this machine.
        if done.returncode and asked != ("doctor",):
            raise SystemExit(done.stderr)
    return f"{statistics.median(waited):.1f} s ({statistics.median(took):.1f} s)"


def starts(bundle: Path, conversations: list[list[Turn]]) -> tuple[str, str, str, str]:
    """Return how long the commands take: for two turns of text, for ten seconds of a recording, and the doctor's.

    The recording without words, and with those of the packaged recogniser.
    """
    text, sound = bundle.with_name("turns.json"), bundle.with_name("talk.wav")
    text.write_text('[{"text": "You are late.", "speaker": "Ann"}, {"text": "Sorry!", "speaker": "Ben"}]')
    soundfile.write(sound, recording(conversations)[: 10 * SAMPLE_RATE], SAMPLE_RATE)
    asked = ("--model", str(bundle))
    return (
        start("predict", str(text), *asked),
        start("predict", str(sound), *asked, "--transcribe", "none"),
        start("predict", str(sound), *asked),
        start("doctor"),
    )


if __name__ == "__main__":
    main()
