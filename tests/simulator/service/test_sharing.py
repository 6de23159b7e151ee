"""Services that share pools: none over its capacity, holdings kept while they can be, fair division."""

from datetime import UTC, datetime

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulator.deadline import MarketStack
from simulator.errors import InputError
from simulator.market import Market, Pool
from simulator.service import Service, ServiceBatch


def stack_of(*capacities: np.ndarray) -> MarketStack:
    return MarketStack.of(
        [
            Market.build(
                [Pool("aws", "r", f"z{p}", "t") for p in range(len(capacity))],
                tick_seconds=30,
                start=datetime(2023, 1, 1, tzinfo=UTC),
                spot_price=1.0,
                spot_capacity=capacity,
                on_demand_price=3.0,
            )
            for capacity in capacities
        ]
    )


@settings(max_examples=60)
@given(st.integers(0, 2**32 - 1), st.integers(1, 5), st.integers(1, 3))
def test_division_is_within_capacity_keeps_holdings_and_is_fair(seed: int, services: int, pools: int) -> None:
    rng = np.random.default_rng(seed)
    ticks = 30
    capacity = rng.integers(0, 3 * services, (pools, ticks))
    each = [
        Service.of(
            rng.integers(0, 5, ticks), tick_seconds=30, cold_start_seconds=30 * int(rng.integers(0, 4))
        )
        for _ in range(services)
    ]
    batch = ServiceBatch(stack_of(capacity), each, 0, np.zeros(services), group=np.zeros(services))
    held = np.zeros((services, pools), np.int64)
    for t in range(ticks):
        asked = rng.integers(0, 5, (services, pools + 1))
        batch.step(asked)
        granted = batch.observe().granted[:, :pools]
        wanted = asked[:, :pools]
        assert (granted <= wanted).all()
        keeping = np.minimum(held, wanted)
        for p in range(pools):
            # Whole capacity is used, never more.
            assert granted[:, p].sum() == min(wanted[:, p].sum(), capacity[p, t])
            enough = keeping[:, p].sum() <= capacity[p, t]
            if enough:
                assert (granted[:, p] >= keeping[:, p]).all()
            given = granted[:, p] - keeping[:, p] if enough else granted[:, p]
            want = wanted[:, p] - keeping[:, p] if enough else keeping[:, p]
            short = given < want
            # Max-min: whoever got less than wanted is at most one instance behind anybody.
            if short.any():
                assert given.max() <= given[short].min() + 1
        held = granted


@settings(max_examples=20)
@given(st.integers(0, 2**32 - 1))
def test_enough_capacity_is_like_having_it_alone(seed: int) -> None:
    rng = np.random.default_rng(seed)
    stack = stack_of(np.full((2, 40), 30))
    each = [Service.of(rng.integers(0, 5, 40), tick_seconds=30, cold_start_seconds=60) for _ in range(4)]
    together = ServiceBatch(stack, each, 0, np.zeros(4), group=[7, 7, 7, 7])
    alone = ServiceBatch(stack, each, 0, np.zeros(4))
    for _ in range(40):
        asked = rng.integers(0, 5, (4, 3))
        together.step(asked)
        alone.step(asked)
    for name in ("cost", "counts", "served", "ready", "done"):
        np.testing.assert_array_equal(getattr(together, name), getattr(alone, name))


def test_groups_do_not_touch_each_other_and_repeat_exactly() -> None:
    rng = np.random.default_rng(5)
    stack = stack_of(rng.integers(0, 6, (2, 100)), rng.integers(0, 6, (2, 80)))
    each = [Service.of(3, ticks=50, tick_seconds=30, cold_start_seconds=60) for _ in range(5)]
    market, start = np.array([0, 1, 0, 1, 1]), np.array([40, 9, 40, 9, 20])
    asks = rng.integers(0, 5, (50, 5, 3))
    batches = [ServiceBatch(stack, each, market, start, group=[3, 1, 3, 1, 2]) for _ in range(2)]
    first = ServiceBatch(stack, each[:2], market[[0, 2]], start[[0, 2]], group=[0, 0])
    for asked in asks:
        for batch in batches:
            batch.step(asked)
        first.step(asked[[0, 2]])
    np.testing.assert_array_equal(batches[0].counts, batches[1].counts)
    np.testing.assert_array_equal(batches[0].counts[[0, 2]], first.counts)
    np.testing.assert_allclose(batches[0].cost[[0, 2]], first.cost)


def test_rows_that_begin_again_are_like_new_ones() -> None:
    rng = np.random.default_rng(6)
    stack = stack_of(rng.integers(0, 6, (2, 200)))
    old = Service.of(2, ticks=50, tick_seconds=30)
    new = Service.of(rng.integers(0, 5, 60), tick_seconds=30, cold_start_seconds=90, committed=1)
    batch = ServiceBatch(stack, old, 0, [0, 10, 20], remembered_ticks=5)
    fresh = ServiceBatch(stack, new, 0, [100], ticks=50)
    batch.spot_scale[1] = fresh.spot_scale[0] = 2.0
    for _ in range(20):
        batch.step(rng.integers(0, 5, (3, 3)))
    before = batch.cost[[0, 2]].copy()
    batch.begin([1], [new], 0, [100])
    np.testing.assert_array_equal(batch.cost, [before[0], 0.0, before[1]])
    for _ in range(50):
        asked = rng.integers(0, 5, (3, 3))
        batch.step(asked)
        fresh.step(asked[1:2])
        np.testing.assert_array_equal(batch.observe().spot_price[1], [2.0, 2.0])
    assert batch.done.all()
    assert batch.cost[1] == pytest.approx(fresh.cost[0])
    np.testing.assert_array_equal(batch.counts[1], fresh.counts[0])


def test_what_cannot_be_shared_is_explained() -> None:
    stack = stack_of(np.ones((1, 20), int))
    service = Service.of(1, ticks=5, tick_seconds=30)
    with pytest.raises(InputError, match="group 4 have different windows"):
        ServiceBatch(stack, service, 0, [0, 1], group=[4, 4])
    with pytest.raises(InputError, match="accepted: \\(2,\\)"):
        ServiceBatch(stack, service, 0, [0, 0], group=[4])
    with pytest.raises(InputError, match="3 services for 2 windows"):
        ServiceBatch(stack, [service] * 3, 0, [0, 0])
    batch = ServiceBatch(stack, service, 0, [0])
    with pytest.raises(InputError, match="remembered_ticks"):
        batch.begin([0], [Service.of(1, ticks=5, tick_seconds=30, cold_start_seconds=90)], 0, [0])
