"""Replay of recurring deadline jobs: a window holds as many runs as fit one after the other."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from optimizer.recommend.match import NamedMarket
from optimizer.recommend.services import World, stack_of_markets
from policies.registry import load_policy
from simulator.deadline import DeadlineJob
from simulator.deadline.batch import INTERRUPTIONS, DeadlineBatch
from simulator.deadline.observation import FIRST_SPOT, ON_DEMAND, FloatArray, IntArray
from simulator.deadline.optimum import clairvoyant_optimum
from simulator.deadline.stack import MarketStack

ROWS_AT_ONCE = 2000


@dataclass(frozen=True, eq=False)
class JobCase:
    """One recurring job and its windows.

    Attributes:
        markets: Markets of its pools.
        market: (N,) index into them.
        start: (N,) first tick of each window.
        runs: Runs in a window.
        period_ticks: Ticks from one run's begin to the next.
        job: Each run.
        on_demand_price: USD per instance-hour of the pools that the job was billed for.
        own: Those of the pools; empty = all.
    """

    markets: tuple[NamedMarket, ...]
    market: IntArray
    start: IntArray
    runs: int
    period_ticks: int
    job: DeadlineJob
    on_demand_price: float
    own: tuple[int, ...] = ()

    def part(self, which: IntArray) -> JobCase:
        """The same job over some of its windows."""
        return replace(self, market=self.market[which], start=self.start[which])


@dataclass(frozen=True, eq=False)
class JobOutcome:
    """What a policy did in N windows; arrays are (N,) unless said.

    Attributes:
        cost: USD, `lateness` included.
        lateness: USD of it for being done after the due time.
        egress: USD of the cost for copies between regions.
        on_demand: USD of the same runs on on-demand capacity; what commitments pay of it is not in it.
        on_demand_lateness: USD that these would cost for lateness.
        runs: Runs in each window.
        missed: Of them not done by their deadline.
        interruptions: Times that a run was interrupted.
        hours: (N, P + 1) instance-hours per pool and on-demand, there without committed instances.
    """

    cost: FloatArray
    lateness: FloatArray
    egress: FloatArray
    on_demand: FloatArray
    on_demand_lateness: FloatArray
    runs: FloatArray
    missed: FloatArray
    interruptions: FloatArray
    hours: FloatArray


def replay_job(case: JobCase, policy: str, world: World | None = None) -> JobOutcome:
    """Replay a policy over all runs of all windows; a run that several windows hold is replayed once.

    Raises:
        InputError: The policy is unknown, or the job cannot be kept in this world.
    """
    other = world or World()
    job = case.job
    stack = stack_of_markets(case.markets, other, job.terms)
    market, start, where = _runs(case)
    costs, late, copies, misses, broken = (np.zeros(len(start)) for _ in range(5))
    hours = np.zeros((len(start), stack.pools + 1))
    per_tick = np.full(stack.pools + 1, stack.tick_seconds / 3600.0 * job.nodes)
    per_tick[-1] -= stack.tick_seconds / 3600.0 * job.committed
    for first in range(0, len(start), ROWS_AT_ONCE):
        rows = slice(first, first + ROWS_AT_ONCE)
        batch = _begun(stack, case, market[rows], start[rows], other)
        decider = load_policy(policy)
        memory = decider.reset(batch.size, stack.pools)
        place = np.arange(batch.size)
        while not batch.done.all():
            seen = batch.observe()
            action, memory = decider.act(seen, memory)
            granted, running = batch.granted(action), ~batch.done
            if seen.varied:
                launched = np.flatnonzero(running & (granted >= FIRST_SPOT) & (granted != seen.placement))
                fees = seen.launch_usd[launched, granted[launched] - FIRST_SPOT]
                copies[rows][place[launched]] += fees
            for option, column in [(ON_DEMAND, stack.pools)] + [
                (FIRST_SPOT + p, p) for p in range(stack.pools)
            ]:
                hours[rows][place[running & (granted == option)], column] += per_tick[column]
            batch.step(action)
        costs[rows], late[rows], misses[rows] = batch.cost, batch.lateness, batch.missed
        broken[rows] = batch.counts[:, INTERRUPTIONS]
    base = _begun(_own_stack(case), case, market, start, other)
    while not base.done.all():
        base.step(np.full(base.size, ON_DEMAND, np.int64))
    return JobOutcome(
        cost=costs[where].sum(axis=1),
        lateness=late[where].sum(axis=1),
        egress=copies[where].sum(axis=1),
        on_demand=(base.cost - base.lateness)[where].sum(axis=1),
        on_demand_lateness=base.lateness[where].sum(axis=1),
        runs=np.full(len(case.start), float(case.runs)),
        missed=misses[where].sum(axis=1),
        interruptions=broken[where].sum(axis=1),
        hours=hours[where].sum(axis=1),
    )


def job_bound(case: JobCase) -> FloatArray:
    """(N,) USD of the clairvoyant optimum of every window's runs."""
    stack = stack_of_markets(case.markets, World(), case.job.terms)
    scale = _on_demand_scale(case)
    scaled = replace(stack, on_demand_price=stack.on_demand_price * scale[:, None])
    if stack.terms is not None:
        local = stack.terms.on_demand_price * scale[:, None, None]
        scaled = replace(scaled, terms=replace(stack.terms, on_demand_price=local))
    market, start, where = _runs(case)
    return np.asarray(clairvoyant_optimum(scaled, case.job, market, start)[where].sum(axis=1))


def _runs(case: JobCase) -> tuple[IntArray, IntArray, IntArray]:
    """Market and start of every different run, and (N, runs) which of them each window holds."""
    start = case.start[:, None] + case.period_ticks * np.arange(case.runs)
    market = np.broadcast_to(case.market[:, None], start.shape)
    pairs = np.stack([market.ravel(), start.ravel()], axis=1)
    unique, where = np.unique(pairs, axis=0, return_inverse=True)
    return unique[:, 0], unique[:, 1], where.reshape(start.shape)


def _own_stack(case: JobCase) -> MarketStack:
    """The pools that the job was billed for."""
    if not case.own:
        return stack_of_markets(case.markets, World())
    own = [replace(one, market=one.market.select(case.own)) for one in case.markets]
    return stack_of_markets(own, World())


def _on_demand_scale(case: JobCase) -> FloatArray:
    """(M,) factor on on-demand prices, so that those of the job's own pools are what was billed."""
    own = _own_stack(case)
    return np.asarray(case.on_demand_price / (own.on_demand_price.sum(axis=1) / own.ticks))


def _begun(
    stack: MarketStack, case: JobCase, market: IntArray, start: IntArray, world: World
) -> DeadlineBatch:
    job = case.job
    batch = DeadlineBatch(stack, len(start))
    batch.assign(
        np.arange(len(start)),
        market=market,
        start=start,
        work=job.work_seconds,
        deadline=job.deadline_seconds,
        restart_overhead=job.restart_overhead_seconds,
        checkpoint_interval=job.checkpoint_interval_seconds,
        nodes=job.nodes,
        committed=job.committed,
        due=job.due_or_deadline_seconds,
        lateness_price=job.lateness_usd_per_hour,
        spot_scale=world.spot_price,
        on_demand_scale=_on_demand_scale(case)[market],
    )
    return batch


def follow_job(case: JobCase, policy: str) -> tuple[IntArray, IntArray, IntArray]:
    """All runs of the first window, tick by tick.

    Returns:
        (T,) nodes that are needed while a run is not done, (P + 1, T) instances held per pool and on-demand,
        (T,) instances taken back.
    """
    stack = stack_of_markets(case.markets, World(), case.job.terms)
    ticks, nodes = case.runs * case.period_ticks, case.job.nodes
    demand, broken = np.zeros(ticks, np.int64), np.zeros(ticks, np.int64)
    held = np.zeros((stack.pools + 1, ticks), np.int64)
    for run in range(case.runs):
        first = run * case.period_ticks
        batch = _begun(stack, case, case.market[:1], case.start[:1] + first, World())
        decider = load_policy(policy)
        memory = decider.reset(1, stack.pools)
        tick = first
        while not batch.done[0] and tick < ticks:
            action, memory = decider.act(batch.observe(), memory)
            place = int(batch.granted(action)[0])
            demand[tick] = nodes
            if place >= FIRST_SPOT:
                held[place - FIRST_SPOT, tick] = nodes
            elif place == ON_DEMAND:
                held[-1, tick] = nodes
            before = int(batch.counts[0, INTERRUPTIONS])
            batch.step(action)
            if int(batch.counts[0, INTERRUPTIONS]) > before and tick + 1 < ticks:
                broken[tick + 1] = nodes
            tick += 1
    return demand, held, broken
