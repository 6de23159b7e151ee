"""Baselines of services that look at nothing but the demand."""

from datetime import UTC, datetime

import numpy as np
import pytest

from policies.service import EvenSpread, OnDemandOnly, ServicePolicy
from simulator.deadline import MarketStack
from simulator.market import Market, Pool
from simulator.service import Service, ServiceBatch


def run(policy: ServicePolicy, capacity: int) -> ServiceBatch:
    market = Market.build(
        [Pool("aws", "r", f"z{p}", "t") for p in range(3)],
        tick_seconds=60,
        start=datetime(2023, 1, 1, tzinfo=UTC),
        spot_price=1.0,
        spot_capacity=np.full((3, 20), capacity),
        on_demand_price=4.0,
    )
    service = Service.of(5, ticks=20, tick_seconds=60, cold_start_seconds=120)
    batch = ServiceBatch(MarketStack.of([market]), service, 0, [0])
    memory = policy.reset(1, 3)
    while not batch.done.all():
        asked, memory = policy.act(batch.observe(), memory)
        batch.step(asked)
    return batch


def test_on_demand_is_always_ready_and_is_what_cost_is_relative_to() -> None:
    batch = run(OnDemandOnly(), 0)
    assert batch.availability[0] == 1.0
    assert batch.cost[0] == pytest.approx(batch.on_demand_cost()[0])


def test_even_spread_asks_for_the_demand_and_pools_differ_by_one_at_most() -> None:
    batch = run(EvenSpread(), 9)
    assert batch.observe().granted[0].tolist() == [2, 2, 1, 0]
    assert batch.availability[0] == 1.0
    assert batch.cost[0] / batch.on_demand_cost()[0] == pytest.approx(0.25)


def test_even_spread_is_short_when_one_pool_is() -> None:
    assert run(EvenSpread(), 1).availability[0] == 0.0
