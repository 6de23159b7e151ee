"""Throughputs and moves: the kernel against the rules in plain Python, the optimum against all schedules."""

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cache
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulator.deadline import FIRST_SPOT, IDLE, ON_DEMAND, DeadlineBatch, DeadlineJob, MarketStack
from simulator.deadline.optimum import clairvoyant_optimum, clairvoyant_plan
from simulator.deadline.replay import Windows
from simulator.deadline.terms import NOWHERE, Move, PoolTerms
from simulator.errors import InputError
from simulator.market import Market, Pool

TICK = 600
REGIONS = ("east", "west", "south")


def market(capacity: Any, price: Any, on_demand: Any, regions: tuple[str, ...]) -> Market:
    pools = [Pool("p", region, f"{region}-{k}", f"type{k % 2}") for k, region in enumerate(regions)]
    return Market.build(
        pools,
        tick_seconds=TICK,
        start=datetime(2024, 1, 1, tzinfo=UTC),
        spot_price=price,
        spot_capacity=capacity,
        on_demand_price=on_demand,
    )


@dataclass(frozen=True)
class State:
    tick: int = 0
    left: float = 0.0
    place: int = IDLE
    pending: float = 0.0
    home: str | None = None


@dataclass(frozen=True, eq=False)
class World:
    """One job by the words of `PoolTerms`; work in seconds at throughput 1."""

    job: DeadlineJob
    market: Market

    @property
    def terms(self) -> PoolTerms:
        assert self.job.terms is not None
        return self.job.terms

    def first(self) -> State:
        return State(left=self.job.work_seconds, home=self.terms.data_region)

    def up(self, pool: int, tick: int) -> bool:
        return bool(self.market.spot_capacity[pool, tick] >= self.job.nodes)

    def on_demand(self, region: str | None, tick: int) -> float:
        """On-demand price per instance: the cheapest type in a region that is fast enough, or the fastest."""
        pools = [k for k, pool in enumerate(self.market.pools) if pool.region == region]
        fast = [
            k for k in pools if self.terms.of_pool(self.market.pools[k]) >= self.terms.on_demand_throughput
        ]
        best = max(self.terms.of_pool(self.market.pools[k]) for k in pools)
        fast = fast or [k for k in pools if self.terms.of_pool(self.market.pools[k]) == best]
        return float(min(self.market.on_demand_price[k, tick] for k in fast))

    def act(self, state: State, action: int) -> tuple[State, float, float | None]:
        """The state before the next decision, USD of the tick, and the second in which the job was done."""
        t = state.tick
        began = t * TICK
        if action >= FIRST_SPOT and not self.up(action - FIRST_SPOT, t):
            action = IDLE
        if action == IDLE:
            return replace(state, tick=t + 1, place=IDLE, pending=0.0), 0.0, None
        home, pending, usd = state.home, state.pending, 0.0
        regions = sorted({pool.region for pool in self.market.pools}, key=self.order)
        target = home if action == ON_DEMAND else self.market.pools[action - FIRST_SPOT].region
        if action != state.place:
            if target is None:
                target = min(regions, key=lambda region: self.on_demand(region, t))
            home = home or target
            seconds, usd = self.terms.between(home, target)
            pending = self.job.restart_overhead_seconds + seconds
        if action == ON_DEMAND:
            price = self.on_demand(home, t) * (self.job.nodes - self.job.committed)
            speed = self.terms.on_demand_throughput
        else:
            price = self.market.spot_price[action - FIRST_SPOT, t] * self.job.nodes
            speed = self.terms.of_pool(self.market.pools[action - FIRST_SPOT])
        span = min(TICK, self.job.deadline_seconds - began)
        done = began + pending + state.left / speed
        left = state.left - speed * max(span - pending, 0.0)
        pending = max(pending - TICK, 0.0)
        if pending == 0.0:
            home = target
        usd += price * TICK / 3600
        if left <= 1e-6:
            return State(t + 1, 0.0, action, 0.0, home), usd, done
        goes_on = began + TICK < self.job.deadline_seconds
        if action >= FIRST_SPOT and goes_on and not self.up(action - FIRST_SPOT, t + 1):
            action, pending = IDLE, 0.0
        return State(t + 1, left, action, pending, home), usd, None

    def order(self, region: str) -> int:
        return [pool.region for pool in self.market.pools].index(region)

    def least_cost(self) -> float:
        """Over all schedules, by recursion."""
        ticks = int(np.ceil(self.job.deadline_seconds / TICK - 1e-9))

        @cache
        def go(state: State) -> float:
            if state.tick == ticks:
                return np.inf
            costs = []
            for action in range(len(self.market.pools) + 2):
                if action >= FIRST_SPOT and not self.up(action - FIRST_SPOT, state.tick):
                    continue
                then, usd, done = self.act(state, action)
                if done is not None:
                    late = max(done - self.job.due_or_deadline_seconds, 0.0)
                    costs.append(usd + late / 3600 * self.job.lateness_usd_per_hour)
                else:
                    costs.append(usd + go(replace(then, left=round(then.left, 6))))
            return min(costs)

        return go(self.first())


@st.composite
def worlds(draw: st.DrawFn, most_ticks: int) -> World:
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    pools = draw(st.integers(1, 3))
    regions = tuple(str(rng.choice(REGIONS)) for _ in range(pools))
    ticks = int(rng.integers(2, most_ticks + 1))
    built = market(
        (rng.random((pools, ticks)) < 0.75) * rng.integers(1, 4, (pools, ticks)),
        rng.choice([0.5, 0.7, 1.1, 2.0], (pools, ticks)),
        rng.choice([2.0, 2.5, 3.0], pools),
        regions,
    )
    there = sorted(set(regions))
    pairs = [(a, b) for a in there for b in there if a != b and rng.random() < 0.5]
    costs = rng.random() < 0.8
    terms = PoolTerms(
        throughput=tuple((pool.name, float(rng.choice([0.6, 0.75, 1.0, 1.4]))) for pool in built.pools),
        on_demand_throughput=float(rng.choice([0.8, 1.0, 1.0, 1.25])),
        move_seconds=float(rng.choice([0, 60, 300, 900])) if costs else 0.0,
        move_usd=float(rng.choice([0.0, 0.05, 0.4])) if costs else 0.0,
        moves=tuple(
            Move(a, b, float(rng.choice([0, 240, 1300])), float(rng.choice([0, 0.1]))) for a, b in pairs
        )
        if costs
        else (),
        data_region=str(rng.choice(there)) if rng.random() < 0.5 else None,
    )
    overhead = float(rng.choice([0, 120, 600, 840]))
    deadline = float(rng.choice([ticks * TICK, ticks * TICK - 240]))
    most = (deadline - overhead) * terms.on_demand_throughput
    if most < 60:
        overhead, most = 0.0, deadline * terms.on_demand_throughput
    nodes = int(rng.integers(1, 3))
    due = deadline * float(rng.choice([0.5, 0.8, 1.0]))
    return World(
        DeadlineJob(
            max(round(most * rng.uniform(0.2, 1.0) / 60) * 60.0 - 60.0, 60.0),
            deadline,
            overhead,
            nodes=nodes,
            committed=int(rng.integers(0, nodes)),
            due_seconds=due,
            lateness_usd_per_hour=float(rng.choice([0.0, 1.0, 6.0])),
            terms=terms,
        ),
        built,
    )


@given(worlds(40), st.integers(0, 2**32 - 1), st.sampled_from([0.0, 0.7, 0.95]))
@settings(max_examples=300, deadline=None)
def test_every_tick_is_as_the_rules_say(world: World, seed: int, persistence: float) -> None:
    job, rng = world.job, np.random.default_rng(seed)
    assert job.terms is not None
    batch = DeadlineBatch.of(MarketStack.of([world.market], job.terms), job, 0, 0)
    regions = list(dict.fromkeys(pool.region for pool in world.market.pools))
    state, total, done, action = world.first(), 0.0, None, IDLE
    while not batch.done[0]:
        seen = batch.observe()
        on_demand = job.terms.on_demand_throughput
        assert seen.work_left[0] == pytest.approx(state.left / on_demand)
        assert seen.placement[0] == state.place
        assert seen.pending_overhead[0] == pytest.approx(state.pending)
        for p, pool in enumerate(world.market.pools):
            assert seen.throughput[0, p] == pytest.approx(job.terms.of_pool(pool) / on_demand)
            seconds, usd = job.terms.between(state.home or pool.region, pool.region)
            assert (seen.launch_extra[0, p], seen.launch_usd[0, p]) == (seconds, usd)
        if job.terms.moves_cost and len(regions) > 1:
            assert seen.home[0] == (NOWHERE if state.home is None else regions.index(state.home))
            if state.home is not None:
                price = world.on_demand(state.home, state.tick) * (job.nodes - job.committed)
                assert seen.on_demand_price[0] == pytest.approx(price)
        elif len(regions) > 1:
            state = replace(state, home=world.first().home)
        action = action if rng.random() < persistence else int(rng.integers(0, len(world.market.pools) + 2))
        if not job.terms.moves_cost and len(regions) > 1 and action == ON_DEMAND:
            action = IDLE  # there the price is the lowest of all regions, which `World` does not say
        bill = batch.step(np.array([action]))[0]
        lateness = batch.lateness[0]
        state, usd, done = world.act(state, action)
        total += usd
        assert batch.cost[0] - lateness == pytest.approx(total)
        assert bill >= usd - 1e-9
    assert batch.missed[0] == (done is None)
    end = job.deadline_seconds if done is None else done
    late = max(end - job.due_or_deadline_seconds, 0.0) / 3600 * job.lateness_usd_per_hour
    assert batch.lateness[0] == pytest.approx(late, abs=1e-9)


@given(worlds(7))
@settings(max_examples=150, deadline=None)
def test_the_optimum_is_the_least_cost_of_all_schedules(world: World) -> None:
    job = world.job
    assert job.terms is not None
    if not job.terms.moves_cost and len({pool.region for pool in world.market.pools}) > 1:
        job = replace(job, terms=replace(job.terms, move_usd=1e-12))  # told apart, though moves are free
        world = replace(world, job=job)
    stack = MarketStack.of([world.market], job.terms)
    assert clairvoyant_optimum(stack, job, 0, 0)[0] == pytest.approx(world.least_cost(), abs=1e-8)


@given(
    seed=st.integers(0, 2**32 - 1),
    pools=st.integers(1, 3),
    overhead=st.sampled_from([0, 3, 12, 25]),
    lateness=st.sampled_from([0.0, 2.0]),
)
@settings(max_examples=40, deadline=None)
def test_terms_that_say_nothing_change_nothing(seed: int, pools: int, overhead: int, lateness: float) -> None:
    rng = np.random.default_rng(seed)
    built = market(
        (np.cumsum(rng.random((pools, 120)) < 0.2, axis=1) % 2).astype(int),
        rng.uniform(0.3, 1.0, pools),
        3.0,
        REGIONS[:pools],
    )
    plain = DeadlineJob(
        11 * 3600, 15 * 3600, 60.0 * overhead, due_seconds=13 * 3600.0, lateness_usd_per_hour=lateness
    )
    job = replace(plain, terms=PoolTerms())
    stacks = MarketStack.of([built]), MarketStack.of([built], PoolTerms())
    starts = [0, 17]
    least = [
        clairvoyant_optimum(stack, each, 0, starts) for stack, each in zip(stacks, (plain, job), strict=True)
    ]
    np.testing.assert_allclose(least[0], least[1], rtol=1e-12)
    one, other = (
        DeadlineBatch.of(stack, each, 0, starts) for stack, each in zip(stacks, (plain, job), strict=True)
    )
    while not one.done.all():
        action = rng.integers(0, pools + 2, 2)
        one.step(action)
        other.step(action)
        for name in ("cost", "work_left", "placement", "pending", "done", "missed"):
            np.testing.assert_array_equal(getattr(one, name), getattr(other, name))


def test_data_arrive_when_the_job_begins_to_work_and_not_before() -> None:
    capacity = np.ones((2, 60), int)
    capacity[1, 2] = 0
    terms = PoolTerms(move_seconds=900.0, move_usd=2.0, data_region="east")
    job = DeadlineJob(4 * 3600, 8 * 3600, 600.0, terms=terms)
    batch = DeadlineBatch.of(
        MarketStack.of([market(capacity, 1.0, [3.0, 2.5], ("east", "west"))], terms), job, 0, 0
    )
    assert batch.observe().on_demand_price[0] == 3.0  # where the data are, though west is cheaper
    west = np.array([FIRST_SPOT + 1])
    batch.step(west)
    batch.step(west)  # 300 s are pending when it is interrupted
    assert batch.placement[0] == IDLE
    assert batch.home[0] == 0
    assert batch.observe().launch_usd[0].tolist() == [0.0, 2.0]
    batch.step(np.array([IDLE]))
    for _ in range(3):
        batch.step(west)
    assert batch.home[0] == 1
    assert batch.cost[0] == pytest.approx(2 * 2.0 + 5 / 6)
    seen = batch.observe()
    assert seen.work_left[0] == 4 * 3600 - 300
    assert seen.on_demand_price[0] == 2.5
    assert seen.launch_extra[0].tolist() == [900.0, 0.0]


def test_slow_on_demand_counts_work_in_its_own_seconds_and_is_bought_where_it_is_fast_enough() -> None:
    terms = PoolTerms(throughput=(("type0", 0.5), ("p/east-2/type0", 2.0)), on_demand_throughput=0.8)
    job = DeadlineJob(8 * 3600, 11 * 3600, terms=terms)
    assert job.slack_seconds == pytest.approx(3600.0)
    with pytest.raises(InputError, match="infeasible"):
        replace(job, terms=replace(terms, on_demand_throughput=0.7))
    built = market(np.ones((3, 80), int), 1.0, [1.0, 2.5, 2.0], ("east",) * 3)
    batch = DeadlineBatch.of(MarketStack.of([built], terms), job, 0, 0)
    seen = batch.observe()
    assert seen.on_demand_price[0] == 2.0  # the pool at 1.0 is too slow
    np.testing.assert_allclose(seen.throughput[0], [0.625, 1.25, 2.5])
    np.testing.assert_allclose(seen.price_of_work[0], [1.6, 0.8, 0.4])


def test_state_and_restore_keep_where_the_data_are() -> None:
    terms = PoolTerms(throughput=(("type1", 0.7),), move_seconds=400.0, move_usd=0.3)
    job = DeadlineJob(4 * 3600, 8 * 3600, 600.0, terms=terms)
    rng = np.random.default_rng(0)
    built = market(rng.integers(0, 2, (3, 100)), 1.0, 3.0, REGIONS)
    stack = MarketStack.of([built], terms)
    once, again = (DeadlineBatch.of(stack, job, [0, 0], [0, 7]) for _ in range(2))
    for action in rng.integers(0, 5, (9, 2)):
        once.step(action)
    again.restore(once.state())
    for action in rng.integers(0, 5, (20, 2)):
        for batch in (once, again):
            batch.step(action)
        for name in ("home", "cost", "work_left"):
            np.testing.assert_array_equal(getattr(once, name), getattr(again, name))


def test_markets_with_different_regions_are_stacked() -> None:
    terms = PoolTerms(move_seconds=300.0, move_usd=1.0)
    job = DeadlineJob(4 * 3600, 8 * 3600, 600.0, terms=terms)
    one = market(np.ones((2, 100), int), [[0.5], [0.4]], [3.0, 2.0], ("east", "west"))
    two = market(np.ones((2, 60), int), [[0.5], [0.4]], [3.0, 2.0], ("east", "east"))
    both = Windows.join([Windows.all_pools(m, job, 500, name) for m, name in ((one, "1"), (two, "2"))])
    together = clairvoyant_optimum(both.stack, job, [0, 1], [0, 0])
    alone = [clairvoyant_optimum(MarketStack.of([m], terms), job, 0, 0)[0] for m in (one, two)]
    np.testing.assert_allclose(together, alone)
    seen = DeadlineBatch.of(both.stack, job, [0, 1], [0, 0]).observe()
    assert seen.home.tolist() == [NOWHERE, 0]
    assert seen.on_demand_price.tolist() == [2.0, 2.0]


def test_work_that_needs_too_fine_a_lattice_gives_a_lower_bound_close_by() -> None:
    rng = np.random.default_rng(5)
    built = market(
        (np.cumsum(rng.random((2, 200)) < 0.1, axis=1) % 2).astype(int), [[0.8], [1.0]], 3.0, REGIONS[:2]
    )

    def least(factor: float) -> float:
        terms = PoolTerms(throughput=(("type1", factor),), move_seconds=600.0, move_usd=0.2)
        job = DeadlineJob(24 * 3600, 30 * 3600, 180.0, terms=terms)
        return float(clairvoyant_optimum(MarketStack.of([built], terms), job, 0, 0)[0])

    exact, near = least(1.25), least(1.2500007)
    assert 0.99 * exact < near <= exact + 1e-9


@pytest.mark.parametrize(
    ("terms", "message"),
    [
        ({"throughput": (("a", 0.0),)}, "throughput of a is 0.0; accepted: 0.01 to 100"),
        ({"throughput": (("a", 1.0), ("a", 1.0))}, "throughput of a is given twice"),
        ({"on_demand_throughput": float("nan")}, "throughput of on-demand is nan"),
        ({"move_seconds": -1.0}, "any region to another: -1.0 s; accepted: 0 or more"),
        ({"moves": (Move("a", "b", 1.0, float("inf")),)}, "from a to b: inf USD"),
        ({"moves": (Move("a", "a", 1.0, 1.0),)}, "from a to itself"),
        ({"moves": (Move("a", "b", 1.0, 1.0),) * 2}, "move a to b is given twice"),
    ],
)
def test_terms_out_of_range_are_refused(terms: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        PoolTerms(**terms)


@pytest.mark.parametrize(
    ("terms", "message"),
    [
        (PoolTerms(throughput=(("g5", 1.0),)), "throughput of g5: no such pool or instance type"),
        (PoolTerms(moves=(Move("east", "mars", 1.0, 1.0),)), "region mars: no pool is there"),
        (PoolTerms(move_usd=1.0, data_region="mars"), "data in region mars: no pool is there"),
    ],
)
def test_names_that_no_market_has_are_refused(terms: PoolTerms, message: str) -> None:
    with pytest.raises(InputError, match=message):
        MarketStack.of([market(np.ones((2, 9), int), 1.0, 3.0, REGIONS[:2])], terms)


def test_terms_are_never_ignored() -> None:
    built = market(np.ones((2, 60), int), 1.0, 3.0, REGIONS[:2])
    job = DeadlineJob(4 * 3600, 8 * 3600, terms=PoolTerms(move_usd=1.0))
    for stack, each in (
        (MarketStack.of([built]), job),
        (MarketStack.of([built], job.terms), replace(job, terms=None)),
    ):
        with pytest.raises(InputError, match="stacked for other terms"):
            DeadlineBatch.of(stack, each, 0, 0)
        with pytest.raises(InputError, match="stacked for other terms"):
            clairvoyant_optimum(stack, each, 0, 0)
    with pytest.raises(InputError, match="different terms"):
        MarketStack.join([MarketStack.of([built]), MarketStack.of([built], job.terms)])
    with pytest.raises(InputError, match="no schedule is made"):
        clairvoyant_plan(MarketStack.of([built], job.terms), job, 0, 0)


def test_data_of_a_size_become_time_and_money() -> None:
    terms = PoolTerms.for_data(100.0, usd_per_gigabyte=0.02, megabytes_per_second=250.0)
    assert terms.between("east", "west") == (400.0, 2.0)
    assert terms.between("east", "east") == (0.0, 0.0)
    with pytest.raises(InputError, match="more than 0"):
        PoolTerms.for_data(1.0, usd_per_gigabyte=0.02, megabytes_per_second=0.0)
