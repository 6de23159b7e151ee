"""Exact dynamic programme over several pools: cost-to-go for each placement and joint phase of the pools.

Costs are in on-demand ticks, as in `policies.planner.tables`; placements are numbered as in `ground`.
"""

# ruff: noqa: C901 -- compiled: one argument per array, one loop nest per recursion

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numba import njit
from numpy.typing import NDArray

from policies.planner.several.phases import Phases
from policies.planner.several.problem import Problem
from simulator.deadline.observation import FloatArray, IntArray


@dataclass(frozen=True, eq=False)
class SeveralTables:
    """Expected cost before a decision, for one tick length, overhead and price ratio of each of P pools.

    Attributes:
        slack_minutes: (S,) entries along slack.
        levels: (L,) entries along ticks left.
        value: (L, S, G, J) float32, on-demand ticks, by placement (G = P + 2 where no move takes anything)
            and joint phase. Pool p's phase in joint phase j is j // M^p % M. A placement in a pool whose
            phase is down is an interrupted job.
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
    def solve(cls, phases: Phases, problem: Problem) -> SeveralTables:
        """Solve backwards from the deadline under the shield's rule; pools are taken to be independent."""
        layout = problem.layout()
        value = layout.table(phases.size ** len(problem.ratios))
        _solve(phases.step, phases.down, *layout.arrays, value)
        return cls(layout.slack_minutes, layout.levels, value)


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
    ratio: FloatArray,
    on_demand: FloatArray,  # (L,)
    location: IntArray,
    begins: IntArray,  # (H,)
    fee: FloatArray,  # (H, P)
    grid: FloatArray,
    lateness: FloatArray,
    slot: IntArray,
    idle_step: tuple[IntArray, FloatArray],
    on_demand_step: tuple[IntArray, FloatArray],
    hold_step: tuple[IntArray, FloatArray],  # (P, S)
    launch_step: tuple[IntArray, FloatArray],  # (H, P, S)
    holds: NDArray[np.bool_],
    launches: NDArray[np.bool_],  # (H, P, S)
    out: NDArray[np.float32],  # (L, S, G, J)
) -> None:
    pools, phases = ratio.shape[0], step.shape[0]
    locations, idles = on_demand.shape[0], begins.shape[0]
    first = idles + locations  # placement of the first pool
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
                value[i] = lateness[i]
                continue
            idle_at, idle_weight = idle_step[0][i], idle_step[1][i]
            to, weight = on_demand_step[0][i], on_demand_step[1][i]
            for h in range(idles):
                there = idles + begins[h]
                for j in range(joint):
                    best = on_demand[begins[h]] + (1.0 - weight) * expected[to, there, j]
                    best += weight * expected[to + 1, there, j]
                    if holds[i]:
                        idle = (1.0 - idle_weight) * expected[idle_at, h, j]
                        idle += idle_weight * expected[idle_at + 1, h, j]
                        best = min(best, idle)
                    value[i, h, j] = best
                for p in range(pools):
                    if not launches[h, p, i]:
                        continue
                    at, upper = launch_step[0][h, p, i], launch_step[1][h, p, i]
                    for j in range(joint):
                        if up[p, j]:
                            spot = ratio[p] + fee[h, p] + (1.0 - upper) * expected[at, first + p, j]
                            spot += upper * expected[at + 1, first + p, j]
                            value[i, h, j] = min(value[i, h, j], spot)
            for k in range(locations):
                for j in range(joint):
                    stay = on_demand[k] + expected[i, idles + k, j]
                    value[i, idles + k, j] = min(value[i, k, j], stay)
            for p in range(pools):
                at, upper = hold_step[0][p, i], hold_step[1][p, i]
                for j in range(joint):
                    held = value[i, location[p], j]
                    if up[p, j] and holds[i]:
                        stay = ratio[p] + (1.0 - upper) * expected[at, first + p, j]
                        held = min(held, stay + upper * expected[at + 1, first + p, j])
                    value[i, first + p, j] = held
        for i in range(size):
            _expect(step, value[i], expected[i], spare, pools)
        if slot[left] >= 0:
            for i in range(size):
                for place in range(places):
                    for j in range(joint):
                        out[slot[left], i, place, j] = value[i, place, j]
