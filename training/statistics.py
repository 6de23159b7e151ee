"""Robust statistics of episodes: interquartile mean and stratified bootstrap intervals.

Method: Agarwal et al., "Deep Reinforcement Learning at the Edge of the Statistical Precipice" (NeurIPS
2021). Episodes
are resampled with replacement within each stratum (pool), so that pools keep their weight.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from simulator.deadline.observation import FloatArray, IntArray
from simulator.errors import InputError

RESAMPLES = 2000
CHUNK = 250
"""Resamples drawn at a time, which bounds memory."""


def interquartile_mean(values: ArrayLike) -> FloatArray:
    """Mean of the middle half along the last axis; a quarter is cut off at either end.

    Where a quarter is no whole number of values, the border values count in part.
    """
    ordered = np.sort(np.asarray(values, np.float64), axis=-1)
    count = ordered.shape[-1]
    upper = np.minimum(np.arange(1, count + 1), 0.75 * count)
    lower = np.maximum(np.arange(count), 0.25 * count)
    weight = np.maximum(upper - lower, 0.0)
    return np.asarray((ordered * weight).sum(axis=-1) / weight.sum())


@dataclass(frozen=True, eq=False)
class StratifiedBootstrap:
    """Draws the same resamples of N episodes for every statistic, so that differences are paired.

    Attributes:
        stratum: (N,) which stratum each episode belongs to.
        seed: The same seed gives the same resamples.
        resamples: How many.
    """

    stratum: IntArray
    seed: int = 0
    resamples: int = RESAMPLES

    def interval(
        self, statistic: Callable[[IntArray], FloatArray], level: float = 0.95
    ) -> tuple[float, float]:
        """Percentile interval of a statistic.

        Args:
            statistic: From (R, N) episode numbers to (R,) values.
            level: Coverage.

        Returns:
            Lower and upper bound.

        Raises:
            InputError: There is no episode.
        """
        if len(self.stratum) == 0:
            raise InputError("no episode to take an interval of")
        values = np.concatenate([statistic(rows) for rows in self._draws()])
        tail = 50.0 * (1.0 - level)
        low, high = np.percentile(values, [tail, 100.0 - tail])
        return float(low), float(high)

    def mean_interval(self, values: ArrayLike, level: float = 0.95) -> tuple[float, float]:
        """Interval of the mean of (N,) values."""
        array = np.asarray(values, np.float64)
        return self.interval(lambda rows: np.asarray(array[rows].mean(axis=1)), level)

    def _draws(self) -> list[IntArray]:
        generator = np.random.default_rng(self.seed)
        strata = [np.flatnonzero(self.stratum == each) for each in np.unique(self.stratum)]
        draws = []
        for first in range(0, self.resamples, CHUNK):
            count = min(CHUNK, self.resamples - first)
            parts = [
                members[generator.integers(0, len(members), (count, len(members)))] for members in strata
            ]
            draws.append(np.concatenate(parts, axis=1))
        return draws
