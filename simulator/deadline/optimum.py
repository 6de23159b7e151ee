"""The clairvoyant optimum: what a job would have cost had all availability and prices been known.

Every decision takes whole slack from the job: a launch takes one restart overhead d, an idle tick one
tick g, running takes none. So the state after t ticks is the slack lost so far and the placement, and the
lost slack lies on the lattice of gcd(g, d). A backward pass over (tick, lost slack, placement) is exact. The
slack lost in all also says when the job was done, and so what its lateness costs.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import ArrayLike, NDArray

from simulator.deadline.job import DeadlineJob
from simulator.deadline.observation import FloatArray, IntArray
from simulator.deadline.stack import MarketStack
from simulator.deadline.terms_optimum import optimum_under_terms
from simulator.errors import InputError

MAX_LATTICE = 8192
"""Finest lattice of lost slack. Overheads that need a finer one are rounded down: a lower bound."""


@dataclass(frozen=True, slots=True)
class SlackLattice:
    """Lost slack in whole units.

    Attributes:
        unit_seconds: Length of one unit; divides the tick.
        idle_units: Units one idle tick takes.
        launch_units: Units one launch takes.
        slack_units: Units that may be lost without missing the deadline.
        exact: False if the restart overhead had to be rounded down.
    """

    unit_seconds: float
    idle_units: int
    launch_units: int
    slack_units: int
    exact: bool

    @classmethod
    def of(cls, job: DeadlineJob, tick_seconds: int) -> SlackLattice:
        """The coarsest lattice that holds every reachable slack of `job` exactly, if it is small enough."""
        tick_ms = tick_seconds * 1000
        overhead_ms = round(job.restart_overhead_seconds * 1000)
        unit_ms = math.gcd(tick_ms, overhead_ms)
        exact = abs(overhead_ms - job.restart_overhead_seconds * 1000) < 1e-6
        if job.slack_seconds * 1000 / unit_ms > MAX_LATTICE:
            parts = max(int(MAX_LATTICE * tick_ms / (job.slack_seconds * 1000)), 1)
            unit = tick_seconds / parts
            exact = False
        else:
            unit = unit_ms / 1000
        return cls(
            unit_seconds=unit,
            idle_units=round(tick_seconds / unit),
            launch_units=int(job.restart_overhead_seconds / unit + 1e-9),
            slack_units=int(job.slack_seconds / unit + 1e-9),
            exact=exact,
        )


def clairvoyant_optimum(
    stack: MarketStack, job: DeadlineJob, market: ArrayLike, start: ArrayLike
) -> FloatArray:
    """Least cost at which the job can be kept in each window, USD.

    Args:
        stack: The markets; a job may use all their pools.
        job: The job. A checkpoint interval is not charged (work lost to interruptions is ignored),
            which keeps the result a lower bound.
        market: (N,) index into the stack.
        start: (N,) first tick of each window.

    Returns:
        (N,) USD, exact under the dynamics of `kernel.advance`; a lower bound if the job has a
        checkpoint interval or needs a lattice finer than `MAX_LATTICE` (with terms: `MAX_WORK_LATTICE`).

    Raises:
        InputError: The stack was made for other terms than the job's.
    """
    stack.refuse_other_terms(job)
    if stack.terms is not None:
        return optimum_under_terms(stack, stack.terms, job, market, start)
    starts = np.atleast_1d(np.asarray(start, np.int64))
    markets = np.broadcast_to(np.asarray(market, np.int64), starts.shape)
    lattice = SlackLattice.of(job, stack.tick_seconds)
    return np.array(
        [
            _solve_window(stack, job, int(m), int(s), lattice, _NO_CHOICES)
            for m, s in zip(markets, starts, strict=True)
        ]
    )


def clairvoyant_plan(stack: MarketStack, job: DeadlineJob, market: int, start: int) -> IntArray:
    """The actions of one cheapest schedule of a window.

    Returns:
        (ticks until the job is done,) actions: `IDLE`, `ON_DEMAND` or `FIRST_SPOT + p`.

    Raises:
        InputError: The job has terms.
    """
    if stack.terms is not None or job.terms is not None:
        raise InputError("no schedule is made for a job with throughputs or moves; its least cost is known")
    lattice = SlackLattice.of(job, stack.tick_seconds)
    capacity, _, _ = _window(stack, job, market, start)
    ticks, pools = capacity.shape[1], capacity.shape[0]
    choices = np.zeros((ticks, pools + 2, lattice.slack_units + 1), np.int8)
    _solve_window(stack, job, market, start, lattice, choices)
    actions: list[int] = []
    placement, lost = 0, 0
    for tick in range(ticks):
        if tick * stack.tick_seconds - lost * lattice.unit_seconds >= job.work_seconds - 1e-6:
            break
        if placement >= 2 and not capacity[placement - 2, tick]:
            placement = 0
        action = int(choices[tick, placement, lost])
        if action == 0:
            lost += lattice.idle_units
        elif action != placement:
            lost += lattice.launch_units
        placement = action
        actions.append(action)
    return np.array(actions, dtype=np.int64)


_NO_CHOICES = np.zeros((0, 0, 0), np.int8)


def _window(
    stack: MarketStack, job: DeadlineJob, market: int, start: int
) -> tuple[NDArray[np.bool_], FloatArray, FloatArray]:
    ticks = math.ceil(job.deadline_seconds / stack.tick_seconds - 1e-9)
    span = slice(start, start + ticks)
    hours = stack.tick_seconds / 3600
    return (
        stack.capacity[market, :, span] >= job.nodes,
        stack.spot_price[market, :, span] * hours * job.nodes,
        stack.on_demand_price[market, span] * hours * (job.nodes - job.committed),
    )


def _solve_window(
    stack: MarketStack,
    job: DeadlineJob,
    market: int,
    start: int,
    lattice: SlackLattice,
    choices: NDArray[np.int8],
) -> float:
    available, spot_cost, on_demand_cost = _window(stack, job, market, start)
    # the second in which a job is done is its work and the slack it lost
    lateness = [job.lateness_usd(lost * lattice.unit_seconds) for lost in range(lattice.slack_units + 1)]
    return float(
        _solve(
            available,
            spot_cost,
            on_demand_cost,
            np.array(lateness),
            job.work_seconds,
            lattice.unit_seconds,
            lattice.idle_units,
            lattice.launch_units,
            lattice.slack_units,
            choices,
        )
    )


@njit(cache=True, nogil=True)
def _solve(  # noqa: C901 - one compiled recursion; its branches are the choices of a tick
    available: NDArray[np.bool_],  # (P, T)
    spot_cost: FloatArray,  # (P, T) USD per tick
    on_demand_cost: FloatArray,  # (T,)
    lateness: FloatArray,  # (slack_units + 1,) USD, by slack lost when done
    work: float,
    unit: float,
    idle_units: int,
    launch_units: int,
    slack_units: int,
    choices: NDArray[np.int8],  # (T, P + 2, slack_units + 1), or empty if they are not wanted
) -> float:
    pools, ticks = available.shape
    tick_seconds = unit * idle_units
    size = slack_units + 1
    later = np.zeros((pools + 2, size))
    later[:] = lateness
    now = np.zeros((pools + 2, size))
    keep = choices.shape[0] > 0
    for t in range(ticks - 1, -1, -1):
        for lost in range(size):
            if t * tick_seconds - lost * unit >= work - 1e-6:
                for k in range(pools + 2):
                    now[k, lost] = lateness[lost]
                continue
            best = np.inf
            choice = 1
            if lost + idle_units < size:
                best = later[0, lost + idle_units]
                choice = 0
            if lost + launch_units < size:
                value = on_demand_cost[t] + later[1, lost + launch_units]
                if value < best:
                    best = value
                    choice = 1
                for p in range(pools):
                    if available[p, t]:
                        value = spot_cost[p, t] + later[2 + p, lost + launch_units]
                        if value < best:
                            best = value
                            choice = 2 + p
            now[0, lost] = best
            if keep:
                choices[t, 0, lost] = choice
            for k in range(1, pools + 2):
                stay = np.inf
                if k == 1:
                    stay = on_demand_cost[t] + later[1, lost]
                elif available[k - 2, t]:
                    stay = spot_cost[k - 2, t] + later[k, lost]
                now[k, lost] = min(best, stay)
                if keep:
                    choices[t, k, lost] = k if stay <= best else choice
        later, now = now, later
    return float(later[0, 0])
