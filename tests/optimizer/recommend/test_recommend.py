"""The report as a whole: reconciled, deterministic, explained, and careful where data do not suffice."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import botocore.client
import jsonschema
import pytest
import yaml
from typer.testing import CliRunner

from optimizer.billing.ledger import Ledger
from optimizer.cli import app
from optimizer.controller.config import AwsSettings
from optimizer.controller.providers.aws import aws_provider
from optimizer.plan import file_sha256, read_plan
from optimizer.recommend.result import ROLES, Report, json_schema
from optimizer.recommend.run import Found, Options, recommend
from optimizer.recommend.write import write_report
from policies.registry import CHAMPIONS
from simulator.errors import InputError
from simulator.market import Market
from tests.optimizer.recommend.scene import TYPES, Scene, made_market

NOW = datetime(2026, 1, 5, 12, tzinfo=UTC)
ROOT = Path(__file__).resolve().parents[3]


def test_bill_adds_up_to_the_ledger_exactly(recommended: Found, scene: Scene) -> None:
    with Ledger.open(scene.ledger) as ledger:
        ((billed, effective),) = ledger.rows("SELECT sum(BilledCost), sum(EffectiveCost) FROM ledger")
    (one,) = recommended.report.reconciliation
    assert Decimal(one.billed_cost) == billed
    assert Decimal(one.effective_cost) == effective
    parts = (one.workloads, one.other_instances, one.unused_commitment, one.credits, one.other)
    assert sum(Decimal(part) for part in parts) == effective


def test_workloads_add_up_to_their_part_of_the_ledger(recommended: Found) -> None:
    (one,) = recommended.report.reconciliation
    whole = sum(workload.billed.cost for workload in recommended.report.workloads)
    assert whole == pytest.approx(float(one.workloads), abs=0.005)
    for workload in recommended.report.workloads:
        assert sum(line.cost for line in workload.billed.options) == pytest.approx(
            workload.billed.cost, abs=1e-6
        )


def test_planted_unused_commitment_is_listed(recommended: Found) -> None:
    (one,) = recommended.report.reconciliation
    assert float(one.unused_commitment) == pytest.approx(14.02848, abs=1e-6)
    assert sum(u.cost for u in recommended.report.unused_commitments) == pytest.approx(14.02848, abs=1e-6)


def test_every_scenario_is_there_for_every_workload(recommended: Found) -> None:
    for workload in recommended.report.workloads:
        assert {one.role for one in workload.scenarios} == set(ROLES) - {"recommended"}
    assert [one.role for one in recommended.report.total] == list(ROLES)


def test_total_is_the_sum_of_the_workloads(recommended: Found) -> None:
    report = recommended.report
    for total in report.total:
        each = [
            workload.scenario(workload.decision.role if total.role == "recommended" else total.role)
            for workload in report.workloads
        ]
        assert total.monthly_usd == pytest.approx(sum(one.monthly_usd for one in each if one is not None))


def test_nothing_is_cheaper_than_the_bound_and_keeps_the_target(recommended: Found) -> None:
    for workload in recommended.report.workloads:
        bound = workload.scenario("bound")
        assert bound is not None
        for one in workload.scenarios:
            if one.sla is not None and (one.sla.raw is None or one.sla.raw >= one.sla.target):
                assert one.monthly_usd >= bound.monthly_usd - 1e-6


def test_covered_usage_stays_in_every_scenario(recommended: Found) -> None:
    covered = [w for w in recommended.report.workloads if w.commitment.covered_cost > 0]
    assert {w.name for w in covered} == {"web-frontend", "payments-core"}
    for workload in covered:
        assert workload.commitment.stranded_if_moved == workload.commitment.covered_cost
        for one in workload.scenarios:
            assert one.monthly_usd >= workload.commitment.covered_cost
            if one.hours:
                committed = sum(h.hours for h in one.hours if h.option == "committed")
                assert committed == pytest.approx(workload.commitment.covered_hours)


def test_deadline_job_is_never_late(recommended: Found) -> None:
    job = next(w for w in recommended.report.workloads if w.kind == "deadline-job")
    slas = [one.sla for one in job.scenarios if one.sla is not None]
    assert len(slas) == 3
    assert all(sla.measure == "miss-probability" and sla.value == 0 and sla.holds for sla in slas)


def test_same_inputs_and_seed_give_the_same_bytes(quick: Callable[..., Found]) -> None:
    first, second = quick(), quick(workers=1)
    assert first.report.to_json() == second.report.to_json()


def test_another_seed_takes_other_windows(quick: Callable[..., Found]) -> None:
    assert quick().report.total != quick(seed=5).report.total


def test_json_keeps_to_the_published_schema(recommended: Found) -> None:
    schema = json.loads((ROOT / "docs/schemas/recommendation.schema.json").read_text())
    assert schema == json_schema()
    data = json.loads(recommended.report.to_json())
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate(data, schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(data | {"surprise": 1}, schema)


def test_json_is_read_back(recommended: Found) -> None:
    text = recommended.report.to_json()
    assert Report.model_validate_json(text).to_json() == text


def test_recommended_policy_saves_for_sure_and_keeps_the_sla(recommended: Found) -> None:
    moved = [w for w in recommended.report.workloads if w.decision.action == "move"]
    assert moved
    for workload in moved:
        scenario = workload.scenario(workload.decision.role)
        assert scenario is not None
        assert scenario.sla is not None
        assert scenario.sla.holds
        assert scenario.saving_interval_usd is not None
        assert scenario.saving_interval_usd[0] > 0


def test_plan_is_what_the_controller_reads(recommended: Found, tmp_path: Path, scene: Scene) -> None:
    written = write_report(recommended, tmp_path, NOW)
    assert written.plan is not None
    plan = read_plan(written.plan, now=NOW + timedelta(hours=1))
    moved = {w.name for w in recommended.report.workloads if w.decision.action == "move"}
    assert {one.name for one in plan.workloads} == moved
    assert plan.inputs["ledger.duckdb"] == file_sha256(scene.ledger)
    assert plan.caps.usd_per_hour > 0
    with pytest.raises(InputError, match="expired"):
        read_plan(written.plan, now=NOW + timedelta(days=8))
    text = written.plan.read_text()
    written.plan.write_text(text.replace("launches_per_tick: ", "launches_per_tick: 1", 1))
    with pytest.raises(InputError, match="checksum"):
        read_plan(written.plan, now=NOW)


def test_plan_names_the_bundle_of_a_learned_policy(recommended: Found, tmp_path: Path) -> None:
    report = recommended.report
    job = next(w for w in report.workloads if w.kind == "deadline-job")
    champion = job.scenario("champion")
    assert champion is not None
    decision = job.decision.model_copy(update={"role": "champion", "policy": "deadline-champion"})
    changed = report.model_copy(
        update={
            "workloads": tuple(
                w.model_copy(update={"decision": decision}) if w is job else w for w in report.workloads
            )
        }
    )
    written = write_report(replace(recommended, report=changed), tmp_path, NOW)
    assert written.plan is not None
    (policy,) = [one for one in read_plan(written.plan, now=NOW).policies if one.kind == "deadline"]
    assert policy.bundle_sha256 == file_sha256(CHAMPIONS / "deadline-champion.policy")


def test_plan_of_before_goes_when_nothing_is_to_be_moved(
    quick: Callable[..., Found], scene: Scene, tmp_path: Path
) -> None:
    (tmp_path / "plan.yaml").write_text("old")
    nothing = quick(markets=[scene.markets[0]], workloads=_only(scene, tmp_path, "nightly-etl"))
    written = write_report(nothing, tmp_path, NOW)
    assert written.plan is None
    assert not (tmp_path / "plan.yaml").exists()


def _only(scene: Scene, folder: Path, *names: str) -> Path:
    data = yaml.safe_load(scene.workloads.read_text())
    data["workloads"] = [one for one in data["workloads"] if one["name"] in names]
    shutil.copy(scene.workloads.parent / data["demand_file"], folder)
    path = folder / "some.yaml"
    path.write_text(yaml.safe_dump(data))
    return path


def test_workload_without_a_market_changes_nothing_and_says_what_is_missing(
    quick: Callable[..., Found], scene: Scene
) -> None:
    report = quick(markets=[scene.markets[0]]).report
    job = next(w for w in report.workloads if w.kind == "deadline-job")
    assert job.decision.action == "change-nothing"
    assert any("c5.2xlarge" in text and "market fetch" in text for text in job.decision.missing_data)
    assert job.market is None
    assert any("nightly-etl" in text for text in report.notes)


def test_instance_time_without_a_workload_is_told(
    quick: Callable[..., Found], scene: Scene, tmp_path: Path
) -> None:
    report = quick(workloads=_only(scene, tmp_path, "web-frontend")).report
    (one,) = report.reconciliation
    assert Decimal(one.other_instances) > 0
    assert any("r5.xlarge" in text for text in report.notes)


def test_market_of_another_time_is_told(quick: Callable[..., Found], scene: Scene, tmp_path: Path) -> None:
    market = Market.load(scene.markets[0])
    old = Market.build(
        market.pools,
        tick_seconds=market.tick_seconds,
        start=datetime(2023, 1, 1, tzinfo=UTC),
        spot_price=market.spot_price,
        spot_capacity=market.spot_capacity,
        on_demand_price=market.on_demand_price * 1.1,
    )
    old.save(tmp_path / "old.npz")
    report = quick(markets=[tmp_path / "old.npz"]).report
    web = next(w for w in report.workloads if w.name == "web-frontend")
    assert web.market is not None
    assert any("no hour in common" in text for text in web.market.matched)
    assert any("list price is 0.0960" in text for text in web.market.not_matched)


def test_prices_without_availability_need_bands(
    quick: Callable[..., Found], scene: Scene, tmp_path: Path
) -> None:
    market = Market.load(scene.markets[0])
    priced = Market.build(
        market.pools,
        tick_seconds=market.tick_seconds,
        start=market.start,
        spot_price=market.spot_price,
        spot_capacity=market.spot_capacity * 0 + 1_000_000,
        on_demand_price=market.on_demand_price,
    )
    priced.save(tmp_path / "priced.npz")
    report = quick(markets=[tmp_path / "priced.npz"]).report
    web = next(w for w in report.workloads if w.name == "web-frontend")
    assert web.decision.action == "change-nothing"
    assert any("--advisor" in text for text in web.decision.missing_data)

    bands = {"spot_advisor": {"us-east-1": {"Linux": {"m5.large": {"r": 1}}, "Windows": {}}}}
    (tmp_path / "advisor.json").write_text(json.dumps(bands))
    report = quick(markets=[tmp_path / "priced.npz"], advisor=tmp_path / "advisor.json").report
    web = next(w for w in report.workloads if w.name == "web-frontend")
    assert web.market is not None
    assert any("advisor bands" in text for text in web.market.assumed)
    assert all(one.assumed for one in web.scenarios if one.monthly_interval_usd is not None)
    assert any(text.startswith("ASSUMED") for text in web.decision.assumptions)


def test_synthetic_market_is_marked_as_assumed(quick: Callable[..., Found], tmp_path: Path) -> None:
    made_market("m5.large", 0, provider="synthetic").save(tmp_path / "s.npz")
    web = next(w for w in quick(markets=[tmp_path / "s.npz"]).report.workloads if w.name == "web-frontend")
    assert web.market is not None
    assert any("synthetic" in text for text in web.market.assumed)


def test_plan_of_a_synthetic_market_is_for_rehearsals(
    recommended: Found, quick: Callable[..., Found], tmp_path: Path
) -> None:
    assert not write_report(recommended, tmp_path / "recorded", NOW).notes
    markets = []
    for seed, name in enumerate(TYPES):
        markets.append(tmp_path / f"{name}.npz")
        made_market(name, seed, provider="synthetic").save(markets[-1])
    written = write_report(quick(markets=markets, windows=8), tmp_path / "drawn", NOW)
    assert written.plan is not None
    assert any("synthetic market" in note for note in written.notes)
    with pytest.raises(InputError, match=r"synthetic market.*market fetch"):
        aws_provider("spotwise", AwsSettings(), read_plan(written.plan, now=NOW))


def test_short_market_does_not_suffice(quick: Callable[..., Found], tmp_path: Path) -> None:
    made_market("m5.large", 0, days=3).save(tmp_path / "short.npz")
    web = next(
        w for w in quick(markets=[tmp_path / "short.npz"]).report.workloads if w.name == "web-frontend"
    )
    assert web.decision.action == "change-nothing"
    assert any("too short" in text for text in web.decision.reasons)


def test_dear_spot_changes_nothing(quick: Callable[..., Found], scene: Scene, tmp_path: Path) -> None:
    market = Market.load(scene.markets[0])
    dear = Market.build(
        market.pools,
        tick_seconds=market.tick_seconds,
        start=market.start,
        spot_price=market.on_demand_price * 1.5,
        spot_capacity=market.spot_capacity,
        on_demand_price=market.on_demand_price,
    )
    dear.save(tmp_path / "dear.npz")
    web = next(w for w in quick(markets=[tmp_path / "dear.npz"]).report.workloads if w.name == "web-frontend")
    assert web.decision.action == "change-nothing"
    assert any("more than the bill" in text for text in web.decision.reasons)


def test_other_currency_is_shown_and_not_simulated(
    quick: Callable[..., Found], scene: Scene, tmp_path: Path
) -> None:
    path = _only(scene, tmp_path, "web-frontend")
    path.write_text(path.read_text().replace("currency: USD", "currency: EUR"))
    (web,) = quick(workloads=path).report.workloads
    assert web.decision.action == "change-nothing"
    assert any("EUR" in text for text in web.decision.reasons)


def test_sensitivity_moves_costs_the_way_it_must(recommended: Found) -> None:
    for workload in recommended.report.workloads:
        by_change = {one.change: one for one in workload.sensitivity}
        assert len(by_change) == 4
        dearer = by_change["spot price + 25 %"]
        role = workload.decision.role if workload.decision.action == "move" else None
        if role is not None:
            scenario = workload.scenario(role)
            assert scenario is not None
            assert dearer.monthly_usd is not None
            assert dearer.monthly_usd > scenario.monthly_usd


def test_no_cloud_is_called(monkeypatch: pytest.MonkeyPatch, scene: Scene, tmp_path: Path) -> None:
    called: list[str] = []

    def refuse(self: object, operation: str, parameters: object) -> None:
        called.append(operation)
        raise AssertionError(operation)

    monkeypatch.setattr(botocore.client.BaseClient, "_make_api_call", refuse)
    arguments = ["recommend", "--ledger", str(scene.ledger), "--workloads", str(scene.workloads)]
    arguments += ["--market", str(scene.markets[0]), "--out", str(tmp_path / "out"), "--windows", "4"]
    done = CliRunner().invoke(app, [*arguments, "--service-policy", "spothedge-1", "--no-progress", "--json"])
    assert done.exit_code == 0, done.output
    assert not called
    assert json.loads(done.stdout)["version"] == 1
    assert {path.name for path in (tmp_path / "out").iterdir()} >= {
        "report.html",
        "report.md",
        "recommendation.json",
    }


def test_core_install_is_enough() -> None:
    code = (
        "import sys\n"
        "for name in ('torch', 'mlflow', 'gymnasium', 'stable_baselines3', 'optuna', 'boto3'):\n"
        "    sys.modules[name] = None\n"
        "import optimizer.recommend.write, optimizer.recommend.run, optimizer.cli.recommend\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


def test_unit_costs_of_workloads(quick: Callable[..., Found], scene: Scene, tmp_path: Path) -> None:
    metric = tmp_path / "metric.csv"
    hours = [datetime(2024, 3, 25, tzinfo=UTC) + timedelta(hours=h) for h in range(48)]
    metric.write_text("time,workload,value\n" + "".join(f"{h.isoformat()},search-api,1000\n" for h in hours))
    report = quick(metric=metric, unit="request").report
    search = next(w for w in report.workloads if w.name == "search-api")
    assert search.unit_cost is not None
    assert search.unit_cost.units == 48_000
    assert search.unit_cost.cost_per_unit == pytest.approx(search.unit_cost.cost / 48_000)
    assert all(w.unit_cost is None for w in report.workloads if w.name != "search-api")


def test_bad_input_is_refused(scene: Scene, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no market"):
        recommend(scene.ledger, scene.workloads, [], Options())
    with pytest.raises(InputError, match="given twice"):
        recommend(scene.ledger, scene.workloads, [*scene.markets, scene.markets[0]], Options())
    with pytest.raises(InputError, match="no deadline policy 'service-champion'"):
        recommend(scene.ledger, scene.workloads, scene.markets, Options(deadline_policy="service-champion"))
    with pytest.raises(InputError, match="nowhere"):
        recommend(tmp_path / "nowhere.duckdb", scene.workloads, scene.markets, Options())
    with pytest.raises(InputError, match="windows"):
        recommend(scene.ledger, scene.workloads, scene.markets, Options(windows=1))
