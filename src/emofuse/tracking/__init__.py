"""Runs in MLflow: while they train, and as the stages left them on disk.

Stages start the client in a :mod:`~emofuse.tracking.process` of its own. It can :mod:`~emofuse.tracking.follow` the
runs of a stage while they train, and :mod:`~emofuse.tracking.sync` brings the tracker in line with what is on disk, as
often as one likes. A run is found again by the tag of its key, so that nothing is logged twice.
"""
