"""Stage ``pretrain``: the unimodal networks of one encoder to ``data/models/<task>/<encoder>/``.

Usage: python stages/pretrain.py FILE TASK MODALITY ENCODER
"""

import sys

from emofuse.core.process import stage


def main(file: str, task: str, modality: str, encoder: str) -> None:
    """Train the networks without context and with it."""
    with stage(f"pretrain {task} {encoder}") as name:
        from emofuse.training.jobs import Work
        from emofuse.training.pretrain import pretrain

        pretrain(Work.load(name, file, task), modality, encoder)


if __name__ == "__main__":
    main(*sys.argv[1:])
