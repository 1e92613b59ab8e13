"""What the training stages share: a task's seeds and folds as jobs for a pool, and where they read and write."""

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from pathlib import Path

from emofuse.core.files import file_digest, write_digests
from emofuse.core.layout import Layout
from emofuse.core.params import Params
from emofuse.core.store import Entry, Store
from emofuse.plan import Plan
from emofuse.tasks import Fold, Task
from emofuse.training.runs import run_all

__all__ = ["Job", "Work", "keep", "train_all"]


@dataclass(frozen=True)
class Work:
    """The work of one training stage; small enough to send to a worker.

    Attributes:
        stage: its script and what it makes, such as ``fuse demo logmel+minilm hcam``
        task: key of the task
        params: of its corpus
        layout: the project's folders
        store: where finished runs are kept
        progress: folder where runs say how far they are, for the tracker; None where it does not read along
    """

    stage: str
    task: str
    params: Params
    layout: Layout
    store: Store
    progress: Path | None = None

    @classmethod
    def load(cls, stage: str, file: str, task: str, progress: Path | None = None) -> "Work":
        """Return the work of a stage in the project in the working folder.

        Args:
            stage: its name
            file: of the corpus's parameters
            task: key of the task
            progress: as the attribute

        Raises:
            ParamsError: the parameters name what is not there
        """
        params = Params.load(file)
        Plan.load(params)
        return cls(stage, task, params, Layout(), Store(), progress)

    def __reduce__(self) -> tuple[type["Work"], tuple[object, ...]]:
        # Without the corpus: each worker reads it, rather than getting it with every job.
        return Work, (self.stage, self.task, self.params, self.layout, self.store, self.progress)

    @cached_property
    def opened(self) -> Task:
        """The task with its corpus."""
        return Task.load(self.task, self.params, self.layout)

    def places(self, *, seeded: bool = True) -> list[tuple[int, int]]:
        """Return the seeds and folds of a model; seed 0 alone for one that draws nothing at random."""
        return list(product(range(self.opened.config.seeds if seeded else 1), range(self.opened.folds)))

    def features(self, encoder: str) -> Path:
        """Return the folder of an encoder's features."""
        return self.layout.features(self.opened.corpus, encoder)

    def shards(self, encoder: str) -> list[str]:
        """Return the digests of an encoder's feature shards."""
        return [file_digest(path) for path in sorted(self.features(encoder).glob("*.parquet"))]


@dataclass(frozen=True)
class Job:
    """One seed and fold of a model.

    Attributes:
        work: the stage's
        model: name in the results table, an ablation's too
        encoders: names of the encoders that it reads, by modality
        seed: of the run
        number: of the fold
        code: digest of the code that it runs
        out: the model's folder
    """

    work: Work
    model: str
    encoders: Mapping[str, str]
    seed: int
    number: int
    code: str
    out: Path

    @property
    def place(self) -> tuple[int, int]:
        """Seed and fold."""
        return self.seed, self.number

    @property
    def fold(self) -> Fold:
        """What training may see of the fold."""
        return self.work.opened.fold(self.number)


def train_all(work: Work, out: Path, function: Callable[[Job], bool], jobs: Sequence[Job]) -> None:
    """Train runs side by side.

    Args:
        work: the stage's
        out: the stage's folder, emptied first as DVC does, so that no run of earlier seeds stays
        function: trains and keeps a run; returns whether the store had it already
        jobs: one a run
    """
    shutil.rmtree(out, ignore_errors=True)
    run_all(work.stage, function, jobs)


def keep(store: Store, key: str, make: Callable[[Path], None]) -> Entry:
    """Return a finished run, trained first if the store does not have it, with the digests of its files.

    Args:
        store: where it is kept
        key: digest of all that it depends on
        make: trains it and fills the folder that it is given
    """

    def whole(folder: Path) -> None:
        make(folder)
        write_digests(folder)

    return store.ensure("runs", key, whole)
