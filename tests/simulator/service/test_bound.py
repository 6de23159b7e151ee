"""The clairvoyant bound: against brute force, the bill of the kernel, and what cannot be reached."""

import itertools
import math
from datetime import UTC, datetime

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulator.deadline import MarketStack
from simulator.errors import InputError
from simulator.market import Market, Pool
from simulator.service import Service, ServiceBatch
from simulator.service.bound import service_bound, service_bounds


def cheapest_by_search(
    capacity: np.ndarray, spot: np.ndarray, on_demand: np.ndarray, demand: np.ndarray, cold: int,
    committed: int, misses: int, limit: int,
) -> float:  # fmt: skip
    """Least cost over all plans, by dynamic programming over the holdings of the last D ticks."""
    pools, ticks = capacity.shape
    states: dict[tuple[tuple[tuple[int, ...], ...], int], float] = {((), 0): 0.0}
    for t in range(ticks):
        after: dict[tuple[tuple[tuple[int, ...], ...], int], float] = {}
        room = [range(int(min(capacity[p, t], demand.max())) + 1) for p in range(pools)]
        choices = list(itertools.product(*room, range(min(int(demand.max()), limit) + 1)))
        for (past, missed), cost in states.items():
            for held in choices:
                paid, lost = cost, missed
                if t >= cold:
                    paid += float(np.dot(held[:-1], spot[:, t])) + max(held[-1] - committed, 0) * on_demand[t]
                    ready = sum(min(column) for column in zip(*past, held, strict=True))
                    lost += ready < demand[t]
                if lost <= misses:
                    key = ((*past, held)[-cold:] if cold else (), lost)
                    after[key] = min(after.get(key, math.inf), paid)
        states = after
    return min(states.values(), default=math.inf)


@settings(max_examples=40)
@given(st.integers(0, 2**32 - 1), st.integers(1, 2), st.integers(0, 2), st.integers(0, 1), st.booleans())
def test_bound_is_the_best_of_all_plans(
    seed: int, pools: int, cold: int, committed: int, unlimited: bool
) -> None:
    rng = np.random.default_rng(seed)
    ticks = cold + int(rng.integers(3, 8))
    hold = np.arange(ticks) // int(rng.integers(1, 4))  # stretches in which nothing changes
    capacity = rng.integers(0, 3, (pools, ticks))[:, hold]
    spot = rng.choice([0.5, 1.0, 2.0], (pools, ticks))[:, hold * int(rng.integers(0, 2))]
    on_demand = rng.choice([1.5, 3.0], ticks)[hold * int(rng.integers(0, 2))]
    demand = rng.integers(0, 3, ticks)[hold * int(rng.integers(0, 2))]
    levels = [1.0, *(1.0 - misses / (ticks - cold) for misses in (1, 2, 3) if misses < ticks - cold)]
    limit = None if unlimited else 1
    bounds = service_bound(
        capacity, spot, on_demand, demand, cold,
        availability=levels, committed=committed, on_demand_limit=limit, relative_gap=0.0,
    )  # fmt: skip
    for misses, bound in enumerate(bounds):
        least = cheapest_by_search(
            capacity, spot, on_demand, demand, cold, committed, misses, 9 if limit is None else limit
        )
        if not bound.reachable:
            assert least == math.inf
            continue
        assert bound.status == "optimal"
        assert bound.cost == pytest.approx(least, abs=1e-5)
        assert bound.dual_bound <= least + 1e-5


@settings(max_examples=10)
@given(st.integers(0, 2**32 - 1), st.integers(1, 5), st.integers(0, 6), st.integers(0, 2))
def test_the_kernel_bills_the_plan_as_the_bound_says(
    seed: int, pools: int, cold: int, committed: int
) -> None:
    rng = np.random.default_rng(seed)
    ticks = 120
    capacity = np.repeat(rng.integers(0, 4, (pools, ticks // 10)), 10, axis=1)
    market = Market.build(
        [Pool("aws", "r", f"z{p}", "t") for p in range(pools)],
        tick_seconds=60,
        start=datetime(2023, 1, 1, tzinfo=UTC),
        spot_price=rng.choice([0.3, 0.7, 1.0], (pools, 1)),
        spot_capacity=capacity,
        on_demand_price=2.0,
    )
    stack = MarketStack.of([market])
    service = Service.of(
        np.repeat(rng.integers(0, 6, ticks // 30), 30),
        tick_seconds=60,
        cold_start_seconds=60 * cold,
        committed=committed,
    )
    costs = []
    for bound in service_bounds(stack, service, 0, [0], availability=(1.0, 0.99, 0.9), relative_gap=0.01)[0]:
        assert bound.plan is not None
        batch = ServiceBatch(stack, service, 0, [0])
        for asked in bound.plan.T:
            batch.step(asked[None])
        assert batch.counts[0, 2] == 0
        assert batch.cost[0] == pytest.approx(bound.cost)
        assert batch.availability[0] >= bound.availability - 1e-12
        assert bound.dual_bound <= bound.cost * (1 + 1e-9) + 1e-9
        costs.append(bound.cost)
    assert costs == sorted(costs, reverse=True)


def test_a_search_cut_short_leaves_a_bound_that_holds() -> None:
    """Prices that change at every tick leave nothing to compress: whatever the solver reaches must hold."""
    rng = np.random.default_rng(3)
    capacity = rng.integers(0, 4, (3, 150))
    arguments = (capacity, rng.uniform(0.2, 1.0, (3, 150)), np.full(150, 2.0), np.full(150, 4), 4)
    short = service_bound(*arguments, availability=(0.98,), time_limit_seconds=0.05)[0]
    long = service_bound(*arguments, availability=(0.98,), time_limit_seconds=20.0, relative_gap=1e-4)[0]
    assert short.dual_bound <= long.cost * (1 + 1e-9)
    assert long.dual_bound <= long.cost * (1 + 1e-9)
    assert short.reachable
    assert not short.cost < long.dual_bound * (1 - 1e-9)


def test_one_pool_by_hand() -> None:
    # Capacity is gone for two of eight ticks; with D = 1, on-demand has to be there one tick before.
    capacity = np.array([[1, 1, 1, 1, 0, 0, 1, 1, 1]])
    arguments = (capacity, np.full((1, 9), 1.0), np.full(9, 3.0), np.ones(9, int), 1)
    all_served, two_missed = service_bound(*arguments, availability=(1.0, 0.75))
    # Ready spot at ticks 1-3 and 7-8: five, and warm at 6; on-demand held at 3 to 6.
    assert all_served.cost == pytest.approx(6.0 + 4 * 3.0)
    # Two of the three ticks without a ready spot instance are missed, the third costs as much as three;
    # two at the end are cheaper to miss than that, and nothing saves more than the outage.
    assert two_missed.cost < all_served.cost
    assert two_missed.plan is not None
    assert two_missed.gap == pytest.approx(0.0, abs=2e-3)


def test_what_cannot_be_reached_says_what_can() -> None:
    capacity = np.array([[1] * 10 + [0] * 10])
    bounds = service_bound(
        capacity, np.ones((1, 20)), np.full(20, 3.0), np.ones(20, int), 0,
        availability=(1.0, 0.5), on_demand_limit=0,
    )  # fmt: skip
    assert (bounds[0].reachable, bounds[0].status, bounds[0].plan) == (False, "unreachable", None)
    assert bounds[0].best_availability == 0.5
    assert bounds[0].dual_bound == math.inf
    assert bounds[1].cost == pytest.approx(10.0)


def test_a_window_no_longer_than_the_cold_start_costs_nothing() -> None:
    bound = service_bound(np.ones((1, 3)), np.ones((1, 3)), np.ones(3), np.ones(3), 4)[0]
    assert (bound.cost, bound.dual_bound, bound.gap) == (0.0, 0.0, 0.0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"capacity": np.ones((2, 4))}, "accepted: "),
        ({"spot_price": np.full((2, 5), -1.0)}, "negative or not finite"),
        ({"demand": np.full(5, 1.5)}, "whole numbers"),
        ({"demand": np.array([1, 2, math.nan, 1, 1])}, "not finite"),
        ({"cold_start_ticks": -1}, "0 or more ticks"),
        ({"availability": (1.2,)}, "above 0"),
    ],
)
def test_what_does_not_fit_is_explained(change: dict[str, object], message: str) -> None:
    arguments: dict[str, object] = {
        "capacity": np.ones((2, 5)),
        "spot_price": np.ones((2, 5)),
        "on_demand_price": np.ones(5),
        "demand": np.ones(5),
        "cold_start_ticks": 1,
    }
    with pytest.raises(InputError, match=message):
        service_bound(**{**arguments, **change})  # type: ignore[arg-type] # bad on purpose
