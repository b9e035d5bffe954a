"""Training runs: configuration, optimiser, checkpoints, the loop."""
