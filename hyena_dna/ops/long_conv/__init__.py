"""The long causal convolution: one entry point, each implementation in its own module."""

from hyena_dna.ops.long_conv.dispatch import Implementation, Precision, choose, long_conv

__all__ = ["Implementation", "Precision", "choose", "long_conv"]
