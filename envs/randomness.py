"""Random numbers of environments: a function of seed, environment, episode and draw, with no state to keep.

So environment i begins the same episodes whatever the number of environments, and a checkpoint needs to save
nothing but the episode counts.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from simulator.deadline.observation import FloatArray, IntArray

UInt64Array = NDArray[np.uint64]

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_FIRST = np.uint64(0xBF58476D1CE4E5B9)
_SECOND = np.uint64(0x94D049BB133111EB)


def _mix(x: UInt64Array) -> UInt64Array:
    """The finalizer of SplitMix64 (Steele, Lea, Flood 2014): every bit of x moves half of the result's."""
    x = (x ^ (x >> np.uint64(30))) * _FIRST
    x = (x ^ (x >> np.uint64(27))) * _SECOND
    return x ^ (x >> np.uint64(31))


def streams(seed: int, count: int) -> IntArray:
    """(count,) int64: one stream of random numbers per environment; the first k do not depend on `count`."""
    root = _mix(np.array([seed % 2**64], np.uint64) + _GOLDEN)
    return _mix(root + np.arange(1, count + 1, dtype=np.uint64) * _GOLDEN).view(np.int64)


def uniforms(stream: IntArray, episode: IntArray, draws: int) -> FloatArray:
    """(n, draws) numbers in [0, 1) that belong to episodes `episode` of streams `stream`, both (n,)."""
    key = _mix(stream.view(np.uint64) + (episode.astype(np.uint64) + np.uint64(1)) * _GOLDEN)
    counter = np.arange(1, draws + 1, dtype=np.uint64) * _GOLDEN
    return np.asarray((_mix(key[:, None] + counter) >> np.uint64(11)) * 2.0**-53, np.float64)
