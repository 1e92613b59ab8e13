"""Choices of layers of one encoder, judged by stage I on dev and on fifths of train held out in turn; test is not read.

The corpus is encoded once for each choice, and the network of stage I trained with the settings of ``params.yaml``; dev
chooses the epoch, as always. A held-out fifth is of whole dialogues, whose speakers may also be in the rest of train;
dev is the task's own, of its first fold. One thread trains, and the processor's own clock counts.

    python benchmarks/layers.py corpora/emodb/params.yaml emodb audio whisper-tiny --layers last mean4 2 all --seeds 2

A number is one layer, numbers with commas several side by side. The corpus has to be ingested. Features are kept in the
project's work store, so that a second call encodes nothing.
"""

import argparse
import os
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import polars as pl
import torch
from heldout import ROOT, hold_out
from machine import describe, table
from sklearn.metrics import f1_score

from emofuse.core.files import readable_size
from emofuse.core.layout import Layout
from emofuse.core.params import Params
from emofuse.core.process import computing_alone
from emofuse.core.schema import SPLITS
from emofuse.core.store import Store
from emofuse.encoders.catalogue import EncoderConfig
from emofuse.features.extract import ExtractConfig, Extracted, extract
from emofuse.models.unimodal import UtteranceConfig, UtteranceNetwork
from emofuse.tasks import Task
from emofuse.training.data import MappedSequences, Sequences, read_features
from emofuse.training.fit import Seeds, dev_scores, fit, standardize
from emofuse.training.pretrain import UnimodalConfig


@dataclass
class Measured:
    """What the runs of one choice gave: weighted F1 in percent, and the processor's seconds an epoch."""

    dev: list[float] = field(default_factory=list)
    held_out: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)

    @property
    def cells(self) -> list[str]:
        """Means and standard deviations."""
        return [*(f"{np.mean(each):.1f} ± {np.std(each):.1f}" for each in (self.dev, self.held_out)),
                f"{np.mean(self.seconds):.2f}"]  # fmt: skip


def main() -> None:
    """Measure and print the table."""
    arguments = _arguments()
    params = Params.load(arguments.file, ROOT)
    corpus, rows = params.get("corpus.name", str), []
    source = Layout(ROOT).corpus(corpus)
    with tempfile.TemporaryDirectory(prefix="emofuse-") as folder:
        tasks = list(_held_out(Path(folder), params, arguments.task, arguments.fifths))
        for choice in arguments.layers:
            features = Path(folder) / choice
            done = _encode(params, arguments.encoder, choice, source, features, arguments.modality)
            with computing_alone():
                measured = _train(params, arguments.modality, tasks, features, arguments.seeds)
            rows.append([choice, *measured.cells, readable_size(done.bytes)])
    print(f"# Layers of {arguments.encoder} on {corpus}, task {arguments.task}, stage I of {arguments.modality}\n")
    print(describe())
    print(f"programs that wanted a processor meanwhile, this one counted: {os.getloadavg()[2]:.1f}\n")
    print(f"Mean and deviation of {arguments.seeds} seeds on each of {arguments.fifths} held-out fifths.\n")
    print(table(["layers", "dev weighted F1, %", "held-out weighted F1, %", "s an epoch", "features"], rows))


def _held_out(folder: Path, params: Params, name: str, fifths: int) -> list[Task]:
    """Return the task with each fifth of train in the place of test."""
    task = Task.load(name, params, Layout(ROOT))
    fold = task.fold(0)
    splits = dict(zip(fold.utterance_ids, (SPLITS[each] for each in fold.splits), strict=True))
    utterances = pl.read_parquet(Layout(ROOT).corpus(task.corpus) / "utterances.parquet")
    known = utterances.filter(pl.col("utterance_id").is_in(list(splits)))
    split = known["utterance_id"].replace_strict(splits, return_dtype=pl.String)
    known.with_columns(split=split).write_parquet(folder / "utterances.parquet")
    config = replace(task.config, splits="official", speakers="shared", counts={})
    found = []
    for fifth in range(fifths):
        (folder / f"fifth-{fifth}").mkdir()
        hold_out(folder, folder / f"fifth-{fifth}", fifth)
        found.append(Task(name, config, pl.read_parquet(folder / f"fifth-{fifth}" / "utterances.parquet"), task.corpus))
    return found


def _encode(params: Params, encoder: str, choice: str, source: Path, out: Path, modality: str) -> Extracted:
    config = params.get(f"encoders.{encoder}", EncoderConfig)
    layers = tuple(map(int, choice.split(","))) if choice[0].isdigit() else choice
    changed = replace(config, options=config.options | {"layers": layers})
    shards = params.get("corpus.shards", int)
    return extract(f"{encoder}, {choice}", changed, ExtractConfig(workers=1), shards, source, out,
                   Store(ROOT / ".emofuse"), modality)  # fmt: skip


def _train(params: Params, modality: str, tasks: Sequence[Task], features: Path, seeds: int) -> Measured:
    config, measured = params.get(f"models.{modality}", UnimodalConfig).utterance, Measured()
    for number, task in enumerate(tasks):
        fold = task.fold(0)
        inputs = read_features(features, fold.utterance_ids)
        truth = dict(task.truth().filter(pl.col("split") == "test").select("utterance_id", "target").iter_rows())
        rows = [row for row, each in enumerate(fold.utterance_ids) if each in truth]
        targets = [truth[fold.utterance_ids[row]] for row in rows]
        for seed in range(seeds):
            drawn = Seeds(f"{modality}-utterance", seed, number)
            network = _network(config.network, inputs, len(fold.classes), drawn)
            standardize(network.standardize, inputs, fold)
            start = time.process_time()
            fitted = fit(network, {modality: inputs}, fold, config.fit, drawn)
            measured.seconds.append((time.process_time() - start) / len(fitted.history))
            measured.dev.append(100 * dev_scores(fitted.probabilities, fold)["weighted_f1"])
            predicted = fitted.probabilities[rows].argmax(axis=1)
            measured.held_out.append(100 * float(f1_score(targets, predicted, average="weighted")))
    return measured


def _network(
    config: UtteranceConfig, inputs: Sequences | MappedSequences, classes: int, seeds: Seeds
) -> UtteranceNetwork:
    torch.manual_seed(seeds.number("initialization"))
    layers = {"n_layers": inputs.n_layers} if inputs.n_layers > 1 else {}
    return UtteranceNetwork(config, inputs.dim, classes, **layers)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("file", help="parameter file of the corpus")
    parser.add_argument("task")
    parser.add_argument("modality", choices=("audio", "text"))
    parser.add_argument("encoder", help="of the catalogue")
    parser.add_argument("--layers", nargs="+", default=["last", "mean4", "all"], help="such as last mean4 2 2,4 all")
    parser.add_argument("--fifths", type=int, default=5, choices=range(1, 6))
    parser.add_argument("--seeds", type=int, default=2)
    return parser.parse_args()


if __name__ == "__main__":
    main()
