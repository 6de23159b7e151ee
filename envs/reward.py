"""What an environment pays for: a strategy, so that recipes can shape it."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from simulator.deadline import DeadlineBatch
from simulator.deadline.observation import FloatArray, IntArray


class Reward(Protocol):
    """Scores ticks. What it keeps must follow from the state of the batch alone.

    So `begin` on all rows in mid-episode, which is how a resumed training run starts, brings it to
    where it was.
    """

    def begin(self, batch: DeadlineBatch, rows: IntArray) -> None:
        """New episodes were assigned to `rows`, or a saved state was restored there."""
        ...

    def score(self, batch: DeadlineBatch, cost: FloatArray) -> FloatArray:
        """Rewards of the tick just run.

        Args:
            batch: After the tick, finished jobs not yet replaced.
            cost: (N,) USD billed in the tick.

        Returns:
            (N,) rewards.
        """
        ...


class CostReward:
    """Minus the cost as a share of what the job costs on on-demand capacity, minus a penalty for a miss.

    An episode on on-demand capacity from its first tick returns about -1, plus its launch overhead and the
    unused end of its last tick.
    """

    def __init__(self, miss_penalty: float = 2.0) -> None:
        """`miss_penalty` is paid once, in the tick in which the deadline passes; 1 = a job on on-demand."""
        self.miss_penalty = miss_penalty
        self._share_per_usd = np.zeros(0)

    def begin(self, batch: DeadlineBatch, rows: IntArray) -> None:
        """Note what the new jobs would cost on on-demand capacity at the price of their first tick."""
        if len(self._share_per_usd) != batch.size:
            self._share_per_usd = np.zeros(batch.size)
        usd_per_hour = batch.stack.on_demand_price[batch.market[rows], batch.start[rows]]
        usd_per_hour = usd_per_hour * batch.on_demand_scale[rows] * batch.nodes[rows]
        self._share_per_usd[rows] = 3600.0 / (usd_per_hour * batch.work_total[rows])

    def score(self, batch: DeadlineBatch, cost: FloatArray) -> FloatArray:
        """Rewards of the tick just run."""
        return np.asarray(-cost * self._share_per_usd - self.miss_penalty * (batch.done & batch.missed))
