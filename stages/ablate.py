"""Stage ``ablate``: the ablations of a model to ``data/models/<task>/<pair>/ablations/<model>/``.

Usage: python stages/ablate.py FILE TASK PAIR MODEL
"""

import sys

from emofuse.core.process import stage
from emofuse.tracking.process import shown


def main(file: str, task: str, pair: str, model: str) -> None:
    """Train the model's ablations."""
    with stage(f"ablate {task} {pair} {model}") as name, shown() as progress:
        from emofuse.core.layout import Pair
        from emofuse.training.fuse import ablate
        from emofuse.training.jobs import Work

        ablate(Work.load(name, file, task, progress), Pair.parse(pair), model)


if __name__ == "__main__":
    main(*sys.argv[1:])
