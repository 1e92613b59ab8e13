"""Numbers alone, and the files that have them: metrics, intervals, paired tests, calibration, what others published."""
