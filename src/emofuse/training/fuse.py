"""Fusion of the modalities: HCAM stage III, CMA, HBAF, and the baselines that they are compared with.

A model's ablations, the same with parts switched off, stand in its section of the parameters and are trained as runs of
``<model>/<ablation>``.
"""

from pathlib import Path

from emofuse.core.layout import Pair
from emofuse.core.schema import MODALITIES
from emofuse.training.jobs import Job, Work, jobs_of
from emofuse.training.settings import settings
from emofuse.training.trainer import train_all

__all__ = ["ablate", "fuse"]


def fuse(work: Work, pair: Pair, name: str) -> None:
    """Train a model for every seed and fold of a task.

    Args:
        work: the task and where its data lie
        pair: the encoders that it reads
        name: of the model in the registry
    """
    out = work.layout.fusion(work.task, pair) / name
    train_all(work, out, _jobs(work, pair, name, out))


def ablate(work: Work, pair: Pair, name: str) -> None:
    """Train the ablations of a model for every seed and fold of a task; the arguments are those of :func:`fuse`."""
    out = work.layout.fusion(work.task, pair) / "ablations" / name
    ablations = settings(work.params, name).ablations
    train_all(work, out, [job for each in ablations for job in _jobs(work, pair, f"{name}/{each}", out / each)])


def _jobs(work: Work, pair: Pair, name: str, out: Path) -> list[tuple[Job]]:
    encoders = {each: pair.encoder(each) for each in MODALITIES}
    return [(job,) for job in jobs_of(work, name, encoders, out)]
