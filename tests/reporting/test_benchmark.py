"""From run folders to a benchmark: the right files, comparisons and protocol, from the right runs."""

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from sklearn.metrics import accuracy_score, f1_score

from emofuse.core.files import DamagedError, write_digests, write_json
from emofuse.core.layout import Layout, Pair
from emofuse.core.schema import SPLITS
from emofuse.features.shards import FeatureError, Row, metadata, write_shard
from emofuse.models.registry import in_order
from emofuse.models.registry import model as find_model
from emofuse.plan import External, Models, Plan, Selection
from emofuse.reporting.benchmark import benchmark, comparisons
from emofuse.reporting.leaderboard import leaderboard, write_leaderboard
from emofuse.reporting.protocol import protocol_lines
from emofuse.scoring.estimates import ScoringConfig
from emofuse.scoring.external import take_in
from emofuse.scoring.inputs import model_folders
from emofuse.scoring.predictions import ScoringError
from emofuse.scoring.scores import Scores, score
from emofuse.tasks import Task, TaskConfig
from emofuse.training.fit import Fitted
from emofuse.training.runs import Run, save_run

Make = Callable[..., pl.DataFrame]
TagsOf = Callable[[str], list[tuple[str, dict[str, str | None]]]]

CONFIG = ScoringConfig(resamples=100)
LABELS = ("angry", "happy", "sad")
SKILLS = {
    "majority": 0.0,
    "audio-linear": 0.2,
    "text-linear": 0.3,
    "audio-utterance": 0.4,
    "audio-context": 0.5,
    "text-utterance": 0.5,
    "text-context": 0.6,
    "concat": 0.65,
    "hcam": 0.8,
    "hcam/no-contrastive": 0.7,
}
"""Share of answers that are more than a guess, by model."""

ENSEMBLES = [f"{name}/ensemble" for name in SKILLS if find_model(name).seeded and "/" not in name]
"""Rows of the seeds of a model together."""

PAIR = Pair("ears", "eyes")
MODELS = Models(features=("majority",), networks=("concat", "hcam"), ablations=("hcam",))


def make_utterances() -> pl.DataFrame:
    """Twelve dialogues of five turns, the last turn without a label; a third of the dialogues a split."""
    labels = np.random.default_rng(0).choice(LABELS, (12, 4))
    rows = [
        {
            "utterance_id": f"d{dialogue}_{turn}",
            "dialogue_id": f"d{dialogue}",
            "speaker": None,
            "text": f"words of d{dialogue}_{turn}",
            "label": None if turn == 4 else labels[dialogue, turn],
            "split": SPLITS[dialogue % 3],
            "sentiment": None,
            "audio_sha256": f"{dialogue:032x}{turn:032x}" if turn else None,
            "n_samples": 16_000 if turn else None,
        }
        for dialogue in range(12)
        for turn in range(5)
    ]
    return pl.DataFrame(rows, schema_overrides={"speaker": pl.String, "sentiment": pl.Float64})


def make_task() -> Task:
    config = TaskConfig({name: (name,) for name in LABELS}, 2, "causal", "keep", "shared", "script")
    return Task("tiny", config, make_utterances(), "toy")


def make_plan(models: Models = MODELS) -> Plan:
    run = Selection(("tiny",), (PAIR.audio,), (PAIR.text,), models)
    return Plan("toy", "corpora/toy/params.yaml", run, dict.fromkeys(models.ablations, ("no-contrastive",)))


def predictions(task: Task, skill: float, seed: int) -> np.ndarray:
    """Probabilities that are right with probability ``skill``, and the first class otherwise."""
    fold = task.fold(0)
    targets = dict(task.truth().select("utterance_id", "target").rows())
    rng = np.random.default_rng([seed, int(100 * skill)])
    predicted = [targets.get(each, 0) if rng.random() < skill else 0 for each in fold.utterance_ids]
    return np.eye(3, dtype=np.float32)[predicted] * 0.7 + 0.1


def folder_of(root: Path, model: str) -> Path:
    """The folder of a model's runs."""
    layout = Layout(root)
    base, _, ablation = model.partition("/")
    if ablation:
        return layout.fusion("tiny", PAIR) / "ablations" / base / ablation
    return model_folders("tiny", PAIR, make_plan(), layout)[model]


def write_run(root: Path, task: Task, model: str, skill: float, seed: int) -> Path:
    encoders = {name: PAIR.encoder(name) for name in find_model(model).modalities}
    out = folder_of(root, model) / f"seed-{seed}-fold-0"
    run = Run("tiny", model, encoders, "by hand", seed, 0)
    probabilities = predictions(task, skill, seed)
    history = [{"epoch": epoch, "loss": 1 / epoch, "dev_weighted_f1": 0.1 * epoch} for epoch in (1, 2, 3)]
    fitted = Fitted(torch.nn.Identity(), probabilities, {}, 3, False, history, [])  # type: ignore[arg-type]
    save_run(out, run, task.fold(0), probabilities, {"a": 1}, None if model == "majority" else fitted)
    return out


def write_project(root: Path) -> Path:
    task = make_task()
    for model, skill in SKILLS.items():
        for seed in range(2 if find_model(model).seeded else 1):
            write_run(root, task, model, skill, seed)
    ids = [f"d2_{turn}" for turn in range(5)]
    example = {
        "utterance_ids": ids,
        "attention": {"text attends to audio": np.eye(5).tolist()},
        "gate": {"audio": [0.5] * 5},
    }
    write_json(folder_of(root, "hcam") / "seed-0-fold-0/attention.json", example)
    corpus = Layout(root).corpus("toy")
    corpus.mkdir(parents=True)
    make_utterances().write_parquet(corpus / "utterances.parquet")
    for modality in ("audio", "text"):
        shard = Layout(root).features("toy", PAIR.encoder(modality)) / "shard-00000-of-00001.parquet"
        identity = {"id": f"encoder of {modality}", "labels_seen": modality == "text"}
        rows = [Row("d0_0", "0", np.zeros((1, 2))), Row("d0_1", "0" if modality == "audio" else None, np.zeros((0, 2)))]
        write_shard(shard, rows, 2, identity)
    return root


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A project of one task whose runs are written by hand."""
    return write_project(tmp_path)


def run(root: Path, models: Models = MODELS) -> str:
    return benchmark(make_task(), PAIR, make_plan(models), CONFIG, Layout(root))


def metrics_of(root: Path) -> Path:
    return Layout(root).metrics("tiny", PAIR)


@pytest.fixture(scope="module")
def scored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Such a project with its benchmark, to look at."""
    root = write_project(tmp_path_factory.mktemp("scored"))
    (root / "printed.md").write_text(run(root))
    return root


def test_predictions_that_changed_since_they_were_written_are_not_scored(root: Path) -> None:
    folder = folder_of(root, "hcam") / "seed-0-fold-0"
    write_digests(folder)
    table = pl.read_parquet(folder / "predictions.parquet")
    table.with_columns(pl.col("probabilities").list.reverse()).write_parquet(folder / "predictions.parquet")
    with pytest.raises(DamagedError, match=r"hcam/seed-0-fold-0/predictions\.parquet: damaged"):
        run(root)


def test_the_files_of_a_benchmark(scored: Path, tags_of: TagsOf) -> None:
    out, models = metrics_of(scored), list(SKILLS)
    assert {path.name for path in out.iterdir()} >= {
        *("scores.csv", "pairs.csv", "confusion.csv", "calibration.csv", "learning.csv", "scores.json", "table.md"),
        *("dev.json", "plots", "report.html"),
    }
    plots = {path.name for path in (out / "plots").iterdir()}
    assert plots == {"scores.svg", *(f"confusion-{model.replace('/', '-')}.svg" for model in [*models, *ENSEMBLES])}
    for path in (out / "plots").iterdir():
        assert tags_of(path.read_text())[0][0] == "svg"
    table = (out / "table.md").read_text()
    assert table == (scored / "printed.md").read_text()
    assert "- hcam over text-context: Weighted F1 +" in table
    assert "- audio-context over audio-utterance: Weighted F1 +" in table
    assert not [path for path in scored.rglob("*") if path.name.endswith("~")]

    curves = pl.read_csv(out / "learning.csv")
    seeds = {name: 2 if find_model(name).seeded else 1 for name in models[1:]}
    assert curves.group_by("model").len().rows_by_key("model") == {name: [(3 * n,)] for name, n in seeds.items()}
    runs = pl.read_parquet(Layout(scored).scores("tiny", PAIR) / "runs.parquet")
    assert runs.select("model", "seed", "fold").unique().height == 17 + len(ENSEMBLES)


def test_an_ablation_stands_after_its_model_and_is_compared_with_it(scored: Path) -> None:
    out = metrics_of(scored)
    scores = pl.read_csv(out / "scores.csv")
    assert scores["model"].unique(maintain_order=True).to_list()[-3:] == [
        "hcam",
        "hcam/ensemble",
        "hcam/no-contrastive",
    ]
    assert "- hcam over hcam/no-contrastive: Weighted F1 " in (out / "table.md").read_text()


def test_the_scores_are_those_of_the_test_predictions(scored: Path) -> None:
    task = make_task()
    truth = task.truth().filter(pl.col("split") == "test")
    scores = pl.read_csv(metrics_of(scored) / "scores.csv")
    for model in SKILLS:
        f1 = []
        for path in folder_of(scored, model).glob("seed-*/predictions.parquet"):
            rows = truth.join(pl.read_parquet(path), on="utterance_id", maintain_order="left")
            f1.append(f1_score(rows["target"], rows["probabilities"].list.arg_max(), average="weighted"))
        here = (pl.col("model") == model) & (pl.col("metric") == "weighted_f1")
        (mean,) = scores.filter(here)["mean"]
        assert mean == pytest.approx(np.mean(f1), abs=1e-6)
        assert scores.filter(here)["n_runs"].to_list() == [len(f1)]


def test_a_cross_entropy_that_is_not_the_plain_one_stands_in_the_table_and_on_the_page(root: Path) -> None:
    assert "Cross-entropy" not in run(root)
    fit = {"config": {"fit": {"class_weight_power": 0.0, "focal_gamma": 2.0}}, "model": "concat", "reads": "pooled"}
    write_json(folder_of(root, "concat") / "seed-0-fold-0/config.json", fit)
    assert "- Cross-entropy of concat: focal loss with gamma 2\n" in run(root)
    assert "Cross-entropy of concat" in (metrics_of(root) / "report.html").read_text()


def test_a_modality_that_the_corpus_does_not_have_is_told(root: Path) -> None:
    folder = Layout(root).features("toy", PAIR.encoder("text"))
    rows = [Row(name, None, np.zeros((0, 2))) for name in ("d0_0", "d0_1")]
    write_shard(folder / "shard-00000-of-00001.parquet", rows, 2, metadata(folder))
    assert "- Not in the corpus: text\n" in run(root)
    assert json.loads((metrics_of(root) / "scores.json").read_text())["protocol"]["modalities_absent"] == ["text"]


def test_the_protocol_tells_what_the_numbers_rest_on(scored: Path) -> None:
    written = json.loads((metrics_of(scored) / "scores.json").read_text())
    protocol = written["protocol"]
    assert protocol["utterances_without_features"] == {"audio": {"too_short": 1}, "text": {"nothing_to_encode": 1}}
    assert ("Utterances without features, audio", "1 too short") in protocol_lines(protocol)
    assert protocol["features"] == {
        "audio": {"id": "encoder of audio", "labels_seen": False},
        "text": {"id": "encoder of text", "labels_seen": True},
    }
    expected: dict[str, Any] = {
        "task": "tiny",
        "corpus": "toy",
        "encoders": {"audio": "ears", "text": "eyes"},
        "classes": list(LABELS),
        "labelled_utterances": [{"train": 16, "dev": 16, "test": 16}],
        "unlike_a_full_corpus": [],
        "splits": "read from the corpus; their origin is unknown",
        "folds": 1,
        "seeds": 2,
        "context": "causal",
        "unlabelled_turns": "keep",
        "speakers_across_splits": "shared",
        "transcript": "script",
        "epoch_chosen_on": "dev weighted F1",
    }
    assert expected.items() <= protocol.items()
    assert written["test"]["n_utterances"] == 16
    assert written["test"]["n_dialogues"] == 4


def test_what_is_drawn_for_intervals_is_named(scored: Path) -> None:
    assert "- Intervals and p over: 4 dialogues of test, and runs" in (metrics_of(scored) / "table.md").read_text()


def test_predictions_of_others_stand_in_table_page_and_leaderboard(root: Path) -> None:
    """Labels of test alone: no calibration, no score on dev, no size."""
    task, truth = make_task(), make_task().truth().filter(split="test")
    right = {name: LABELS[target] for name, target in truth.select("utterance_id", "target").rows()}
    (root / "asked.csv").write_text("\n".join(["utterance_id,label", *map(",".join, right.items())]))
    config = External("asked", "tiny", "asked.csv", "a model, asked", True)
    plan = replace(make_plan(), run=replace(make_plan().run, external=(config,)))
    assert take_in(task, PAIR, config, Layout(root)) == f"asked: labels of 16 utterances, from {root / 'asked.csv'}"
    table = benchmark(task, PAIR, plan, CONFIG, Layout(root))
    assert re.search(r"^\| asked \| 100\.0 \[", table, re.MULTILINE), (
        "it may have seen the labels and is never the best"
    )
    assert re.search(r"^- hcam has the best weighted F1 of 9 models", table, re.MULTILINE)
    assert re.search(r"^\| hcam \| \*\*", table, re.MULTILINE)
    assert re.search(r"^- asked over \S+: Weighted F1 \+", table, re.MULTILINE)
    assert "| asked | unknown | unknown | unknown | yes |" in table
    assert "- Made elsewhere, asked: a model, asked; gives labels; labels of test may have been seen" in table
    page = (metrics_of(root) / "report.html").read_text()
    assert "labels of test may have been seen" in page
    (row,) = (each for each in leaderboard(root / "metrics") if each.model == "asked")
    assert set(row.scores) == {"weighted_f1", "accuracy", "balanced_accuracy"}
    board = write_leaderboard(root / "metrics")
    assert re.search(r"\| asked \| 100\.0 .* \|  \| 1 \|", board)
    assert re.search(r"\| hcam \| \*\*", board)
    config = replace(config, labels_seen=False)
    take_in(task, PAIR, config, Layout(root))
    table = benchmark(task, PAIR, plan, CONFIG, Layout(root))
    assert re.search(r"^- asked has the best weighted F1 of 10 models", table, re.MULTILINE)
    assert re.search(r"^\| asked \| \*\*100\.0\*\* \[", table, re.MULTILINE)
    assert "asked" in (root / "metrics/leaderboard.html").read_text()


def test_words_and_labels_stay_out_of_git(scored: Path) -> None:
    """The page that is committed shows the same dialogue as the one in the cache, without what the corpus owns."""
    public = (metrics_of(scored) / "report.html").read_text()
    private = (Layout(scored).scores("tiny", PAIR) / "report.html").read_text()
    assert "words of d2_3" in private
    assert "true: <strong>" in private
    assert public.count('<li style="--hue') == private.count('<li style="--hue') == 5
    assert '"target"' in private
    assert '"target"' not in public
    assert "true: <strong>" not in public
    for path in (scored / "metrics").rglob("*"):
        assert path.is_dir() or b"words of" not in path.read_bytes()


def test_facts_stand_beside_the_scores(scored: Path) -> None:
    table = (metrics_of(scored) / "table.md").read_text()
    assert "| audio-context | 0 | 0 | audio | no |" in table
    assert "| hcam/no-contrastive | 0 | 0 | audio, text | yes |" in table
    assert "emofuse table --time" in table
    assert "To repeat it: `dvc repro corpora/toy/dvc.yaml:score@tiny-ears-eyes`." in table
    assert "- Context: causal, only the turns before" in table


def test_two_benchmarks_are_equal_byte_by_byte(scored: Path, root: Path) -> None:
    (root / "printed.md").write_text(run(root))
    first, second = (
        {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
        for folder in (scored, root)
    )
    assert first == second


def test_a_model_without_all_runs_is_an_error_and_nothing_is_written(root: Path) -> None:
    with pytest.raises(ScoringError, match=r"tiny/ears\+eyes/cma: 0 runs; expected 2; run its training stage again"):
        run(root, Models(features=(*MODELS.features, "cma"), networks=MODELS.networks))
    assert not (root / "metrics").exists()
    assert not (root / "data" / "scores").exists()


def test_predictions_of_another_corpus_are_an_error_and_nothing_is_written(root: Path) -> None:
    path = folder_of(root, "hcam") / "seed-1-fold-0/predictions.parquet"
    rows = pl.read_parquet(path)
    rows.with_columns(pl.col("utterance_id").str.replace("d11_0", "stranger")).write_parquet(path)
    with pytest.raises(ScoringError, match=r"model 'hcam', seed 1, fold 0: unknown utterance ids: 'stranger'"):
        run(root)
    assert not (root / "metrics").exists()


def test_features_that_are_gone_are_named_and_nothing_is_written(root: Path) -> None:
    (Layout(root).features("toy", "ears") / "shard-00000-of-00001.parquet").unlink()
    with pytest.raises(FeatureError, match="features/toy/ears: no feature shards"):
        run(root)
    assert not (root / "metrics").exists()


def test_models_that_are_not_asked_for_have_no_say(root: Path) -> None:
    run(root, Models(features=(), networks=("concat",)))
    scores = pl.read_csv(metrics_of(root) / "scores.csv")
    levels = ("linear", "utterance", "context")
    expected = [*(f"{modality}-{level}" for level in levels for modality in ("audio", "text")), "concat"]
    found = scores["model"].unique(maintain_order=True).to_list()
    assert [name for name in found if "/" not in name] == expected
    assert set(found) <= {*expected, *ENSEMBLES}


def test_what_dev_says_stands_beside_the_scores_and_alone_in_what_experiments_compare(scored: Path) -> None:
    truth = make_task().truth().filter(pl.col("split") == "dev")
    found = json.loads((metrics_of(scored) / "dev.json").read_text())
    scores = json.loads((metrics_of(scored) / "scores.json").read_text())["scores"]
    csv = pl.read_csv(metrics_of(scored) / "scores.csv")
    assert list(found) == in_order(SKILLS)
    for model in SKILLS:
        paths = sorted(folder_of(scored, model).glob("seed-*/predictions.parquet"))
        joined = [truth.join(pl.read_parquet(path), on="utterance_id", maintain_order="left") for path in paths]
        predicted = [rows["probabilities"].list.arg_max() for rows in joined]
        f1 = [f1_score(truth["target"], each, average="weighted") for each in predicted]
        accuracy = [accuracy_score(truth["target"], each) for each in predicted]
        assert found[model] == {
            "dev/accuracy": pytest.approx(np.mean(accuracy), abs=2e-6),
            "dev/weighted_f1": pytest.approx(np.mean(f1), abs=2e-6),
        }
        row = scores[model]["dev/weighted_f1"]
        assert (row["mean"], row["n_runs"]) == (found[model]["dev/weighted_f1"], len(paths))
        assert (row["low"], row["high"]) == (None, None)
        assert row["sd"] == (None if len(paths) == 1 else pytest.approx(np.std(f1, ddof=1), abs=2e-6))
        assert csv.filter(model=model, metric="dev/weighted_f1")["mean"].to_list() == [row["mean"]]


def test_dev_predictions_have_no_say(scored: Path, root: Path) -> None:
    for path in Layout(root).models.rglob("predictions.parquet"):
        rows = pl.read_parquet(path)
        dev = pl.col("split") == "dev"
        turned = pl.when(dev).then(pl.col("probabilities").list.reverse()).otherwise("probabilities")
        changed = rows.with_columns(turned.alias("probabilities"))
        assert not changed.equals(rows)
        changed.write_parquet(path)
    run(root)
    for name in ("scores.csv", "pairs.csv", "confusion.csv", "dev.json"):
        assert (metrics_of(root) / name).read_bytes() == (metrics_of(scored) / name).read_bytes()
    one, other = (json.loads((metrics_of(each) / "scores.json").read_text()) for each in (root, scored))
    digests = [each["protocol"]["provenance"]["sha256"].pop("predictions") for each in (one, other)]
    assert one == other
    assert digests[0] != digests[1]
    before, after = (without_tempered((metrics_of(each) / "table.md").read_text()) for each in (root, scored))
    assert before == after


def without_tempered(table: str) -> str:
    """A table without its columns of what temperatures give, which dev chooses."""
    lines = []
    for line in table.splitlines():
        cells = line.split("|")
        if "tempered" in line:
            column = next(place for place, cell in enumerate(cells) if "tempered" in cell)
        elif not line.startswith("|"):
            column = None
        lines.append("|".join(cell for place, cell in enumerate(cells) if place != column or not line.startswith("|")))
    return "\n".join(lines)


def scores_of(truth: Make, guess: Make, classes: Sequence[str], skills: dict[str, float]) -> Scores:
    targets = truth(n_dialogues=30)
    runs = pl.concat([guess(targets, skill, model) for model, skill in skills.items()])
    return score(runs, targets, classes, ScoringConfig(resamples=2))


@pytest.mark.parametrize(("audio", "text", "better"), [(0.5, 0.8, "text-context"), (0.8, 0.5, "audio-context")])
def test_fusion_is_compared_with_the_better_modality(
    truth: Make, guess: Make, classes: tuple[str, ...], audio: float, text: float, better: str
) -> None:
    skills = {"audio-utterance": 0.9, "text-utterance": 0.4, "audio-context": audio, "text-context": text}
    scores = scores_of(truth, guess, classes, {**skills, "concat": 0.6, "late": 0.6, "hcam": 0.7})
    assert comparisons(scores) == [
        ("audio-context", "audio-utterance"),
        ("text-context", "text-utterance"),
        ("concat", better),
        ("late", better),
        ("hcam", better),
        ("hcam", "concat"),
        ("hcam", "late"),
    ]


@pytest.mark.parametrize(
    ("models", "expected"),
    [
        (["majority"], []),
        (["concat", "linear", "hcam"], [("hcam", "linear"), ("hcam", "concat")]),
        (["concat", "hcam"], [("hcam", "concat")]),
        (["majority", "text-context", "hcam"], [("hcam", "text-context")]),
        (["concat", "hbaf", "cma"], [("cma", "concat"), ("hbaf", "concat")]),
        (["hcam/b", "hcam", "cma/a", "hcam/a"], [("hcam", "hcam/a"), ("hcam", "hcam/b")]),
    ],
)
def test_only_scored_models_are_compared(
    truth: Make, guess: Make, classes: tuple[str, ...], models: list[str], expected: list[tuple[str, str]]
) -> None:
    assert comparisons(scores_of(truth, guess, classes, dict.fromkeys(models, 0.6))) == expected
