"""Stage ``pretrain``: the unimodal models of one encoder to ``data/models/<task>/<encoder>/``.

Usage: python stages/pretrain.py FILE TASK MODALITY ENCODER
"""

import sys

from emofuse.core.process import stage
from emofuse.tracking.process import shown


def main(file: str, task: str, modality: str, encoder: str) -> None:
    """Train the networks without context and with it, and the linear baseline."""
    with stage(f"pretrain {task} {encoder}") as name, shown() as progress:
        from emofuse.training.jobs import Work
        from emofuse.training.pretrain import pretrain, pretrain_linear

        work = Work.load(name, file, task, progress)
        pretrain(work, modality, encoder)
        pretrain_linear(work, modality, encoder)


if __name__ == "__main__":
    main(*sys.argv[1:])
