"""The table of trained policies beside their planner."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np

from simulator.market import Market, Pool
from training.service.gate import ServiceBaseline, ServiceGateSettings
from training.service.train_figures import HEADING, beside_the_planner


def test_the_planner_is_no_better_than_itself_and_on_demand_alone_is_dearer() -> None:
    rng = np.random.default_rng(0)
    market = Market.build(
        [Pool("aws", "r", f"z{p}", "t") for p in range(3)], tick_seconds=60,
        start=datetime(2024, 1, 1, tzinfo=UTC), spot_price=1.0,
        spot_capacity=np.repeat(rng.choice([0, 4], (3, 12), p=[0.1, 0.9]), 60, axis=1), on_demand_price=3.0,
    )  # fmt: skip
    baseline = ServiceBaseline(name="spothedge-0", cheaper_by=0)
    settings = ServiceGateSettings(demand=2, window_hours=4, targets=(0.9, 0.99), baselines=(baseline,))
    rows = beside_the_planner(["look-ahead", "on-demand"], "look-ahead", market, settings)
    assert len(rows) == 2
    assert all(row.count("|") == HEADING.count("|") for row in rows)
    same, dearer = (row.split("|")[1:-1] for row in rows)
    assert same[0].strip() == "look-ahead"
    assert same[3] == same[4]
    assert same[5].strip() == "0.0 (0.0 to 0.0)"
    assert dearer[4].strip() == "100.0%"
    assert float(dearer[5].split("(")[0]) < 0.0
