"""Demand that grows: the step is learned, and instances are ready when it comes."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest

from policies.registry import load_policy
from policies.service import LookAhead, SpotHedge
from policies.service.lookahead.fit import load_survival
from policies.service.lookahead.growth import RISES, foresee, no_growth
from simulator.market import Market, Pool
from simulator.service import Service
from simulator.service.replay import replay_service, service_windows


def headrooms(demand: np.ndarray, cold_start: int, worth: float) -> list[int]:
    memory: dict[str, Any] = dict(no_growth(1))
    seen = []
    before = np.zeros(1, np.int64)
    for tick, value in enumerate(demand):
        headroom = np.zeros(1, np.int64)
        foresee(
            np.array([tick]), np.array([value]), before, np.array([cold_start]), np.array([worth]), RISES,
            120, memory["changed"], memory["step"], memory["rises"], memory["recent"], memory["nothing_owed"],
            headroom,
        )  # fmt: skip
        seen.append(int(headroom[0]))
        before = np.array([value])
    return seen


def test_headroom_is_held_only_before_a_possible_step() -> None:
    demand = np.repeat([4, 6, 4, 6, 4, 6, 4], 120)
    held = headrooms(demand, 4, 1000.0)
    assert max(held[:121]) == 0  # nothing was seen yet
    for begin in (240, 360, 480, 600):
        assert min(held[begin - 4 : begin]) >= 2
        assert max(held[begin - 110 : begin - 4]) == 0


def test_no_headroom_where_it_does_not_pay() -> None:
    assert max(headrooms(np.repeat([4, 6, 4, 6, 4], 120), 4, 0.1)) == 0


def test_a_finer_step_is_learned() -> None:
    held = headrooms(np.repeat(np.arange(3, 20), 30), 2, 1000.0)
    assert held[30 * 8 - 1] >= 1
    assert held[30 * 8 - 10] == 0


def test_demand_that_goes_up_and_down_every_tick_does_not_add_up() -> None:
    held = headrooms(np.tile([3, 4], 200), 4, 1000.0)
    assert max(held[20:]) <= 2  # one more than 3, a third of 4 rounded up
    assert max(headrooms(np.tile([20, 20, 21], 200), 8, 1000.0)[20:]) <= 2


def test_demand_that_grows_every_tick_is_followed_over_the_whole_cold_start() -> None:
    held = headrooms(np.arange(20, 120), 4, 1000.0)
    assert min(held[10:]) >= 4


@pytest.fixture(scope="module")
def table() -> dict[str, tuple[float, float]]:
    rng = np.random.default_rng(2)
    hours = 24 * 14
    demand = np.repeat(
        np.round(10 + 5 * np.sin(np.arange(hours) * np.pi / 12) + rng.integers(0, 2, hours)), 120
    )
    market = Market.build(
        [Pool("aws", f"r{p}", f"z{p}", "t") for p in range(4)], tick_seconds=30,
        start=datetime(2023, 1, 1, tzinfo=UTC), spot_price=1.0, spot_capacity=np.full((4, len(demand)), 99),
        on_demand_price=3.0,
    )  # fmt: skip
    service = Service.of(
        demand.astype(int), tick_seconds=30, cold_start_seconds=120, availability_target=0.995
    )
    windows = service_windows([("m", market)], len(demand))
    rows = replay_service([LookAhead(load_survival()), SpotHedge(1)], windows, service)
    columns = (rows[name].tolist() for name in ("policy", "availability", "relative_cost"))
    return {str(policy): (float(ready), float(cost)) for policy, ready, cost in zip(*columns, strict=True)}


def test_a_daily_curve_is_served_at_the_target(table: dict[str, tuple[float, float]]) -> None:
    availability, cost = table["look-ahead"]
    assert availability >= 0.995
    assert cost < 0.40
    assert availability > table["spothedge-1"][0]


def fault_free(demand: list[int], cold_start: int) -> list[int]:
    """Ticks whose shortage is not the fault of a layout."""
    memory: dict[str, Any] = dict(no_growth(1))
    found, before, headroom = [], np.zeros(1, np.int64), np.zeros(1, np.int64)
    for tick, value in enumerate(demand):
        foresee(
            np.array([tick]), np.array([value]), before, np.array([cold_start]), np.array([1.0]), RISES,
            120, memory["changed"], memory["step"], memory["rises"], memory["recent"], memory["nothing_owed"],
            headroom,
        )  # fmt: skip
        if tick < memory["nothing_owed"][0]:
            found.append(tick)
        before = np.array([value])
    return found


def test_only_the_cold_start_after_a_rise_from_zero_is_nobodys_fault() -> None:
    assert fault_free([3, 3, 0, 0, 2, 2, 2, 2, 2, 9, 9], 3) == [4, 5, 6]
    assert fault_free([2, 5, 9, 9], 3) == []
    assert fault_free([0, 1, 0, 1, 1, 1, 1], 2) == [1, 2, 3, 4]
    assert fault_free([0, 4, 4], 0) == []


@pytest.fixture(scope="module")
def bursts() -> dict[str, tuple[float, float]]:
    """Three instances for half an hour every two hours, where capacity never lacks."""
    demand = np.tile(np.repeat([0, 3], [180, 60]), 12 * 6)
    market = Market.build(
        [Pool("aws", f"r{p}", f"z{p}", "t") for p in range(3)], tick_seconds=30,
        start=datetime(2023, 1, 1, tzinfo=UTC), spot_price=1.0, spot_capacity=np.full((3, len(demand)), 9),
        on_demand_price=3.0,
    )  # fmt: skip
    service = Service.of(demand, tick_seconds=30, cold_start_seconds=120, availability_target=0.995)
    windows = service_windows([("m", market)], len(demand))
    rows = replay_service([LookAhead(load_survival()), load_policy("on-demand", "service")], windows, service)
    columns = (rows[name].tolist() for name in ("policy", "availability", "relative_cost"))
    return {str(policy): (float(ready), float(cost)) for policy, ready, cost in zip(*columns, strict=True)}


def test_rises_from_zero_do_not_make_the_planner_buy_what_helps_nothing(
    bursts: dict[str, tuple[float, float]],
) -> None:
    """Four of 240 ticks are short whatever is held, three times what the target allows."""
    availability, cost = bursts["look-ahead"]
    assert availability == pytest.approx(bursts["on-demand"][0], abs=5e-4)
    assert cost < 0.50
