"""The table of services that are not always needed."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np

from simulator.market import Market, Pool
from training.service.rise_figures import HEADING, demands, rise_rows


def test_every_demand_rises_from_zero() -> None:
    for demand in demands(1008, 600).values():
        assert ((demand[1:] > 0) & (demand[:-1] == 0)).sum() >= 5


def test_where_capacity_never_lacks_spot_is_as_available_as_on_demand_for_a_third() -> None:
    market = Market.build(
        [Pool("aws", "r", f"z{p}", "t") for p in range(3)], tick_seconds=300,
        start=datetime(2024, 1, 1, tzinfo=UTC), spot_price=1.0, spot_capacity=np.full((3, 600), 9),
        on_demand_price=3.0,
    )  # fmt: skip
    rows = rise_rows("spot-only", market, hours=24.0)
    assert len(rows) == 9
    for row in rows:
        assert row.count("|") == HEADING.splitlines()[0].count("|")
        cells = [cell.strip() for cell in row.split("|")[1:-1]]
        assert cells[2] == cells[4]
        assert cells[3] == "33.3%"
