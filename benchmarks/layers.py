"""Choices of layers of one encoder: what its unimodal networks score on dev and test, and what each choice costs.

The corpus is encoded once for each choice, and stages I and II trained with the settings of ``params.yaml``, all seeds
and folds of the task. Dev chooses epochs, and layers too; test stands beside it. Nothing is taken from the work store,
so that all of it is measured, in seconds of the processor.

    python benchmarks/layers.py corpora/emodb/params.yaml emodb audio whisper-tiny --layers last mean4 2 all

A number is one layer, numbers with commas several side by side. The corpus has to be ingested. What is found is written
to ``metrics/layers/<task>.csv``; without arguments the tables of ``docs/layers.md`` are written from all of these.
"""

import argparse
import resource
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
from machine import describe, table

from emofuse.core.files import readable_size, write_text
from emofuse.core.layout import Layout
from emofuse.core.params import Params
from emofuse.core.store import Store
from emofuse.encoders.catalogue import EncoderConfig
from emofuse.features.extract import ExtractConfig, extract
from emofuse.scoring.estimates import ScoringConfig
from emofuse.scoring.scores import score
from emofuse.training.jobs import Work
from emofuse.training.pretrain import pretrain

ROOT = Path(__file__).parents[1]
METRICS = ROOT / "metrics" / "layers"
PAGE = ROOT / "docs" / "layers.md"
MARK = "<!-- The rest is written by benchmarks/layers.py from metrics/layers/. -->\n"

LEARNT = "all"
NETWORKS = {"utterance": "stage I", "context": "stage II"}


def main() -> None:
    """Measure one encoder on one task, then write the page."""
    if len(sys.argv) > 1:
        arguments = _arguments()
        METRICS.mkdir(parents=True, exist_ok=True)
        _measure(arguments).write_csv(METRICS / f"{arguments.task}.csv", float_precision=6)
    head = PAGE.read_text(encoding="utf-8").partition(MARK)[0]
    sections = [_section(pl.read_csv(path)) for path in sorted(METRICS.glob("*.csv"))]
    write_text(PAGE, head + MARK + ("".join(sections) or "\nNothing has been measured yet.\n"))


def _measure(arguments: argparse.Namespace) -> pl.DataFrame:
    params = Params.load(arguments.file, ROOT)
    runs: list[pl.DataFrame] = []
    costs: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory(prefix="emofuse-") as folder:
        layout, corpus = Layout(Path(folder)), params.get("corpus.name", str)
        layout.corpus(corpus).parent.mkdir(parents=True)
        layout.corpus(corpus).symlink_to(Layout(ROOT).corpus(corpus).resolve())
        work = Work(f"layers of {arguments.encoder}", arguments.task, params, layout, Store(layout.root / "store"))
        for choice in arguments.layers:
            start = _spent()
            size = _encode(work, arguments.encoder, choice, arguments.modality)
            encoded = _spent()
            pretrain(work, arguments.modality, choice)
            costs[choice] = {"encoding_s": encoded - start, "training_s": _spent() - encoded, "bytes": size}
            runs += [*_predictions(layout.unimodal(arguments.task, choice), choice)]
        truth = work.opened.truth().drop("sentiment")
    tables = [_scores(pl.concat(runs), truth, split, work.opened.classes) for split in ("dev", "test")]
    rows = pl.concat(tables).to_dicts()
    about = {"task": arguments.task, "encoder": arguments.encoder, "machine": describe()}
    return pl.DataFrame([about | row | costs[row["layers"]] for row in rows])


def _spent() -> float:
    """Seconds of the processor, of this process and those that it waited for."""
    used = [resource.getrusage(each) for each in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used)


def _encode(work: Work, encoder: str, choice: str, modality: str) -> int:
    config = work.params.get(f"encoders.{encoder}", EncoderConfig)
    layers = tuple(map(int, choice.split(","))) if choice[0].isdigit() else choice
    corpus, shards = work.params.get("corpus.name", str), work.params.get("corpus.shards", int)
    done = extract(
        choice,
        replace(config, options=config.options | {"layers": layers}),
        ExtractConfig(threads=1, workers=1),
        shards,
        work.layout.corpus(corpus),
        work.layout.features(corpus, choice),
        work.store,
        modality,
    )
    print(f"{encoder}, layers {choice}: {done}")
    return done.bytes


def _predictions(folder: Path, choice: str) -> Iterator[pl.DataFrame]:
    for network in NETWORKS:
        for path in sorted((folder / network).rglob("predictions.parquet")):
            yield pl.read_parquet(path).with_columns(model=pl.lit(f"{choice} {network}"))


def _scores(runs: pl.DataFrame, truth: pl.DataFrame, split: str, classes: Sequence[str]) -> pl.DataFrame:
    """Weighted F1 of a split by choice and network, and how much the learnt weights are above it."""
    answers, asked = (
        each.filter(pl.col("split") == split).with_columns(split=pl.lit("test")) for each in (runs, truth)
    )
    found = score(answers, asked, classes, ScoringConfig(resamples=1))
    pairs = list(found.pairs.filter(pl.col("metric") == "weighted_f1").iter_rows(named=True))
    rows = []
    for row in found.models.filter(pl.col("metric") == "weighted_f1").iter_rows(named=True):
        layers, network = row["model"].split()
        own = {"layers": layers, "network": network, "split": split, "unit": found.unit, "units": found.n_units}
        kept = {key: row[key] for key in ("mean", "sd", "low", "high", "n_runs")}
        rows.append(own | kept | _above(pairs, f"{LEARNT} {network}", row["model"]))
    return pl.DataFrame(rows, infer_schema_length=None)


def _above(pairs: Sequence[Mapping[str, Any]], learnt: str, other: str) -> dict[str, float | None]:
    for pair in pairs:
        if {pair["model_a"], pair["model_b"]} == {learnt, other}:
            sign = 1 if pair["model_a"] == learnt else -1
            low, high = sorted((sign * pair["low"], sign * pair["high"]))
            return {"above": sign * pair["difference"], "above_low": low, "above_high": high}
    return {"above": None, "above_low": None, "above_high": None}


def _section(found: pl.DataFrame) -> str:
    first = found.row(0, named=True)
    units = found.filter(pl.col("split") == "test")["units"][0]
    lines = [f"\n## {first['encoder']} on {first['task']}\n", f"Intervals are over {units} {first['unit']}s of test.\n"]
    rows = []
    for layers, network in found.select("layers", "network").unique(maintain_order=True).iter_rows():
        own = found.filter((pl.col("layers") == layers) & (pl.col("network") == network))
        dev, test = (own.row(by_predicate=pl.col("split") == split, named=True) for split in ("dev", "test"))
        costs = [f"{dev['encoding_s']:.0f}", f"{dev['training_s']:.0f}", readable_size(dev["bytes"])]
        rows.append([layers, NETWORKS[network], _mean(dev), _gap(dev), _mean(test), _gap(test), *costs])
    header = ["layers", "network", "dev", "learnt above it", "test", "learnt above it", "encoding, s", "training, s"]
    return "\n".join([*lines, table([*header, "features"], rows), f"\n{first['machine']}", ""])


def _mean(row: Mapping[str, Any]) -> str:
    return f"{100 * row['mean']:.1f} ± {100 * row['sd']:.1f} [{100 * row['low']:.1f}, {100 * row['high']:.1f}]"


def _gap(row: Mapping[str, Any]) -> str:
    if row["above"] is None:
        return ""
    return f"{100 * row['above']:+.1f} [{100 * row['above_low']:+.1f}, {100 * row['above_high']:+.1f}]"


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("file", help="parameter file of the corpus")
    parser.add_argument("task")
    parser.add_argument("modality", choices=("audio", "text"))
    parser.add_argument("encoder", help="of the catalogue")
    parser.add_argument("--layers", nargs="+", default=["last", "mean4", LEARNT], help="such as last mean4 2 2,4 all")
    return parser.parse_args()


if __name__ == "__main__":
    main()
