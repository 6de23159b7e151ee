"""Dynamic programme over several pools of which only the occupied one is seen: a launch is a question.

What is believed of a pool that the job does not hold is one of C beliefs: it had no spot a while ago (`AGO`),
nothing, or it had spot lately. A launch that fails takes it back to the first and leaves the job where it is.
Costs are in on-demand ticks, as in `policies.planner.tables`.
"""

# ruff: noqa: C901 -- compiled: one argument per array, one loop nest per recursion

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numba import njit
from numpy.typing import NDArray

from policies.planner.several.phases import Phases
from policies.planner.several.problem import Problem
from policies.planner.several.tables import SeveralTables
from simulator.deadline.observation import FloatArray, IntArray

AGO_MINUTES = (0.0, 60.0)
"""Beliefs about a pool: it had no spot so long ago. Two more are nothing, and that it had some lately."""
BELIEFS = len(AGO_MINUTES) + 2
STEADIER = 0.5
"""Hazard of held pools over the mean hazard: those that a job comes to stay in are the steadier ones. With
the mean a job leaves on-demand too seldom when its deadline is near."""
IDLE_PREMIUM = 0.25
"""On-demand ticks that an idle tick counts as. Without it a job with much slack waits without asking."""
LATELY_MINUTES = 120.0
"""For how long a pool that was seen with spot is believed to be better than others."""


@dataclass(frozen=True, eq=False)
class Beliefs:
    """What may be believed of a pool that is not seen, from worst to best.

    Attributes:
        there: (C,) probability that it has spot now, increasing from 0.
        fresh: (C, U) phase that it will be found in if it has.
        lower: (C,) with `upper`: a tick later it is `lower + 1` with probability `upper`, else `lower`.
        upper: (C,) see `lower`.
    """

    there: FloatArray
    fresh: FloatArray
    lower: IntArray
    upper: FloatArray

    @classmethod
    def of(cls, phases: Phases, tick_minutes: float) -> Beliefs:
        """Beliefs about a pool with these phases, the first without spot."""
        ago = [minutes / tick_minutes for minutes in AGO_MINUTES]
        worst = np.eye(phases.size)[0]
        lately = phases.share * (np.arange(phases.size) > 0)
        rows = [worst @ np.linalg.matrix_power(phases.step, round(ticks)) for ticks in ago]
        rows += [phases.share, lately / lately.sum() @ phases.step]
        belief = np.array(rows)
        there = 1.0 - belief[:, 0]
        there[0] = 0.0
        fresh = belief[:, 1:] / np.maximum(belief[:, 1:].sum(axis=1, keepdims=True), 1e-12)
        # From each to the next worse-known one; nothing stays nothing, lately becomes nothing.
        pauses = np.diff([*ago, 2.0 * ago[-1] + 1.0])
        upper = np.append(1.0 / np.maximum(pauses, 1.0), [0.0, 1.0 - min(tick_minutes / LATELY_MINUTES, 1.0)])
        lower = np.minimum(np.arange(BELIEFS), BELIEFS - 2)
        return cls(np.maximum.accumulate(there), fresh, lower, upper)


def steadier(phases: Phases) -> Phases:
    """The phases with the hazards of those with spot times `STEADIER`."""
    step = phases.step.copy()
    spared = (1.0 - STEADIER) * step[1:, 0]
    step[1:, 0] -= spared
    step[1:, 1:] += np.diag(spared)
    return replace(phases, step=step)


def solve_unseen(phases: Phases, problem: Problem) -> SeveralTables:
    """Solve backwards from the deadline under the shield's rule; pools are taken to be independent.

    Args:
        phases: Phases of every pool, one of them without spot and at most C with it.
        problem: What is to be solved.

    Returns:
        Tables whose joint phase counts beliefs, C for each pool; in placement p the digit of pool p is its
        phase with spot instead, 0 the first.
    """
    layout = problem.layout()
    known = Beliefs.of(phases, problem.tick_minutes)
    value = layout.table(BELIEFS ** len(problem.ratios))
    _solve(phases.step, known.there, known.fresh, known.lower, known.upper, *layout.arrays, value)
    return SeveralTables(layout.slack_minutes, layout.levels, value, known.there)


@njit(cache=True, nogil=True)
def _age(
    value: FloatArray,  # (J,)
    size: int,
    lower: IntArray,
    upper: FloatArray,
    but: int,
    nor: int,
    out: FloatArray,  # (J,)
    spare: FloatArray,  # (J,)
) -> None:
    """Expected `value` after a tick goes by for the belief about each pool except two, into `out`."""
    joint = value.shape[0]
    source = value
    stride = 1
    into_out = True
    p = 0
    while stride < joint:
        if p != but and p != nor:
            target = out if into_out else spare
            for high in range(0, joint, stride * size):
                for low in range(stride):
                    base = high + low
                    for c in range(size):
                        at = base + lower[c] * stride
                        later = (1.0 - upper[c]) * source[at] + upper[c] * source[at + stride]
                        target[base + c * stride] = later
            source = target
            into_out = not into_out
        stride *= size
        p += 1
    if into_out:  # the last one went into the scratch array, or there was none
        out[:] = source


@njit(cache=True, nogil=True)
def _solve(
    step: FloatArray,  # (1 + U, 1 + U)
    belief: FloatArray,  # (C,)
    fresh: FloatArray,  # (C, U)
    lower: IntArray,
    upper: FloatArray,
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
    pools, phases, beliefs = ratio.shape[0], step.shape[0] - 1, belief.shape[0]
    size, places, joint = out.shape[1], out.shape[2], out.shape[3]
    idles = begins.shape[0]
    base = idles + on_demand.shape[0]  # placement of the first pool
    top = beliefs - 1
    value = np.zeros((size, places, joint))
    # Expected value a tick later: of waiting idle or on on-demand; of running in pool p, whose digit is its
    # phase; of having found it, the digit is the belief before; of staying in a placement after q had none.
    waited = np.zeros((size, base, joint))
    ran = np.zeros((size, pools, joint))
    found = np.zeros((size, pools, joint))
    stayed = np.zeros((size, places, pools, joint))
    stay = np.zeros(joint)
    lost = np.zeros(joint)
    spare = np.zeros(joint)
    digit = np.zeros((pools, joint), np.int64)
    stride = np.ones(pools, np.int64)
    for p in range(1, pools):
        stride[p] = stride[p - 1] * beliefs
    for p in range(pools):
        for j in range(joint):
            digit[p, j] = j // stride[p] % beliefs
    start = np.zeros((beliefs, phases + 1))  # where a pool that was just found is a tick later
    for c in range(beliefs):
        for h in range(phases):
            start[c] += fresh[c, h] * step[1 + h]
    for left in range(slot.shape[0]):
        for i in range(size):
            if left * tick - grid[i] <= 1e-9:
                value[i] = lateness[i]
                continue
            at, weight = on_demand_step[0][i], on_demand_step[1][i]
            idle_at, idle_weight = idle_step[0][i], idle_step[1][i]
            for place in range(places):
                own = place - base  # the pool that is held, if not negative
                home = location[own] if own >= 0 else (place if place < idles else place - idles)
                there = idles + begins[home]
                hold_at, hold_weight = 0, 0.0
                if own >= 0:
                    hold_at, hold_weight = hold_step[0][own, i], hold_step[1][own, i]
                for j in range(joint):
                    known = j  # what is believed by whoever lets go of the placement
                    if own >= 0:
                        if digit[own, j] >= phases:
                            continue
                        known = j + (top - digit[own, j]) * stride[own]
                    least = on_demand[begins[home]] + (1.0 - weight) * waited[at, there, known]
                    least += weight * waited[at + 1, there, known]
                    if idles <= place < base:
                        least = min(least, on_demand[home] + waited[i, place, j])
                    if holds[i]:
                        idle = IDLE_PREMIUM + (1.0 - idle_weight) * waited[idle_at, home, known]
                        idle += idle_weight * waited[idle_at + 1, home, known]
                        least = min(least, idle)
                        if own >= 0:
                            held = ratio[own] + (1.0 - hold_weight) * ran[hold_at, own, j]
                            least = min(least, held + hold_weight * ran[hold_at + 1, own, j])
                    for q in range(pools):
                        if own == q or not launches[home, q, i]:
                            continue
                        odds = belief[digit[q, j]]
                        to, rest = launch_step[0][home, q, i], launch_step[1][home, q, i]
                        cost = ratio[q] + fee[home, q] + (1.0 - rest) * found[to, q, known]
                        cost += rest * found[to + 1, q, known]
                        if odds < 1.0:
                            if place < idles:
                                none = IDLE_PREMIUM + (1.0 - idle_weight) * stayed[idle_at, place, q, j]
                                none += idle_weight * stayed[idle_at + 1, place, q, j]
                            elif own < 0:
                                none = on_demand[home] + stayed[i, place, q, j]
                            else:
                                none = ratio[own] + (1.0 - hold_weight) * stayed[hold_at, place, q, j]
                                none += hold_weight * stayed[hold_at + 1, place, q, j]
                            cost = odds * cost + (1.0 - odds) * none
                        least = min(least, cost)
                    value[i, place, j] = least
        for i in range(size):
            for place in range(base):
                _age(value[i, place], beliefs, lower, upper, -1, -1, waited[i, place], spare)
            for place in range(places):
                own = max(place - base, -1)
                for q in range(pools):
                    if own == q:
                        continue
                    _age(value[i, place], beliefs, lower, upper, own, q, stay, spare)
                    if own >= 0:
                        _age(value[i, location[own]], beliefs, lower, upper, own, q, lost, spare)
                    for j in range(joint):
                        if digit[q, j] > 0 or (own >= 0 and digit[own, j] >= phases):
                            continue
                        total = 0.0
                        for k in range(2):  # the grid's neighbours of what is believed of q a tick later
                            share = upper[0] if k == 1 else 1.0 - upper[0]
                            there = j + (lower[0] + k) * stride[q]
                            if own < 0:
                                total += share * stay[there]
                                continue
                            h = digit[own, j]
                            first = there - h * stride[own]
                            total += share * step[1 + h, 0] * lost[first]
                            for then in range(phases):
                                total += share * step[1 + h, 1 + then] * stay[first + then * stride[own]]
                        for c in range(beliefs):
                            stayed[i, place, q, j + c * stride[q]] = total
            for p in range(pools):
                _age(value[i, base + p], beliefs, lower, upper, p, -1, stay, spare)
                _age(value[i, location[p]], beliefs, lower, upper, p, -1, lost, spare)
                for j in range(joint):
                    if digit[p, j] > 0:
                        continue
                    for c in range(beliefs):
                        total = start[c, 0] * lost[j]
                        for then in range(phases):
                            total += start[c, 1 + then] * stay[j + then * stride[p]]
                        found[i, p, j + c * stride[p]] = total
                    for h in range(phases):
                        total = step[1 + h, 0] * lost[j]
                        for then in range(phases):
                            total += step[1 + h, 1 + then] * stay[j + then * stride[p]]
                        ran[i, p, j + h * stride[p]] = total
        if slot[left] >= 0:
            for i in range(size):
                for place in range(places):
                    for j in range(joint):
                        out[slot[left], i, place, j] = value[i, place, j]
