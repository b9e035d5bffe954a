"""Which windows, which labels, which batches. No model below this folder."""
