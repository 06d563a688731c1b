"""Uniform noise as a pure function of integers: the same on every backend and device."""

from keras import ops


def _mix(x):
    """One round of an avalanche hash on uint32 (the "lowbias32" constants of C. Wellons)."""
    x = ops.bitwise_xor(x, ops.right_shift(x, 16))
    x = x * ops.cast(0x7FEB352D, "uint32")
    x = ops.bitwise_xor(x, ops.right_shift(x, 15))
    x = x * ops.cast(0x846CA68B, "uint32")
    return ops.bitwise_xor(x, ops.right_shift(x, 16))


def uniform_noise(seeds, count, stream):
    """Noise in [0, 1) for the numbers 0, 1, ... count - 1 of each seed: [B, count], see `noise_of`."""
    return noise_of(ops.arange(count)[None], seeds, stream)


def noise_of(numbers, seeds, stream):
    """Noise in [0, 1) that belongs to numbers, wherever in the array they stand.

    Args:
        numbers: [B or 1, N] integers, 0 or more.
        seeds: [B] integers; equal seeds give equal noise.
        stream: int that separates uses of the same seed.

    Returns:
        [B, N] float32 with 24 random bits.
    """
    seeds = _mix(ops.cast(seeds, "uint32") + ops.cast(stream * 0x9E3779B9 % 2**32, "uint32"))
    bits = _mix(_mix(seeds[:, None] + ops.cast(numbers, "uint32") * ops.cast(0x9E3779B9, "uint32")))
    return ops.cast(ops.right_shift(bits, 8), "float32") * (1.0 / 2**24)
