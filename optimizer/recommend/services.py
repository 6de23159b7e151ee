"""Replay of many services at once: workloads of equally many pools share one batch of windows."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
from numba import njit
from numpy.typing import NDArray

from optimizer.recommend.match import NamedMarket
from policies.protocol import Memory
from policies.registry import load_policy
from policies.service import ServicePolicy
from policies.service.static_mix import StaticMix
from simulator.deadline.observation import FloatArray, IntArray
from simulator.deadline.stack import MarketStack
from simulator.deadline.terms import PoolTerms
from simulator.service import Service, ServiceObservation
from simulator.service.batch import (
    AVAILABLE_TICKS,
    COUNTED_TICKS,
    INTERRUPTIONS,
    LAUNCHES,
    ServiceBatch,
)

ROWS_AT_ONCE = 1000
"""Most windows in a batch."""
ROWS_FOR_TWO = 400
"""With so many windows there are two batches, one for each core; with fewer Python would be most of it."""


@dataclass(frozen=True, eq=False)
class Case:
    """One service and its windows.

    Attributes:
        markets: Markets of its pools.
        market: (N,) index into them.
        start: (N,) first ticks.
        demand: (N, T) instances that no commitment covers.
        cold_start_ticks: Ticks D of a cold start; a loss that nobody had a reserve for costs D + 1.
        availability_target: Of the service.
        on_demand_price: USD per instance-hour.
        idle: (N,) share of a window in which the service needs nothing, committed instances included: such
            ticks say nothing of its availability. None: it always needs some.
    """

    markets: tuple[NamedMarket, ...]
    market: IntArray
    start: IntArray
    demand: IntArray
    cold_start_ticks: int
    availability_target: float
    on_demand_price: float
    idle: FloatArray | None = None

    @property
    def windows(self) -> int:
        """Number of windows N."""
        return len(self.start)

    def part(self, which: IntArray) -> Case:
        """The same service over some of its windows."""
        idle = None if self.idle is None else self.idle[which]
        return replace(
            self, market=self.market[which], start=self.start[which], demand=self.demand[which], idle=idle
        )


@dataclass(frozen=True, eq=False)
class World:
    """What is different from the recorded market.

    Attributes:
        spot_price: Factor on spot prices.
        more_interruptions: Whether the outages of another time are laid over those of each tick.
        without_pool: Pool that has no capacity.
        cold_start_ticks: In place of the case's.
        taken: Instances of each pool that somebody else has; empty for none.
    """

    spot_price: float = 1.0
    more_interruptions: bool = False
    without_pool: int | None = None
    cold_start_ticks: int | None = None
    taken: tuple[int, ...] = ()


@dataclass(frozen=True, eq=False)
class Outcome:
    """What a policy did in N windows; arrays are (N,) unless said.

    Attributes:
        cost: USD.
        on_demand: USD of the same demand on on-demand capacity.
        availability: Share of the ticks with a need at which the demand was ready.
        allowance: The same with on-demand capacity alone, asked for at the moment of need.
        interruptions: Instances taken back.
        launches: Instances launched.
        hours: (N, P + 1) instance-hours per pool and on-demand.
        asked: (N, P) most instances that were asked of each pool in a tick.
        held: (N, P) most that it granted.
    """

    cost: FloatArray
    on_demand: FloatArray
    availability: FloatArray
    allowance: FloatArray
    interruptions: FloatArray
    launches: FloatArray
    hours: FloatArray
    asked: IntArray
    held: IntArray

    @property
    def adjusted(self) -> FloatArray:
        """(N,) availability, less what on-demand capacity would have missed too; at most 1."""
        return np.minimum(self.availability + 1.0 - self.allowance, 1.0)

    @classmethod
    def join(cls, parts: Sequence[Outcome]) -> Outcome:
        """Windows of several outcomes, one after the other."""
        return cls(*(np.concatenate([getattr(p, name) for p in parts]) for name in cls.__dataclass_fields__))


@dataclass(frozen=True, eq=False)
class RowMix:
    """Static mixes, another one in each row: `StaticMix` with a base and a percentage per service.

    Attributes:
        base: (N,) on-demand instances in any case.
        percentage: (N,) on-demand percentage above the base.
    """

    base: IntArray
    percentage: IntArray
    name: str = "static-mix"

    def reset(self, services: int, pools: int) -> Memory:
        """As of the mix without on-demand."""
        return StaticMix(0).reset(services, pools)

    def act(self, observation: ServiceObservation, memory: Memory) -> tuple[IntArray, Memory]:
        """Keep every row's mix."""
        base = np.minimum(self.base, observation.demand)
        on_demand = base - (-(observation.demand - base) * self.percentage // 100)
        asked, after = StaticMix(0).act(replace(observation, demand=observation.demand - on_demand), memory)
        asked[:, -1] = on_demand
        return asked, after


PolicyOf = Callable[[IntArray], ServicePolicy]
"""From the numbers of cases of the rows of a batch, (N,), to the policy that decides for them."""


def replay_cases(
    cases: Sequence[Case],
    policy_of: PolicyOf,
    world: Sequence[World] | None = None,
    *,
    run: Callable[[Sequence[Callable[[], None]]], None],
) -> list[Outcome]:
    """Replay one policy for every case over all its windows.

    Args:
        cases: The services.
        policy_of: Makes the policy of a batch.
        world: One for each case; None for the recorded ones.
        run: Runs the batches, maybe several at a time.

    Returns:
        One outcome per case.
    """
    worlds = [World()] * len(cases) if world is None else list(world)
    found: list[list[Outcome | None]] = [[] for _ in cases]
    tasks: list[Callable[[], None]] = []
    for group in _batches(cases):
        slots = []
        for number, _ in group:
            slots.append((number, len(found[number])))
            found[number].append(None)
        tasks.append(_Task(cases, worlds, group, slots, policy_of, found))
    run(tasks)
    return [Outcome.join([part for part in parts if part is not None]) for parts in found]


@dataclass(frozen=True, eq=False)
class _Task:
    cases: Sequence[Case]
    worlds: Sequence[World]
    group: list[tuple[int, IntArray]]
    slots: list[tuple[int, int]]
    policy_of: PolicyOf
    found: list[list[Outcome | None]]

    def __call__(self) -> None:
        parts = [self.cases[number].part(rows) for number, rows in self.group]
        worlds = [self.worlds[number] for number, _ in self.group]
        numbers = np.repeat([number for number, _ in self.group], [p.windows for p in parts])
        outcome = run_batch(parts, worlds, self.policy_of(numbers))
        for (number, slot), own in zip(self.slots, split_outcome(outcome, parts), strict=True):
            self.found[number][slot] = own


def split_outcome(outcome: Outcome, parts: Sequence[Case]) -> list[Outcome]:
    """The outcome of each part of a batch."""
    edges = np.cumsum([0] + [part.windows for part in parts])
    names = Outcome.__dataclass_fields__
    return [Outcome(*(getattr(outcome, name)[low:high] for name in names)) for low, high in pairwise(edges)]


def _batches(cases: Sequence[Case]) -> list[list[tuple[int, IntArray]]]:
    """Windows of cases of one tick, number of pools and length together, in batches of one size."""
    groups: dict[tuple[int, int, int], list[int]] = {}
    for number, case in enumerate(cases):
        market = case.markets[0].market
        key = (market.tick_seconds, len(market.pools), case.demand.shape[1])
        groups.setdefault(key, []).append(number)
    batches: list[list[tuple[int, IntArray]]] = []
    for members in groups.values():
        most = _fair_size(sum(cases[number].windows for number in members))
        room = 0
        for number in members:
            rows = np.arange(cases[number].windows)
            while len(rows):
                if room == 0:
                    batches.append([])
                    room = most
                batches[-1].append((number, rows[:room]))
                room, rows = room - len(rows[:room]), rows[room:]
    return batches


def _fair_size(windows: int) -> int:
    """Windows in a batch, so that there is an even number of batches of one size."""
    if windows < ROWS_FOR_TWO:
        return windows
    pairs = math.ceil(windows / (2 * ROWS_AT_ONCE))
    return math.ceil(windows / (2 * pairs))


def run_batch(
    parts: Sequence[Case], worlds: Sequence[World], policy: ServicePolicy, group: IntArray | None = None
) -> Outcome:
    """Replay all windows of all parts in one batch; rows of one group share capacity."""
    stack, first = stack_of(parts, worlds)
    services: list[Service] = []
    market: list[IntArray] = []
    for part, world, offset in zip(parts, worlds, first, strict=True):
        cold = part.cold_start_ticks if world.cold_start_ticks is None else world.cold_start_ticks
        tick = stack.tick_seconds
        services += [Service(row, tick, part.availability_target, float(cold * tick)) for row in part.demand]
        market.append(part.market + offset)
    start = np.concatenate([part.start for part in parts])
    batch = ServiceBatch(stack, services, np.concatenate(market), start, group=group)
    sizes = [part.windows for part in parts]
    listed = np.repeat([part.on_demand_price for part in parts], sizes)
    batch.spot_scale[:] = np.repeat([world.spot_price for world in worlds], sizes)
    mean = stack.on_demand_price.sum(axis=1) / stack.ticks
    batch.on_demand_scale[:] = listed / mean[batch.market]
    hours = np.zeros((batch.size, stack.pools + 1))
    most, held = np.zeros((2, batch.size, stack.pools), np.int64)
    memory = policy.reset(batch.size, stack.pools)
    while not batch.done.all():
        seen = batch.observe()
        hours += seen.granted
        np.maximum(held, seen.granted[:, :-1], out=held)
        asked, memory = policy.act(seen, memory)
        np.maximum(most, asked[:, :-1], out=most)
        batch.step(asked)
    last = batch.observe().granted
    hours += last
    counted = np.maximum(batch.counts[:, COUNTED_TICKS], 1)
    lags = np.array(
        [_ticks_short(row, int(cold)) for row, cold in zip(batch.demand, batch.cold_start, strict=True)]
    )
    short = counted - batch.counts[:, AVAILABLE_TICKS]
    idle = np.concatenate([np.zeros(part.windows) if part.idle is None else part.idle for part in parts])
    needed = np.maximum(counted * (1.0 - idle), 1.0)
    return Outcome(
        cost=batch.cost,
        on_demand=batch.on_demand_cost(),
        availability=1.0 - np.minimum(short / needed, 1.0),
        allowance=1.0 - np.minimum(lags / needed, 1.0),
        interruptions=batch.counts[:, INTERRUPTIONS].astype(np.float64),
        launches=batch.counts[:, LAUNCHES].astype(np.float64),
        hours=hours * (stack.tick_seconds / 3600.0),
        asked=most,
        held=np.maximum(held, last[:, :-1]),
    )


def stack_of(parts: Sequence[Case], worlds: Sequence[World]) -> tuple[MarketStack, IntArray]:
    """The markets of all parts, changed as their worlds say, and where those of each part begin."""
    made: dict[tuple[object, ...], int] = {}
    stacks: list[MarketStack] = []
    first: list[int] = []
    for part, world in zip(parts, worlds, strict=True):
        key = (
            *(id(m.market) for m in part.markets),
            world.more_interruptions,
            world.without_pool,
            world.taken,
        )
        if key not in made:
            made[key] = sum(len(one.ticks) for one in stacks)
            stacks.append(stack_of_markets(part.markets, world))
        first.append(made[key])
    return MarketStack.join(stacks), np.array(first, np.int64)


def stack_of_markets(
    markets: Sequence[NamedMarket], world: World, terms: PoolTerms | None = None
) -> MarketStack:
    """The markets for jobs with these terms, changed as a world says."""
    return MarketStack.join([_changed(MarketStack.of([m.market], terms), world) for m in markets])


def _changed(stack: MarketStack, world: World) -> MarketStack:
    """A stack of one market in another world."""
    capacity = stack.capacity
    if world.more_interruptions:
        # Outages of half the market later fall on each tick too: twice as many, and twice the time without.
        capacity = np.minimum(capacity, np.roll(capacity, capacity.shape[2] // 2, axis=2))
    if world.without_pool is not None:
        capacity = capacity.copy()
        capacity[:, world.without_pool] = 0
    if world.taken:
        capacity = np.maximum(capacity - np.array(world.taken, np.int32)[:, None], 0)
    return replace(stack, capacity=capacity)


def bound(case: Case) -> FloatArray:
    """(N,) USD that no plan which keeps the target can be below: everything known, cold starts not charged.

    Without cold starts ticks do not depend on one another: each is served from the cheapest capacity, and as
    many of the dearest ticks as the target allows, of those with a need, are not served at all.
    """
    stack, _ = stack_of([case], [World()])
    price = (
        stack.on_demand_price
        * (case.on_demand_price / (stack.on_demand_price.sum(axis=1) / stack.ticks))[:, None]
    )
    needed = case.demand.shape[1] * (1.0 - (np.zeros(case.windows) if case.idle is None else case.idle))
    missed = np.floor(needed * (1.0 - case.availability_target) + 1e-9).astype(np.int64)
    capacity, spot = stack.by_tick
    cost = np.zeros(case.windows)
    _bound(capacity, spot, price, case.market, case.start, case.demand, missed, cost)
    return cost * (stack.tick_seconds / 3600.0)


@njit(cache=True, nogil=True)
def _bound(
    capacity: NDArray[np.int32],  # (M, T, P)
    spot_price: FloatArray,  # (M, T, P)
    on_demand_price: FloatArray,  # (M, T)
    market: IntArray,
    start: IntArray,
    demand: IntArray,  # (N, T)
    missed: IntArray,
    cost: FloatArray,  # (N,), written
) -> None:
    ticks, pools = demand.shape[1], capacity.shape[2]
    paid = np.zeros(ticks)
    for i in range(len(start)):
        for k in range(ticks):
            t = start[i] + k
            order = np.argsort(spot_price[market[i], t])
            left, total = demand[i, k], 0.0
            for j in range(pools):
                p = order[j]
                if left > 0 and spot_price[market[i], t, p] < on_demand_price[market[i], t]:
                    taken = min(left, np.int64(capacity[market[i], t, p]))
                    total += taken * spot_price[market[i], t, p]
                    left -= taken
            paid[k] = total + left * on_demand_price[market[i], t]
        cost[i] = np.sort(paid)[: ticks - missed[i]].sum()


@njit(cache=True, nogil=True)
def _ticks_short(demand: IntArray, cold: int) -> int:
    """Counted ticks at which on-demand capacity asked for at the moment of need is not ready yet."""
    short = 0
    for t in range(cold, len(demand)):
        for k in range(1, cold + 1):
            if demand[t - k] < demand[t]:
                short += 1
                break
    return short


def follow(case: Case, policy: str) -> tuple[IntArray, IntArray, IntArray]:
    """The first window, tick by tick.

    Returns:
        (T,) demand, (P + 1, T) instances held per pool and on-demand, (T,) instances taken back.
    """
    stack = stack_of_markets(case.markets, World())
    service = Service(
        case.demand[0],
        stack.tick_seconds,
        case.availability_target,
        float(case.cold_start_ticks * stack.tick_seconds),
    )
    batch = ServiceBatch(stack, service, case.market[:1], case.start[:1])
    batch.on_demand_scale[:] = (
        case.on_demand_price / (stack.on_demand_price.sum(axis=1) / stack.ticks)[batch.market]
    )
    decider = load_policy(policy, "service")
    memory = decider.reset(1, stack.pools)
    held = np.zeros((stack.pools + 1, service.ticks), np.int64)
    broken = np.zeros(service.ticks, np.int64)
    for tick in range(service.ticks):
        asked, memory = decider.act(batch.observe(), memory)
        before = int(batch.counts[0, INTERRUPTIONS])
        batch.step(asked)
        held[:, tick] = batch.observe().granted[0]
        broken[tick] = int(batch.counts[0, INTERRUPTIONS]) - before
    return np.array(service.demand), held, broken
