"""The synthetic exports say what the scenario says."""

import csv
import json
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from optimizer.billing.focus import NAMES
from optimizer.billing.sample import (
    Anomaly,
    PlantedWorkload,
    Scenario,
    demo_scenario,
    place,
    snowflake_scenario,
    write_azure,
    write_cur,
    write_focus,
    write_gcp,
)
from simulator.errors import InputError

Query = Callable[..., list[tuple[Any, ...]]]


@given(
    st.lists(st.integers(0, 50), min_size=1, max_size=60),
    st.integers(0, 30),
    st.floats(0, 1),
    st.integers(0, 9),
)
def test_placement_sums_to_demand(demand: list[int], bought: int, share: float, seed: int) -> None:
    series = np.array(demand, dtype=np.int64)
    on_demand, spot, committed = place(series, bought=bought, spot_share=share, seed=seed)
    assert (on_demand + spot + committed == series).all()
    assert min(on_demand.min(), spot.min(), committed.min()) >= 0
    assert committed.max() <= bought


def test_cur_rows_add_up_to_the_planted_truth(tmp_path: Path, query: Query) -> None:
    scenario = demo_scenario(days=14)
    truth = write_cur(scenario, tmp_path)
    files = f"read_parquet('{tmp_path}/data/*/*.parquet')"
    rows = query(
        f"SELECT bill_invoice_id, sum(line_item_unblended_cost::DECIMAL(18,10)) FROM {files} GROUP BY 1"
    )
    assert {(name, "USD"): total for name, total in rows} == {
        key: pytest.approx(value, abs=Decimal("1e-8")) for key, value in truth.billed.items()
    }
    # Negations cancel covered usage, so what is invoiced equals what is amortised.
    assert sum(truth.billed.values()) == pytest.approx(truth.effective, abs=Decimal("1e-8"))
    instance_hours = query(
        f"SELECT sum(line_item_usage_amount) FROM {files} WHERE line_item_resource_id LIKE 'i-%'"
        " AND pricing_unit = 'Hrs'"
    )[0]
    planted = sum(int(w.demand[scenario.present()].sum()) for w in scenario.workloads)
    assert instance_hours == (planted,)
    assert sum(truth.instance_hours.values()) == planted
    untagged = query(
        f"SELECT count(*) FROM {files} WHERE resource_tags['user_synthetic'] IS DISTINCT FROM 'true'"
    )[0]
    assert untagged == (0,)


def test_cur_line_ids_are_unique_and_the_gap_is_empty(tmp_path: Path, query: Query) -> None:
    scenario = demo_scenario(days=4)
    write_cur(scenario, tmp_path)
    files = f"read_parquet('{tmp_path}/data/*/*.parquet')"
    assert query(f"SELECT count(*) - count(DISTINCT identity_line_item_id) FROM {files}")[0] == (0,)
    lost = [scenario.time(hour).replace(tzinfo=None) for hour in sorted(scenario.missing)]
    assert lost
    assert query(
        f"SELECT count(*) FROM {files} WHERE line_item_usage_start_date IN (SELECT unnest(?))", [lost]
    )[0] == (0,)


def test_gcp_bills_cores_and_memory_and_invoices_in_los_angeles(tmp_path: Path, query: Query) -> None:
    scenario = demo_scenario("gcp", days=9, start=datetime(2024, 3, 25, tzinfo=UTC))
    truth = write_gcp(scenario, tmp_path)
    export = f"read_parquet('{truth.files[0]}')"
    core_hours = query(
        f"SELECT sum(usage.amount / 3600 / system_labels[2].value::INT) FROM {export}"
        " WHERE len(system_labels) = 2 AND usage.unit = 'seconds'"
    )[0]
    assert core_hours == (pytest.approx(sum(truth.instance_hours.values())),)
    # 2024-04-01T00:00Z is still March in Los Angeles.
    first_april = query(
        f"SELECT min(usage_start_time) = '2024-04-01 07:00:00+00' FROM {export}"
        " WHERE invoice.month = '202404'"
    )[0]
    assert first_april == (True,)


def test_gcp_json_lines_hold_the_same_rows_as_parquet(tmp_path: Path, query: Query) -> None:
    scenario = demo_scenario("gcp", days=2)
    parquet = write_gcp(scenario, tmp_path)
    lines = write_gcp(scenario, tmp_path, format="jsonl")
    assert parquet.billed == lines.billed
    costs = [json.loads(line)["cost"] for line in lines.files[0].read_text().splitlines()]
    stored = query(f"SELECT cost FROM read_parquet('{parquet.files[0]}')")
    assert costs == [value for (value,) in stored]


@pytest.mark.parametrize("agreement", ["ea", "mca"])
def test_azure_actual_and_amortized_sets(tmp_path: Path, agreement: str) -> None:
    truth = write_azure(demo_scenario("azure"), tmp_path, agreement="ea" if agreement == "ea" else "mca")
    cost = "CostInBillingCurrency" if agreement == "ea" else "costInBillingCurrency"
    charge = "ChargeType" if agreement == "ea" else "chargeType"
    with (tmp_path / "actual.csv").open(encoding="utf-8-sig") as source:
        actual = list(csv.DictReader(source))
    with (tmp_path / "amortized.csv").open(encoding="utf-8-sig") as source:
        amortized = list(csv.DictReader(source))
    assert sum(Decimal(r[cost]) for r in actual) == sum(truth.billed.values())
    assert sum(Decimal(r[cost]) for r in amortized) == truth.effective
    assert {r[charge] for r in actual} == {"Usage", "Purchase", "Refund", "RoundingAdjustment"}
    assert {"UnusedReservation", "UnusedSavingsPlan"} & {r[charge] for r in amortized}
    unused = sum(Decimal(r[cost]) for r in amortized if r[charge].startswith("Unused"))
    assert unused == truth.unused > 0


def test_focus_csv_and_parquet_agree(tmp_path: Path, query: Query) -> None:
    scenario = demo_scenario(days=3)
    parquet, text = write_focus(scenario, tmp_path), write_focus(scenario, tmp_path, format="csv")
    assert parquet.billed == text.billed
    assert parquet.effective == pytest.approx(sum(parquet.billed.values()))
    columns = query(f"DESCRIBE SELECT * FROM read_parquet('{parquet.files[0]}')")
    assert [name for name, *_ in columns] == list(NAMES)
    assert len(NAMES) == 57


def test_snowflake_demand_becomes_a_scenario(shared_data: Path) -> None:
    path = shared_data / "workloads" / "snowflake_shavedice_hourly_normalized.parquet"
    scenario = snowflake_scenario(path, days=3, scale=0.05)
    assert len(scenario.workloads) >= 5
    peak = max(int(w.demand.max()) for w in scenario.workloads)
    assert 5 < peak <= 50
    with pytest.raises(InputError, match="no rows in the 3 days"):
        snowflake_scenario(path, days=3, start=datetime(2030, 1, 1, tzinfo=UTC))


def test_a_scenario_refuses_series_that_do_not_fit() -> None:
    ones, zeros = np.ones(2, dtype=np.int64), np.zeros(2, dtype=np.int64)
    workload = PlantedWorkload("w", "1", "r", "z", "m5.large", 2, 8, 0.1, 0.03, zeros, zeros, ones, bought=0)
    with pytest.raises(InputError, match="more committed instances than the 0 bought"):
        Scenario(datetime(2024, 1, 1, tzinfo=UTC), 2, (workload,))
    with pytest.raises(InputError, match="accepted: 3 counts"):
        Scenario(datetime(2024, 1, 1, tzinfo=UTC), 3, (workload,), anomalies=(Anomaly(0, 0, 1.0),))
    with pytest.raises(InputError, match="accepted: aws, gcp, azure"):
        demo_scenario("oracle")
