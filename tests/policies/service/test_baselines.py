"""SpotHedge, the static mix and round robin against recorded episodes and by their own rules."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from policies.service import RoundRobin, ServicePolicy, SpotHedge, StaticMix
from simulator.deadline import MarketStack
from simulator.deadline.replay import Windows
from simulator.errors import InputError
from simulator.market import Market, Pool
from simulator.service import Service, ServiceBatch
from simulator.service.replay import run_service


def market_of(capacity: np.ndarray, price: np.ndarray | float = 1.0) -> Market:
    return Market.build(
        [Pool("aws", "r", f"z{p}", "t") for p in range(len(capacity))],
        tick_seconds=30, start=datetime(2023, 1, 1, tzinfo=UTC),
        spot_price=price, spot_capacity=capacity, on_demand_price=3.0,
    )  # fmt: skip


def run(policy: ServicePolicy, capacity: np.ndarray, demand: int, cold_start: float = 120.0) -> ServiceBatch:
    windows = Windows(MarketStack.of([market_of(capacity)]), ("m",), np.array([0]), np.array([0]))
    service = Service.of(demand, ticks=capacity.shape[1], tick_seconds=30, cold_start_seconds=cold_start)
    return run_service(policy, windows, service)


def asked_of(
    policy: ServicePolicy, capacity: np.ndarray, demand: int, cold_start: float = 60.0
) -> np.ndarray:
    """(T, P + 1) what a policy asks for in one window."""
    stack = MarketStack.of([market_of(capacity)])
    service = Service.of(demand, ticks=capacity.shape[1], tick_seconds=30, cold_start_seconds=cold_start)
    batch = ServiceBatch(stack, service, 0, [0])
    memory = policy.reset(1, stack.pools)
    rows = []
    while not batch.done.all():
        asked, memory = policy.act(batch.observe(), memory)
        rows.append(asked[0].copy())
        batch.step(asked)
    return np.array(rows)


@pytest.mark.parametrize("name", ["AWS1_0", "AWS1_1", "AWS3_0", "AWS3_1"])
def test_recorded_baselines_come_out_again(shared_reference: Path, name: str) -> None:
    """The recorded policies broke ties at random, so SpotHedge agrees within a few ticks only."""
    with np.load(shared_reference / "golden_service.npz", allow_pickle=False) as golden:
        for recorded, policy, tolerance in (
            ("spothedge", SpotHedge(1), 0.002),
            ("round_robin", RoundRobin(), 2e-4),
        ):
            batch = run(policy, golden[f"{name}_{recorded}/capacity"], 3)
            availability, cost = golden[f"{name}_{recorded}/availability_cost"]
            assert batch.availability[0] == pytest.approx(availability, abs=tolerance)
            assert batch.cost[0] / batch.on_demand_cost()[0] == pytest.approx(cost, abs=tolerance)


def test_spothedge_bridges_with_on_demand_until_spot_is_ready() -> None:
    asked = asked_of(SpotHedge(1), np.full((3, 8), 9), demand=3)
    assert asked[:, -1].tolist() == [
        3,
        3,
        3,
        0,
        0,
        0,
        0,
        0,
    ]  # ready two ticks after the launch, seen a tick later
    assert (asked[:, :-1].sum(axis=1) == 4).all()
    assert sorted(asked[0, :-1]) == [1, 1, 2]


def test_spothedge_leaves_a_pool_that_took_an_instance_back() -> None:
    capacity = np.full((3, 30), 9)
    capacity[0, 10:] = 0
    asked = asked_of(SpotHedge(0), capacity, demand=3)
    assert asked[9, :-1].tolist() == [1, 1, 1]
    assert (asked[11:, 0] == 0).all()
    assert (asked[11:, :-1].sum(axis=1) == 3).all()


def test_spothedge_asks_every_pool_again_once_none_is_active() -> None:
    capacity = np.zeros((2, 40), int)
    capacity[:, 30:] = 9
    asked = asked_of(SpotHedge(1), capacity, demand=2)
    assert (asked[:30, -1] == 2).all()
    assert asked[-1, -1] == 0


@given(st.integers(0, 2**32 - 1), st.integers(1, 5), st.integers(0, 6))
@settings(max_examples=40)
def test_spot_instances_asked_are_the_demand_and_the_spares(seed: int, pools: int, demand: int) -> None:
    rng = np.random.default_rng(seed)
    capacity = rng.integers(0, 4, (pools, 40))
    for spares in (0, 2):
        assert (asked_of(SpotHedge(spares), capacity, demand)[:, :-1].sum(axis=1) == demand + spares).all()
    for policy in (RoundRobin(), StaticMix(0), StaticMix(0, strategy="lowest-price")):
        asked = asked_of(policy, capacity, demand)
        assert (asked.sum(axis=1) == demand).all()
        assert (asked[:, -1] == 0).all()


def test_static_mix_is_the_arithmetic_of_an_auto_scaling_group() -> None:
    on_demand = [asked_of(StaticMix(25, base=1), np.full((2, 3), 9), demand=n)[0, -1] for n in range(7)]
    assert on_demand == [0, 1, 2, 2, 2, 2, 3]  # 1 + 25 % of the rest, rounded up


def test_lowest_price_takes_the_cheapest_pool_that_did_not_refuse() -> None:
    capacity = np.full((3, 40), 9)
    capacity[1, 20:] = 0
    market = market_of(capacity, np.repeat([[0.9], [0.5], [0.7]], 40, axis=1))
    batch = ServiceBatch(MarketStack.of([market]), Service.of(2, ticks=40, tick_seconds=30), 0, [0])
    policy = StaticMix(0, strategy="lowest-price")
    memory = policy.reset(1, 3)
    places = []
    for _ in range(40):
        asked, memory = policy.act(batch.observe(), memory)
        places.append(int(asked[0, :-1].argmax()))
        batch.step(asked)
    assert places[5] == 1
    assert places[22:30] == [2] * 8


@pytest.mark.parametrize(
    "arguments", [{"percentage": 101}, {"percentage": -1}, {"base": -1}, {"strategy": "luck"}]
)
def test_a_static_mix_out_of_range_is_refused(arguments: dict[str, object]) -> None:
    with pytest.raises(InputError, match="accepted"):
        StaticMix(**arguments)  # type: ignore[arg-type]  # wrong on purpose
