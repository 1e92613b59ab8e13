"""One synchronization as a process of its own, which :func:`~emofuse.tracking.sync.try_sync` ends where it takes long.

Usage: python -m emofuse.tracking ROOT EXPERIMENT
"""

import sys
from pathlib import Path

from emofuse.core.process import die_with_parent
from emofuse.tracking.address import TrackingError
from emofuse.tracking.sync import TrackingConfig, sync


def main(root: str, experiment: str) -> None:
    """Bring the tracker in line and print what was done, as one line; an error is one line on standard error."""
    die_with_parent()
    try:
        print(sync(Path(root), TrackingConfig(experiment=experiment)))
    except TrackingError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main(*sys.argv[1:])
