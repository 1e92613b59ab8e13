"""What the training stages share: a task's seeds and folds as jobs for a pool, and where they read and write."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from pathlib import Path

from emofuse.core.files import file_digest
from emofuse.core.layout import Layout
from emofuse.core.params import Params
from emofuse.core.store import Store
from emofuse.models.registry import model
from emofuse.plan import Plan
from emofuse.tasks import Fold, Task
from emofuse.training.runs import Run, code_digest
from emofuse.training.settings import settings

__all__ = ["Job", "Work", "jobs_of"]


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
    def run(self) -> Run:
        """The run that it comes to."""
        return Run(self.work.task, self.model, self.encoders, self.work.stage, self.seed, self.number)

    @property
    def fold(self) -> Fold:
        """What training may see of the fold."""
        return self.work.opened.fold(self.number)

    @property
    def folder(self) -> Path:
        """Where the finished run is shown."""
        return self.out / self.run.folder


def jobs_of(work: Work, name: str, encoders: Mapping[str, str], out: Path) -> list[Job]:
    """Return every seed and fold of a model, or the folds alone of one that draws nothing at random.

    Args:
        work: the stage's
        name: of the model, or of an ablation
        encoders: by modality; the model's own are taken
        out: the model's folder

    Raises:
        ParamsError: a value of the model's section is not allowed
    """
    entry = model(name)
    settings(work.params, name)
    own = {each: encoders[each] for each in entry.modalities}
    trainer = ["training.linear"] if entry.kind == "linear" else []
    code = code_digest("training.trainer", f"models.{entry.module}", *trainer)
    places = product(range(work.opened.config.seeds if entry.seeded else 1), range(work.opened.folds))
    return [Job(work, name, own, *place, code, out) for place in places]
