"""The models of one modality: HCAM's stages I and II, the second on frozen vectors of the first, and the baseline."""

from emofuse.core.process import computing_alone
from emofuse.models.registry import LINEAR, UNIMODAL, Model
from emofuse.training.jobs import Job, Work, jobs_of
from emofuse.training.trainer import train, train_all

__all__ = ["pretrain", "pretrain_linear"]


def pretrain(work: Work, modality: str, encoder: str) -> None:
    """Train stages I and II of a modality for every seed and fold of a task.

    Args:
        work: the task and where its data lie
        modality: ``audio`` or ``text``, whose settings are taken
        encoder: whose features are read
    """
    for line in work.opened.differences():
        print(f"{work.task}: {line}")
    stages = [_jobs(work, each, encoder) for each in UNIMODAL if each.modalities == (modality,)]
    train_all(work, work.layout.unimodal(work.task, encoder), list(zip(*stages, strict=True)))


def pretrain_linear(work: Work, modality: str, encoder: str) -> None:
    """Fit the linear baseline of one modality in every fold of a task; the arguments are those of :func:`pretrain`."""
    (entry,) = (each for each in LINEAR if each.modalities == (modality,))
    with computing_alone():
        for job in _jobs(work, entry, encoder):
            train(job)


def _jobs(work: Work, entry: Model, encoder: str) -> list[Job]:
    (modality,) = entry.modalities
    return jobs_of(work, entry.name, {modality: encoder}, work.layout.unimodal(work.task, encoder) / entry.folder)
