"""Predicting from a bundle: how long a person waits, and how many turns a second go through.

Trains a small model of the embedded corpus first, in a temporary folder; its sizes are those of `params.yaml`.

Usage: python benchmarks/predict.py
"""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pyarrow.parquet as pq
import yaml
from machine import describe, table
from shards import seconds

from emofuse.audio.source import read_sound
from emofuse.inference.bundle import write_bundle
from emofuse.inference.conversation import Turn
from emofuse.inference.model import Model
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
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        train(folder)
        conversations = read_conversations(folder / "data/corpora/demo")
        for model, place in MODELS.items():
            write_bundle(find(folder / "data/models/demo" / place), folder / "bundles" / model)
        cold = start(folder / "bundles/hcam")
        rows = [row(folder / "bundles" / model, conversations) for model in MODELS]
    turns = sum(map(len, conversations))
    size = f"{len(conversations)} conversations, {turns} turns, {spoken(conversations):.0f} s of speech"
    print("# Predicting from a bundle, median of 5\n")
    print(f"{describe()}\n")
    print(f"{size} of the embedded corpus, in memory: log-mel frames, MiniLM and the networks are counted.\n")
    print(f"The command `emofuse predict` with HCAM takes {cold:.1f} s for two turns of text, mostly for imports.\n")
    print(
        table(["model", "loading s", "one turn ms", "one conversation ms", "turns/s, one by one", "turns/s, all"], rows)
    )


def train(folder: Path) -> None:
    """Run the stages on a small corpus."""
    tree = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    tree["corpus"]["options"]["dialogues"] = 20
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


def start(bundle: Path) -> float:
    """Return the seconds that the command takes, from the shell and back."""
    talk = bundle.parent / "turns.json"
    talk.write_text('[{"text": "You are late.", "speaker": "Ann"}, {"text": "Sorry!", "speaker": "Ben"}]')
    command = [sys.executable, "-m", "emofuse.cli", "predict", str(talk), "--model", str(bundle)]
    return seconds(lambda: subprocess.run(command, env=os.environ, check=True, capture_output=True))


if __name__ == "__main__":
    main()
