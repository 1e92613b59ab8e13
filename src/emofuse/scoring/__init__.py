"""Numbers alone: metrics, intervals, paired tests, calibration, and what others published."""
