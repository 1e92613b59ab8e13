"""Run records to MLflow: the tracker is brought in line with what the stages left on disk, as often as one likes.

:mod:`~emofuse.tracking.results` reads the disk and says what a tracker should show, :mod:`~emofuse.tracking.sync`
compares that with what it does show and logs the difference. Training itself never talks to a tracker.
"""

from emofuse.tracking.sync import Summary, TrackingConfig, TrackingError, sync, training_seconds, try_sync

__all__ = ["Summary", "TrackingConfig", "TrackingError", "sync", "training_seconds", "try_sync"]
