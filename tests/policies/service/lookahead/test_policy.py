"""The look-ahead planner as its users see it."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from policies.service import LookAhead, LookAheadSettings, ServicePolicy, SpotHedge
from policies.service.lookahead.fit import load_survival
from simulator.deadline import MarketStack
from simulator.errors import InputError
from simulator.market import Market, Pool
from simulator.market.build import build_market
from simulator.market.options import BuildOptions
from simulator.service import Service, ServiceBatch
from simulator.service.replay import replay_service, run_service, service_windows

PLANNER = LookAhead(load_survival())


def market_of(capacity: np.ndarray, regions: int = 2) -> Market:
    return Market.build(
        [Pool("aws", f"r{p % regions}", f"z{p}", "t") for p in range(len(capacity))],
        tick_seconds=30, start=datetime(2023, 1, 1, tzinfo=UTC),
        spot_price=1.0, spot_capacity=capacity, on_demand_price=3.0,
    )  # fmt: skip


def flapping(seed: int, pools: int, ticks: int, most: int) -> np.ndarray:
    """(P, T) capacity that changes every ten ticks."""
    rng = np.random.default_rng(seed)
    steps = rng.integers(0, most + 1, (pools, ticks // 10 + 1)) * (rng.random((pools, ticks // 10 + 1)) < 0.8)
    return np.repeat(steps, 10, axis=1)[:, :ticks]


def batch_of(capacity: np.ndarray, demand: int, target: float = 0.99, size: int = 1) -> ServiceBatch:
    service = Service.of(
        demand, ticks=capacity.shape[1], tick_seconds=30, cold_start_seconds=120, availability_target=target
    )
    return ServiceBatch(MarketStack.of([market_of(capacity)]), service, 0, [0] * size)


@given(st.integers(0, 2**32 - 1), st.integers(1, 5), st.integers(0, 6))
@settings(max_examples=25, deadline=None)
def test_what_is_asked_always_covers_the_demand(seed: int, pools: int, demand: int) -> None:
    """Held or not yet: spot asked of pools that may refuse is covered by on-demand in the same tick."""
    batch = batch_of(flapping(seed, pools, 150, 4), demand)
    memory = PLANNER.reset(1, pools)
    held = np.zeros(pools + 1, np.int64)
    while not batch.done.all():
        asked, memory = PLANNER.act(batch.observe(), memory)
        assert (asked >= 0).all()
        assert np.minimum(asked[0, :-1], held[:-1]).sum() + asked[0, -1] >= demand
        batch.step(asked)
        held = batch.observe().granted[0]


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=15, deadline=None)
def test_ready_instances_fall_below_the_demand_only_by_a_loss(seed: int) -> None:
    batch = batch_of(flapping(seed, 3, 300, 4), 3)
    memory = PLANNER.reset(1, 3)
    while not batch.done.all():
        ready, lost = int(batch.ready[0]), int(batch.counts[0, 1])
        asked, memory = PLANNER.act(batch.observe(), memory)
        batch.step(asked)
        if batch.tick[0] > 5 and ready >= 3 and batch.counts[0, 1] == lost:
            assert batch.ready[0] >= 3


def test_rows_are_independent_and_memory_is_not_changed() -> None:
    capacity = flapping(3, 4, 120, 5)
    both, alone = batch_of(capacity, 3, size=2), batch_of(capacity, 3)
    many, one = PLANNER.reset(2, 4), PLANNER.reset(1, 4)
    for _ in range(120):
        kept = {name: np.array(values) for name, values in many.items()}
        asked, after = PLANNER.act(both.observe(), many)
        for name, values in kept.items():
            np.testing.assert_array_equal(values, many[name])
        single, one = PLANNER.act(alone.observe(), one)
        np.testing.assert_array_equal(asked[0], single[0])
        np.testing.assert_array_equal(asked[1], single[0])
        many = after
        both.step(asked)
        alone.step(single)


def test_a_steady_market_costs_little_more_than_spot_alone() -> None:
    batch = run_service(
        PLANNER, service_windows([("m", market_of(np.full((3, 2880), 9)))], 2880), service(2880)
    )
    assert batch.availability[0] == 1.0
    assert batch.cost[0] / batch.on_demand_cost()[0] < 0.40


def service(ticks: int, target: float = 0.995, demand: int = 3) -> Service:
    return Service.of(
        demand, ticks=ticks, tick_seconds=30, cold_start_seconds=120, availability_target=target
    )


def test_without_spot_capacity_the_demand_is_served_on_demand() -> None:
    batch = run_service(
        PLANNER, service_windows([("m", market_of(np.zeros((2, 400), int)))], 400), service(400)
    )
    assert batch.availability[0] == 1.0
    assert batch.cost[0] == pytest.approx(batch.on_demand_cost()[0])


def test_a_growing_demand_is_followed() -> None:
    demand = np.repeat([2, 5, 1, 7], 100)
    windows = service_windows([("m", market_of(np.full((3, 400), 20)))], 400)
    batch = run_service(PLANNER, windows, Service.of(demand, tick_seconds=30, cold_start_seconds=60))
    assert batch.availability[0] == pytest.approx(1 - 4 / 398)  # two cold starts of two ticks
    assert batch.served_fraction[0] > 0.97


@pytest.fixture(scope="module")
def four_node(shared_data: Path) -> Market:
    folder = shared_data / "traces/skypilot_spot_traces/preemption/4-node/aws-08-03-2023"
    options = BuildOptions(tick_seconds=30, spot_price=1.0, on_demand_price=3.0)
    return build_market(sorted(folder.glob("*.json")), options, format_name="skypilot")


def test_dearer_and_more_available_with_a_higher_target(four_node: Market) -> None:
    windows = service_windows([("m", four_node)], 2880)
    tables = [replay_service([PLANNER], windows, service(2880, target)) for target in (0.99, 0.995, 0.999)]
    availability = [table["availability"].mean() for table in tables]
    cost = [table["relative_cost"].mean() for table in tables]
    assert availability == sorted(availability)
    assert cost == sorted(cost)
    assert all(got >= target for got, target in zip(availability, (0.99, 0.995, 0.999), strict=True))


def test_cheaper_than_spothedge_at_its_own_availability(four_node: Market) -> None:
    windows = service_windows([("m", four_node)], 2880)
    hedge = replay_service([SpotHedge(1)], windows, service(2880))
    planner = replay_service([PLANNER], windows, service(2880, 0.9925))
    assert planner["availability"].mean() >= hedge["availability"].mean()
    assert planner["relative_cost"].mean() <= hedge["relative_cost"].mean() - 0.05


def test_a_week_keeps_its_target(four_node: Market) -> None:
    ticks = 7 * 2880
    windows = service_windows([("m", four_node)], ticks, 2880)
    table = replay_service([PLANNER], windows, service(ticks, 0.995))
    assert (table["availability"] >= 0.995).all()
    assert (table["relative_cost"] < 0.5).all()


@pytest.mark.parametrize("value", [0.0, -1.0, float("nan")])
def test_settings_out_of_range_are_refused(value: float) -> None:
    with pytest.raises(InputError, match="retry_seconds"):
        LookAheadSettings(retry_seconds=value)


def test_it_is_a_service_policy() -> None:
    assert isinstance(PLANNER, ServicePolicy)


def test_the_parts_of_a_decision_in_place_are_the_decision() -> None:
    batch = batch_of(flapping(4, 4, 200, 3), 3, size=2)
    acting, weight = LookAhead(load_survival(), weight=50.0), np.full(2, 50.0)
    memory, own = acting.reset(2, 4), {name: np.array(a) for name, a in PLANNER.reset(2, 4).items()}
    while not batch.done.all():
        asked, memory = acting.act(batch.observe(), memory)
        due = PLANNER.perceive(batch.observe(), own)
        np.testing.assert_array_equal(PLANNER.ask(batch.observe(), own, due, weight), asked)
        batch.step(asked)


def priced(capacity: list[int], price: list[float], ticks: int = 600) -> Market:
    return Market.build(
        [Pool("aws", f"r{p}", f"z{p}", "t") for p in range(len(capacity))],
        tick_seconds=30, start=datetime(2023, 1, 1, tzinfo=UTC), spot_price=np.array(price),
        spot_capacity=np.repeat(np.array(capacity)[:, None], ticks, axis=1), on_demand_price=3.0,
    )  # fmt: skip


def most_granted(market: Market, demand: np.ndarray, committed: int = 0) -> np.ndarray:
    """(P + 1) most that was held at once."""
    service = Service.of(
        demand, tick_seconds=30, cold_start_seconds=120, availability_target=0.999, committed=committed
    )
    timeline: list[tuple[np.ndarray, np.ndarray]] = []
    run_service(PLANNER, service_windows([("m", market)], len(demand)), service, timeline=timeline)
    return np.asarray(np.max([granted[0] for granted, _ in timeline[5:]], axis=0))


STEPS = np.repeat([4, 6, 4, 7, 4], 120)


def test_a_pool_dearer_than_on_demand_is_never_used() -> None:
    held = most_granted(priced([9, 9], [1.0, 3.5]), STEPS)
    assert held[1] == 0
    assert held[0] > 0


def test_committed_instances_are_used_before_any_spot() -> None:
    assert most_granted(priced([99, 99], [1.0, 1.0]), np.minimum(STEPS, 5), committed=40)[:2].max() == 0


def test_many_committed_instances_take_no_room() -> None:
    held = most_granted(priced([9], [1.0], 60), np.full(60, 3), committed=10**12)
    assert held.tolist() == [0, 3]


def test_a_cheap_pool_that_never_has_anything_does_not_lower_the_weight_of_a_shortage() -> None:
    rng = np.random.default_rng(1)
    ticks = 2880 * 3
    up = np.repeat((rng.random((2, ticks // 60)) < 0.8) * 9, 60, axis=1)
    capacity = np.vstack([up, np.zeros((1, ticks), np.int64)])
    costs = []
    for cheap in (0.01, 1.0):
        market = Market.build(
            [Pool("aws", f"r{p}", f"z{p}", "t") for p in range(3)], tick_seconds=30,
            start=datetime(2023, 1, 1, tzinfo=UTC), spot_price=np.array([1.0, 1.0, cheap]),
            spot_capacity=capacity, on_demand_price=3.0,
        )  # fmt: skip
        service = Service.of(
            3, ticks=2880, tick_seconds=30, cold_start_seconds=120, availability_target=0.999
        )
        table = replay_service([PLANNER], service_windows([("m", market)], 2880), service)
        costs.append((table["availability"].mean(), table["relative_cost"].mean()))
    assert costs[0] == pytest.approx(costs[1], abs=0.03)
