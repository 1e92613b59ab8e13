"""Stage ``score``: all models of one task to ``metrics/<task>/``; then the tracker is brought in line.

Usage: python stages/score.py TASK
"""

import sys
from pathlib import Path
from typing import Any

from emofuse.params import Params
from emofuse.process import stage


def main(name: str) -> None:
    """Score the task of that key."""
    with stage(f"score@{name}"):
        from emofuse.scoring import ScoringConfig
        from emofuse.scoring.benchmark import benchmark
        from emofuse.tasks import Task, TaskConfig
        from emofuse.tracking import TrackingConfig, try_sync

        params = Params.load()
        task = Task.load(name, params.get(f"tasks.{name}", TaskConfig))
        config = params.get("scoring", ScoringConfig)
        table = benchmark(task, models(params, name), config, Path("data"), Path("metrics"))
        print(f"\n{name}\n\n{table}")
        try_sync(Path(), params.get("tracking", TrackingConfig))


def models(params: Params, task: str) -> list[str]:
    """Return the folders of the task's jobs: its modalities, then its fusion models."""
    sections = [params.get(name, dict[str, dict[str, Any]]) for name in ("pretrain", "fuse")]
    jobs = [job for section in sections for job in section.values() if job["task"] == task]
    return [job.get("modality") or job["model"] for job in jobs]


if __name__ == "__main__":
    main(*sys.argv[1:])
