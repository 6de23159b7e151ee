"""Generate → ingest → derive gives back what was planted."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from optimizer.billing.ingest import ingest
from optimizer.billing.ledger import Ledger
from optimizer.billing.sample import (
    PlantedWorkload,
    Scenario,
    demo_scenario,
    snowflake_scenario,
    write_azure,
    write_cur,
    write_focus,
    write_gcp,
)
from optimizer.billing.sample.scenario import place
from optimizer.billing.views import cost_by
from optimizer.billing.workloads import Workload, WorkloadFile, derive, load_workloads, write_workloads
from optimizer.billing.workloads.kind import guess_kind
from simulator.errors import InputError

CurCsv = Callable[..., Path]


def match(planted: PlantedWorkload, found: WorkloadFile) -> Workload:
    """Return the derived workload of a planted one."""
    app = planted.tags.get("app", "(none)")
    chosen = [
        w
        for w in found.workloads
        if w.key == {"tag:app": app, "account": planted.account, "region": planted.region}
        and w.instance_type == planted.instance_type
    ]
    assert len(chosen) == 1
    return chosen[0]


@pytest.mark.parametrize("export", ["cur", "gcp", "focus"])
def test_derive_gives_back_the_planted_demand_exactly(export: str, tmp_path: Path) -> None:
    scenario = demo_scenario("gcp" if export == "gcp" else "aws", days=10, seed=3)
    writers: dict[str, Callable[..., Any]] = {"cur": write_cur, "gcp": write_gcp, "focus": write_focus}
    writers[export](scenario, tmp_path / "export")
    ingest([str(tmp_path / "export")], tmp_path / "l.duckdb")
    derived = derive(tmp_path / "l.duckdb")
    write_workloads(derived, tmp_path / "workloads.yaml")
    found = load_workloads(tmp_path / "workloads.yaml")
    assert len(found.workloads) == len(scenario.workloads)
    assert found.span.start == scenario.start
    assert found.span.hours == scenario.hours
    there = scenario.present()
    for planted in scenario.workloads:
        workload = match(planted, found)
        # Hours that the export lost are told apart from hours without demand.
        assert (workload.missing == ~there).all()
        expected = np.stack([planted.on_demand, planted.spot, planted.committed], axis=1) * there[:, None]
        assert np.array_equal(workload.placed, expected)
        assert not workload.imputed.any()
        total = planted.demand[there].sum()
        assert workload.purchase_mix.spot == pytest.approx(planted.spot[there].sum() / total, abs=1e-6)
        assert workload.commitment_coverage == pytest.approx(planted.committed[there].sum() / total, abs=1e-6)
        assert workload.on_demand_price == pytest.approx(planted.on_demand_price, rel=1e-6)
        assert workload.zones == [planted.zone]


def test_azure_days_are_shared_out_and_marked(tmp_path: Path) -> None:
    scenario = demo_scenario("azure", days=6)
    write_azure(scenario, tmp_path / "export")
    ingest([str(tmp_path / "export")], tmp_path / "l.duckdb")
    found = derive(tmp_path / "l.duckdb")
    for planted in scenario.workloads:
        workload = match(planted, found)
        assert workload.imputed[planted.demand.reshape(-1, 24).sum(axis=1).repeat(24) > 0].all()
        assert np.allclose(
            workload.demand.reshape(-1, 24).sum(axis=1), planted.demand.reshape(-1, 24).sum(axis=1)
        )
        assert "shape within them is not known" in workload.evidence
        assert not workload.missing.any()


def test_the_real_snowflake_demand_comes_back(shared_data: Path, tmp_path: Path) -> None:
    path = shared_data / "workloads" / "snowflake_shavedice_hourly_normalized.parquet"
    scenario = snowflake_scenario(path, days=7, scale=0.05)
    write_cur(scenario, tmp_path / "export")
    ingest([str(tmp_path / "export")], tmp_path / "l.duckdb")
    found = derive(tmp_path / "l.duckdb")
    assert len(found.workloads) == len(scenario.workloads) > 5
    for planted in scenario.workloads:
        assert np.array_equal(match(planted, found).demand, planted.demand)
    assert sum(w.demand.sum() for w in found.workloads) == sum(w.demand.sum() for w in scenario.workloads)


def test_a_nightly_job_is_guessed_with_evidence_and_loads_into_the_simulator(tmp_path: Path) -> None:
    write_cur(demo_scenario(days=9), tmp_path / "export")
    ingest([str(tmp_path / "export")], tmp_path / "l.duckdb")
    write_workloads(derive(tmp_path / "l.duckdb"), tmp_path / "w.yaml")
    found = load_workloads(tmp_path / "w.yaml")
    kinds = {w.name: w.kind for w in found.workloads}
    assert kinds.pop("nightly-etl") == "deadline-job"
    assert set(kinds.values()) == {"service"}
    job = found.find("nightly-etl")
    assert "one every 24 h" in job.evidence
    assert "from 00:00 UTC" in job.evidence
    assert "job.deadline_hours" in job.confirm
    simulated = job.deadline_job()
    assert (simulated.nodes, simulated.work_seconds, simulated.deadline_seconds) == (4, 5 * 3600, 24 * 3600)
    with pytest.raises(InputError, match="kind service; accepted here: deadline-job"):
        found.find("search-api").deadline_job()
    with pytest.raises(InputError, match="accepted: untagged, nightly-etl"):
        found.find("nothing")


def test_a_service_loads_into_the_simulator_with_its_planted_demand(tmp_path: Path) -> None:
    scenario = demo_scenario(days=9)
    write_cur(scenario, tmp_path / "export")
    ingest([str(tmp_path / "export")], tmp_path / "l.duckdb")
    write_workloads(derive(tmp_path / "l.duckdb"), tmp_path / "w.yaml")
    found = load_workloads(tmp_path / "w.yaml")
    workload = found.find("search-api")
    planted = next(w for w in scenario.workloads if w.name == "search-api")
    service = workload.service_workload(600)
    known = ~workload.missing  # hours that the export lacks take the demand before them
    by_hour = service.demand.reshape(-1, 6)
    assert known.sum() == len(known) - 3
    assert (by_hour == by_hour[:, :1]).all()
    assert np.array_equal(by_hour[known, 0], planted.demand[known])
    assert workload.service is not None
    assert service.availability_target == workload.service.availability_target
    assert service.cold_start_ticks == np.ceil(workload.service.cold_start_minutes / 10)
    assert 0 <= service.committed <= service.demand.min()
    with pytest.raises(InputError, match="kind deadline-job; accepted here: service"):
        found.find("nightly-etl").service_workload(600)
    with pytest.raises(InputError, match="accepted: a divisor or a multiple of 3600"):
        workload.service_workload(7000)


def test_rows_of_many_hours_are_spread_and_flagged(cur_csv: CurCsv, tmp_path: Path) -> None:
    path = cur_csv(
        {"line_item_usage_end_date": "2024-03-06T05:00:00.000Z", "line_item_usage_amount": "19"},
        {
            "line_item_usage_start_date": "2024-03-06T00:00:00.000Z",
            "line_item_usage_end_date": "2024-03-07T00:00:00.000Z",
            "line_item_usage_amount": "24",
        },
        {
            "line_item_usage_start_date": "2024-03-06T23:30:00.000Z",
            "line_item_usage_end_date": "2024-03-07T00:30:00.000Z",
        },
    )
    ingest([str(path)], tmp_path / "l.duckdb")
    workload = derive(tmp_path / "l.duckdb").workloads[0]
    # 10:00 to 05:00 is 19 hours, then a day; the last row is half before and half after midnight.
    assert workload.demand.tolist() == pytest.approx([1.0] * 14 + [2.0] * 5 + [1.0] * 18 + [1.5, 0.5])
    assert workload.imputed.all()
    assert workload.demand.sum() == pytest.approx(44)


def test_daylight_saving_has_every_hour_once(cur_csv: CurCsv, tmp_path: Path) -> None:
    # The clocks of New York and Los Angeles go forward on 2024-03-10 and back on 2024-11-03.
    for day, next_day in (("2024-03-10", "2024-03-11"), ("2024-11-03", "2024-11-04")):
        rows = [
            {
                "line_item_usage_start_date": f"{day}T{h:02d}:00:00.000Z",
                "line_item_usage_end_date": f"{day}T{h + 1:02d}:00:00.000Z"
                if h < 23
                else f"{next_day}T00:00:00.000Z",
            }
            for h in range(24)
        ]
        ingest([str(cur_csv(*rows))], tmp_path / f"{day}.duckdb")
        workload = derive(tmp_path / f"{day}.duckdb").workloads[0]
        assert workload.demand.tolist() == [1.0] * 24


@settings(max_examples=60)
@given(st.integers(0, 200), st.integers(1, 60 * 30), st.integers(0, 59), st.booleans())
def test_spreading_conserves_amounts(start: int, minutes: int, offset: int, is_run: bool) -> None:
    import duckdb
    import ibis

    from optimizer.billing.dimensions import spread_over_hours

    table = ibis.table(
        {
            "ChargePeriodStart": "timestamp",
            "ChargePeriodEnd": "timestamp",
            "amount": "decimal(38, 15)",
            "is_run": "boolean",
        },
        name="t",
    )
    sql = str(ibis.to_sql(spread_over_hours(table, ["amount"]), dialect="duckdb"))
    begin = start * 60 + offset
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        connection.execute(
            "CREATE TABLE t AS SELECT TIMESTAMP '2024-02-28' + to_minutes(?::BIGINT) AS ChargePeriodStart,"
            " TIMESTAMP '2024-02-28' + to_minutes(?::BIGINT) AS ChargePeriodEnd, 7::DECIMAL(38, 15)"
            " AS amount, ? AS is_run",
            [begin, begin + minutes, is_run],
        )
        rows = connection.execute(
            f"SELECT sum(amount), count(*), count(DISTINCT hour) FROM ({sql})"
        ).fetchall()
    touched = (begin + minutes - 1) // 60 - begin // 60 + 1
    assert float(rows[0][0]) == pytest.approx(7, abs=1e-9)
    assert rows[0][1] == rows[0][2] == (touched if is_run or minutes <= 25 * 60 else 1)


def test_running_time_of_a_month_is_spread_over_its_hours(cur_csv: CurCsv, tmp_path: Path) -> None:
    month = {
        "line_item_usage_start_date": "2024-03-01T00:00:00.000Z",
        "line_item_usage_end_date": "2024-04-01T00:00:00.000Z",
    }
    stretch = {
        "line_item_usage_start_date": "2024-03-02T12:30:00.000Z",
        "line_item_usage_end_date": "2024-03-04T12:30:00.000Z",
        "line_item_usage_amount": "96",
        "line_item_resource_id": "i-2",
    }
    storage = month | {"line_item_usage_type": "EBS:VolumeUsage", "line_item_resource_id": "vol-1"}
    path = cur_csv(month | {"line_item_usage_amount": "744"}, stretch, storage)
    ingest([str(path)], tmp_path / "l.duckdb")
    workload = derive(tmp_path / "l.duckdb", "tag:app").workloads[0]
    expected = np.ones(744)
    expected[24 + 12 : 72 + 13] += 2.0
    expected[[24 + 12, 72 + 12]] -= 1.0
    assert np.allclose(workload.demand, expected)
    assert workload.imputed.all()
    assert not workload.missing.any()
    assert "from rows of several hours" in workload.evidence
    assert workload.kind == "service"
    with Ledger.open(tmp_path / "l.duckdb") as ledger:
        flags = ledger.rows("SELECT DISTINCT x_Flags FROM ledger")
        rows = ledger.arrow(cost_by(ledger.table, ("hour",), "unblended")).to_pylist()
    assert flags == [("long-row",)]
    assert [float(row["instance_hours"]) for row in rows] == pytest.approx(expected)
    # A month of storage is a fee, and stands where it begins.
    assert float(rows[0]["cost"]) == pytest.approx(0.096 + 0.096 / 744)


def test_several_types_of_one_app_are_several_workloads(cur_csv: CurCsv, tmp_path: Path) -> None:
    path = cur_csv({}, {"line_item_usage_type": "BoxUsage:m5.xlarge"}, {"resource_tags": ""})
    ingest([str(path)], tmp_path / "l.duckdb")
    names = [w.name for w in derive(tmp_path / "l.duckdb", "tag:app").workloads]
    assert names == ["untagged", "web.m5.large", "web.m5.xlarge"]


def test_what_cannot_be_derived_is_said(cur_csv: CurCsv, tmp_path: Path) -> None:
    ingest([str(cur_csv({"line_item_usage_type": "EBS:VolumeUsage"}))], tmp_path / "l.duckdb")
    with pytest.raises(InputError, match="no row is time of a compute instance"):
        derive(tmp_path / "l.duckdb")
    for by, message in (
        ("colour", "--by colour: no such dimension; accepted: provider"),
        ("", "one or more"),
    ):
        with pytest.raises(InputError, match=message):
            derive(tmp_path / "l.duckdb", by)


def test_a_workloads_file_is_checked(tmp_path: Path, cur_csv: CurCsv) -> None:
    ingest([str(cur_csv({}))], tmp_path / "l.duckdb")
    path = tmp_path / "w.yaml"
    write_workloads(derive(tmp_path / "l.duckdb"), path)
    good = path.read_text()
    for old, new, message in (
        (
            "availability_target: 0.99",
            "availability_target: 7",
            r"w.yaml, line \d+, field workloads.0.service.availability_target: Input should",
        ),
        ("instance_type:", "instance_kind:", "workloads.0.instance_type: Field required"),
        ("version: 1", "version: 2", "version: Input should be 1"),
        ("kind: service", "kind: deadline-job", "workload web: kind deadline-job needs the field job"),
        ("- name: web", "- name: www", "0 hours of www, w.yaml says 1"),
        ("version: 1", "version: [", "not a workloads file \\(line"),
    ):
        path.write_text(good.replace(old, new))
        with pytest.raises(InputError, match=message):
            load_workloads(path)
    path.write_text(good)
    (tmp_path / "w.demand.parquet").write_bytes(b"PAR1 cut")
    with pytest.raises(InputError, match=r"w.demand.parquet: the demand of w.yaml cannot be read"):
        load_workloads(path)
    with pytest.raises(InputError, match=r"ends in .yaml"):
        write_workloads(derive(tmp_path / "l.duckdb"), tmp_path / "w.txt")


def test_a_job_with_all_terms_is_the_simulators(job_file: Path) -> None:
    job = load_workloads(job_file).find("web").deadline_job()
    # of the four checkpoints of 90 min the last one has no work behind it
    assert job.work_seconds == 6 * 3600 + 3 * 180
    assert job.checkpoint_interval_seconds == 93 * 60
    assert (job.due_seconds, job.lateness_usd_per_hour) == (8 * 3600, 2.5)
    assert (job.nodes, job.committed) == (4, 1)


@pytest.mark.parametrize(
    ("old", "new", "field", "problem"),
    [
        ("due_hours: 8.0", "due_hours: 12.5", "due_hours", "accepted: up to deadline_hours (12)"),
        ("due_hours: 8.0", "due_hours: .nan", "due_hours", "finite number"),
        ("due_hours: 8.0", "due_hours: null", "lateness_usd_per_hour", "without due_hours"),
        ("lateness_usd_per_hour: 2.5", "lateness_usd_per_hour: -1", "lateness_usd_per_hour", "greater than"),
        ("committed: 1", "committed: 5", "committed", "5 committed instances of 4"),
        ("interval_minutes: 90.0", "interval_minutes: 0", "checkpoint_cost_minutes", "give both, or neither"),
        ("committed: 1", "comitted: 1", "comitted", "Extra inputs"),
    ],
)
def test_terms_that_contradict_each_other_are_named_with_line_and_field(
    job_file: Path, old: str, new: str, field: str, problem: str
) -> None:
    text = job_file.read_text().replace(old, new)
    job_file.write_text(text)
    line = next(k for k, each in enumerate(text.splitlines(), 1) if f"    {field}:" in each)
    with pytest.raises(InputError) as error:
        load_workloads(job_file)
    assert f"w.yaml, line {line}, field workloads.0.job.{field}: " in str(error.value)
    assert problem in str(error.value)


@pytest.mark.parametrize("bought", [0, 3, 9])
def test_a_derived_job_has_the_commitments_of_its_bill(tmp_path: Path, bought: int) -> None:
    base = demo_scenario(days=6)
    job = next(one for one in base.workloads if one.name == "nightly-etl")
    on_demand, spot, committed = place(job.demand, bought=bought, spot_share=0.0)
    covered = replace(job, on_demand=on_demand, spot=spot, committed=committed, bought=bought)
    scenario = Scenario(base.start, base.hours, (covered,))
    write_focus(scenario, tmp_path / "export")
    ingest([str(tmp_path / "export")], tmp_path / "l.duckdb")
    found = derive(tmp_path / "l.duckdb").workloads[0]
    assert found.job is not None
    assert found.job.committed == min(bought, found.job.nodes)
    if bought < found.job.nodes:
        assert found.deadline_job().committed == bought
    else:
        with pytest.raises(InputError, match="committed whole has nothing to decide"):
            found.deadline_job()


def test_a_gap_ends_no_run_that_goes_on_behind_it() -> None:
    day = np.array([1.0] * 6 + [0.0] * 18)
    demand = np.tile(day, 5)
    missing = np.zeros(120, dtype=bool)
    missing[26:28] = True
    demand[missing] = 0
    guess = guess_kind(demand, missing, first_hour=9)
    assert (guess.kind, guess.work_hours, guess.period_hours) == ("deadline-job", 6.0, 24.0)
    assert "5 runs" in guess.evidence
    assert "from 09:00 UTC" in guess.evidence
    assert guess_kind(np.zeros(5), np.zeros(5, dtype=bool)).evidence == "no demand in the span"


def test_a_sparse_bill_has_zeros_and_not_gaps(cur_csv: CurCsv, tmp_path: Path) -> None:
    # One machine, five hours a day, and nothing else: an hour without a row is an hour without cost.
    rows = [
        {
            "line_item_usage_start_date": f"2024-03-{day:02d}T{h:02d}:00:00.000Z",
            "line_item_usage_end_date": f"2024-03-{day:02d}T{h + 1:02d}:00:00.000Z",
        }
        for day in range(4, 9)
        for h in range(5)
    ]
    ingest([str(cur_csv(*rows))], tmp_path / "l.duckdb")
    workload = derive(tmp_path / "l.duckdb").workloads[0]
    assert not workload.missing.any()
    assert workload.kind == "deadline-job"
    assert datetime(2024, 3, 4, tzinfo=UTC) == derive(tmp_path / "l.duckdb").span.start


def test_scenarios_with_an_export_gap_at_the_edges(tmp_path: Path) -> None:
    base = demo_scenario(days=3)
    scenario = Scenario(base.start, base.hours, base.workloads, missing=frozenset({0, 1, 71}))
    write_focus(scenario, tmp_path / "export")
    ingest([str(tmp_path / "export")], tmp_path / "l.duckdb")
    found = derive(tmp_path / "l.duckdb")
    # What lies before the first and behind the last row is outside the span.
    assert found.span.hours == 69
    assert not any(w.missing.any() for w in found.workloads)


def test_demand_per_tick_is_whole_instances_without_gaps(cur_csv: CurCsv, tmp_path: Path) -> None:
    ingest([str(cur_csv({}))], tmp_path / "l.duckdb")
    workload = derive(tmp_path / "l.duckdb").workloads[0]
    demand = np.array([0.0, 1.2, 3.0, 0.0, 2.0 + 1e-13])
    missing = np.array([True, False, False, True, False])
    workload.set_demand(np.stack([demand, demand * 0, demand * 0], axis=1), missing, np.zeros(5, dtype=bool))
    assert workload.demand_per_tick(3600).tolist() == [2, 2, 3, 3, 2]
    assert workload.demand_per_tick(1800).tolist() == [2, 2, 2, 2, 3, 3, 3, 3, 2, 2]
    assert workload.demand_per_tick(7200).tolist() == [2, 3, 2]
    for tick in (0, 700, 5000):
        with pytest.raises(InputError, match="accepted: a divisor or a multiple of 3600"):
            workload.demand_per_tick(tick)
    workload.set_demand(np.zeros((2, 3)), np.ones(2, dtype=bool), np.zeros(2, dtype=bool))
    with pytest.raises(InputError, match="the export lacks every hour"):
        workload.demand_per_tick(3600)


@pytest.mark.parametrize("by", ["hour", "tag:app,day", "month"])
def test_workloads_are_not_told_apart_by_time(by: str, cur_csv: CurCsv, tmp_path: Path) -> None:
    ingest([str(cur_csv({}))], tmp_path / "l.duckdb")
    with pytest.raises(InputError, match=r"demand is hourly as it is.*accepted: provider, .*tag:KEY"):
        derive(tmp_path / "l.duckdb", by)


def test_every_other_dimension_tells_workloads_apart(cur_csv: CurCsv, tmp_path: Path) -> None:
    from optimizer.billing.dimensions import COLUMN_OF

    ingest([str(cur_csv({}))], tmp_path / "l.duckdb")
    for by in (*COLUMN_OF, "purchase-option", "workload", "tag:app"):
        assert [w.demand.tolist() for w in derive(tmp_path / "l.duckdb", by).workloads] == [[1.0]]
