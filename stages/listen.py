"""Stage ``listen``: the sound of a task's test, a file a turn, to ``data/sound/<task>/``, for the task's page.

Usage: python stages/listen.py FILE TASK
"""

import sys

from emofuse.core.process import stage


def main(file: str, task: str) -> None:
    """Copy what the page plays."""
    with stage(f"listen {task}"):
        from emofuse.core.layout import Layout
        from emofuse.core.params import Params
        from emofuse.reporting.sound import write_sound
        from emofuse.tasks import Task

        write_sound(Task.load(task, Params.load(file)), Layout())


if __name__ == "__main__":
    main(*sys.argv[1:])
