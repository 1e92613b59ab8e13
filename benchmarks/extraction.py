"""Encoding speech with a base-size wav2vec2 at MELD's lengths: one clip at a time, padded batches, and this project.

The weights are random: only their shapes cost time. The audio is noise of MELD's durations where the published prosody
lies in ``../shared/data``, else of durations drawn from a like distribution. On a processor one thread computes and
its own clock counts, so that other programs disturb little; on a graphics card the wall clock counts.

Usage: python benchmarks/extraction.py [SECONDS_OF_AUDIO]
"""

import resource
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from machine import describe, table
from torch.utils.flop_counter import FlopCounterMode
from transformers import Wav2Vec2Config, Wav2Vec2FeatureExtractor, Wav2Vec2Model

from emofuse.encoders.batches import padding_share
from emofuse.encoders.speech import Config, SpeechEncoder, batches

MELD = Path(__file__).parents[2] / "shared" / "data" / "meld"
RATE = 16_000
CARD = torch.cuda.is_available()
DEVICE = torch.device("cuda" if CARD else "cpu")


def main(seconds: float = 80.0) -> None:
    """Measure and print the tables."""
    torch.set_num_threads(1)
    pool, source = durations()
    generator = np.random.default_rng(0)
    clips = draw(pool, seconds, generator)
    total = sum(map(len, clips)) / RATE
    with tempfile.TemporaryDirectory() as name:
        Wav2Vec2Model(Wav2Vec2Config()).save_pretrained(name)
        Wav2Vec2FeatureExtractor().save_pretrained(name)
        grown = growth(name, pool)  # first, since its peak is the process's
        flops = sum(flops_of(frames) for frames in lengths(clips))
        print(f"# Frozen wav2vec2-base, {len(clips)} clips of {total:.0f} s in all, {source}\n\n{describe()}")
        print(f"{'graphics card, wall clock' if CARD else 'no graphics card at hand; one thread, its own clock'}\n")
        rows = [row for dtype in ("float32", "bfloat16") for row in compare(name, clips, dtype, flops)]
        print(table(["type", "variant", "audio s / s", "padding", "share of the limit", "times (b)"], rows))
        print(f"\n# Cost and memory grow\n\n{table(['audio s', 'seconds', 'audio s / s', 'peak MB'], grown)}")


def compare(model: str, clips: list[np.ndarray], dtype: str, flops: float) -> list[list[str]]:
    """Return the rows of one type: each variant, in turns."""
    network = Wav2Vec2Model.from_pretrained(model, dtype=getattr(torch, dtype)).eval().to(DEVICE)
    encoder = SpeechEncoder(Config(model, labels_seen=False, dtype=dtype))  # type: ignore[arg-type]
    list(encoder.encode(clips[:4]))
    ones = [np.array([index]) for index in range(len(clips))]
    sixteens = [np.arange(at, min(at + 16, len(clips))) for at in range(0, len(clips), 16)]
    variants: dict[str, Callable[[], object]] = {
        "(a) one clip at a time": lambda: plain(network, clips, ones),
        "(b) padded batches of 16, corpus order": lambda: plain(network, clips, sixteens),
        "(c) this project": lambda: list(encoder.encode(clips)),
    }
    taken, rates = {}, []
    for name, run in variants.items():
        rates.append(product_rate(getattr(torch, dtype)))
        taken[name] = clock(run)
    limit = flops / max(rates)
    ours = batches(np.array(lengths(clips)), 50, DEVICE.type)
    padding = [padding_share(np.array(lengths(clips)), each) for each in (ones, sixteens, ours)]
    audio = sum(map(len, clips)) / RATE
    slowest = taken["(b) padded batches of 16, corpus order"]
    return [
        [dtype, name, f"{audio / each:.2f}", f"{share:.1%}", f"{limit / each:.2f}", f"{slowest / each:.2f}"]
        for (name, each), share in zip(taken.items(), padding, strict=True)
    ]


@torch.inference_mode()
def plain(network: Any, clips: Sequence[np.ndarray], batches: Sequence[np.ndarray]) -> None:
    """Encode as the model cards show it: pad, run, copy back."""
    extractor = Wav2Vec2FeatureExtractor()
    for batch in batches:
        inputs = extractor([clips[index] for index in batch], sampling_rate=RATE, padding=True, return_tensors="pt")
        network(inputs["input_values"].to(DEVICE, network.dtype)).last_hidden_state.float().cpu().numpy()


def growth(model: str, pool: np.ndarray) -> list[list[str]]:
    """Return rows for 1, 4 and 16 times as many shards of one size, in float32."""
    encoder = SpeechEncoder(Config(model, labels_seen=False))
    rows = []
    for shards in (1, 4, 16):
        generator = np.random.default_rng(1)

        def run(shards: int = shards, generator: np.random.Generator = generator) -> None:
            for _ in range(shards):
                list(encoder.encode(draw(pool, 8.0, generator)))

        taken, audio = clock(run), 8.0 * shards
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
        rows.append([f"{audio:.0f}", f"{taken:.1f}", f"{audio / taken:.2f}", f"{peak:,.0f}"])
    return rows


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


def flops_of(frames: int) -> float:
    """Floating-point operations of the network on one clip alone, without padding."""
    with torch.device("meta"), FlopCounterMode(display=False) as counter, torch.no_grad():
        bare_network()(torch.empty(1, 400 + 320 * (frames - 1)))
    return float(counter.get_total_flops())


@cache
def bare_network() -> Any:
    """Return the network without weights, for counting."""
    with torch.device("meta"):
        return Wav2Vec2Model(Wav2Vec2Config()).eval()


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
