"""The stage `degrade` and what the models say then: the corpus, the encoder and the networks are the real ones."""

import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from torchaudio.functional import edit_distance

from emofuse.audio import clips as audio
from emofuse.core.params import Params
from emofuse.core.schema import UTTERANCES
from emofuse.core.store import Store
from emofuse.corpora import CorpusError
from emofuse.features.extract import ExtractConfig, FeatureConfig
from emofuse.features.shards import FeatureError, FeatureStore
from emofuse.reporting.benchmark import run_folders
from emofuse.robustness import predictions as degraded_module
from emofuse.robustness.conditions import DegradedConfig, Noise, WordErrors
from emofuse.robustness.features import degrade, extract_degraded
from emofuse.robustness.predictions import predict_degraded, test_dialogues
from emofuse.scoring.scores import ScoringConfig, score
from emofuse.tasks import SPLITS, Task, TaskConfig

Project = Any
"""The class of the fixture, in ``conftest.py``."""

test_dialogues.__test__ = False  # type: ignore[attr-defined]  # No test, whatever its name.

ENTRIES: dict[str, tuple[str, Noise | WordErrors | str]] = {
    "noise-200": ("audio", Noise(200.0, 0)),
    "noise-0": ("audio", Noise(0.0, 0)),
    "words-0": ("text", WordErrors(0.0, 0)),
    "words-40": ("text", WordErrors(0.4, 0)),
    "no-audio": ("audio", "missing"),
    "no-text": ("text", "missing"),
}
"""Modality and change by condition; two of them change nothing."""

HERE = ExtractConfig(workers=1)
MODELS = ("audio", "text", "majority", "concat", "late", "hcam", "cma", "hbaf")


@pytest.fixture(scope="module")
def params(project: Project) -> Params:
    return Params.load(project.root / "params.yaml")


def extract(params: Params, condition: str, data: Path, change: Noise | WordErrors | None = None) -> None:
    """Make the features of an entry, or those of another change in their place."""
    modality, usual = ENTRIES[condition]
    entry = DegradedConfig("demo", f"demo-{modality}", condition, change or usual)  # type: ignore[arg-type]
    features = params.get(f"features.{entry.features}", FeatureConfig)
    extract_degraded(condition, entry, features, HERE, 4, data, Store(data / "store"))


@pytest.fixture(scope="module")
def data(project: Project, params: Params, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project's data with features under all conditions beside its own."""
    folder = tmp_path_factory.mktemp("degraded")
    (folder / "features/demo").mkdir(parents=True)
    for place in ("corpora", "models", "features/demo/audio", "features/demo/text"):
        (folder / place).symlink_to(project.root / "data" / place)
    for condition in ENTRIES:
        extract(params, condition, folder)
    return folder


@pytest.fixture(scope="module")
def task(params: Params, data: Path) -> Task:
    return Task.load("demo", params.get("tasks.demo", TaskConfig), data)


@pytest.fixture(scope="module")
def predict(task: Task, data: Path, here: type) -> Iterator[Callable[..., pl.DataFrame]]:
    def run(conditions: Mapping[str, str], models: tuple[str, ...] = MODELS) -> pl.DataFrame:
        return predict_degraded(
            task, run_folders(data / "models/demo", models), conditions, data, Store(data / "store")
        )

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(degraded_module, "ProcessPoolExecutor", here)
        yield run


@pytest.fixture(scope="module")
def said(predict: Callable[..., pl.DataFrame]) -> pl.DataFrame:
    return predict({condition: modality for condition, (modality, _) in ENTRIES.items()})


@pytest.fixture(scope="module")
def clean(data: Path) -> pl.DataFrame:
    paths = [folder / "predictions.parquet" for folder in run_folders(data / "models/demo", MODELS)]
    return pl.concat([pl.read_parquet(path) for path in paths]).filter(pl.col("split") == "test")


def posteriors(table: pl.DataFrame, **where: Any) -> np.ndarray:
    rows = table.filter(*(pl.col(name) == value for name, value in where.items()))
    return np.array(rows["probabilities"].to_list())


@pytest.mark.parametrize("condition", ["noise-200", "words-0"])
def test_a_change_of_nothing_changes_no_score(
    said: pl.DataFrame, clean: pl.DataFrame, task: Task, condition: str
) -> None:
    asked = said.filter(pl.col("condition") == condition).drop("condition")
    assert asked.drop("probabilities").equals(clean.drop("probabilities"))
    np.testing.assert_allclose(posteriors(asked), posteriors(clean), atol=2e-5)
    config = ScoringConfig(resamples=100)
    again, first = (score(each, task.truth(), task.classes, config).models for each in (asked, clean))
    of_answers = pl.col("metric") != "ece"  # which moves with the last bits of a posterior
    assert again.filter(of_answers).equals(first.filter(of_answers))


@pytest.mark.parametrize(("condition", "modality"), [("noise-200", "audio"), ("words-0", "text")])
def test_a_change_of_nothing_changes_no_feature(data: Path, condition: str, modality: str) -> None:
    changed, own = (FeatureStore(data / "features/demo" / name) for name in (condition, modality))
    for utterance in changed.utterance_ids:
        # A text's last bits depend on what is encoded beside it.
        np.testing.assert_allclose(changed[utterance], own[utterance], atol=2e-3 if modality == "text" else 0)


@pytest.mark.parametrize("condition", ENTRIES)
def test_the_utterances_of_test_and_no_others_have_features(data: Path, task: Task, condition: str) -> None:
    fold = task.fold(0)
    test = {each for each, split in zip(fold.utterance_ids, fold.splits, strict=True) if SPLITS[split] == "test"}
    assert set(FeatureStore(data / "features/demo" / condition).utterance_ids) == test


def test_a_model_that_does_not_read_what_is_changed_says_what_it_said(said: pl.DataFrame, clean: pl.DataFrame) -> None:
    for condition, (modality, _) in ENTRIES.items():
        other = "text" if modality == "audio" else "audio"
        for model in ("majority", f"{other}-utterance", f"{other}-context"):
            asked = posteriors(said, condition=condition, model=model)
            np.testing.assert_array_equal(asked, posteriors(clean, model=model))


@pytest.mark.parametrize("condition", ["noise-0", "words-40", "no-audio", "no-text"])
def test_a_change_reaches_every_model_that_reads_it(
    said: pl.DataFrame, clean: pl.DataFrame, data: Path, condition: str
) -> None:
    """Late fusion reads what it gives a weight, which dev chose."""
    modality = ENTRIES[condition][0]
    mixtures = [json.loads(path.read_text()) for path in (data / "models/demo/late").glob("*/config.json")]
    assert mixtures
    mixed = any(each["weights"][modality] for each in mixtures)
    models = [model for model in MODELS[3:] if model != "late" or mixed]
    for model in (f"{modality}-utterance", f"{modality}-context", *models):
        asked = posteriors(said, condition=condition, model=model)
        assert np.isfinite(asked).all()
        assert np.abs(asked - posteriors(clean, model=model)).max() > 1e-4, model


@pytest.mark.parametrize("modality", ["audio", "text"])
def test_without_its_modality_a_network_says_the_same_of_every_utterance(said: pl.DataFrame, modality: str) -> None:
    asked = posteriors(said, condition=f"no-{modality}", model=f"{modality}-utterance", seed=0)
    np.testing.assert_allclose(asked, np.broadcast_to(asked[0], asked.shape), atol=1e-6)


def test_answers_are_kept_in_the_store(predict: Callable[..., pl.DataFrame], said: pl.DataFrame, data: Path) -> None:
    before = set((data / "store/degraded").iterdir())
    asked = predict({"no-text": "text"}, ("hbaf",))
    assert asked.equals(said.filter(condition="no-text", model="hbaf"))
    assert set((data / "store/degraded").iterdir()) == before


def test_the_same_seed_gives_the_same_bytes(params: Params, data: Path, tmp_path: Path) -> None:
    shutil.copytree(data, tmp_path, symlinks=True, dirs_exist_ok=True, ignore=lambda *_: ["store"])
    changes: dict[str, Noise | WordErrors] = {"noise-0": Noise(0.0, 1), "words-40": WordErrors(0.4, 1)}
    for condition, other in changes.items():
        first, folder = contents(data / "features/demo" / condition), tmp_path / "features/demo" / condition
        extract(params, condition, tmp_path)
        assert contents(folder) == first
        extract(params, condition, tmp_path, other)
        assert contents(folder).keys() == first.keys()
        assert all(data != first[name] for name, data in contents(folder).items())


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_features_of_another_encoder_are_refused(data: Path, predict: Callable[..., pl.DataFrame]) -> None:
    with pytest.raises(FeatureError, match="made by another encoder than text"):
        predict({"noise-0": "text"}, ("hcam",))


@pytest.mark.parametrize("db", [20.0, 10.0, 0.0])
def test_stored_noise_is_as_loud_as_it_should_be(data: Path, tmp_path: Path, db: float) -> None:
    degrade(data / "corpora/demo", Noise(db, 0), "test", tmp_path)
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
    return {row["utterance_id"]: audio.decode(row["audio"]["bytes"]) for row in rows}


@pytest.mark.parametrize("rate", [0.1, 0.2, 0.4])
def test_stored_transcripts_have_the_word_errors_that_they_should_have(data: Path, tmp_path: Path, rate: float) -> None:
    degrade(data / "corpora/demo", WordErrors(rate, 0), "test", tmp_path)
    said = pl.read_parquet(tmp_path / "utterances.parquet").select("utterance_id", said=pl.col("text").fill_null(""))
    whole = pl.read_parquet(data / "corpora/demo/utterances.parquet")
    rows = said.join(whole, on="utterance_id")
    errors = sum(edit_distance(a.split(), b.split()) for a, b in rows.select("text", "said").rows())
    assert errors == round(rate * sum(len(text.split()) for text in rows["text"]))
    train = {word for text in whole.filter(split="train")["text"] for word in text.split()}
    assert {word for text in rows["said"] for word in text.split()} <= train | set(" ".join(rows["text"]).split())


@pytest.fixture
def published(tmp_path: Path) -> Path:
    """A corpus of two dialogues with words and published values, without sound and without splits."""
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
    return tmp_path / "data"


VALUES = FeatureConfig(
    "shown",
    "audio",
    "published",
    {"table": "values", "modality": "audio", "columns": 1, "labels_seen": False, "source": "who"},
)


def config(condition: str, change: Any, split: str | None = None) -> DegradedConfig:
    return DegradedConfig("shown", "shown-audio", condition, change, split)


def test_published_values_can_be_missing(published: Path) -> None:
    done = extract_degraded("x", config("no-audio", "missing"), VALUES, HERE, 2, published, Store(published / "store"))
    assert done.masked == done.encoded == 6


def test_noise_needs_sound(published: Path) -> None:
    store = Store(published / "store")
    with pytest.raises(CorpusError, match=r"degraded.x.change: features.shown-audio are published values"):
        extract_degraded("x", config("noise-0", Noise(0.0, 0)), VALUES, HERE, 2, published, store)
    with pytest.raises(CorpusError, match="no sound in it"):
        degrade(published / "corpora/shown", Noise(0.0, 0), None, published / "out")


def test_a_change_of_another_modality_is_refused(published: Path) -> None:
    with pytest.raises(CorpusError, match=r"it is of text; features.shown-audio are of audio"):
        extract_degraded("x", config("w", WordErrors(0.1, 0)), VALUES, HERE, 2, published, Store(published / "store"))


def test_a_split_that_is_not_there_is_refused(published: Path) -> None:
    with pytest.raises(CorpusError, match="no utterance of split 'test'; there are"):
        degrade(published / "corpora/shown", "missing", "test", published / "out")


def test_a_corpus_without_splits_is_changed_as_a_whole(published: Path) -> None:
    degrade(published / "corpora/shown", WordErrors(0.5, 0), None, published / "out")
    said = pl.read_parquet(published / "out/utterances.parquet")["text"]
    assert len(said) == 6
    assert sum(edit_distance(["a", "b", "c"], (text or "").split()) for text in said) == 9
