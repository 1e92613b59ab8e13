"""The stages `corrupt` and `robustness`: the corpus, the encoders and the networks are the real ones."""

import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from torchaudio.functional import edit_distance

from emofuse.audio.flac import decode
from emofuse.core.layout import Layout, Pair
from emofuse.core.params import Params
from emofuse.core.schema import SPLITS, UTTERANCES
from emofuse.core.store import Store
from emofuse.corpora import CorpusError
from emofuse.features.shards import FeatureError, FeatureStore
from emofuse.plan import Plan
from emofuse.robustness import listening as listening_module
from emofuse.robustness import predictions as predictions_module
from emofuse.robustness.conditions import Noise, WordErrors
from emofuse.robustness.features import corrupt, extract_corrupted
from emofuse.robustness.predictions import predict_corrupted, test_dialogues
from emofuse.robustness.scores import robustness
from emofuse.scoring.estimates import ScoringConfig
from emofuse.scoring.inputs import run_folders, truth_of
from emofuse.scoring.scores import score
from emofuse.tasks import Task

Project = Any
"""The class of the fixture, in ``tests/conftest.py``."""

test_dialogues.__test__ = False  # type: ignore[attr-defined]  # No test, whatever its name.

PAIR = Pair("logmel", "minilm")

CONDITIONS: dict[str, tuple[str, dict[str, float] | str]] = {
    "noise-200": ("audio", {"noise_db": 200.0, "seed": 0}),
    "noise-0": ("audio", {"noise_db": 0.0, "seed": 0}),
    "words-0": ("text", {"word_errors": 0.0, "seed": 0}),
    "words-40": ("text", {"word_errors": 0.4, "seed": 0}),
    "no-audio": ("audio", "missing"),
    "no-text": ("text", "missing"),
}
"""Modality and change by condition; two of them change nothing."""

FUSED = ("concat", "late", "hcam", "hcam/no-context", "cma", "hbaf")


def read_params(root: Path, conditions: dict[str, tuple[str, Any]]) -> Params:
    """Write into a project's parameters that these conditions are run, and read them."""
    path = root / "params.yaml"
    tree = yaml.safe_load(path.read_text())
    tree["conditions"] = {name: change for name, (_, change) in conditions.items()}
    tree["run"]["conditions"] = {
        each: [name for name, (modality, _) in conditions.items() if modality == each]
        for each in ("audio", "text", "both")
    }
    tree["extract"]["workers"] = 1
    path.write_text(yaml.safe_dump(tree, sort_keys=False))
    return Params.load(root=root)


def extract(root: Path, params: Params, condition: str) -> None:
    """Run the stage ``corrupt``."""
    encoder = PAIR.encoder(CONDITIONS[condition][0])
    extract_corrupted(Plan.load(params), params, condition, encoder, Layout(root), Store(root / ".emofuse"))


def features(root: Path, condition: str) -> Path:
    """What that stage leaves."""
    return Layout(root).corrupted("demo", condition, PAIR.encoder(CONDITIONS[condition][0]))


@pytest.fixture(scope="module")
def folder(project: Project, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project with features of test under all conditions, in a folder of its own."""
    root = tmp_path_factory.mktemp("corrupted")
    (root / "data").mkdir()
    for place in ("corpora", "models", "features"):
        (root / "data" / place).symlink_to(project.root / "data" / place)
    shutil.copytree(project.root / "metrics", root / "metrics")
    shutil.copy(project.root / "params.yaml", root)
    params = read_params(root, CONDITIONS)
    for condition in CONDITIONS:
        extract(root, params, condition)
    return root


@pytest.fixture(scope="module")
def data(folder: Path) -> Path:
    """The data of the project."""
    return folder / "data"


@pytest.fixture(scope="module")
def plan(folder: Path) -> Plan:
    return Plan.load(Params.load(root=folder))


@pytest.fixture(scope="module")
def task(folder: Path) -> Task:
    return Task.load("demo", Params.load(root=folder), Layout(folder))


@pytest.fixture(scope="module")
def in_process() -> Iterator[None]:
    """Predict in this process, last run first: processes are slow to start, and end in any order."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(predictions_module, "call_all", lambda predict, jobs, *_: [(j, predict(j)) for j in jobs[::-1]])
        yield


@pytest.fixture(scope="module")
def runs(task: Task, plan: Plan, folder: Path) -> list[Path]:
    """The folders of all runs."""
    return run_folders(task, PAIR, plan, Layout(folder))


@pytest.fixture(scope="module")
def predict(task: Task, folder: Path, runs: list[Path], in_process: None) -> Callable[..., pl.DataFrame]:
    """Predict under a condition, ``predict(condition, changed modality, folders)``; by default with all runs."""

    def run(condition: str, changed: str, folders: list[Path] = runs) -> pl.DataFrame:
        layout, store = Layout(folder), Store(folder / ".emofuse")
        return predict_corrupted(task, PAIR, folders, condition, changed, layout, store)

    return run


@pytest.fixture(scope="module")
def corrupted(predict: Callable[..., pl.DataFrame]) -> pl.DataFrame:
    """What all runs predict under all conditions, by condition."""
    tables = {name: predict(name, modality) for name, (modality, _) in CONDITIONS.items()}
    return pl.concat([table.with_columns(condition=pl.lit(name)) for name, table in tables.items()])


@pytest.fixture(scope="module")
def clean(runs: list[Path]) -> pl.DataFrame:
    return pl.concat([pl.read_parquet(run / "predictions.parquet") for run in runs]).filter(split="test")


def probabilities(table: pl.DataFrame, **where: Any) -> np.ndarray:
    rows = table.filter(*(pl.col(name) == value for name, value in where.items()))
    return np.array(rows["probabilities"].to_list())


@pytest.mark.parametrize("condition", ["noise-200", "words-0"])
def test_a_change_of_nothing_changes_no_score(
    corrupted: pl.DataFrame, clean: pl.DataFrame, task: Task, condition: str
) -> None:
    asked = corrupted.filter(pl.col("condition") == condition).drop("condition")
    assert asked.drop("probabilities").equals(clean.drop("probabilities"))
    np.testing.assert_allclose(probabilities(asked), probabilities(clean), atol=2e-5)
    config = ScoringConfig(resamples=100)
    again, first = (score(each, truth_of(task), task.classes, config).models for each in (asked, clean))
    of_answers = pl.col("metric") != "ece"  # which moves with the last bits of a probability
    assert again.filter(of_answers).equals(first.filter(of_answers))


@pytest.mark.parametrize(("condition", "modality"), [("noise-200", "audio"), ("words-0", "text")])
def test_a_change_of_nothing_changes_no_feature(folder: Path, condition: str, modality: str) -> None:
    changed, own = (
        FeatureStore(features(folder, condition)),
        FeatureStore(Layout(folder).features("demo", PAIR.encoder(modality))),
    )
    for utterance in changed.utterance_ids:
        # A text's last bits depend on what is encoded beside it.
        np.testing.assert_allclose(changed[utterance], own[utterance], atol=2e-3 if modality == "text" else 0)


@pytest.mark.parametrize("condition", CONDITIONS)
def test_the_utterances_of_test_and_no_others_have_features(folder: Path, task: Task, condition: str) -> None:
    fold = task.fold(0)
    test = {each for each, split in zip(fold.utterance_ids, fold.splits, strict=True) if SPLITS[split] == "test"}
    assert set(FeatureStore(features(folder, condition)).utterance_ids) == test


def test_a_model_predicts_the_same_if_it_does_not_read_what_is_changed(
    corrupted: pl.DataFrame, clean: pl.DataFrame
) -> None:
    for condition, (modality, _) in CONDITIONS.items():
        other = "text" if modality == "audio" else "audio"
        for model in ("majority", f"{other}-utterance", f"{other}-context"):
            asked = probabilities(corrupted, condition=condition, model=model)
            np.testing.assert_array_equal(asked, probabilities(clean, model=model))


@pytest.mark.parametrize("condition", ["noise-0", "words-40", "no-audio", "no-text"])
def test_a_change_reaches_every_model_that_reads_it(
    corrupted: pl.DataFrame, clean: pl.DataFrame, folder: Path, condition: str
) -> None:
    """Late fusion reads what it gives a weight, which dev chose."""
    modality = CONDITIONS[condition][0]
    mixtures = [
        json.loads(path.read_text()) for path in (Layout(folder).fusion("demo", PAIR) / "late").glob("*/config.json")
    ]
    assert mixtures
    mixed = any(each["weights"][modality] for each in mixtures)
    models = [model for model in FUSED if model != "late" or mixed]
    for model in (f"{modality}-utterance", f"{modality}-context", *models):
        asked = probabilities(corrupted, condition=condition, model=model)
        assert np.isfinite(asked).all()
        assert np.abs(asked - probabilities(clean, model=model)).max() > 1e-4, model


@pytest.mark.parametrize("modality", ["audio", "text"])
def test_without_its_modality_a_network_predicts_the_same_for_all(corrupted: pl.DataFrame, modality: str) -> None:
    asked = probabilities(corrupted, condition=f"no-{modality}", model=f"{modality}-utterance", seed=0)
    np.testing.assert_allclose(asked, np.broadcast_to(asked[0], asked.shape), atol=1e-6)


def test_predictions_are_kept_in_the_store(
    predict: Callable[..., pl.DataFrame], corrupted: pl.DataFrame, runs: list[Path], folder: Path
) -> None:
    before = set((folder / ".emofuse/corrupted").iterdir())
    assert before
    asked = predict("no-text", "text", [run for run in runs if run.parent.name == "hbaf"])
    assert asked.equals(corrupted.filter(condition="no-text", model="hbaf").drop("condition"))
    assert set((folder / ".emofuse/corrupted").iterdir()) == before


def test_the_same_seed_gives_the_same_bytes(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path, symlinks=True, dirs_exist_ok=True, ignore=lambda *_: [".emofuse"])
    same = Params.load(root=tmp_path)
    changed: dict[str, tuple[str, Any]] = {
        "noise-0": ("audio", {"noise_db": 0.0, "seed": 1}),
        "words-40": ("text", {"word_errors": 0.4, "seed": 1}),
    }
    other = read_params(tmp_path, changed)
    for condition in changed:
        first = contents(features(folder, condition))
        extract(tmp_path, same, condition)
        assert contents(features(tmp_path, condition)) == first
        extract(tmp_path, other, condition)
        again = contents(features(tmp_path, condition))
        assert again.keys() == first.keys()
        assert all(each != first[name] for name, each in again.items())


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.glob("*.parquet")}


def test_features_of_another_encoder_are_refused(
    task: Task, runs: list[Path], folder: Path, tmp_path: Path, in_process: None
) -> None:
    shutil.copytree(folder, tmp_path, symlinks=True, dirs_exist_ok=True, ignore=lambda *_: [".emofuse"])
    place = Layout(tmp_path).corrupted("demo", "noise-0", PAIR.text)
    shutil.copytree(features(folder, "noise-0"), place)
    with pytest.raises(FeatureError, match=r"noise-0/minilm: made by another encoder than .*/minilm; run the stage"):
        predict_corrupted(task, PAIR, runs, "noise-0", "text", Layout(tmp_path), Store(tmp_path / ".emofuse"))


def table_of(layout: Layout, condition: str) -> pl.DataFrame:
    """What the stage wrote of a condition."""
    found = json.loads(layout.robustness("demo", PAIR, condition).read_text())
    rows = [
        {"model": model, "metric": metric, **row}
        for model, own in found["scores"].items()
        for metric, row in own.items()
    ]
    return pl.DataFrame(rows, infer_schema_length=None)


def test_scores_stand_beside_those_without_the_condition(
    corrupted: pl.DataFrame, task: Task, plan: Plan, folder: Path, in_process: None
) -> None:
    config, layout = Params.load(root=folder).get("scoring", ScoringConfig), Layout(folder)
    written = {}
    for condition, modality in (("noise-200", "audio"), ("no-text", "text")):
        robustness(task, PAIR, plan, condition, modality, config, layout, Store(folder / ".emofuse"))
        written[condition] = table_of(layout, condition)
    recorded = pl.read_csv(layout.metrics("demo", PAIR) / "scores.csv")
    recorded = recorded.filter(~pl.col("metric").str.starts_with("dev/"))
    for table in written.values():
        assert table.columns == ["model", "metric", "mean", "sd", "low", "high", "n_runs", "as_recorded"]
        assert table.select("model", "metric", mean="as_recorded").equals(recorded.select("model", "metric", "mean"))
    of_answers = written["noise-200"].filter(pl.col("metric") != "ece")
    assert of_answers["mean"].equals(of_answers["as_recorded"])
    without = written["no-text"]
    scores = score(corrupted.filter(condition="no-text").drop("condition"), truth_of(task), task.classes, config).models
    assert without["mean"].to_list() == pytest.approx(scores["mean"].to_list())
    same = without.filter(pl.col("mean") == pl.col("as_recorded"))["model"].to_list()
    assert {"majority", "audio-utterance", "audio-context"} <= set(same)
    lost = without.filter(model="text-context", metric="weighted_f1").row(0, named=True)
    assert lost["mean"] < lost["as_recorded"]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """An empty one."""
    return Store(tmp_path / ".emofuse")


def test_found_turns_stand_in_place_of_the_corpus_s_with_their_error_rate(
    folder: Path, task: Task, plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, in_process: None
) -> None:
    """Of two dialogues: what is heard is heard by the real voice activity; every word that is written down is wrong."""
    shutil.copytree(folder, tmp_path, symlinks=True, dirs_exist_ok=True, ignore=lambda *_: [".emofuse"])
    layout, store, asked = Layout(tmp_path), Store(tmp_path / ".emofuse"), []

    def recogniser(name: str) -> Callable[[Sequence[np.ndarray]], list[str]]:
        def recognise(clips: Sequence[np.ndarray]) -> list[str]:
            asked.append(name)
            return ["Um."] * len(clips)

        return recognise

    monkeypatch.setattr(listening_module, "recogniser", recogniser)
    found = {"recogniser": "hard-of-hearing", "pause_s": 0.8, "dialogues": 2}
    params = read_params(tmp_path, {"found": ("both", found)})
    for _ in range(2):
        for encoder in (PAIR.audio, PAIR.text):
            extract_corrupted(Plan.load(params), params, "found", encoder, layout, store)
    shards = len(list((tmp_path / "data/corpora/demo/audio").glob("*.parquet")))
    assert 1 <= len(asked) <= shards, "what was written down is kept"
    test = pl.read_parquet(tmp_path / "data/corpora/demo/utterances.parquet").filter(split="test")
    names = test["dialogue_id"].unique(maintain_order=True)
    chosen = test.filter(pl.col("dialogue_id").is_in([names[0], names[len(names) // 2]]))
    for encoder in (PAIR.audio, PAIR.text):
        changed = FeatureStore(layout.corrupted("demo", "found", encoder))
        assert set(changed.utterance_ids) == set(chosen["utterance_id"])
        plain = FeatureStore(tmp_path / "data/features/demo" / encoder)
        assert not any(np.array_equal(changed[name], plain[name]) for name in chosen["utterance_id"])
    measured = json.loads((layout.corrupted("demo", "found", PAIR.text) / "words.json").read_text())
    assert measured["word_error_rate"] == 1
    assert (measured["dialogues"], measured["turns"]) == (2, len(chosen))
    assert measured["found"] >= measured["own"] >= len(chosen) / 2
    robustness(task, PAIR, plan, "found", "both", ScoringConfig(resamples=100), layout, store)
    table, written = table_of(layout, "found"), json.loads(layout.robustness("demo", PAIR, "found").read_text())
    assert (written["word_error_rate"], written["dialogues"]) == (1.0, 2)
    same = table.filter(pl.col("mean") == pl.col("as_recorded"), pl.col("metric") == "weighted_f1")["model"].to_list()
    assert "majority" in same
    assert {"audio-context", "text-context"}.isdisjoint(same)


@pytest.mark.parametrize("db", [20.0, 10.0, 0.0])
def test_stored_noise_is_as_loud_as_it_should_be(data: Path, tmp_path: Path, db: float, store: Store) -> None:
    corrupt(data / "corpora/demo", Noise(db, 0), tmp_path, store, "audio")
    speech, mixed = clips(data / "corpora/demo"), clips(tmp_path)
    assert 0 < len(mixed) < len(speech)
    for name, samples in mixed.items():
        if np.abs(samples).max() < 0.99:  # What was louder was turned down, and its noise is no difference.
            noise = samples.astype(np.float64) - speech[name]
            ratio = 10 * np.log10(np.mean(np.square(speech[name], dtype=np.float64)) / np.mean(np.square(noise)))
            assert ratio == pytest.approx(db, abs=0.02), name
    heard = pl.read_parquet(tmp_path / "utterances.parquet")
    assert heard["n_samples"].to_list() == [len(mixed[name]) for name in heard["utterance_id"]]
    assert heard["text"].null_count() == len(heard)


def clips(corpus: Path) -> dict[str, np.ndarray]:
    rows = [row for path in (corpus / "audio").glob("*.parquet") for row in pq.read_table(path).to_pylist()]
    return {row["utterance_id"]: decode(row["audio"]["bytes"]) for row in rows}


@pytest.mark.parametrize("rate", [0.1, 0.2, 0.4])
def test_stored_transcripts_have_the_word_errors_that_they_should_have(
    data: Path, tmp_path: Path, rate: float, store: Store
) -> None:
    corrupt(data / "corpora/demo", WordErrors(rate, 0), tmp_path, store, "text")
    changed = pl.read_parquet(tmp_path / "utterances.parquet")
    corrupted = changed.select("utterance_id", corrupted=pl.col("text").fill_null(""))
    whole = pl.read_parquet(data / "corpora/demo/utterances.parquet")
    rows = corrupted.join(whole, on="utterance_id")
    errors = sum(edit_distance(a.split(), b.split()) for a, b in rows.select("text", "corrupted").rows())
    assert errors == round(rate * sum(len(text.split()) for text in rows["text"]))
    train = {word for text in whole.filter(split="train")["text"] for word in text.split()}
    assert {word for text in rows["corrupted"] for word in text.split()} <= train | set(" ".join(rows["text"]).split())


@pytest.fixture
def published(tmp_path: Path) -> Path:
    """A corpus of two dialogues with words and published values, without sound and without splits; its project."""
    corpus = tmp_path / "data/corpora/shown"
    (corpus / "tables").mkdir(parents=True)
    ids = [f"d{dialogue}-{turn}" for dialogue in range(2) for turn in range(3)]
    nothing = dict.fromkeys(UTTERANCES.names)
    rows = [
        nothing | {"utterance_id": each, "dialogue_id": each[:2], "turn": int(each[3]), "text": "a b c", "defects": []}
        for each in ids
    ]
    pq.write_table(pa.Table.from_pylist(rows, UTTERANCES), corpus / "utterances.parquet")
    pq.write_table(pa.table({"utterance_id": ids, "x": np.arange(6.0)}), corpus / "tables/values.parquet")
    options = {"table": "values", "modality": "audio", "columns": 1, "labels_seen": False, "source": "who"}
    tree = {
        "file": "params.yaml",
        "corpus": {"name": "shown", "shards": 2},
        "tasks": {},
        "run": {"tasks": [], "audio": ["values"], "text": [], "models": {"features": [], "networks": []}},
        "encoders": {"values": {"family": "published", "options": options}},
        "extract": {},
    }
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(tree))
    return tmp_path


def extract_values(root: Path, change: Any) -> int:
    """Encode the published values under a change; return how many utterances have no features."""
    params = read_params(root, {"x": ("audio", change)})
    store = Store(root / ".emofuse")
    done = extract_corrupted(Plan.load(params), params, "x", "values", Layout(root), store)
    assert done.encoded == 6
    return done.masked


def test_published_values_can_be_missing(published: Path) -> None:
    assert extract_values(published, "missing") == 6


def test_noise_needs_sound(published: Path, store: Store) -> None:
    with pytest.raises(CorpusError, match=r"condition x: values has published values; they can only be missing"):
        extract_values(published, {"noise_db": 0.0, "seed": 0})
    with pytest.raises(CorpusError, match="no sound in it"):
        corrupt(published / "data/corpora/shown", Noise(0.0, 0), published / "out", store, "text")


def test_a_corpus_without_splits_is_changed_as_a_whole(published: Path, store: Store) -> None:
    corrupt(published / "data/corpora/shown", WordErrors(0.5, 0), published / "out", store, "text")
    corrupted = pl.read_parquet(published / "out/utterances.parquet")["text"]
    assert len(corrupted) == 6
    assert sum(edit_distance(["a", "b", "c"], (text or "").split()) for text in corrupted) == 9
