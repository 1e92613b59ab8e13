"""The training stages: what they write, what they reuse, and that test labels change nothing."""

import ast
import json
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow.parquet as pq
import pytest
import torch
import yaml
from safetensors.torch import load_file
from sklearn.metrics import accuracy_score, f1_score

from emofuse.core.files import DamagedError
from emofuse.core.imports import closure, code_of, source_of
from emofuse.core.schema import IGNORE, PREDICTIONS, SPLITS
from emofuse.features.shards import FeatureStore, Row, metadata, write_shard
from emofuse.models.registry import FUSION
from emofuse.models.unimodal import UtteranceNetwork
from emofuse.tasks import Fold
from emofuse.training import runs as runs_module
from emofuse.training import trainer
from emofuse.training.data import examples, read_features
from emofuse.training.fit import infer
from emofuse.training.runs import Run, fold_digest, read_probabilities, read_vectors, save_run
from emofuse.training.settings import settings

Project = Any
"""The class of the fixtures, in ``conftest.py``."""

FUSED = tuple(each.name for each in FUSION)
UNSEEDED = ("majority", "linear")
PRIOR = {"digests.json", "predictions.parquet", "record.json"}
NETWORK = {*PRIOR, "config.json", "model.safetensors"}
FILES = {
    "majority": PRIOR,
    "linear": NETWORK,
    "late": {*PRIOR, "config.json"},
    "concat": NETWORK,
    "hcam": {*NETWORK, "attention.json"},
    "cma": NETWORK,
    "hbaf": {*NETWORK, "attention.json"},
    "audio-utterance": {*NETWORK, "vectors.safetensors"},
    "audio-context": {*NETWORK, "vectors.safetensors"},
}
"""What a run's folder holds, by its model."""


def flip(path: Path) -> None:
    """Alter one bit in the middle of a file, which stays one that can be read."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def shuffled(utterances: pl.DataFrame, split: str) -> pl.DataFrame:
    """The labels of a split in another order; what has no label that counts stays as it is."""
    rows = ((pl.col("split") == split) & pl.col("label").is_in(["happy", "sad"])).alias("chosen")
    chosen = utterances.select(rows.fill_null(False))["chosen"].to_numpy()
    labels = utterances["label"].to_numpy().copy()
    labels[chosen] = np.random.default_rng(0).permutation(labels[chosen])
    changed = utterances.with_columns(label=pl.Series(labels.tolist(), dtype=pl.String))
    assert not changed["label"].equals(utterances["label"])
    return changed


def test_scrambled_test_labels_change_no_checkpoint_no_record_and_no_key(
    trained: Project, project: Project, tmp_path: Path
) -> None:
    project.rewrite(shuffled(project.utterances(), "test"))
    assert not project.task().truth().equals(trained.task().truth())
    project.everything()
    assert project.outs() == trained.outs()
    assert project.keys() == trained.keys()
    assert sum(path.endswith("model.safetensors") for path in project.outs()) == 17

    dev = trained.copy(tmp_path / "dev")
    dev.rewrite(shuffled(dev.utterances(), "dev"))
    assert dev.everything().keys().isdisjoint(trained.keys())


def test_training_is_shown_no_target_of_test(trained: Project) -> None:
    fold = trained.task().fold(0)
    test = fold.splits == SPLITS.index("test")
    assert (fold.targets[test] == IGNORE).all()
    assert set(fold.targets[~test]) == {IGNORE, 0, 1}


def test_late_fusion_good_on_dev_and_bad_on_test_wins_over_its_opposite(project: Project) -> None:
    project.tree["tasks"]["tiny"]["seeds"] = 1
    fold = project.task().fold(0)
    labels = project.utterances()["label"].to_list()
    true = np.array([{"happy": 0, "sad": 1}.get(label, 0) for label in labels])
    for modality, good in (("audio", "dev"), ("text", "test")):
        right = fold.splits == SPLITS.index(good)  # type: ignore[arg-type]
        probabilities = np.eye(2, dtype=np.float32)[np.where(right, true, 1 - true)]
        model = f"{modality}-context"
        run = Run("tiny", model, {modality: project.pair.encoder(modality)}, "by hand", 0, 0)
        save_run(project.folder(model), run, fold, probabilities * 0.8 + 0.1, {})
    project.fuse("late")
    folder = project.folder("late")
    indices = read_probabilities(folder, fold).argmax(axis=1)
    dev, test = (fold.scored & (fold.splits == SPLITS.index(split)) for split in ("dev", "test"))
    assert (indices[dev] == true[dev]).all()
    assert (indices[test] != true[test]).all()
    # The mixture nearest to even that dev cannot tell from the best.
    assert json.loads((folder / "record.json").read_text())["parameters"] == {"weights.audio": 0.6, "weights.text": 0.4}


def test_epochs_of_test_are_kept_where_that_is_asked_for(project: Project) -> None:
    project.tree["tasks"]["tiny"]["seeds"] = 1
    project.tree["models"]["concat"]["fit"]["keep_epochs"] = True
    project.fuse("concat")
    folder = project.folder("concat")
    epochs = pl.read_parquet(folder / "epochs.parquet")
    record = json.loads((folder / "record.json").read_text())
    test = pl.read_parquet(folder / "predictions.parquet").filter(pl.col("split") == "test")
    assert epochs["epoch"].unique().sort().to_list() == [epoch["epoch"] for epoch in record["history"]]
    best = epochs.filter(pl.col("epoch") == record["best_epoch"]).drop("epoch")
    assert best.drop("probabilities").equals(test.drop("probabilities"))
    np.testing.assert_allclose(best["probabilities"].to_list(), test["probabilities"].to_list(), atol=1e-5)


def test_finished_runs_are_reused_and_a_new_seed_trains_alone(trained: Project) -> None:
    before, keys = trained.outs(), trained.keys()
    for modality in ("audio", "text"):
        assert trained.pretrain(modality) == (0, 2)
    for model in FUSED:
        assert trained.fuse(model) == (0, 1 if model in UNSEEDED else 2)
    assert trained.outs() == before
    assert trained.keys() == keys

    trained.tree["tasks"]["tiny"]["seeds"] = 3
    for modality in ("audio", "text"):
        assert trained.pretrain(modality) == (1, 2)
    for model in FUSED:
        assert trained.fuse(model) == ((0, 1) if model in UNSEEDED else (1, 2))
    assert before.items() < trained.outs().items()


def test_a_seed_that_is_gone_leaves_no_run_behind(trained: Project) -> None:
    trained.tree["tasks"]["tiny"]["seeds"] = 1
    trained.pretrain("audio")
    trained.fuse("hcam")
    kept = {path.split("/seed-")[0] for path in trained.outs() if "seed-1" in path}
    assert kept == {
        *("tiny/eyes/utterance", "tiny/eyes/context"),
        *(f"tiny/{trained.pair}/{name}" for name in ("late", "concat", "cma", "hbaf")),
    }


def turn_bit(project: Project, modality: str) -> None:
    """Turn one bit of one frame, as another encoder would: the checksums are those of what is written."""
    folder = project.layout.features("toy", project.pair.encoder(modality))
    path, store = folder / "shard-00000-of-00002.parquet", FeatureStore(folder)
    ids = pq.read_table(path, columns=["utterance_id"])["utterance_id"].to_pylist()
    store[ids[0]].view(np.uint16)[0, 0] ^= 1
    write_shard(path, [Row(each, "0", store[each].astype(np.float64)) for each in ids], store.dim, metadata(folder))


def set_value(project: Project, key: str, value: Any) -> None:
    *parents, last = key.split(".")
    tree = project.tree
    for part in parents:
        tree = tree[part]
    assert repr(tree[last]) != repr(value)  # The order of classes counts.
    tree[last] = value


def relabel(project: Project, split: str) -> None:
    project.rewrite(shuffled(project.utterances(), split))


def unlabel(project: Project, split: str) -> None:
    first = project.utterances().filter((pl.col("split") == split) & (pl.col("label") == "sad"))["utterance_id"][0]
    here = pl.col("utterance_id") == first
    project.rewrite(project.utterances().with_columns(label=pl.when(here).then(None).otherwise(pl.col("label"))))


BOTH, SECOND, NEITHER = 4, 2, 0
"""Runs in the store that two seeds of a modality come to: both stages, the second alone, none."""


Change = Callable[[Project], None]

PRETRAIN: dict[str, tuple[Change, int]] = {
    "schedule of stage I": (lambda p: set_value(p, "models.audio.utterance.fit.learning_rate", 0.02), BOTH),
    "network of stage I": (lambda p: set_value(p, "models.audio.utterance.network.dropout", 0.1), BOTH),
    "schedule of stage II": (lambda p: set_value(p, "models.audio.context.fit.epochs", 2), SECOND),
    "network of stage II": (lambda p: set_value(p, "models.audio.context.network.contrastive", 0.2), SECOND),
    "direction of context": (lambda p: set_value(p, "tasks.tiny.context", "causal"), BOTH),
    "unlabelled turns": (lambda p: set_value(p, "tasks.tiny.unlabelled", "drop"), BOTH),
    "order of classes": (lambda p: set_value(p, "tasks.tiny.classes", {"sad": ["sad"], "happy": ["happy"]}), BOTH),
    "bit of a feature": (lambda p: turn_bit(p, "audio"), BOTH),
    "labels of train": (lambda p: relabel(p, "train"), BOTH),
    "labels of dev": (lambda p: relabel(p, "dev"), BOTH),
    "lost label of train": (lambda p: unlabel(p, "train"), BOTH),
    "labels of test": (lambda p: relabel(p, "test"), NEITHER),
    "bit of the other modality": (lambda p: turn_bit(p, "text"), NEITHER),
    "the other modality's network": (lambda p: set_value(p, "models.text.utterance.fit.max_grad_norm", 0.5), NEITHER),
    "another model": (lambda p: set_value(p, "models.hcam.ensemble", False), NEITHER),
    "protocol": (lambda p: set_value(p, "tasks.tiny.transcript", "another"), NEITHER),
    "number of seeds": (lambda p: set_value(p, "tasks.tiny.seeds", 1), NEITHER),
}
"""What changes, and the new runs that it makes of one modality."""


@pytest.mark.parametrize("name", PRETRAIN)
def test_what_makes_a_pretrained_run_another(trained: Project, name: str) -> None:
    change, runs = PRETRAIN[name]
    keys = trained.keys()
    change(trained)
    trained_now, _ = trained.pretrain("audio")
    assert len(trained.keys() - keys) == runs
    assert trained_now == min(runs, 2)


FUSE: dict[str, tuple[Change, set[str]]] = {
    "schedule": (lambda p: set_value(p, "models.concat.fit.max_grad_norm", 0.5), {"concat"}),
    "network": (lambda p: set_value(p, "models.hcam.network.blocks", 2), {"hcam"}),
    "ensemble": (lambda p: set_value(p, "models.hcam.ensemble", False), {"hcam"}),
    "bit of audio": (lambda p: turn_bit(p, "audio"), {"linear", "concat", "cma"}),
    "bit of text": (lambda p: turn_bit(p, "text"), {"linear", "concat", "cma"}),
    "gate": (lambda p: set_value(p, "models.hbaf.network.gate", False), {"hbaf"}),
    "pooling": (lambda p: set_value(p, "models.cma.network.pooling", "statistics"), {"cma"}),
    "stage II left out": (lambda p: set_value(p, "models.hcam.reads", "utterance"), {"hcam"}),
    "labels of train": (lambda p: relabel(p, "train"), set(FUSED)),
    "labels of dev": (lambda p: relabel(p, "dev"), set(FUSED)),
    "labels of test": (lambda p: relabel(p, "test"), set()),
    "unimodal network not trained yet": (lambda p: set_value(p, "models.audio.context.fit.max_grad_norm", 0.5), set()),
}
"""What changes, and the models that it makes train again."""


@pytest.mark.parametrize("name", FUSE)
def test_what_makes_a_fused_run_another(trained: Project, name: str) -> None:
    change, models = FUSE[name]
    trained.tree["tasks"]["tiny"]["seeds"] = 1
    change(trained)
    assert {model for model in FUSED if trained.fuse(model)[0]} == models


def test_fusion_follows_the_runs_that_it_reads(trained: Project) -> None:
    trained.tree["tasks"]["tiny"]["seeds"] = 1
    set_value(trained, "models.audio.context.fit.learning_rate", 0.05)
    trained.pretrain("audio")
    assert {model for model in FUSED if trained.fuse(model)[0]} == {"late", "hcam"}
    set_value(trained, "models.text.utterance.fit.learning_rate", 0.05)
    trained.pretrain("text")
    assert {model for model in FUSED if trained.fuse(model)[0]} == {"late", "hcam", "hbaf"}


@pytest.mark.parametrize(
    ("file", "reader"),
    [("vectors.safetensors", "hcam"), ("predictions.parquet", "late"), ("predictions.parquet", "hcam")],
)
def test_a_flipped_bit_in_what_a_model_reads_is_named(trained: Project, file: str, reader: str) -> None:
    flip(trained.folder("text-context") / file)
    with pytest.raises(DamagedError, match=rf"models/tiny/eyes/context/seed-0-fold-0/{file}: damaged"):
        trained.fuse(reader)
    trained.pretrain("text")
    trained.fuse(reader)


def test_ablations_are_trained_beside_their_model_and_alone_when_they_change(trained: Project) -> None:
    before = trained.outs()
    assert trained.ablate("hcam") == (4, 0)
    assert before.items() < trained.outs().items()
    root = trained.layout.fusion("tiny", trained.pair) / "ablations" / "hcam"
    assert {path.name for path in root.iterdir()} == {"no-context", "no-ensemble"}
    folder = root / "no-context" / "seed-1-fold-0"
    saved = json.loads((folder / "config.json").read_text())
    assert (saved["model"], saved["reads"], saved["config"]["reads"]) == ("hcam/no-context", *["utterance"] * 2)
    assert "ablations" not in saved["config"]
    assert set(pl.read_parquet(folder / "predictions.parquet")["model"]) == {"hcam/no-context"}
    assert "weights" not in json.loads((root / "no-ensemble" / "seed-0-fold-0" / "config.json").read_text())

    ablations = trained.tree["models"]["hcam"]["ablations"]
    ablations["no-contrastive"] = {"network.contrastive": 0.0}
    assert trained.ablate("hcam") == (2, 4)
    assert trained.fuse("hcam") == (0, 2)
    del ablations["no-context"], ablations["no-ensemble"]
    assert trained.ablate("hcam") == (0, 2)
    assert {path.name for path in root.iterdir()} == {"no-contrastive"}


def test_an_ablation_of_what_is_not_there_is_refused(project: Project) -> None:
    ablations = project.tree["models"]["hbaf"]["ablations"] = {"no-gates": {"network.gates": False}}
    with pytest.raises(ValueError, match=r"hbaf\.ablations\.no-gates: 'network\.gates'; there is no models\.hbaf"):
        project.ablate("hbaf")
    ablations["no-gates"] = {"network.gate": "no"}
    with pytest.raises(ValueError, match=r"models\.hbaf\.network\.gate: 'no': Input should be a valid boolean"):
        project.ablate("hbaf")
    assert project.outs() == {}


@pytest.mark.parametrize(("model", "gates"), [("hcam", set()), ("hbaf", {"text into audio", "audio into text"})])
def test_the_example_shows_attention_and_gates_of_a_dialogue_of_test(
    trained: Project, model: str, gates: set[str]
) -> None:
    example = json.loads((trained.folder(model) / "attention.json").read_text())
    assert example["utterance_ids"] == [f"d6_{turn}" for turn in range(6)]
    assert set(example["attention"]) == {
        *("audio attends to text", "text attends to audio", "audio attends to itself", "text attends to itself")
    }
    for weights in example["attention"].values():
        assert np.array(weights).shape == (6, 6)
        np.testing.assert_allclose(np.sum(weights, axis=1), 1, atol=1e-3)
    assert set(example["gate"]) == gates
    assert all(len(each) == 6 and 0 < min(each) <= max(each) < 1 for each in example["gate"].values())


def edit(module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let one module of the package have other code."""
    monkeypatch.setattr(runs_module, "code_of", lambda name: code_of(name) + "edited" * (name == module))


@pytest.mark.parametrize(
    ("module", "again"),
    [
        ("training.fit", {"pretrain", *FUSED}),
        ("models.parts.layers", {"pretrain", *FUSED}),
        ("models.parts.recurrent", {"pretrain", "concat", "cma", "hbaf"}),
        ("models.unimodal", {"pretrain"}),
        ("models.concat", {"concat"}),
        ("models.hcam", {"hcam"}),
        ("training.trainer", {"pretrain", *FUSED}),
        ("training.linear", {"linear"}),
        ("training.fuse", set()),
        ("models.registry", set()),
        ("core.store", set()),
    ],
)
def test_other_code_makes_other_runs_and_no_more(
    trained: Project, monkeypatch: pytest.MonkeyPatch, module: str, again: set[str]
) -> None:
    edit(module, monkeypatch)
    trained.tree["tasks"]["tiny"]["seeds"] = 1
    retrained = {"pretrain"} if trained.pretrain("text")[0] else set()
    retrained |= {model for model in FUSED if trained.fuse(model)[0]}
    # What reads networks is trained again where these come out otherwise, which the edit does not bring about.
    assert retrained == again


def test_code_that_is_edited_while_a_stage_runs_is_not_taken_for_the_code_that_runs(
    trained: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The digest is taken before the first run, and goes with every one."""

    def run_all(label: str, function: Callable[[Any], bool], jobs: list[Any]) -> int:
        edit("training.fit", monkeypatch)
        reused.extend(function(job) for job in jobs)
        monkeypatch.undo()
        return 0

    reused: list[bool] = []
    trained.run_all = run_all
    trained.pretrain("audio")
    trained.fuse("hcam")
    trained.ablate("hcam")
    assert reused == [*[True] * 4, *[False] * 4]
    trained.run_all = None
    assert trained.ablate("hcam") == (0, 4)


def in_dvc(module: str, deps: list[str]) -> bool:
    """Whether a module's file, or a folder that it is in, is among what a stage depends on."""
    parts = ["src", "emofuse", *module.split(".")]
    return any("/".join(parts[:length]) in deps for length in range(3, len(parts))) or f"{'/'.join(parts)}.py" in deps


def test_dvc_knows_the_code_that_a_run_depends_on() -> None:
    """Or an edited file would leave `dvc repro` with nothing to do."""
    stages = yaml.safe_load((Path(__file__).parents[2] / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
    runs = [(stage, "training.trainer", "models.unimodal") for stage in ("pretrain-audio", "pretrain-text")]
    for entry in FUSION:
        stage = "fuse-networks" if entry.reads_networks else "fuse-features"
        runs += [(each, "training.trainer", f"models.{entry.module}") for each in (stage, "ablate")]
    for stage, *modules in runs:
        deps = [each.replace("${item.model}", modules[1].removeprefix("models.")) for each in stages[stage]["deps"]]
        assert not [each for each in closure(*modules) if not in_dvc(each, deps)], (stage, modules)


def test_training_never_asks_for_the_labels_of_test() -> None:
    """A task knows them, for scoring; what it hands to training, a fold, does not."""
    for path in source_of("training").parent.glob("*.py"):
        asked = {
            node.attr
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
            if isinstance(node, ast.Attribute)
        }
        assert not asked & {"truth", "_table"}, path.name


def test_the_fold_is_known_by_what_it_shows(trained: Project) -> None:
    fold = trained.task().fold(0)
    changes: list[dict[str, Any]] = [
        {"utterance_ids": ("other", *fold.utterance_ids[1:])},
        {"dialogues": np.delete(fold.dialogues, 1)},
        {"speakers": fold.speakers + 1},
        {"splits": np.roll(fold.splits, 1)},
        {"targets": np.where(fold.targets == IGNORE, 0, fold.targets)},
        {"scored": ~fold.scored},
        {"classes": ("sad", "happy")},
        {"context": "causal"},
    ]
    digests = {fold_digest(replace(fold, **change)) for change in changes}
    assert len(digests | {fold_digest(fold)}) == len(changes) + 1
    assert fold_digest(trained.task().fold(0)) == fold_digest(fold)


@pytest.mark.parametrize("model", ["cma", "concat"])
def test_features_too_large_for_memory_are_mapped_and_train_the_same_network(
    trained: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model: str
) -> None:
    mapped = trained.copy(tmp_path / "mapped")
    monkeypatch.setattr(trainer, "read_features", partial(read_features, most=0))
    mapped.fuse(model)
    ours, theirs = (read_probabilities(each.folder(model), trained.task().fold(0)) for each in (mapped, trained))
    np.testing.assert_allclose(ours, theirs, atol=1e-4)


def test_the_record_names_the_stage_that_asks(trained: Project) -> None:
    """A run of a stage that has been renamed since would point the tracker to one that is no more."""
    trained.pretrain("audio", stage="renamed")
    folders = [trained.folder(f"audio-{level}") for level in ("utterance", "context")]
    assert [json.loads((each / "record.json").read_text())["stage"] for each in folders] == ["renamed"] * 2


@pytest.mark.parametrize("model", FILES)
def test_predictions_are_of_labelled_dev_and_test_and_hold_no_target(trained: Project, model: str) -> None:
    folder = trained.folder(model)
    assert {path.name for path in folder.iterdir()} == FILES[model]
    table = pq.read_table(folder / "predictions.parquet")
    assert table.schema.equals(PREDICTIONS)
    assert json.loads(table.schema.metadata[b"classes"]) == ["happy", "sad"]
    rows = pl.DataFrame(table)
    utterances = trained.utterances().filter(pl.col("label").is_in(["happy", "sad"]) & (pl.col("split") != "train"))
    assert rows["utterance_id"].to_list() == utterances["utterance_id"].to_list()
    assert rows["split"].to_list() == utterances["split"].to_list()
    assert rows.select("task", "seed", "fold").unique().rows() == [("tiny", 0, 0)]
    assert rows["model"].unique().to_list() == [model]
    np.testing.assert_allclose(rows["probabilities"].list.sum(), 1, rtol=1e-5)


@pytest.mark.parametrize("model", FILES)
def test_records_tell_dev_and_never_test(trained: Project, model: str) -> None:
    folder = trained.folder(model)
    record = json.loads((folder / "record.json").read_text())
    assert set(record) == {
        *("task", "model", "encoders", "stage", "seed", "fold"),
        *("parameters", "n_parameters", "best_epoch", "cut_off", "dev", "history"),
    }
    rows = pl.read_parquet(folder / "predictions.parquet").filter(pl.col("split") == "dev")
    truth = trained.task().truth().filter(pl.col("split") == "dev")
    assert rows["utterance_id"].to_list() == truth["utterance_id"].to_list()
    indices = rows["probabilities"].list.arg_max()
    assert record["dev"]["accuracy"] == pytest.approx(accuracy_score(truth["target"], indices), abs=1e-6)
    assert record["dev"]["weighted_f1"] == pytest.approx(
        f1_score(truth["target"], indices, average="weighted"), abs=1e-6
    )
    if "model.safetensors" not in FILES[model]:
        return
    weights = load_file(folder / "model.safetensors")
    learned = [value for name, value in weights.items() if "standardize" not in name]
    assert record["n_parameters"] == sum(value.numel() for value in learned)
    if model == "linear":  # it is solved, not trained in epochs
        assert record["history"] == []
        assert record["best_epoch"] in (1, 2)  # place of the strength
    else:
        best = max(epoch["dev_weighted_f1"] for epoch in record["history"])
        assert record["history"][record["best_epoch"] - 1]["dev_weighted_f1"] == best
        assert record["parameters"]["fit.learning_rate"] == 0.01


def test_a_network_can_be_built_again_from_its_folder(trained: Project) -> None:
    folder = trained.folder("audio-utterance")
    fold = trained.task().fold(0)
    saved = json.loads((folder / "config.json").read_text())
    trained.tree["models"]["audio"]["utterance"] = saved["config"]
    config = settings(trained.params, "audio-utterance")
    network = UtteranceNetwork(config.network, saved["dim"], len(saved["classes"]))
    network.load_state_dict(load_file(folder / "model.safetensors"))
    features = read_features(trained.layout.features("toy", trained.pair.audio), fold.utterance_ids)
    indices, vectors = infer(network, {"audio": features}, fold, examples(fold, "utterance"), 4)
    predicted = read_probabilities(folder, fold)
    known = ~np.isnan(predicted[:, 0])
    assert known.sum() == (fold.scored & (fold.splits != SPLITS.index("train"))).sum()
    np.testing.assert_allclose(indices[known], predicted[known], atol=1e-6)
    torch.testing.assert_close(read_vectors(folder, "utterance"), vectors["utterance"])


def test_a_run_says_what_its_model_reads(trained: Project) -> None:
    configs = {
        model: json.loads((trained.folder(model) / "config.json").read_text())
        for model, files in FILES.items()
        if "config.json" in files
    }
    assert {model: config["reads"] for model, config in configs.items()} == {
        "audio-utterance": "frames",
        "audio-context": "utterance",
        "linear": "frames",
        "late": "probabilities",
        "concat": "pooled",
        "cma": "frames",
        "hbaf": "utterance",
        "hcam": "context",
    }
    audio = {"encoder": trained.pair.audio, "modality": "audio"}
    assert configs["audio-utterance"]["features"] == {"audio": audio}
    assert configs["concat"]["features"]["audio"] == audio
    assert sum(configs["late"]["weights"].values()) == pytest.approx(1)


def test_a_run_says_which_encoders_it_reads(trained: Project) -> None:
    found = {model: json.loads((trained.folder(model) / "record.json").read_text())["encoders"] for model in FILES}
    both = {"audio": trained.pair.audio, "text": trained.pair.text}
    one = {"audio": trained.pair.audio}
    assert found.pop("majority") == {}
    assert (found.pop("audio-utterance"), found.pop("audio-context")) == (one, one)
    assert list(found.values()) == [both] * 6


def test_probabilities_are_read_by_id(trained: Project) -> None:
    folder, fold = trained.folder("hcam"), trained.task().fold(0)
    order = np.random.default_rng(0).permutation(len(fold.utterance_ids))
    turned: Fold = replace(fold, utterance_ids=tuple(fold.utterance_ids[row] for row in order))
    np.testing.assert_array_equal(read_probabilities(folder, turned), read_probabilities(folder, fold)[order])


def test_the_ensemble_of_hcam_loses_to_none_of_its_parts_on_dev(trained: Project) -> None:
    def dev(folder: Path) -> float:
        return float(json.loads((folder / "record.json").read_text())["dev"]["weighted_f1"])

    folder = trained.folder("hcam")
    weights = json.loads((folder / "config.json").read_text())["weights"]
    assert list(weights) == ["audio", "text", "fused"]
    assert sum(weights.values()) == pytest.approx(1)
    mixed = dev(folder)
    trained.tree["models"]["hcam"]["ensemble"] = False
    assert trained.fuse("hcam") == (2, 0)
    assert "weights" not in json.loads((folder / "config.json").read_text())
    assert mixed >= max(dev(trained.folder(each)) for each in ("hcam", "audio-context", "text-context"))


def test_unlabelled_turns_are_context_unless_dropped(trained: Project) -> None:
    fold = trained.task().fold(0)
    assert len(fold.utterance_ids) == 48
    assert read_vectors(trained.folder("audio-context"), "context").shape == (48, 4)
    trained.tree["tasks"]["tiny"]["unlabelled"] = "drop"
    trained.pretrain("audio")
    assert read_vectors(trained.folder("audio-context"), "context").shape == (32, 4)


def test_what_is_missing_is_named(project: Project) -> None:
    with pytest.raises(KeyError, match="tensor"):
        project.fuse("tensor")
    with pytest.raises(OSError, match=r"models/tiny/ears/context/seed-0-fold-0/predictions\.parquet"):
        project.fuse("late")
    for path in project.layout.features("toy", project.pair.audio).iterdir():
        path.unlink()
    with pytest.raises(ValueError, match="features/toy/ears: no feature shards; run the extract stage"):
        project.pretrain("audio")
    assert project.keys() == set()
    assert project.outs() == {}
