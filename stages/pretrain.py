"""Stage ``pretrain``: HCAM stages I and II of one modality of one task to ``data/models/<task>/<modality>/``.

Usage: python stages/pretrain.py JOB
"""

import sys
from pathlib import Path
from typing import Literal

from pydantic.dataclasses import dataclass

from emofuse.core.params import STRICT, Params
from emofuse.core.process import stage


@dataclass(frozen=True, config=STRICT)
class Job:
    """A job of the section ``pretrain``; ``corpus`` is there for ``dvc.yaml`` and must be the task's."""

    task: str
    corpus: str
    modality: Literal["audio", "text"]


def main(name: str) -> None:
    """Run the job of that key."""
    with stage(f"pretrain@{name}"):
        from emofuse.core.store import Store
        from emofuse.training.pretrain import pretrain

        params = Params.load()
        job = params.get(f"pretrain.{name}", Job)
        pretrain(name, job.task, job.modality, params, Path("data"), Store())


if __name__ == "__main__":
    main(*sys.argv[1:])
