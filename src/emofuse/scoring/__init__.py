"""Metrics, intervals, paired tests, calibration, and published results."""
