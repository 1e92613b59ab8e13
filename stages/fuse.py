"""Stage ``fuse``: one model of one task to ``data/models/<task>/<model>/``.

Usage: python stages/fuse.py JOB
"""

import sys
from pathlib import Path

from pydantic.dataclasses import dataclass

from emofuse.core.params import STRICT, Params
from emofuse.core.process import stage


@dataclass(frozen=True, config=STRICT)
class Job:
    """A job of the section ``fuse``; ``corpus`` is there for ``dvc.yaml`` and must be the task's.

    Attributes:
        ablations: whether the model's ablations are trained too
    """

    task: str
    corpus: str
    model: str
    ablations: bool = False


def main(name: str) -> None:
    """Run the job of that key."""
    with stage(f"fuse@{name}"):
        from emofuse.core.store import Store
        from emofuse.training.fuse import fuse

        params = Params.load()
        job = params.get(f"fuse.{name}", Job)
        fuse(name, job.task, job.model, params, Path("data"), Store(), ablations=job.ablations)


if __name__ == "__main__":
    main(*sys.argv[1:])
