"""Stage ``score``: all models of one task to ``metrics/<task>/``; then the tracker is brought in line.

Usage: python stages/score.py TASK
"""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from emofuse.core.params import Params
from emofuse.core.process import stage

if TYPE_CHECKING:
    import polars as pl

    from emofuse.robustness.conditions import DegradedConfig
    from emofuse.tasks import Task


def main(name: str) -> None:
    """Score the task of that key."""
    with stage(f"score@{name}"):
        from emofuse.reporting.benchmark import benchmark, run_folders
        from emofuse.robustness.conditions import DegradedConfig
        from emofuse.scoring.scores import ScoringConfig
        from emofuse.tasks import Task, TaskConfig
        from emofuse.tracking import TrackingConfig, try_sync

        params = Params.load()
        task = Task.load(name, params.get(f"tasks.{name}", TaskConfig))
        config = params.get("scoring", ScoringConfig)
        scored, data = models(params, name), Path("data")
        entries = params.get("degraded", dict[str, DegradedConfig]).values()
        conditions = [each for each in entries if each.corpus == task.config.corpus]
        degraded = under_conditions(params, task, run_folders(data / "models" / name, scored), conditions)
        told = {each.condition: str(each) for each in conditions}
        table = benchmark(task, scored, config, data, Path("metrics"), degraded, told)
        print(f"\n{name}\n\n{table}")
        try_sync(Path(), params.get("tracking", TrackingConfig))


def under_conditions(
    params: Params, task: "Task", runs: Sequence[Path], conditions: "Sequence[DegradedConfig]"
) -> "pl.DataFrame | None":
    """Ask the trained models about test once more under each condition; None where there are none."""
    if not conditions:
        return None
    from emofuse.core.store import Store
    from emofuse.robustness.predictions import predict_degraded

    changed = {each.condition: params.get(f"features.{each.features}.modality", str) for each in conditions}
    return predict_degraded(task, runs, changed, Path("data"), Store())


def models(params: Params, task: str) -> list[str]:
    """Return the folders of the task's jobs: its modalities, then its fusion models."""
    sections = [params.get(name, dict[str, dict[str, Any]]) for name in ("pretrain", "fuse")]
    jobs = [job for section in sections for job in section.values() if job["task"] == task]
    return [job.get("modality") or job["model"] for job in jobs]


if __name__ == "__main__":
    main(*sys.argv[1:])
