"""Small folds, and a small project on disk whose stages run in this process."""

import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import polars as pl
import pytest
import torch

from emofuse.core.layout import Layout, Pair
from emofuse.core.params import Params
from emofuse.core.schema import SPLITS, UTTERANCES, conform
from emofuse.core.store import Store
from emofuse.features.shards import Row, write_shard
from emofuse.models.registry import FUSION, is_ablation
from emofuse.tasks import Fold, Task
from emofuse.training import trainer
from emofuse.training.fuse import ablate, fuse
from emofuse.training.jobs import Work
from emofuse.training.pretrain import pretrain, pretrain_linear

PAIR = Pair("ears", "eyes")
"""The encoders of the project."""

FOLDERS = {
    f"{modality}-{level}": f"{PAIR.encoder(modality)}/{level}"
    for modality in ("audio", "text")
    for level in ("utterance", "context")
}
"""Where the unimodal networks lie, below the task's folder."""

LABELS = ("happy", "sad", None, "sad", "happy", "shrug")
"""Labels of the turns of a dialogue, one turn further in each next one; ``shrug`` is not in the task's label map."""


@contextmanager
def _deterministic() -> Iterator[None]:
    before = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    yield
    torch.set_num_threads(before[0])
    torch.use_deterministic_algorithms(before[1])


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """What a worker of :func:`emofuse.training.runs.run_all` sets."""
    with _deterministic():
        yield


def _fold(
    targets: Sequence[Sequence[int]], splits: Sequence[str], classes: Sequence[str] = ("a", "b"), context: str = "full"
) -> Fold:
    """A fold of dialogues, given by the targets of their turns and by their split."""
    flat = np.concatenate([np.asarray(each, dtype=np.int64) for each in targets])
    sizes = [len(each) for each in targets]
    split = np.repeat([SPLITS.index(each) for each in splits], sizes)  # type: ignore[arg-type]
    return Fold(
        utterance_ids=tuple(f"u{row}" for row in range(len(flat))),
        dialogues=np.concatenate([[0], np.cumsum(sizes)]),
        speakers=np.arange(len(flat)) % 2,
        splits=split,
        targets=np.where(split == SPLITS.index("test"), -1, flat),
        scored=flat >= 0,
        classes=tuple(classes),
        context=context,  # type: ignore[arg-type]
    )


@pytest.fixture(scope="session")
def make_fold() -> Callable[..., Fold]:
    return _fold


@dataclass
class Project:
    """A project's data folder, work store and parameters, with a task ``tiny`` of a corpus ``toy``.

    Attributes:
        root: holds ``data`` and ``.emofuse``, as the project's own root does
        tree: what ``params.yaml`` would hold; free to change
        counts: of the last stage, the runs that were trained and those that were reused
        run_all: what trains the runs; in this process, one after the other, if None
        pair: its encoders
    """

    root: Path
    tree: dict[str, Any]
    counts: tuple[int, int] = (0, 0)
    run_all: Callable[..., int] | None = field(default=None, repr=False)
    pair: ClassVar[Pair] = PAIR

    @property
    def layout(self) -> Layout:
        return Layout(self.root)

    @property
    def store(self) -> Store:
        return Store(self.root / ".emofuse")

    @property
    def params(self) -> Params:
        return Params(self.tree, self.root / "params.yaml")

    def work(self, stage: str) -> Work:
        """What a stage of that name is handed."""
        return Work(stage, "tiny", self.params, self.layout, self.store)

    def folder(self, model: str, seed: int = 0) -> Path:
        """Folder of a model's run."""
        fusion = f"{PAIR}/ablations/{model}" if is_ablation(model) else f"{PAIR}/{model}"
        return self.layout.models / "tiny" / FOLDERS.get(model, fusion) / f"seed-{seed}-fold-0"

    def pretrain(self, modality: str, stage: str = "") -> tuple[int, int]:
        """Run the stage; return how many runs were trained and how many reused."""
        with self._run_all():
            pretrain(self.work(stage or f"pretrain-{modality}"), modality, PAIR.encoder(modality))
        return self.counts

    def stage_of(self, modality: str) -> "Project":
        """Run what the stage of a modality's encoder runs, under its name."""
        encoder = PAIR.encoder(modality)
        work = self.work(f"pretrain tiny {encoder}")
        with self._run_all():
            pretrain(work, modality, encoder)
            pretrain_linear(work, modality, encoder)
        return self

    def fuse(self, model: str) -> tuple[int, int]:
        """Run the stage; return how many runs were trained and how many reused."""
        with self._run_all():
            fuse(self.work(f"fuse-{model}"), PAIR, model)
        return self.counts

    def ablate(self, model: str) -> tuple[int, int]:
        """Run the stage; return how many runs were trained and how many reused."""
        with self._run_all():
            ablate(self.work(f"ablate-{model}"), PAIR, model)
        return self.counts

    def everything(self) -> "Project":
        """Run all stages but those of ablations."""
        for modality in ("audio", "text"):
            self.pretrain(modality)
        for model in FUSION:
            self.fuse(model.name)
        return self

    def outs(self) -> dict[str, bytes]:
        """All that the training stages wrote, by path."""
        models = self.layout.models
        return {
            str(path.relative_to(models)): path.read_bytes() for path in sorted(models.rglob("*")) if path.is_file()
        }

    def keys(self) -> set[str]:
        """Keys of the finished runs in the store."""
        return {path.parent.name for path in self.store.root.glob("runs/*/manifest.json")}

    def task(self) -> Task:
        return Task.load("tiny", self.params, self.layout)

    def utterances(self) -> pl.DataFrame:
        return pl.read_parquet(self._table)

    def rewrite(self, utterances: pl.DataFrame) -> None:
        """Put another utterance table in place."""
        utterances.write_parquet(self._table)

    def copy(self, root: Path, *, trained: bool = False) -> "Project":
        """The same corpus, features and parameters in another folder, and what was trained if asked for."""
        other = Project(root, _deep(self.tree))
        shutil.copytree(self.layout.data / "corpora", other.layout.data / "corpora")
        shutil.copytree(self.layout.data / "features", other.layout.data / "features")
        if trained:
            shutil.copytree(self.layout.data / "models", other.layout.data / "models")
            shutil.copytree(self.store.root, other.store.root)
        return other

    @property
    def _table(self) -> Path:
        return self.layout.corpus("toy") / "utterances.parquet"

    @contextmanager
    def _run_all(self) -> Iterator[None]:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(trainer, "run_all", self.run_all or self._in_process)
            yield

    def _in_process(self, label: str, function: Callable[[Any], bool], arguments: Sequence[Any]) -> int:
        del label
        reused = sum(function(each) for each in arguments)
        self.counts = len(arguments) - reused, reused
        return reused


def _deep(tree: Any) -> Any:
    return {key: _deep(value) for key, value in tree.items()} if isinstance(tree, dict) else tree


def _tree() -> dict[str, Any]:
    fit = {
        "epochs": 3,
        "patience": 3,
        "batch_size": 4,
        "learning_rate": 0.01,
        "weight_decay": 0.01,
        "max_grad_norm": 1.0,
    }
    utterance = {"input_projection": 0, "hidden": 4, "layers": 1, "dropout": 0.2, "input_dropout": 0.1}
    context = {"hidden": 4, "layers": 1, "heads": 2, "dropout": 0.2, "contrastive": 0.1, "temperature": 0.1}
    unimodal = {"utterance": {"network": utterance, "fit": fit}, "context": {"network": context, "fit": fit}}
    hcam = {"co_attention": True, "blocks": 1, **{key: context[key] for key in context if key != "layers"}}
    hcam_without = {"no-context": {"reads": "utterance"}, "no-ensemble": {"ensemble": False}}
    cma = {"channels": 4, "kernel": 3, "hidden": 4, "heads": 2, "dropout": 0.2, "attention": True, "pooling": "mean"}
    hbaf = {"hidden": 4, "audio_hidden": 4, "heads": 2, "dropout": 0.2, "temperature": 0.2}
    hbaf |= dict.fromkeys(["context", "gate", "self_attention", "cross_attention"], True)
    hbaf |= dict.fromkeys(["text_loss", "audio_loss", "absolute", "relative"], 0.1)
    return _deep(
        {
            "root": ".",
            "file": "params.yaml",
            "tracking": {"enabled": False},
            "corpus": {"name": "toy"},
            "tasks": {
                "tiny": {
                    "classes": {"happy": ["happy"], "sad": ["sad"]},
                    "seeds": 2,
                    "context": "full",
                    "unlabelled": "keep",
                    "speakers": "shared",
                    "transcript": "none",
                }
            },
            "run": {
                "tasks": ["tiny"],
                "audio": [PAIR.audio],
                "text": [PAIR.text],
                "models": {
                    "features": [each.name for each in FUSION if not each.reads_networks],
                    "networks": [each.name for each in FUSION if each.reads_networks],
                },
            },
            "encoders": {PAIR.audio: {}, PAIR.text: {}},
            "conditions": {},
            "models": {
                "audio": unimodal,
                "text": unimodal,
                "majority": {},
                "late": {},
                "linear": {"network": {"strengths": [0.1, 1.0]}},
                "concat": {"network": {"hidden": 4, "layers": 1, "dropout": 0.2}, "reads": "pooled", "fit": fit},
                "hcam": {"network": hcam, "reads": "context", "ensemble": True, "fit": fit, "ablations": hcam_without},
                "cma": {"network": cma, "fit": fit},
                "hbaf": {"network": hbaf, "fit": fit, "ablations": {"no-gate": {"network.gate": False}}},
            },
        }
    )


def _write_corpus(root: Path) -> None:
    """Eight dialogues of six turns each: four of train, two of dev, two of test."""
    splits = ["train"] * 4 + ["dev"] * 2 + ["test"] * 2
    rows = [
        {
            "utterance_id": f"d{dialogue}_{turn}",
            "dialogue_id": f"d{dialogue}",
            "turn": turn,
            "speaker": f"s{turn % 2}",
            "label": LABELS[(turn + dialogue) % len(LABELS)],
            "split": split,
            "defects": [],
        }
        for dialogue, split in enumerate(splits)
        for turn in range(6)
    ]
    folder = Layout(root).corpus("toy")
    folder.mkdir(parents=True)
    table = pl.DataFrame(rows).with_columns(
        pl.lit(None, dtype=kind).alias(name)
        for name, kind in {
            "session": pl.String,
            "text": pl.String,
            "start_s": pl.Float64,
            "end_s": pl.Float64,
            "sentiment": pl.Float64,
            "audio_sha256": pl.String,
            "n_samples": pl.Int64,
        }.items()
    )
    pl.DataFrame(conform(table.to_arrow(compat_level=pl.CompatLevel.oldest()), UTTERANCES, "toy")).write_parquet(
        folder / "utterances.parquet"
    )
    rng = np.random.default_rng(0)
    for modality, dim, most in (("audio", 3, 5), ("text", 2, 3)):
        encoder = PAIR.encoder(modality)
        frames = [
            Row(row["utterance_id"], "0", rng.normal(size=(rng.integers(1, most + 1), dim)) + (row["label"] == "sad"))
            for row in rows
        ]
        frames[7] = Row(rows[7]["utterance_id"], None, np.zeros((0, dim)))
        for index in range(2):
            path = Layout(root).features("toy", encoder) / f"shard-{index:05d}-of-00002.parquet"
            write_shard(path, frames[index::2], dim, {"encoder": encoder, "modality": modality})


@pytest.fixture(scope="session")
def _blank(tmp_path_factory: pytest.TempPathFactory) -> Project:
    root = tmp_path_factory.mktemp("blank")
    _write_corpus(root)
    return Project(root, _tree())


@pytest.fixture(scope="session")
def _finished(_blank: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    with _deterministic():
        return _blank.copy(tmp_path_factory.mktemp("finished") / "project").everything()


@pytest.fixture
def project(_blank: Project, tmp_path: Path) -> Project:
    """A project in which nothing is trained."""
    return _blank.copy(tmp_path / "project")


@pytest.fixture
def trained(_finished: Project, tmp_path: Path) -> Project:
    """A project in which all stages have run."""
    return _finished.copy(tmp_path / "trained", trained=True)
