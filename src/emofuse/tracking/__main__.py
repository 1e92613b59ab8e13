"""Access to the tracker in a process of its own, which can be ended if it hangs.

Usage: python -m emofuse.tracking ROOT EXPERIMENT [FOLDER]

With a folder it follows the runs that write there; without, it brings the tracker in line with what is on disk and
prints what was done, as one line. An error is one line on standard error.
"""

import sys
from pathlib import Path

from emofuse.core.memory import end_quickly
from emofuse.core.process import die_with_parent
from emofuse.tracking.address import TrackingConfig, TrackingError


def main(root: str, experiment: str, folder: str | None = None) -> None:
    """Follow or synchronize."""
    die_with_parent()
    end_quickly()
    config = TrackingConfig(experiment=experiment)
    try:
        if folder:
            from emofuse.tracking.follow import follow

            follow(Path(root), config, Path(folder))
        else:
            from emofuse.tracking.sync import sync

            print(sync(Path(root), config))
    except TrackingError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main(*sys.argv[1:])
