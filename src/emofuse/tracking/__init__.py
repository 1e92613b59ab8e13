"""Run records to MLflow: the tracker is brought in line with what the stages left on disk, as often as one likes.

:mod:`~emofuse.tracking.results` reads the disk and says what a tracker should show; :mod:`~emofuse.tracking.runs` and
:mod:`~emofuse.tracking.registry` compare that with what it does show and log the difference, and
:mod:`~emofuse.tracking.sync` calls them. Training itself never talks to a tracker.
"""
