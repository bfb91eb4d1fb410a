"""Values drawn by name from comet::Rng (base/rng.h, written again here in numpy), for oracles whose weights are not
stored: tests/support/drawn.h draws the same."""
import math

import numpy as np

GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def mix(z):
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def name_hash(name):
    """FNV-1a, 64 bits."""
    value = 0xCBF29CE484222325
    for byte in name.encode():
        value = (value ^ byte) * 0x100000001B3 % 2**64
    return value


def drawn(name, shape):
    """Values in [-1, 1) with 23 bits, as doubles."""
    with np.errstate(over="ignore"):
        key = mix(np.uint64(name_hash(name)) + GOLDEN)
        bits = mix(key ^ mix(np.arange(math.prod(shape), dtype=np.uint64) + GOLDEN))
    return ((bits >> np.uint64(40)).astype(np.float64) * 2.0**-23 - 1.0).reshape(shape)
