"""Variants of models, judged on fifths of train that no network of theirs has seen; test is not read.

A fifth of the dialogues of train is held out in turn, in the place of test; dev chooses epochs, as always. The networks
that a variant reads from are trained anew on the rest. A variant is a model with values changed, as an ablation is.

    python benchmarks/heldout.py corpora/meld/params.yaml meld-7 meld-prosody+minilm variants.yaml --fifths 3 --seeds 2

The file variants.yaml has, by name, a model and its changes: `skip: {model: hcam, changes: {network.skip: true}}`. With
`base: concat`, differences are taken to that model, else to the variant's own. The features have to be there. Runs are
kept in the project's work store, so that a second call trains what is new alone.
"""

import argparse
import hashlib
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import yaml

from emofuse.core.layout import Layout, Pair
from emofuse.core.params import Params
from emofuse.core.schema import MODALITIES
from emofuse.core.store import Store
from emofuse.models.registry import Model, model
from emofuse.scoring.estimates import ScoringConfig
from emofuse.scoring.scores import score
from emofuse.tasks import Task
from emofuse.training.fuse import fuse
from emofuse.training.jobs import Work, jobs_of
from emofuse.training.pretrain import pretrain, pretrain_linear
from emofuse.training.trainer import train_all

ROOT = Path(__file__).parents[1]


def main() -> None:
    """Print weighted F1 of each variant on all held-out fifths together, and its difference to its model."""
    arguments = _arguments()
    params = Params.load(arguments.file, ROOT)
    params = params.changed(f"tasks.{arguments.task}", {"seeds": arguments.seeds, "speakers": "shared"}, "here")
    variants = yaml.safe_load(arguments.variants.read_text(encoding="utf-8"))
    pair, runs, truths = Pair.parse(arguments.pair), [], []
    for fifth in range(arguments.fifths):
        with tempfile.TemporaryDirectory(prefix="emofuse-") as folder:
            own, truth = _train(Path(folder), params, arguments.task, pair, variants, fifth)
        runs.append(own.with_columns(fold=pl.lit(fifth, pl.Int32)))
        truths.append(truth.with_columns(fold=pl.lit(fifth, pl.Int32)))
    task = Task.load(arguments.task, params, Layout(ROOT))
    _print(pl.concat(runs), pl.concat(truths), task.classes, variants)


def _train(
    folder: Path, params: Params, task: str, pair: Pair, variants: Mapping[str, Any], fifth: int
) -> tuple[pl.DataFrame, pl.DataFrame]:
    layout, corpus = Layout(folder), params.get("corpus.name", str)
    layout.corpus(corpus).mkdir(parents=True)
    hold_out(Layout(ROOT).corpus(corpus), layout.corpus(corpus), fifth)
    layout.features(corpus, "x").parent.parent.mkdir(parents=True)
    layout.features(corpus, "x").parent.symlink_to(Layout(ROOT).features(corpus, "x").parent.resolve())
    work = Work(f"heldout {task} {fifth}", task, params, layout, Store(ROOT / ".emofuse"))
    for modality in MODALITIES:
        pretrain(work, modality, pair.encoder(modality))
        pretrain_linear(work, modality, pair.encoder(modality))
    for base in dict.fromkeys(each["model"] for each in variants.values()):
        entry: Model = model(base)
        fuse(work, pair, entry.name)
    for name, each in variants.items():
        changed = params.changed(f"models.{each['model']}", each["changes"], name)
        other = Work(f"{work.stage} {name}", task, changed, layout, work.store)
        out = layout.fusion(task, pair) / name
        encoders = {modality: pair.encoder(modality) for modality in MODALITIES}
        train_all(other, out, [(job,) for job in jobs_of(other, each["model"], encoders, out)])
    tables = []
    for path in sorted(layout.models.rglob("predictions.parquet")):
        table = pl.read_parquet(path)
        above = path.parents[1].name
        tables.append(table.with_columns(model=pl.lit(above)) if above in variants else table)
    return pl.concat(tables), work.opened.truth()


def hold_out(source: Path, target: Path, fifth: int) -> None:
    """Write the utterances without those of test, a fifth of train's dialogues in their place."""
    table = pl.read_parquet(source / "utterances.parquet").filter(pl.col("split") != "test")
    fifths = [int(hashlib.sha256(name.encode()).hexdigest(), 16) % 5 for name in table["dialogue_id"]]
    held = (pl.col("split") == "train") & (pl.Series(fifths) == fifth)
    moved = table.with_columns(split=pl.when(held).then(pl.lit("test")).otherwise("split"))
    moved.write_parquet(target / "utterances.parquet")


def _print(runs: pl.DataFrame, truth: pl.DataFrame, classes: tuple[str, ...], variants: Mapping[str, Any]) -> None:
    result = score(runs, truth.drop("sentiment"), classes, ScoringConfig(resamples=200))
    rows = {row["model"]: row for row in result.models.filter(pl.col("metric") == "weighted_f1").to_dicts()}
    dev = _dev(runs, truth, classes)
    print("| model | held-out weighted F1 | sd | dev | difference |")
    print("| --- | ---: | ---: | ---: | --- |")
    for name, row in rows.items():
        base = variants[name].get("base", variants[name]["model"]) if name in variants else None
        shown = _difference(result.pairs, name, base) if base else ""
        deviation = f"{100 * row['sd']:.1f}" if row["sd"] is not None else ""
        print(f"| {name} | {100 * row['mean']:.1f} | {deviation} | {100 * dev[name]:.1f} | {shown} |")


def _dev(runs: pl.DataFrame, truth: pl.DataFrame, classes: tuple[str, ...]) -> dict[str, float]:
    from sklearn.metrics import f1_score

    of_dev = truth.filter(pl.col("split") == "dev")
    found: dict[str, list[float]] = {}
    joined = runs.filter(pl.col("split") == "dev").join(of_dev, on=["fold", "utterance_id"], how="inner")
    for (name, _, _), own in joined.group_by("model", "seed", "fold"):
        predicted = own["probabilities"].list.arg_max().to_numpy()
        value = f1_score(own["target"].to_numpy(), predicted, average="weighted", labels=range(len(classes)))
        found.setdefault(str(name), []).append(float(value))
    return {name: float(np.mean(values)) for name, values in found.items()}


def _difference(pairs: pl.DataFrame, name: str, base: str) -> str:
    for a, b, sign in ((name, base, 1), (base, name, -1)):
        own = pairs.filter((pl.col("model_a") == a) & (pl.col("model_b") == b) & (pl.col("metric") == "weighted_f1"))
        if own.height:
            row = own.row(0, named=True)
            low, high = sorted(100 * sign * row[end] for end in ("low", "high"))
            return f"{100 * sign * row['difference']:+.1f} [{low:+.1f}, {high:+.1f}] to {base}, p {row['p']:.2g}"
    return ""


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("file", help="parameter file of the corpus")
    parser.add_argument("task")
    parser.add_argument("pair", help="encoders, such as logmel+minilm")
    parser.add_argument("variants", type=Path, help="YAML: by name, model and changes")
    parser.add_argument("--fifths", type=int, default=5, choices=range(1, 6))
    parser.add_argument("--seeds", type=int, default=2)
    return parser.parse_args()


if __name__ == "__main__":
    main()
