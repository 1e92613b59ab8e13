"""Stage ``robustness``: the trained models on test under a worse condition, to ``metrics/<task>/<pair>/robustness/``.

Usage: python stages/robustness.py FILE CONDITION MODALITY TASK PAIR
"""

import sys

from emofuse.core.process import stage


def main(file: str, condition: str, modality: str, task: str, pair: str) -> None:
    """Ask the models again, and score what they predict."""
    with stage(f"robustness {condition} {task} {pair}"):
        from emofuse.core.layout import Layout, Pair
        from emofuse.core.params import Params
        from emofuse.core.store import Store
        from emofuse.plan import Plan
        from emofuse.robustness.scores import robustness
        from emofuse.scoring.estimates import ScoringConfig
        from emofuse.tasks import Task

        params = Params.load(file)
        config = params.get("scoring", ScoringConfig)
        opened, plan = Task.load(task, params), Plan.load(params)
        robustness(opened, Pair.parse(pair), plan, condition, modality, config, Layout(), Store())


if __name__ == "__main__":
    main(*sys.argv[1:])
