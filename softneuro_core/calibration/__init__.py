"""Calibration: what a float model's values are like on data, as ranges integers can be laid over."""
