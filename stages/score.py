"""Stage ``score``: all models of a task and a pair of encoders to ``metrics/<task>/<pair>/``; then the tracker.

Usage: python stages/score.py FILE TASK PAIR
"""

import sys

from emofuse.core.process import stage


def main(file: str, task: str, pair: str) -> None:
    """Score the models on test, once."""
    with stage(f"score {task} {pair}"):
        from pathlib import Path

        from emofuse.core.layout import Layout, Pair
        from emofuse.core.params import Params
        from emofuse.plan import Plan
        from emofuse.reporting.benchmark import benchmark
        from emofuse.scoring.estimates import ScoringConfig
        from emofuse.tasks import Task
        from emofuse.tracking.address import TrackingConfig
        from emofuse.tracking.process import try_sync

        params = Params.load(file)
        table = benchmark(
            Task.load(task, params), Pair.parse(pair), Plan.load(params), params.get("scoring", ScoringConfig), Layout()
        )
        first = next(line for line in table.splitlines() if line.startswith("- "))
        print(f"score {task} {pair}: {first.removeprefix('- ')}")
        try_sync(Path(), params.get("tracking", TrackingConfig))


if __name__ == "__main__":
    main(*sys.argv[1:])
