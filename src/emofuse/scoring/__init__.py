"""Metrics, intervals, paired tests, calibration, published results, and their files."""
