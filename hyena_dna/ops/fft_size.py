"""Transform lengths for which an FFT is fast."""

from __future__ import annotations

from functools import lru_cache

__all__ = ["fast_fft_size"]


@lru_cache(maxsize=1024)
def fast_fft_size(minimum: int, *, power_of_two: bool = True) -> int:
    """A fast transform length of at least `minimum`: the smallest even 2^a 3^b 5^c, or a power of two close above it.

    A causal convolution of two sequences of `length` needs a transform of at least `2 * length - 1`: with fewer
    points the end of the sequence wraps around to its beginning and the future leaks into the past. Any size above
    gives the same result; sizes with large prime factors, such as twice the published 1,000,002, are several times
    slower. Even, because real transforms of even length are.
    A power of two at most 5 % longer wins: 2^21 points take 26-33 ms a row where 2,000,000 take 40-47 ms (one core).

    Args:
        minimum: points needed, at least 1.
        power_of_two: whether a power of two may win. A single complex transform that MKL cuts into shorter ones by
            itself gains nothing from it: 1,000,000 points take 7.1 ms, 2^20 points 9.2 ms (one core).

    Raises:
        ValueError: `minimum` is below 1.
    """
    if minimum < 1:
        raise ValueError(f"an FFT needs at least one point, not {minimum}")
    power = best = 1 << max(1, (minimum - 1).bit_length())
    fives = 2
    while fives < best:
        threes = fives
        while threes < best:
            size = threes << max(0, (-(-minimum // threes) - 1).bit_length())
            best = min(best, size)
            threes *= 3
        fives *= 5
    return power if power_of_two and power <= 1.05 * best else best
