"""Bills that mislead: what the report says of them, and what the plan would do."""

import math
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from optimizer.controller.config import AwsSettings
from optimizer.controller.providers.aws import aws_provider
from optimizer.controller.providers.simulated import SimulatedCloud
from optimizer.plan import read_plan
from optimizer.recommend.result import WorkloadReport
from optimizer.recommend.run import Found, Options, recommend
from optimizer.recommend.write import write_report
from simulator.errors import InputError
from simulator.market import Market, Pool
from tests.optimizer.recommend.bills import WEEKS, charge, machine_hours, write_bill
from tests.optimizer.recommend.scene import Scene

NOW = datetime(2026, 1, 5, 12, tzinfo=UTC)
HOURS = range(WEEKS * 168)
Report = Callable[..., Found]


@pytest.fixture
def report_of(scene: Scene, tmp_path: Path) -> Report:
    """Return a function from the rows of a bill to its report, on the market of m5.large."""

    def run(rows: list[dict[str, object]], **options: Any) -> Found:
        ledger, workloads = write_bill(tmp_path, rows)
        chosen: dict[str, Any] = {"windows": 8, "service_policy": "spothedge-2", **options}
        return recommend(ledger, workloads, [scene.markets[0]], Options(**chosen))

    return run


def _daily(hour: int) -> int:
    """Return a demand of 2 to 10 instances."""
    return round(6 - 4 * math.cos(2 * math.pi * hour / 24))


def _moved(found: Found, name: str) -> Found:
    """Return the report with one workload moved to its best heuristic, whatever was recommended."""
    chosen = {"action": "move", "role": "heuristic", "policy": "spothedge-1"}
    workloads = tuple(
        w.model_copy(update={"decision": w.decision.model_copy(update=chosen)}) if w.name == name else w
        for w in found.report.workloads
    )
    return replace(found, report=found.report.model_copy(update={"workloads": workloads}))


def test_plan_leaves_all_that_a_commitment_covers(report_of: Report, tmp_path: Path) -> None:
    rows = []
    for hour in HOURS:
        covered = min(_daily(hour), 4)
        rows.append(machine_hours("shop", hour, covered, pricing="Committed", price=0.06))
        if _daily(hour) > covered:
            rows.append(machine_hours("shop", hour, _daily(hour) - covered))
    found = _moved(report_of(rows), "shop")
    (shop,) = found.report.workloads
    written = write_report(found, tmp_path / "out", NOW)
    assert written.plan is not None
    (planned,) = read_plan(written.plan, now=NOW).workloads
    assert planned.kind == "service"
    assert planned.demand.source == "series"
    # Noon of a Monday, as the first hours of the bill were midnight of one.
    wanted = [max(_daily(12 + hour) - 4, 0) for hour in range(24 * 7)]
    assert list(planned.demand.instances[: 24 * 7]) == wanted
    assert planned.committed == 0
    assert planned.expected is not None
    scenario = shop.scenario("heuristic")
    assert scenario is not None
    assert planned.expected.cost_usd == pytest.approx(
        scenario.monthly_usd - shop.commitment.covered_cost, abs=1e-6
    )
    assert any("no commitment covers" in text for text in planned.reasons)


def test_parts_of_instances_are_not_moved_to_whole_ones(report_of: Report) -> None:
    rows = [machine_hours("third", hour, 0.3) for hour in HOURS]
    rows += [machine_hours("most", hour, 0.97) for hour in HOURS]
    rows += [machine_hours("whole", hour, 3) for hour in HOURS]
    found = report_of(rows, service_policy="look-ahead")
    by_name = {one.name: one for one in found.report.workloads}
    third = by_name["third"].decision
    assert third.action == "change-nothing"
    assert any("30% were billed" in text or "cannot be shown" in text for text in third.reasons)
    assert any("3.33 times" in text for text in third.assumptions)
    assert any("1.03 times" in text for text in by_name["most"].decision.assumptions)
    assert not any("times the" in text for text in by_name["whole"].decision.assumptions)


def test_ledger_that_grew_since_is_refused(scene: Scene, tmp_path: Path) -> None:
    rows = [machine_hours("shop", hour, 3) for hour in range(168)]
    _, workloads = write_bill(tmp_path, rows, "before")
    rows += [machine_hours("shop", hour, 3) for hour in range(168, 336)]
    ledger, _ = write_bill(tmp_path, rows, "after")
    with pytest.raises(InputError, match=r"shop: the ledger has 1,008.* 504.*derive"):
        recommend(ledger, workloads, [scene.markets[0]], Options(windows=8))


def test_less_than_a_week_does_not_suffice(report_of: Report) -> None:
    (one,) = report_of([machine_hours("day", hour, 3) for hour in range(24)]).report.workloads
    assert one.decision.action == "change-nothing"
    assert any("spans 24 hours" in text for text in one.decision.reasons)
    assert any("a week" in text for text in one.decision.missing_data)


def test_workload_out_of_range_does_not_end_the_report(report_of: Report) -> None:
    rows = [machine_hours("shop", hour, 3) for hour in HOURS]
    rows += [machine_hours("bytes", hour, 5_000_000) for hour in HOURS]
    rows += [machine_hours("idle", hour, 0) for hour in HOURS]
    by_name = {one.name: one.decision for one in report_of(rows).report.workloads}
    assert any("100,000 instances" in text for text in by_name["bytes"].reasons)
    assert any("no instance-hours" in text for text in by_name["idle"].reasons)
    assert len(by_name["shop"].reasons) > 0


@pytest.mark.parametrize("minutes", [math.inf, 1e9])
def test_cold_start_that_cannot_be_is_told(scene: Scene, tmp_path: Path, minutes: float) -> None:
    ledger, workloads = write_bill(tmp_path, [machine_hours("shop", hour, 3) for hour in HOURS])
    text = workloads.read_text()
    given = ".inf" if math.isinf(minutes) else f"{minutes:.1f}"
    workloads.write_text(text.replace("cold_start_minutes: 3.0", f"cold_start_minutes: {given}"))
    (one,) = recommend(ledger, workloads, [scene.markets[0]], Options(windows=8)).report.workloads
    assert any("cold start" in reason.lower() for reason in one.decision.reasons)


def test_other_product_than_the_market_s_is_not_replayed(report_of: Report) -> None:
    rows = [machine_hours("windows", hour, 3, price=0.188, listed=0.188) for hour in HOURS]
    rows += [machine_hours("discounted", hour, 3, price=0.07) for hour in HOURS]
    by_name = {one.name: one for one in report_of(rows).report.workloads}
    windows = by_name["windows"]
    assert windows.decision.action == "change-nothing"
    assert windows.scenario("champion") is None
    assert any("0.1880" in text and "operating system" in text for text in windows.decision.reasons)
    assert any("--product" in text for text in windows.decision.missing_data)
    assert by_name["discounted"].scenario("champion") is not None


def test_hours_that_two_markets_share_count_once(scene: Scene, tmp_path: Path) -> None:
    ledger, workloads = write_bill(tmp_path, [machine_hours("shop", hour, 3) for hour in HOURS])
    market = Market.load(scene.markets[0])
    half = market.ticks // 2
    parts = {"copy": market, "first": market.window(0, half + 720), "second": market.window(half, half)}
    for name, part in parts.items():
        part.save(tmp_path / f"{name}.npz")

    def shop(*names: str) -> WorkloadReport:
        options = Options(windows=8, window_hours=48, service_policy="spothedge-2")
        paths = [tmp_path / f"{name}.npz" for name in names]
        (one,) = recommend(ledger, workloads, paths, options).report.workloads
        return one

    whole, doubled, pieces = shop("copy"), shop("copy", "second", "first"), shop("second", "first")
    assert whole.market is not None
    assert doubled.market is not None
    assert pieces.market is not None
    assert doubled.market.independent_windows == whole.market.independent_windows == 20
    assert pieces.market.independent_windows <= 20
    assert doubled.scenarios == whole.scenarios
    assert sum("counted once" in text for text in doubled.market.not_matched) == 2
    assert any("first 120 h" in text for text in pieces.market.not_matched)


def test_only_aws_is_sent_to_market_fetch(report_of: Report) -> None:
    rows = [machine_hours("a", hour, 3, instance_type="m7i.large") for hour in HOURS]
    rows += [machine_hours("b", hour, 3, instance_type="n2.large", provider="Google Cloud") for hour in HOURS]
    by_name = {one.name: one.decision.missing_data for one in report_of(rows).report.workloads}
    assert any("market fetch" in text for text in by_name["a"])
    assert by_name["b"]
    assert not any("market fetch" in text for text in by_name["b"])


def test_hours_without_demand_do_not_count_as_available(scene: Scene, tmp_path: Path) -> None:
    rows = [machine_hours("rare", hour, 4) for hour in HOURS if hour % 24 in (0, 9, 12)]
    rows += [machine_hours("always", hour, 4) for hour in HOURS]
    ledger, workloads = write_bill(tmp_path, rows)
    data = yaml.safe_load(workloads.read_text())
    for one in data["workloads"]:
        one |= {"kind": "service", "job": None}
        one["service"] = {"availability_target": 0.5, "cold_start_minutes": 3.0}
    workloads.write_text(yaml.safe_dump(data))
    # Spot is to be had half of the time: that a service needs nothing meanwhile does not make it available.
    market = Market.load(scene.markets[0]).select([0])
    capacity = np.where(np.arange(market.ticks) // 37 % 2, 20, 0)[None].astype(np.int32)
    halved = Market(
        market.pools,
        market.tick_seconds,
        market.start,
        market.spot_price,
        capacity,
        market.on_demand_price,
        "made for tests",
    )
    halved.save(tmp_path / "halved.npz")
    options = Options(windows=8, service_policy="spot-only")
    found = recommend(ledger, workloads, [tmp_path / "halved.npz"], options)
    by_name = {one.name: one.scenario("champion") for one in found.report.workloads}
    for scenario in by_name.values():
        assert scenario is not None
        assert scenario.sla is not None
        assert scenario.sla.raw == pytest.approx(0.5, abs=0.1)


def test_span_without_a_zone_is_utc(scene: Scene, tmp_path: Path) -> None:
    ledger, workloads = write_bill(tmp_path, [machine_hours("shop", hour, 3) for hour in HOURS])
    options = Options(windows=8, service_policy="spothedge-2")
    known = recommend(ledger, workloads, [scene.markets[0]], options).report
    workloads.write_text(workloads.read_text().replace("'2024-03-04T00:00:00Z'", "2024-03-04 00:00:00"))
    bare = recommend(ledger, workloads, [scene.markets[0]], options).report
    assert bare.span == known.span
    assert bare.total == known.total


@pytest.mark.parametrize("hours", [math.nan, 0.0, -1.0, math.inf])
def test_outage_that_cannot_be_is_refused(scene: Scene, hours: float) -> None:
    with pytest.raises(InputError, match="--outage-hours"):
        recommend(scene.ledger, scene.workloads, scene.markets, Options(outage_hours=hours))


def test_windows_have_an_upper_limit(scene: Scene) -> None:
    with pytest.raises(InputError, match="4 to 5000 windows"):
        recommend(scene.ledger, scene.workloads, scene.markets, Options(windows=1_000_000_000))


def test_report_that_cannot_be_written_leaves_no_older_plan(report_of: Report, tmp_path: Path) -> None:
    found = report_of([machine_hours("shop", hour, 3) for hour in HOURS])
    out = tmp_path / "out"
    (out / "report.html").mkdir(parents=True)
    (out / "plan.yaml").write_text("of an earlier report")
    with pytest.raises(InputError, match="cannot be written"):
        write_report(found, out, NOW)
    assert not (out / "plan.yaml").exists()


def test_credits_and_other_currencies_are_told_beside_the_totals(report_of: Report) -> None:
    rows = [machine_hours("shop", hour, 3) for hour in HOURS]
    rows += [machine_hours("laden", hour, 2, currency="EUR") for hour in HOURS]
    rows += [charge("Credit", -20.0, app="shop"), charge("Adjustment", -5.5), charge("Tax", 7.0)]
    report = report_of(rows).report
    usd = next(one for one in report.reconciliation if one.currency == "USD")
    assert (usd.credits, usd.other) == ("-25.5", "7")
    parts = (usd.workloads, usd.other_instances, usd.unused_commitment, usd.credits, usd.other)
    assert sum(Decimal(part) for part in parts) == Decimal(usd.effective_cost)
    assert any("-25.50 USD are not shared out" in note for note in report.notes)
    assert any("140.16 EUR" in note for note in report.notes)


def test_headline_of_a_foreign_bill_names_its_currency(report_of: Report) -> None:
    report = report_of([machine_hours("laden", hour, 2, currency="EUR") for hour in HOURS]).report
    assert "140.16 EUR a month" in report.headline


def test_plan_names_what_can_be_launched(scene: Scene, tmp_path: Path) -> None:
    rows = [machine_hours("render", hour, 3, instance_type="p3.2xlarge") for hour in HOURS]
    ledger, workloads = write_bill(tmp_path, rows)
    recorded = Market.load(scene.markets[0])
    zones = ("use1-az1", "use1-az2", "use1-az4")
    traced = replace(
        recorded,
        pools=tuple(Pool("aws", "us-east-1", zone, "v100") for zone in zones),
        source="made for tests",
    )
    traced.save(tmp_path / "v100.npz")
    options = Options(windows=8, service_policy="spothedge-2")
    found = _moved(recommend(ledger, workloads, [tmp_path / "v100.npz"], options), "render")
    written = write_report(found, tmp_path / "out", NOW)
    assert written.plan is not None
    assert any("use1-az1" in note and "market fetch" in note for note in written.notes)
    plan = read_plan(written.plan, now=NOW)
    (planned,) = plan.workloads
    assert {pool.instance_type for pool in planned.pools} == {"p3.2xlarge"}
    with pytest.raises(InputError, match="zone ID"):
        aws_provider("spotwise", AwsSettings(), plan)
    cloud = SimulatedCloud(replace(traced, start=plan.created), plan)
    first = planned.pools[0]
    assert cloud.provider().prices.quotes([first])[first.name].usd_per_hour == traced.spot_price[0, 0]


def test_nothing_is_moved_for_nothing(report_of: Report) -> None:
    # One instance: the best mix that keeps the target is on-demand capacity, as billed to the last digit.
    (one,) = report_of(
        [machine_hours("lone", 0, 1, hours=24 * 14)], service_policy="spothedge-0"
    ).report.workloads
    mix, champion = one.scenario("static-mix"), one.scenario("champion")
    assert mix is not None
    assert champion is not None
    assert mix.monthly_usd == pytest.approx(one.billed.monthly)
    assert champion.sla is not None
    assert not champion.sla.holds
    assert one.decision.action == "change-nothing"
    assert any("costs as much as the bill" in text for text in one.decision.reasons)
    assert any("cannot be shown to keep the SLA" in text for text in one.decision.reasons)
    assert any("longer market" in text for text in one.decision.missing_data)


@pytest.mark.parametrize(("every", "stranded"), [(1, False), (2, True)])
def test_job_that_is_covered_now_and_then_is_not_moved(report_of: Report, every: int, stranded: bool) -> None:
    rows = [machine_hours("base", hour, 1) for hour in HOURS]
    for day in range(14):
        for hour in range(5):
            covered = day % every == 0
            rows += [machine_hours("job", 24 * day + hour, 2)]
            pricing = "Committed" if covered else "Standard"
            rows += [
                machine_hours("job", 24 * day + hour, 2, pricing=pricing, price=0.06 if covered else 0.096)
            ]
    job = next(one for one in report_of(rows).report.workloads if one.name == "job")
    assert job.kind == "deadline-job"
    told = any("paid for nothing" in text and "moves whole" in text for text in job.decision.reasons)
    assert told == stranded
    if stranded:
        assert job.decision.action == "change-nothing"
        assert any("job.committed" in text for text in job.decision.missing_data)


def test_plan_of_other_ticks_than_judged_says_so(scene: Scene, tmp_path: Path) -> None:
    rows = [machine_hours("quick", hour, 3) for hour in HOURS]
    rows += [machine_hours("slow", hour, 3, instance_type="m5.xlarge") for hour in HOURS]
    ledger, workloads = write_bill(tmp_path, rows)
    fine = Market.load(scene.markets[0])
    pools = tuple(replace(pool, instance_type="m5.xlarge") for pool in fine.pools)
    replace(fine, pools=pools, tick_seconds=3600).save(tmp_path / "hourly.npz")
    markets = [scene.markets[0], tmp_path / "hourly.npz"]
    found = recommend(ledger, workloads, markets, Options(windows=8, service_policy="spothedge-2"))
    written = write_report(_moved(_moved(found, "quick"), "slow"), tmp_path / "out", NOW)
    assert written.plan is not None
    assert read_plan(written.plan, now=NOW).tick_seconds == 600
    told = [note for note in written.notes if "judged at ticks of 3600 s" in note]
    assert len(told) == 1
    assert told[0].startswith("slow:")
