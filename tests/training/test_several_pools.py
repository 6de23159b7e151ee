"""The comparison over several pools on real zones, one draw of prices."""

from pathlib import Path

import numpy as np
import pytest

from simulator.errors import InputError
from training.several_pools import SETTINGS, Variety, compare, folds, price_ratios, summary

TRACES = "traces/skypilot_spot_traces/availability/1-node/aws-02-15-2023"
PRICES = "prices/aws_spotlake_2024-01_hourly.parquet"


def test_planner_is_near_the_optimum_and_below_the_baselines_on_zones_it_never_saw(shared_data: Path) -> None:
    parts = list(folds(shared_data / TRACES, shared_data / PRICES, draws=1))
    assert [len(market.pools) for part in parts for _, market in part.markets] == [3, 3, 3]
    table = compare(parts)
    assert not table["missed"].any()
    mean = table.groupby("policy")["cost_usd"].mean()
    assert mean["planner"] < 1.06 * table["optimum_usd"].mean()
    assert mean["planner"] == mean.min()
    rows = summary(table)
    assert len(rows) == (len(SETTINGS) + 1) * len(mean)
    assert rows["missed"].sum() == 0


def test_knowing_only_the_occupied_pool_costs_a_few_per_cent(shared_data: Path) -> None:
    part = next(folds(shared_data / TRACES, shared_data / PRICES, draws=1))
    table = compare([part], ("round-robin-uniform-progress",), "occupied")
    assert not table["missed"].any()
    mean = table.groupby("policy")["cost_usd"].mean()
    assert mean["planner"] < 1.15 * table["optimum_usd"].mean()
    assert mean["planner"] < 0.95 * mean["round-robin-uniform-progress"]


def test_slower_pools_and_moves_cost_a_few_per_cent_and_no_deadline(shared_data: Path) -> None:
    parts = list(folds(shared_data / TRACES, shared_data / PRICES, draws=1))
    table = compare(parts[1:2], ("cheapest-first",), variety=Variety((0.6, 1.4), 10.0, 2.0))
    assert not table["missed"].any()
    mean = table.groupby("policy")["cost_usd"].mean()
    assert mean["planner"] < 1.12 * table["optimum_usd"].mean()
    assert mean["planner"] < 0.9 * mean["cheapest-first"]


def test_throughputs_are_drawn_for_each_pool_and_draw(shared_data: Path) -> None:
    _, market = next(folds(shared_data / TRACES, shared_data / PRICES, draws=1)).markets[0]
    variety = Variety((0.6, 1.4), 10.0, 2.0)
    terms = [variety.terms(market, draw) for draw in (0, 0, 1)]
    assert terms[0] == terms[1] != terms[2]
    assert terms[0] is not None
    assert terms[0].between("us-east-1", "us-west-2") == (600.0, 2.0)
    assert all(0.6 <= terms[0].of_pool(pool) <= 1.4 for pool in market.pools)
    assert Variety().terms(market, 0) is None


def test_prices_are_drawn_from_one_type_and_the_same_for_the_same_seed(shared_data: Path) -> None:
    ratios = price_ratios(shared_data / PRICES)
    assert all(((values > 0.15) & (values < 0.8)).all() for values in ratios.values())
    once, again, other = (
        [
            market.spot_price[:, 0]
            for part in folds(shared_data / TRACES, shared_data / PRICES, 2, seed)
            for _, market in part.markets
        ]
        for seed in (0, 0, 1)
    )
    np.testing.assert_array_equal(once, again)
    assert (np.array(once) != np.array(other)).any()


def test_more_groups_than_zones_are_refused(shared_data: Path) -> None:
    with pytest.raises(InputError, match="10 groups of 9 zones; accepted: 1 to 9"):
        next(folds(shared_data / TRACES, shared_data / PRICES, groups=10))
