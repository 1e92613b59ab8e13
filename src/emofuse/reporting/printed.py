"""A report as ``emofuse report`` prints it: with what an out cannot have."""

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from emofuse.core.git import git
from emofuse.reporting.pages import render
from emofuse.reporting.report import KNOWN
from emofuse.reporting.robustness import WORSE, Conditions

__all__ = ["commit_of", "with_known"]

_WORSE = re.compile("<!-- worse conditions -->.*?<!-- end -->", re.DOTALL)
"""Where a page has the scores under worse conditions, which no score waits for."""


def with_known(
    page: str, seconds: Mapping[str, float], commit: str | None = None, worse: Sequence[Conditions] = ()
) -> str:
    """Return a page with what an out cannot have, since no two trainings take equally long and commits come later.

    Its links become those of a page in the project's root folder.

    Args:
        page: what :func:`emofuse.reporting.report.report` gave
        seconds: of a run of each model, in its own stage
        commit: that has these results
        worse: the models under worse conditions
    """
    # Names come from the tracker; without the sign none ends the script.
    known = json.dumps({"seconds": seconds, "commit": commit}).replace("<", "\\u003c")
    filled = page.replace(KNOWN.format("{}"), KNOWN.format(known))
    if worse:
        tables = render("robustness.html.jinja", conditions=worse, worse=WORSE)
        filled = _WORSE.sub(lambda _: tables, filled)
    return filled.replace('"../../../../', '"').replace('"../../../sound/', '"data/sound/').replace('"../../../', '"')


def commit_of(path: Path) -> str | None:
    """Return the commit that has a file as it is; None where it is not committed, or git cannot be asked."""
    if git(path.parent, "status", "--porcelain", "--", path.name) != "":
        return None
    return git(path.parent, "log", "-1", "--format=%H", "--", path.name) or None
