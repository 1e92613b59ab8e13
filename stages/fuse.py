"""Stage ``fuse``: one model of a task and a pair of encoders to ``data/models/<task>/<pair>/<model>/``.

Usage: python stages/fuse.py FILE TASK PAIR MODEL
"""

import sys

from emofuse.core.process import stage
from emofuse.tracking.process import shown


def main(file: str, task: str, pair: str, model: str) -> None:
    """Train the model."""
    with stage(f"fuse {task} {pair} {model}") as name, shown() as progress:
        from emofuse.core.layout import Pair
        from emofuse.training.fuse import fuse
        from emofuse.training.jobs import Work

        fuse(Work.load(name, file, task, progress), Pair.parse(pair), model)


if __name__ == "__main__":
    main(*sys.argv[1:])
