"""What the network on top of the planner sees: options as the planner weighs them, of any number of pools."""

from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from policies.service import LookAhead
from policies.service.lookahead.fit import load_survival
from policies.service.residual import FEATURE_NAMES, OPTIONS, describe, option_of
from simulator.deadline import MarketStack
from simulator.market import Market, Pool
from simulator.service import Service, ServiceBatch

PLANNER = LookAhead(load_survival())


def batch_of(seed: int, pools: int, demand: int) -> ServiceBatch:
    rng = np.random.default_rng(seed)
    market = Market.build(
        [Pool("aws", f"r{p % 2}", f"z{p}", "t") for p in range(pools)],
        tick_seconds=30,
        start=datetime(2023, 1, 1, tzinfo=UTC),
        spot_price=rng.uniform(0.5, 1.5, (pools, 1)),
        spot_capacity=np.repeat(rng.integers(0, 5, (pools, 20)), 10, axis=1),
        on_demand_price=3.0,
    )
    service = Service.of(demand, ticks=100, tick_seconds=30, cold_start_seconds=120)
    return ServiceBatch(MarketStack.of([market]), service, 0, [0, 50, 100])


def watched(batch: ServiceBatch, weight: np.ndarray, ticks: int) -> dict[str, Any]:
    """The planner's memory after some ticks, ready to describe the next one."""
    memory: dict[str, Any] = {
        name: np.array(array) for name, array in PLANNER.reset(batch.size, batch.stack.pools).items()
    }
    for _ in range(ticks):
        due = PLANNER.perceive(batch.observe(), memory)
        batch.step(PLANNER.ask(batch.observe(), memory, due, weight))
    PLANNER.perceive(batch.observe(), memory)
    return memory


@settings(max_examples=25)
@given(st.integers(0, 2**32 - 1), st.integers(1, 6), st.integers(0, 9), st.integers(0, 90))
def test_the_best_option_is_what_the_planner_chooses(seed: int, pools: int, demand: int, ticks: int) -> None:
    batch = batch_of(seed, pools, demand)
    weight = np.array([5.0, 40.0, 400.0])
    memory = watched(batch, weight, ticks)
    seen = batch.observe()
    described = describe(PLANNER, seen, memory, weight)
    assert described.shape == (3, len(FEATURE_NAMES))
    assert np.isfinite(described).all()
    gaps = described[:, :OPTIONS]
    assert (gaps.min(axis=1) == 0.0).all()
    again = {name: array.copy() for name, array in memory.items()}
    everywhere = np.ones(3, np.bool_)
    PLANNER.ask(seen, memory, everywhere, weight)
    PLANNER.ask(seen, again, everywhere, weight, option_of(gaps.argmin(axis=1)))
    cheaper = memory["target"] != again["target"]
    for row in np.flatnonzero(cheaper.any(axis=1)):
        # Only the layout without any spot, which is no option with spares, or an equal one may differ.
        ties = np.flatnonzero(gaps[row] < 1e-6)
        assert memory["target"][row, :-1].sum() == 0 or len(ties) > 1


def test_the_number_of_a_pool_does_not_matter() -> None:
    weight = np.full(3, 40.0)
    batch = batch_of(3, 4, 3)
    memory = watched(batch, weight, 60)
    seen = batch.observe()
    first = describe(PLANNER, seen, memory, weight)
    order = np.array([2, 0, 3, 1])
    for name in ("granted", "asked"):
        setattr(seen, name, getattr(seen, name)[:, [*order, 4]])
    seen.spot_price, seen.region = seen.spot_price[:, order], seen.region[:, order]
    for name, array in memory.items():
        if array.shape[1:2] == (4,):
            memory[name] = array[:, order]
        elif array.shape[1:2] == (5,):
            memory[name] = array[:, [*order, 4]]
    np.testing.assert_allclose(describe(PLANNER, seen, memory, weight), first, atol=1e-5)


@pytest.mark.parametrize(("option", "parts"), [(0, [0, 0]), (4, [0, 4]), (5, [1, 0]), (19, [3, 4])])
def test_options_are_spares_and_quarters(option: int, parts: list[int]) -> None:
    assert option_of(np.array([option])).tolist() == [parts]
