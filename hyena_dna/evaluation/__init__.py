"""How good predictions are: metrics with intervals, calibration, thresholds. No torch."""
