"""Services: recorded episodes, dynamics against a plain list of instances, and bad input."""

from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulator.deadline import MarketStack
from simulator.errors import InputError
from simulator.market import Market, Pool
from simulator.service import Service, ServiceBatch


def market_of(capacity: np.ndarray, *, tick: int = 30, spot: float = 1.0, on_demand: float = 3.0) -> Market:
    return Market.build(
        [Pool("aws", "r", f"z{p}", "t") for p in range(len(capacity))],
        tick_seconds=tick,
        start=datetime(2023, 1, 1, tzinfo=UTC),
        spot_price=spot,
        spot_capacity=capacity,
        on_demand_price=on_demand,
    )


def test_the_twelve_recorded_episodes_are_exact(shared_reference: Path) -> None:
    with np.load(shared_reference / "golden_service.npz", allow_pickle=False) as golden:
        episodes = sorted({name.split("/")[0] for name in golden})
        assert len(episodes) == 12
        for name in episodes:
            stack = MarketStack.of([market_of(golden[f"{name}/capacity"])])
            service = Service.of(3, ticks=2880, tick_seconds=30, cold_start_seconds=120)
            batch = ServiceBatch(stack, service, 0, [0])
            asked = np.vstack([golden[f"{name}/requested_spot"], golden[f"{name}/on_demand"][None]])
            for t in range(2880):
                batch.step(asked[:, t][None].astype(np.int64))
                assert (batch.observe().granted[0, :-1] == golden[f"{name}/granted_spot"][:, t]).all()
                if t >= 4:
                    assert batch.ready[0] == golden[f"{name}/ready"][t]
            availability, cost = golden[f"{name}/availability_cost"]
            assert batch.done.all()
            assert batch.availability[0] == pytest.approx(availability, abs=1e-12)
            assert batch.cost[0] / batch.on_demand_cost()[0] == pytest.approx(cost, abs=1e-12)


@settings(max_examples=60)
@given(st.integers(0, 2**32 - 1), st.integers(1, 4), st.integers(0, 5), st.integers(0, 3))
def test_kernel_is_a_plain_list_of_instances(seed: int, pools: int, cold: int, committed: int) -> None:
    rng = np.random.default_rng(seed)
    ticks = 40
    capacity = rng.integers(0, 5, (pools, ticks))
    service = Service.of(
        rng.integers(0, 6, ticks), tick_seconds=60, cold_start_seconds=60 * cold, committed=committed
    )
    price = rng.uniform(0.1, 1.0, (pools, ticks))
    market = Market.build(
        [Pool("aws", "r", f"z{p}", "t") for p in range(pools)],
        tick_seconds=60, start=datetime(2023, 1, 1, tzinfo=UTC),
        spot_price=price, spot_capacity=capacity, on_demand_price=2.5,
    )  # fmt: skip
    batch = ServiceBatch(MarketStack.of([market]), service, 0, [0])
    born: list[list[int]] = [[] for _ in range(pools + 1)]
    cost, launches, available = 0.0, 0, 0
    for t in range(ticks):
        asked = rng.integers(0, 6, (1, pools + 1))
        batch.step(asked)
        for p, instances in enumerate(born):
            granted = int(min(asked[0, p], capacity[p, t])) if p < pools else int(asked[0, p])
            while len(instances) > granted:
                instances.pop()  # the youngest goes first
            while len(instances) < granted:
                instances.append(t)
                launches += 1
            if t >= cold:
                paid = granted if p < pools else max(granted - committed, 0)
                cost += paid * (price[p, t] if p < pools else 2.5) / 60
        ready = sum(t - begun >= cold for instances in born for begun in instances)
        if t >= cold:
            assert batch.ready[0] == ready
            available += ready >= service.demand[t]
    assert batch.cost[0] == pytest.approx(cost)
    assert batch.counts[0, 0] == launches
    assert batch.counts[0, 3] == available
    assert batch.done[0]


@settings(max_examples=60)
@given(st.integers(0, 2**32 - 1), st.integers(0, 3), st.integers(0, 2), st.sampled_from([0, 45, 60, 90, 200]))
def test_minimum_bill_is_that_of_a_plain_list_of_instances(
    seed: int, cold: int, committed: int, minimum: int
) -> None:
    rng = np.random.default_rng(seed)
    ticks, pools = 30, 2
    capacity = rng.integers(0, 5, (pools, ticks))
    stack = MarketStack.of([market_of(capacity, tick=30)])
    service = Service.of(
        2, ticks=ticks, tick_seconds=30, cold_start_seconds=30 * cold, committed=committed,
        minimum_billed_seconds=minimum,
    )  # fmt: skip
    batch = ServiceBatch(stack, service, 0, [0])
    born: list[list[int]] = [[] for _ in range(pools + 1)]
    seconds = 0.0
    for t in range(ticks):
        asked = rng.integers(0, 5, (1, pools + 1))
        batch.step(asked)
        for p, instances in enumerate(born):
            granted = int(min(asked[0, p], capacity[p, t])) if p < pools else int(asked[0, p])
            free, price = (committed, 3.0) if p == pools else (0, 1.0)
            while len(instances) > granted:
                held = 30 * (t - instances.pop())
                if t >= cold and len(instances) >= free:
                    seconds += max(minimum - held, 0) * price
            instances.extend([t] * (granted - len(instances)))
            if t >= cold:
                seconds += 30 * max(granted - free, 0) * price
    assert batch.cost[0] == pytest.approx(seconds / 3600)


def test_episodes_of_a_batch_do_not_touch_each_other() -> None:
    rng = np.random.default_rng(1)
    stack = MarketStack.of([market_of(rng.integers(0, 4, (3, 200))), market_of(rng.integers(0, 4, (3, 150)))])
    service = Service.of(2, ticks=60, tick_seconds=30, cold_start_seconds=90)
    many = ServiceBatch(stack, service, [0, 1, 0], [10, 50, 120])
    alone = [ServiceBatch(stack, service, m, [s]) for m, s in ((0, 10), (1, 50), (0, 120))]
    for _ in range(60):
        asked = rng.integers(0, 4, (3, 4))
        many.step(asked)
        for i, one in enumerate(alone):
            one.step(asked[i : i + 1])
    np.testing.assert_allclose(many.cost, [one.cost[0] for one in alone])
    np.testing.assert_array_equal(many.counts, [one.counts[0] for one in alone])


def test_losses_and_failed_launches_are_told_apart() -> None:
    stack = MarketStack.of([market_of(np.array([[3, 1, 1, 0]]))])
    batch = ServiceBatch(stack, Service.of(2, ticks=4, tick_seconds=30), 0, [0])
    for asked in (2, 2, 3, 0):
        batch.step(np.array([[asked, 0]]))
    launches, interruptions, failed = batch.counts[0, :3]
    assert (launches, interruptions, failed) == (2, 1, 2)


def test_moving_committed_usage_to_spot_saves_nothing() -> None:
    stack = MarketStack.of([market_of(np.full((1, 50), 5))])
    service = Service.of(3, ticks=50, tick_seconds=30, committed=3)
    on_demand, spot = (ServiceBatch(stack, service, 0, [0]) for _ in range(2))
    for _ in range(50):
        on_demand.step(np.array([[0, 3]]))
        spot.step(np.array([[3, 0]]))
    assert on_demand.cost[0] == 0.0
    assert spot.cost[0] > 0.0


@pytest.mark.parametrize(
    ("demand", "options", "message"),
    [
        ([1, float("nan")], {}, "tick 1 is nan"),
        ([1, -2], {}, "tick 1 is -2"),
        ([1.5], {}, "whole numbers"),
        ([], {}, "at least one"),
        (["a"], {}, "accepted: numbers"),
        (3, {}, "number of ticks"),
        ([1], {"availability_target": 1.0}, "less than 1"),
        ([1], {"availability_target": 0.0}, "more than 0"),
        ([1], {"cold_start_seconds": -1.0}, "cold start"),
        ([1], {"cold_start_seconds": 1e6}, "at most 60 ticks"),
        ([1], {"committed": -1}, "committed"),
        ([1], {"tick_seconds": 0}, "tick of 0"),
        ([1], {"minimum_billed_seconds": -1.0}, "minimum bill"),
        ([1], {"minimum_billed_seconds": float("nan")}, "minimum bill"),
    ],
)
def test_bad_services_are_explained(demand: object, options: dict[str, float], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Service.of(demand, **{"tick_seconds": 30, **options})  # type: ignore[arg-type] # bad on purpose


def test_windows_and_requests_that_do_not_fit_are_explained() -> None:
    stack = MarketStack.of([market_of(np.ones((2, 20), int))])
    with pytest.raises(InputError, match="same tick"):
        ServiceBatch(stack, Service.of(1, ticks=5, tick_seconds=60), 0, [0])
    with pytest.raises(InputError, match="beyond its market"):
        ServiceBatch(stack, Service.of(1, ticks=15, tick_seconds=30), 0, [10])
    with pytest.raises(InputError, match="at most the demand"):
        ServiceBatch(stack, Service.of(1, ticks=5, tick_seconds=30), 0, [0], ticks=6)
    batch = ServiceBatch(stack, Service.of(1, ticks=5, tick_seconds=30), 0, [0])
    for asked in (np.zeros((1, 2), np.int64), np.array([[-1, 0, 0]])):
        with pytest.raises(InputError, match="counts of 0 or more"):
            batch.step(asked)
