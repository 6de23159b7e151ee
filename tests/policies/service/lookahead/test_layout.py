"""The risk of a layout against enumeration, and the layout that is chosen against all others."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from policies.service.lookahead.layout import choose, risk


def ways(held: int, loss: float, deeper: float) -> list[tuple[int, float]]:
    """(lost, chance) of one pool."""
    lost = [(k, loss * deeper ** (k - 1) * ((1 - deeper) if k < held else 1.0)) for k in range(1, held + 1)]
    return [(0, 1 - loss), *lost]


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=80, deadline=None)
def test_risk_is_the_enumeration_of_all_losses(seed: int) -> None:
    rng = np.random.default_rng(seed)
    pools = int(rng.integers(1, 5))
    layout = rng.integers(0, 4, pools)
    on_demand = int(rng.integers(0, 3))
    demand = max(int(layout.sum()) + on_demand - int(rng.integers(0, 4)), 0)
    hazard, joint = rng.uniform(0, 0.1, pools), rng.uniform(0, 0.6, (pools, pools))
    deeper = float(rng.uniform(0, 1))
    spares = int(layout.sum()) + on_demand - demand
    expected = 0.0
    for p in np.flatnonzero(layout):
        options = [
            ways(int(layout[q]), 1.0 if q == p else float(joint[p, q]), deeper) if layout[q] else [(0, 1.0)]
            for q in range(pools)
        ]
        for outcome in itertools.product(*options):
            if sum(lost for lost, _ in outcome) > spares:
                expected += hazard[p] * float(np.prod([chance for _, chance in outcome]))
    got = risk(layout, on_demand, demand, hazard, joint, deeper, np.zeros(32))
    assert got == pytest.approx(expected, abs=1e-12)


def chosen(demand: int, hazard: list[float], loss_cost: float, **other: Any) -> np.ndarray:
    pools = len(hazard)
    best = np.zeros(pools + 1, np.int64)
    values: dict[str, Any] = {
        "held": np.zeros(pools + 1, np.int64), "room": np.full(pools, 99), "price": np.ones(pools),
        "committed": 0, "region": np.arange(pools), "joint": np.full((pools, pools), 0.01), "only": [-1, -1],
    } | other  # fmt: skip
    choose(
        demand, values["held"], values["room"], values["price"], 3.0, values["committed"], np.array(hazard),
        values["joint"], 1.0, values["region"], loss_cost, 0.0,
        np.array(values["only"]), best,
    )  # fmt: skip
    return best


def test_without_a_cost_of_shortages_all_goes_to_the_cheapest_pool() -> None:
    assert chosen(5, [0.01, 0.01, 0.01], 0.0, price=np.array([0.5, 0.4, 0.6])).tolist() == [0, 5, 0, 0]


def test_the_safest_of_equally_dear_pools_is_taken() -> None:
    assert chosen(3, [0.01, 0.001, 0.02], 10.0).tolist() == [0, 3, 0, 0]


def test_a_spare_is_spread_so_that_no_single_loss_is_felt() -> None:
    layout = chosen(3, [0.001] * 5, 2000.0)
    assert layout[:-1].max() == 1
    assert layout[:-1].sum() == 4
    assert layout[-1] == 0


def test_spares_are_put_in_regions_that_do_not_fall_together() -> None:
    region = np.array([0, 0, 0, 1, 2])
    joint = np.where(region[:, None] == region[None, :], 0.3, 0.001)
    layout = chosen(1, [0.001, 0.001, 0.001, 0.0011, 0.0011], 4000.0, region=region, joint=joint)
    assert layout[:-1].sum() == 2
    assert len(set(region[np.flatnonzero(layout[:-1])])) == 2


def test_where_losses_are_certain_to_cost_more_all_is_on_demand() -> None:
    assert chosen(3, [0.2, 0.2], 1e6).tolist() == [0, 0, 3]


def test_pools_without_room_get_nothing_and_on_demand_fills_the_rest() -> None:
    layout = chosen(5, [0.001, 0.001], 1.0, room=np.array([2, 0]))
    assert layout[:-1].tolist() == [2, 0]
    assert layout[-1] == 3


def test_committed_instances_are_used_first() -> None:
    assert chosen(4, [0.001], 1.0, committed=3).tolist() == [1, 3]


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=60, deadline=None)
def test_the_demand_is_always_covered_within_the_room(seed: int) -> None:
    rng = np.random.default_rng(seed)
    pools, demand = int(rng.integers(1, 6)), int(rng.integers(0, 12))
    room = rng.integers(0, 5, pools)
    layout = chosen(
        demand, rng.uniform(1e-5, 0.05, pools).tolist(), float(rng.uniform(0, 5000)), room=room,
        held=rng.integers(0, 4, pools + 1), price=rng.uniform(0.3, 1.0, pools),
    )  # fmt: skip
    assert layout.sum() >= demand
    assert (layout[:-1] <= room).all()
    assert (layout >= 0).all()


@given(st.integers(0, 2**32 - 1), st.integers(-1, 3), st.integers(-1, 4))
@settings(max_examples=60, deadline=None)
def test_spares_and_reserve_are_those_asked_for_where_there_is_room(
    seed: int, spares: int, quarters: int
) -> None:
    rng = np.random.default_rng(seed)
    pools, demand = int(rng.integers(1, 6)), int(rng.integers(1, 12))
    hazard, loss_cost = rng.uniform(1e-5, 0.05, pools).tolist(), float(rng.uniform(0, 5000))
    layout = chosen(demand, hazard, loss_cost, only=[spares, quarters])
    if spares >= 0:
        assert layout.sum() == demand + spares
    if quarters >= 0:
        assert layout[-1] == -(-quarters * demand // 4)
    assert demand <= layout.sum() <= demand + 3
    scarce = chosen(demand, hazard, loss_cost, only=[spares, quarters], room=rng.integers(0, 3, pools))
    assert scarce.sum() >= demand
    assert scarce[-1] >= (-(-quarters * demand // 4) if quarters >= 0 else 0)
