"""Training: seconds per epoch and per run of every network at IEMOCAP's and MELD's size, against a plain loop.

Sizes are the corpora's, clip lengths a log-normal distribution with the mean of each and the spread of MELD's, features
random: 384-dimensional text tokens, 768-dimensional audio frames at 50 a second. Networks that read frames are timed on
a sample of the utterances, and their memory is that of the sample; those that read a vector an utterance on all. Frames
that would be more than a run holds in memory are read from mapped shards, as in training. The reference of each is a
GRU of the same size over padded sequences in the order of the corpus, all in memory, 16 in a batch, with Adam. Without
a GPU, seconds are the processor's, of one thread: what the run would take alone. On a GPU they are the clock's. The
last table has recurrent layers beside torch's own on packed sequences, on the processor.

Usage: python benchmarks/training.py
"""

import math
import resource
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from machine import describe, table
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from emofuse.core.params import Params
from emofuse.core.pool import Pool
from emofuse.features.shards import Row, write_shard
from emofuse.models.parts.base import Network
from emofuse.models.parts.recurrent import Recurrent
from emofuse.models.registry import MODELS
from emofuse.models.unimodal import ContextNetwork, UtteranceNetwork
from emofuse.tasks import Fold
from emofuse.training.data import (
    MOST_BYTES,
    Inputs,
    MappedSequences,
    Sequences,
    collate,
    examples,
    longest,
    read_features,
    shuffled_batches,
)
from emofuse.training.fit import FitConfig, Learner, _device, _to, class_weights, infer
from emofuse.training.settings import settings

PARAMS = Params.load(root=Path(__file__).parent.parent)
SAMPLE, CLASSES = 256, 6
CELLS: tuple[Literal["gru", "lstm"], ...] = ("gru", "lstm")
SEQUENCES = ((32, 300, 768), (8, 2_000, 768), (32, 14, 384), (32, 30, 256))
"""Sequences, frames of the longest, and size: clips of 6 s and of 40 s, texts, and dialogues of vectors."""

FRAMES = {"audio": 768, "text": 384}
VECTORS = {"audio": 64, "text": 128}
POOLED = {"audio": 2 * 768, "text": 2 * 384}


@dataclass(frozen=True)
class Size:
    """A corpus: MELD's mean clip is 3.1 s long, IEMOCAP's 4.5 s."""

    name: str
    dialogues: int
    utterances: int
    seconds: float
    tokens: float


IEMOCAP = Size("IEMOCAP", 151, 7_433, 4.5, 14.0)
MELD = Size("MELD", 1_432, 13_708, 3.1, 10.0)
SPREAD = 0.75
"""Standard deviation of the logarithm of MELD's clip lengths."""


@dataclass(frozen=True)
class Case:
    """One network, and the sizes of what it reads: frames, or vectors."""

    name: str
    build: Callable[[dict[str, int]], Network]
    fit: FitConfig
    dims: dict[str, int]
    frames: bool = False


def cases() -> list[Case]:
    """Return every network with the settings of ``params.yaml``."""
    rows = []
    for name in ("audio", "text"):
        first, second = (settings(PARAMS, f"{name}-{level}") for level in ("utterance", "context"))
        build_first = partial(_utterance, first.network, name)
        build_second = partial(_context, second.network, name)
        rows += [
            Case(f"{name}, stage I", build_first, first.fit, {name: FRAMES[name]}, frames=True),
            Case(f"{name}, stage II", build_second, second.fit, {name: VECTORS[name]}),
        ]
    for name, dims in {"concat": POOLED, "hcam": VECTORS, "cma": FRAMES, "hbaf": VECTORS}.items():
        network_class, config = MODELS[name].network_class(), settings(PARAMS, name)
        build = partial(_fusion, network_class, config.network)
        rows.append(Case(name, build, config.fit, dims, frames=dims is FRAMES))
    return rows


def _utterance(config: Any, name: str, dims: dict[str, int]) -> Network:
    return UtteranceNetwork(config, dims[name], CLASSES)


def _context(config: Any, name: str, dims: dict[str, int]) -> Network:
    return ContextNetwork(config, dims[name], CLASSES, False)


def _fusion(network_class: Any, config: Any, dims: dict[str, int]) -> Network:
    network: Network = network_class(config, dims, CLASSES, False)
    return network


def corpus(size: Size, case: Case, longer: float = 1.0) -> tuple[Fold, dict[str, Sequences]]:
    """Return a fold in which all is train, and the sequences that a network reads."""
    generator = np.random.default_rng(0)
    ends = np.sort(generator.choice(np.arange(1, size.utterances), size.dialogues - 1, replace=False))
    targets = generator.integers(CLASSES, size=size.utterances)
    fold = Fold(
        utterance_ids=tuple(f"u{index}" for index in range(size.utterances)),
        dialogues=np.array([0, *ends, size.utterances]),
        speakers=generator.integers(2, size=size.utterances),
        splits=np.zeros(size.utterances, np.int64),
        targets=targets,
        scored=np.ones(size.utterances, bool),
        classes=tuple(f"c{index}" for index in range(CLASSES)),
        context="full",
    )
    spoken = generator.lognormal(math.log(size.seconds) - SPREAD**2 / 2, SPREAD, size.utterances).clip(0.1, 40) * longer
    lengths = {"audio": 50 * spoken, "text": spoken / size.seconds * size.tokens}
    inputs = {
        name: _random(lengths[name].round().clip(1).astype(int) if case.frames else np.ones(size.utterances, int), dim)
        for name, dim in case.dims.items()
    }
    return fold, inputs


def _random(lengths: np.ndarray, dim: int) -> Sequences:
    values = np.random.default_rng(dim).normal(size=(int(lengths.sum()), dim)).astype(np.float16)
    return Sequences(torch.from_numpy(values), torch.from_numpy(np.concatenate([[0], lengths.cumsum()])))


def mapped(sequences: Sequences, fold: Fold, folder: Path) -> Sequences | MappedSequences:
    """Return the same sequences as training would read them from shards that are too large for its memory."""
    parts = zip(fold.utterance_ids, sequences.values.split(sequences.lengths.tolist()), strict=True)
    rows = [Row(name, "0", frames_TD.numpy()) for name, frames_TD in parts]
    write_shard(folder / "shard-00000-of-00001.parquet", rows, sequences.dim, {"id": "random"})
    return read_features(folder, fold.utterance_ids, most=0)


def clock() -> float:
    """Return seconds: the processor's, or where a GPU works the clock's, once it has done what it was asked to."""
    if not torch.cuda.is_available():
        return time.process_time()
    torch.cuda.synchronize()
    return time.perf_counter()


@dataclass(frozen=True)
class Timing:
    """Seconds of an epoch, of its loading, of an answer for every utterance, of the reference's epoch; and memory."""

    epoch: float
    loading: float
    infer: float
    reference: float
    megabytes: float


def measure(case: Case, size: Size, longer: float = 1.0, reference: bool = True) -> Timing:
    """Time one epoch of a network, on a sample where it reads frames, scaled to the whole corpus."""
    torch.set_num_threads(1)
    device, scale = _device(0), 1.0
    if case.frames and size.utterances > SAMPLE:
        scale = size.utterances / SAMPLE
        size = replace(size, utterances=SAMPLE, dialogues=max(1, round(size.dialogues / scale)))
    fold, held = corpus(size, case, longer)
    with tempfile.TemporaryDirectory() as folder:
        inputs: Inputs = {
            name: mapped(each, fold, Path(folder) / name) if 2 * scale * each.values.numel() > MOST_BYTES else each
            for name, each in held.items()
        }
        torch.manual_seed(0)
        network = case.build(case.dims).to(device)
        learner = Learner(network, case.fit, class_weights(fold, 0.0).to(device))
        items = examples(fold, network.unit, "train")
        lengths = longest(inputs)
        loading, begin = 0.0, clock()
        for batch_items in shuffled_batches(items, lengths, case.fit.batch_size, np.random.default_rng(0)):
            start = clock()
            batch = _to(collate(batch_items, inputs, fold)[1], device)
            loading += clock() - start
            learner.step(batch, 0.5)
        epoch = clock() - begin
        start = clock()
        infer(network, inputs, fold, items, case.fit.batch_size)
        answered = clock() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    if torch.cuda.is_available():
        peak = torch.cuda.max_memory_allocated() / 2**20
    plain = plain_epoch(held, fold, network) if reference else 0.0
    return Timing(epoch * scale, loading * scale, answered * scale, plain * scale, peak)


def plain_epoch(inputs: dict[str, Sequences], fold: Fold, network: Network) -> float:
    """Time an epoch of a padded GRU over the corpus in order, 16 examples in a batch."""
    sizes = [each.hidden_size for each in network.modules() if isinstance(each, nn.RNNBase)]
    hidden = max(sizes, default=64)
    device = next(network.parameters()).device
    grus = nn.ModuleList(nn.GRU(each.dim, hidden, 2, batch_first=True, bidirectional=True) for each in inputs.values())
    grus, classify = grus.to(device), nn.Linear(2 * hidden * len(grus), CLASSES, device=device)
    optimizer = torch.optim.Adam([*grus.parameters(), *classify.parameters()])
    items = examples(fold, network.unit, "train")
    start = clock()
    for first in range(0, len(items), 16):
        rows = items[first : first + 16]
        states = [_plain_states(gru, each, rows) for gru, each in zip(grus, inputs.values(), strict=True)]
        logits = classify(torch.cat(states, dim=-1))
        loss = nn.functional.cross_entropy(logits, torch.from_numpy(fold.targets[np.concatenate(rows)]).to(device))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return clock() - start


def _plain_states(gru: nn.Module, sequences: Sequences, rows: list[np.ndarray]) -> Tensor:
    """Vectors of all utterances of a batch: means over frames, or a dialogue's states."""
    parts = [sequences.values[sequences.offsets[each[0]] : sequences.offsets[each[-1] + 1]].float() for each in rows]
    padded_BTD = nn.utils.rnn.pad_sequence(parts, batch_first=True)
    states_BTH = gru(padded_BTD.to(next(gru.parameters()).device))[0]
    own = [states_TH[: len(part)] for states_TH, part in zip(states_BTH, parts, strict=True)]
    if all(len(each) == 1 for each in rows):
        return torch.stack([states_TH.mean(dim=0) for states_TH in own])
    return torch.cat(own)


def apart(case: Case, size: Size, longer: float = 1.0, reference: bool = True) -> Timing:
    """Measure in a process of its own, whose peak memory is the measurement's alone."""
    with Pool(1) as pool:
        return pool.submit(measure, case, size, longer, reference).result()


def main() -> None:
    """Measure and print the tables."""
    device = "no GPU" if not torch.cuda.is_available() else torch.cuda.get_device_name()
    print(f"# Training, one thread a run\n\n{describe()}, {device}\n")
    rows = []
    for size in (IEMOCAP, MELD):
        for case in cases():
            taken = apart(case, size)
            run = case.fit.epochs * (taken.epoch + 0.2 * taken.infer) + taken.infer
            rows.append(
                [
                    size.name,
                    case.name,
                    f"{taken.epoch:,.1f}",
                    f"{run:,.0f}",
                    f"{taken.reference / taken.epoch:.1f}",
                    f"{taken.loading / taken.epoch:.0%}",
                    f"{taken.megabytes:,.0f}",
                ]
            )
    header = ["size", "network", "seconds an epoch", "a run at most, s", "times the plain loop", "loading", "peak, MB"]
    print(table(header, rows))
    print("\nCost of an epoch as clips, corpus and dialogues grow:\n")
    named = {case.name: case for case in cases()}
    print(table(["", "1", "2", "4"], growth(named["audio, stage I"], named["text, stage II"])))
    print("\nA step of one recurrent layer of 256 states, forward and backward, beside torch's on packed sequences:\n")
    print(table(["cell", "sequences", "frames at most", "size", "ms", "packed, ms", "times"], beside_packed()))


def beside_packed() -> list[list[str]]:
    """Milliseconds of a recurrent layer, and of the same weights in torch's own layer over packed sequences."""
    torch.set_num_threads(1)
    rows = []
    for cell, (count, frames, size) in product(CELLS, SEQUENCES):
        torch.manual_seed(0)
        layer = Recurrent(size, 256, cell=cell)
        x_UTD, lengths_U = torch.randn(count, frames, size), torch.randint(frames // 3, frames + 1, (count,))
        lengths_U[0] = frames
        ours = milliseconds(partial(layer, x_UTD, lengths_U))
        packed = milliseconds(partial(_packed, layer.layers, x_UTD, lengths_U))
        rows.append(
            [cell, f"{count}", f"{frames:,}", f"{size}", f"{ours:.1f}", f"{packed:,.1f}", f"{packed / ours:.1f}"]
        )
    return rows


def _packed(layers: nn.Module, x_UTD: Tensor, lengths_U: Tensor) -> Tensor:
    packed = pack_padded_sequence(x_UTD, lengths_U, batch_first=True, enforce_sorted=False)
    states_UTH: Tensor = pad_packed_sequence(layers(packed)[0], batch_first=True)[0]
    return states_UTH


def milliseconds(forward: Callable[[], Tensor]) -> float:
    """Return the median of seven steps, after two to warm up."""
    taken = []
    for _ in range(9):
        before = time.thread_time()
        forward().sum().backward()
        taken.append(1000 * (time.thread_time() - before))
    return statistics.median(taken[2:])


def growth(case: Case, context: Case) -> list[list[str]]:
    """Seconds of an epoch as what it reads gets two and four times as long, or shorter by a stride, as multiples."""
    small = replace(MELD, utterances=SAMPLE, dialogues=53)
    clips = [apart(case, small, factor, False).epoch for factor in (1.0, 2.0, 4.0)]
    corpora = [
        apart(case, replace(small, utterances=SAMPLE // (4 // factor), dialogues=13 * factor), 1.0, False).epoch
        for factor in (1, 2, 4)
    ]
    dialogues = [apart(context, replace(MELD, dialogues=MELD.dialogues // factor), 1.0, False) for factor in (1, 2, 4)]
    strides = [apart(case, small, 1 / factor, False).epoch for factor in (1, 2, 4)]
    rows = {
        "clips longer: audio, stage I, 256 utterances of MELD's lengths": clips,
        "stride of their frames larger": strides,
        "corpora larger: the same clips, from 64 utterances": corpora,
        "dialogues longer, as many utterances: text, stage II, from MELD's": [each.epoch for each in dialogues],
    }
    return [[name, *(f"{each / taken[0]:.2g}" for each in taken)] for name, taken in rows.items()]


if __name__ == "__main__":
    main()
