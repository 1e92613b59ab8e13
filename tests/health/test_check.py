"""What would stop a corpus's stages is reported before anything is decoded, with what its tasks make of it."""

import runpy
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import yaml

from emofuse.core import process
from emofuse.core.params import Params, ParamsError
from emofuse.core.schema import SPLITS
from emofuse.corpora import ingest as ingest_module
from emofuse.corpora.ingest import CorpusConfig, ingest
from emofuse.health.check import report
from emofuse.plan import Plan
from emofuse.tasks import TaskError

LABELS = ("neutral", "happy", "sad", "angry", "surprised", None)


def utterances(sessions: int = 3) -> pl.DataFrame:
    """Two dialogues a session, the first session with more joy; the splits are train, dev and test in turn."""
    rows = [
        (
            f"s{session}_{dialogue}_{turn}",
            f"s{session}_{dialogue}",
            f"{session}",
            SPLITS[session % 3],
            label,
        )
        for session in range(sessions)
        for dialogue in range(2)
        for turn, label in enumerate([*LABELS, *["happy"] * (session == 0)])
    ]
    names = ["utterance_id", "dialogue_id", "session", "split", "label"]
    columns = {"speaker": pl.col("session"), "sentiment": pl.lit(None, pl.Float64)}
    return pl.DataFrame(rows, schema=dict.fromkeys(names, pl.String), orient="row").with_columns(**columns)


@pytest.fixture
def tree(root: Path) -> dict[str, Any]:
    """The parameters as they are shipped but for an encoder that loads no network, to be changed."""
    found: dict[str, Any] = yaml.safe_load((root / "params.yaml").read_text(encoding="utf-8"))
    found["run"]["audio"] = ["logmel"]
    return found


def check(tree: dict[str, Any], table: pl.DataFrame | None = None) -> str:
    params = Params(tree, Path("params.yaml"))
    return report(Plan.load(params), params, utterances() if table is None else table, "drawn by hand")


def put(tree: dict[str, Any], key: str, value: Any) -> None:
    *parents, last = key.split(".")
    for part in parents:
        tree = tree.setdefault(part, {})
    tree[last] = value


def test_classes_are_counted_by_split_and_labels_that_no_class_takes_are_told(tree: dict[str, Any]) -> None:
    assert check(tree).splitlines() == [
        "demo, task demo:",
        "  splits drawn by hand; no speaker in two splits",
        "  train: 10 labelled: neutral 2, happy 4, sad 2, angry 2",
        "  dev: 8 labelled: neutral 2, happy 2, sad 2, angry 2",
        "  test: 8 labelled: neutral 2, happy 2, sad 2, angry 2",
        "  labels that belong to no class and count as unlabelled: surprised 6",
    ]


def test_every_fold_is_counted_and_what_a_full_corpus_has_is_told(tree: dict[str, Any]) -> None:
    put(tree, "tasks.demo.splits", {"by": "session", "dev": "next", "test": "each"})
    put(tree, "tasks.demo.classes.surprised", ["surprised"])
    put(tree, "tasks.demo.counts", {"all": 5531})
    lines = check(tree).splitlines()
    assert lines[1] == "  splits made here by session: dev next, test each, 3 folds; no speaker in two splits"
    assert lines[2:5] == [
        "  train of fold 0: 10 labelled: neutral 2, happy 2, sad 2, angry 2, surprised 2",
        "  dev of fold 0: 10 labelled: neutral 2, happy 2, sad 2, angry 2, surprised 2",
        "  test of fold 0: 12 labelled: neutral 2, happy 4, sad 2, angry 2, surprised 2",
    ]
    assert len(lines) == 2 + 3 * 3 + 1
    assert lines[-1] == "  differs from the full corpus: all: 32 labelled utterances; the full corpus has 5,531"


def test_every_task_that_is_run_is_told(tree: dict[str, Any]) -> None:
    two = {**tree["tasks"]["demo"], "classes": {"glad": ["happy", "neutral"], "cross": ["angry", "sad", "surprised"]}}
    put(tree, "tasks.two", two)
    assert "task two" not in check(tree)
    put(tree, "run.tasks", ["demo", "two"])
    first, second = check(tree).split("\n\n")
    assert first.startswith("demo, task demo:")
    assert second.startswith("demo, task two:\n")
    assert "labels that no class takes" not in second


CHANGES: dict[str, tuple[str, Any, type[Exception], str]] = {
    "label of a class": (
        "tasks.demo.classes.happy",
        ["hapy"],
        TaskError,
        r"take the labels \['hapy'\]; the corpus's",
    ),
    "class": ("tasks.demo.counts", {"test": {"hapy": 1}}, ParamsError, r"tasks\.demo.*counts name \['hapy'\]"),
    "group": (
        "tasks.demo.splits",
        {"by": "session", "dev": ["1"], "test": ["Ses05"]},
        TaskError,
        r"splits name the sessions \['Ses05'\]; the corpus has \['0', '1', '2'\]",
    ),
    "kind of group": (
        *("tasks.demo.splits", {"by": "sessions", "dev": ["1"], "test": ["2"]}),
        *(ParamsError, r"tasks\.demo\.splits.*'sessions'"),
    ),
    "family": ("encoders.logmel.family", "logmels", ParamsError, r"encoders\.logmel\.family: 'logmels': "),
    "option of the sound's encoder": (
        *("encoders.logmel.options.n_mel", 40),
        *(ParamsError, r"encoders\.logmel\.options\.n_mel: 40: unknown key; allowed are \['hop_ms', 'n_mels', "),
    ),
    "value of the sound's encoder": (
        *("encoders.logmel.options.n_mels", 4),
        *(ParamsError, r"encoders\.logmel\.options\.n_mels: 4: .*greater than or equal to 8"),
    ),
    "option of the words' encoder": (
        *("encoders.minilm.options.layer", [2]),
        *(ParamsError, r"encoders\.minilm\.options\.layer: \[2\]: unknown key; allowed are "),
    ),
    "option of a model": (
        *("models.hcam.network.head", 4),
        *(ParamsError, r"models\.hcam\.network\.head: 4: unknown key; allowed are \['blocks', "),
    ),
    "value of a model": (
        "models.cma.network.pooling",
        "median",
        ParamsError,
        r"cma\.network\.pooling: 'median'",
    ),
    "schedule of a model": ("models.concat.fit.epoch", 3, ParamsError, r"models\.concat\.fit\.epoch: 3: unknown key"),
    "what a model reads": ("models.hcam.reads", "frames", ParamsError, r"models\.hcam\.reads: 'frames': "),
    "choice that a model has not": (
        "models.cma.ensemble",
        True,
        ParamsError,
        r"cma\.ensemble: True: unknown",
    ),
    "unimodal network": (
        *("models.audio.utterance.network.hiden", 4),
        *(ParamsError, r"models\.audio\.utterance\.network\.hiden: 4: unknown key"),
    ),
    "part of an ablation": (
        *("models.hbaf.ablations.no-gates", {"network.gates": False}),
        *(
            ParamsError,
            r"hbaf\.ablations\.no-gates: 'network\.gates'; there is no models\.hbaf\.network\.gates",
        ),
    ),
    "value of an ablation": (
        *("models.hcam.ablations.no-context", {"reads": "nothing"}),
        *(ParamsError, r"models\.hcam\.reads: 'nothing': "),
    ),
}
"""A slip in the parameters: the key, the value, and the message."""


@pytest.mark.parametrize("name", CHANGES)
def test_a_slip_is_told(tree: dict[str, Any], name: str) -> None:
    key, value, kind, fault = CHANGES[name]
    put(tree, key, value)
    with pytest.raises(kind, match=fault):
        check(tree)


def test_what_is_not_run_is_not_checked(tree: dict[str, Any]) -> None:
    put(tree, "encoders.prosody.options.n_mel", 40)
    put(tree, "run.models.networks", ["late"])
    put(tree, "models.hcam.network.head", 4)
    check(tree)


@pytest.mark.parametrize("name", ["label of a class", "option of the sound's encoder", "option of a model"])
def test_nothing_is_decoded_and_nothing_written_where_something_is_wrong(
    tree: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, root: Path, name: str
) -> None:
    def decode(*_: object, **__: object) -> Callable[..., object]:
        raise AssertionError("decoded")

    key, value, kind, fault = CHANGES[name]
    put(tree, key, value)
    put(tree, "corpus.options.dialogues", 12)
    params = Params(tree, Path("params.yaml"))
    plan, config = Plan.load(params), params.get("corpus", CorpusConfig)
    monkeypatch.chdir(root)
    monkeypatch.setattr(ingest_module, "prepare_all", decode)
    with pytest.raises(kind, match=fault):
        ingest(config, tmp_path / "out", tmp_path / "demo.json", lambda *read: report(plan, params, *read) and None)
    assert list(tmp_path.iterdir()) == []


TASK = {"seeds": 1, "context": "full", "unlabelled": "keep", "speakers": "shared", "transcript": "typed"}


def write_corpus(tree: dict[str, Any], folder: Path, labels: dict[str, list[str]]) -> None:
    """Leave a project with a corpus of texts with these labels in each split."""
    lines = [
        f"{split}{turn},{split},{turn},ann,Well.,{label},{split}"
        for split, own in labels.items()
        for turn, label in enumerate(own)
    ]
    (folder / "raw").mkdir()
    header = "utterance_id,dialogue_id,turn,speaker,text,label,split"
    (folder / "raw/utterances.csv").write_text("\n".join([header, *lines]) + "\n")
    tree["corpus"] = {"name": "toy", "reader": "own", "source": "raw", "shards": 1, "max_seconds": 9.0} | {
        "max_defective": 1.0
    }
    tree["tasks"] = {"toy-2": TASK | {"classes": {"joy": ["happy"], "woe": ["sad"]}}}
    tree["run"]["tasks"] = ["toy-2"]
    (folder / "params.yaml").write_text(yaml.safe_dump(tree, sort_keys=False))


def test_the_stage_tells_misspelt_labels_and_goes_on(tree: dict[str, Any], root: Path, tmp_path: Path) -> None:
    labels = ["happy", "sad", "Happy", "sadness", "Happy"]
    write_corpus(tree, tmp_path, dict.fromkeys(SPLITS, labels))
    command = [sys.executable, str(root / "stages/ingest.py"), "params.yaml"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert "  labels that belong to no class and count as unlabelled: Happy 6, sadness 3\n" in done.stdout
    assert (tmp_path / "data/corpora/toy/utterances.parquet").exists()


@pytest.mark.parametrize("split", ["train", "dev"])
def test_the_stage_refuses_a_class_that_a_split_lacks(
    tree: dict[str, Any], root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, split: str
) -> None:
    write_corpus(tree, tmp_path, {each: ["happy", "Sad" if each == split else "sad"] for each in SPLITS})
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(process, "die_with_parent", lambda: None)
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(root / "stages/ingest.py"))["main"]("params.yaml")
    fault = str(ended.value)  # which Python prints, with exit status 1
    assert f"task toy-2: class 'woe' has no utterance in {split}" in fault
    assert len(fault.splitlines()) == 1
    assert not (tmp_path / "data/corpora").exists()
