"""Exact dynamic programme over several pools: cost-to-go for each placement and joint phase of the pools.

Costs are in on-demand ticks, as in `policies.planner.tables`.
"""

# ruff: noqa: C901 -- compiled: one argument per array, one loop nest per recursion

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numba import njit
from numpy.typing import NDArray

from policies.planner.grid import slack_grid, time_levels
from policies.planner.several.phases import Phases
from policies.planner.tables import below
from simulator.deadline.observation import FloatArray, IntArray


@dataclass(frozen=True, eq=False)
class SeveralTables:
    """Expected cost before a decision, for one tick length, overhead and price ratio of each of P pools.

    Attributes:
        slack_minutes: (S,) entries along slack.
        levels: (L,) entries along ticks left.
        value: (L, S, P + 2, J) float32, on-demand ticks, by placement and joint phase. Pool p's phase in
            joint phase j is j // M^p % M. A placement in a pool whose phase is down is an interrupted job.
        there: (C,) probability that a pool has spot under each belief; only where phases are beliefs.
    """

    slack_minutes: FloatArray
    levels: IntArray
    value: NDArray[np.float32]
    there: FloatArray = field(default_factory=lambda: np.zeros(0))

    @property
    def nbytes(self) -> int:
        """Memory of the table."""
        return int(self.value.nbytes)

    @classmethod
    def solve(
        cls,
        phases: Phases,
        *,
        tick_minutes: float,
        overhead_minutes: float,
        ratios: tuple[float, ...],
        horizon_ticks: int,
        most_slack_minutes: float,
    ) -> SeveralTables:
        """Solve backwards from the deadline under the shield's rule; pools are taken to be independent.

        Args:
            phases: Phases of every pool.
            tick_minutes: Length of a tick.
            overhead_minutes: Restart overhead.
            ratios: Spot price / on-demand price of each pool.
            horizon_ticks: Most ticks left.
            most_slack_minutes: Most slack.
        """
        grid = slack_grid(tick_minutes, overhead_minutes, most_slack_minutes)
        levels = time_levels(horizon_ticks)
        slot = np.full(int(levels[-1]) + 1, -1, np.int64)
        slot[levels] = np.arange(len(levels))
        pools = len(ratios)
        value = np.zeros((len(levels), len(grid), pools + 2, phases.size**pools), np.float32)
        below_idle, weight_idle = below(grid, tick_minutes)
        below_launch, weight_launch = below(grid, overhead_minutes)
        _solve(
            phases.step,
            phases.down,
            tick_minutes,
            overhead_minutes,
            np.array(ratios),
            grid,
            slot,
            below_idle,
            weight_idle,
            below_launch,
            weight_launch,
            value,
        )
        return cls(grid, levels, value)


@njit(cache=True, nogil=True)
def _expect(step: FloatArray, value: FloatArray, expected: FloatArray, spare: FloatArray, pools: int) -> None:
    """Expected `value` (places, J) after one step of all pools, into `expected`; `spare` is scratch."""
    size = step.shape[0]
    places, joint = value.shape
    source, target = value, expected
    stride = 1
    for p in range(pools):
        # Ping-pong so that the last pool writes into `expected`.
        target = expected if (pools - 1 - p) % 2 == 0 else spare
        for place in range(places):
            for high in range(0, joint, stride * size):
                for low in range(stride):
                    base = high + low
                    for m in range(size):
                        total = 0.0
                        for n in range(size):
                            total += step[m, n] * source[place, base + n * stride]
                        target[place, base + m * stride] = total
        source = target
        stride *= size


@njit(cache=True, nogil=True)
def _solve(
    step: FloatArray,
    down: int,
    tick: float,
    overhead: float,
    ratio: FloatArray,
    grid: FloatArray,
    slot: IntArray,
    below_idle: IntArray,
    weight_idle: FloatArray,
    below_launch: IntArray,
    weight_launch: FloatArray,
    out: NDArray[np.float32],  # (L, S, P + 2, J)
) -> None:
    pools, phases = ratio.shape[0], step.shape[0]
    size, places, joint = out.shape[1], out.shape[2], out.shape[3]
    up = np.zeros((pools, joint), np.bool_)
    for j in range(joint):
        rest = j
        for p in range(pools):
            up[p, j] = rest % phases >= down
            rest //= phases
    value = np.zeros((size, places, joint))
    expected = np.zeros((size, places, joint))
    spare = np.zeros((places, joint))
    for left in range(slot.shape[0]):
        for i in range(size):
            if left * tick - grid[i] <= 1e-9:
                value[i] = 0.0
                continue
            idle_at, idle_weight = below_idle[i], weight_idle[i]
            launch_at, launch_weight = below_launch[i], weight_launch[i]
            may_hold = grid[i] >= overhead + tick - 1e-9
            may_launch = grid[i] >= 2.0 * overhead + tick - 1e-9
            for j in range(joint):
                best = 1.0 + (1.0 - launch_weight) * expected[launch_at, 1, j]
                best += launch_weight * expected[launch_at + 1, 1, j]
                if may_hold:
                    idle = (1.0 - idle_weight) * expected[idle_at, 0, j]
                    idle += idle_weight * expected[idle_at + 1, 0, j]
                    best = min(best, idle)
                if may_launch:
                    for p in range(pools):
                        if up[p, j]:
                            spot = ratio[p] + (1.0 - launch_weight) * expected[launch_at, p + 2, j]
                            spot += launch_weight * expected[launch_at + 1, p + 2, j]
                            best = min(best, spot)
                value[i, 0, j] = best
                value[i, 1, j] = min(best, 1.0 + expected[i, 1, j])
                for p in range(pools):
                    held = best
                    if up[p, j] and may_hold:
                        held = min(best, ratio[p] + expected[i, p + 2, j])
                    value[i, p + 2, j] = held
        for i in range(size):
            _expect(step, value[i], expected[i], spare, pools)
        if slot[left] >= 0:
            for i in range(size):
                for place in range(places):
                    for j in range(joint):
                        out[slot[left], i, place, j] = value[i, place, j]
