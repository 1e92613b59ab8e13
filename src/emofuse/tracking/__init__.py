"""Runs in MLflow: live during training, and imported from disk.

A training stage writes what its runs say of themselves into files; :mod:`~emofuse.tracking.live` starts a process that
reads along and logs it. :mod:`~emofuse.tracking.sync` brings the tracker in line with what is on disk, as often as one
likes: :mod:`~emofuse.tracking.results` reads it, :mod:`~emofuse.tracking.runs` and
:mod:`~emofuse.tracking.registry` log what the tracker lacks. A run is found again by the tag of its key, so that
nothing is logged twice; training never waits for a tracker.
"""
