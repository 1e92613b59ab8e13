"""Stage ``external``: predictions of others to ``data/models/<task>/<pair>/external/<name>/``.

Usage: python stages/external.py FILE TASK PAIR NAME
"""

import sys

from emofuse.core.process import stage


def main(file: str, task: str, pair: str, name: str) -> None:
    """Check the file and take it in."""
    with stage(f"external {task} {pair} {name}"):
        from emofuse.core.layout import Layout, Pair
        from emofuse.core.params import Params
        from emofuse.plan import Plan
        from emofuse.scoring.external import take_in
        from emofuse.tasks import Task

        params = Params.load(file)
        (config,) = (each for each in Plan.load(params).external(task) if each.name == name)
        print(take_in(Task.load(task, params), Pair.parse(pair), config, Layout()))


if __name__ == "__main__":
    main(*sys.argv[1:])
