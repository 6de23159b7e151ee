"""Shadow, canary and rollback: who is acted on, and what is reported."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from optimizer.controller.config import ControllerSettings
from optimizer.controller.daemon import Daemon
from optimizer.controller.journal import Journal
from optimizer.controller.providers.simulated import SimulatedCloud
from optimizer.controller.status import Counts, snapshot
from optimizer.fake_aws import FakeAws
from optimizer.plan import Plan
from simulator.errors import InputError
from simulator.market import Market
from tests.optimizer.controller.scene import Begin, Idler, job, market, on_fake, plan, service


def flapping() -> Market:
    return market(np.random.default_rng(9).integers(0, 2, (2, 120)), spot=[[1.0], [1.2]])


def test_shadow_touches_nothing_and_costs_what_acting_would(begin: Begin) -> None:
    of = flapping()
    placed = {"on_demand": 1, "spot": []}
    the_plan = plan(of, job(of, policy="spot-when-available", placement_now=placed), service(of))
    costs = {}
    for mode in ("shadow", "apply"):
        cloud = SimulatedCloud(of, the_plan)
        run = begin(the_plan, cloud, mode=mode, folder=mode)
        active = 0
        for _ in range(80):
            report = run.controller.run_tick()
            active += int(run.controller.jobs[0][0].active[0])
            if mode == "shadow":
                assert not cloud.instances()
            cloud.advance()
        costs[mode] = [fleet.cost.tolist() for fleet in run.controller.fleets]
        status = snapshot(run.controller, report, Counts())
        if mode == "shadow":
            assert status["present_usd"] == pytest.approx(3.0 * (active - 1) / 6)
            assert {row.id.partition("-")[0] for row in run.journal.live_instances()} == {"shadow"}
    assert costs["shadow"] == costs["apply"]


def test_a_shadow_goes_on_after_a_restart(begin: Begin) -> None:
    of = flapping()
    the_plan = plan(of, job(of, policy="spot-when-available"))
    cloud = SimulatedCloud(of, the_plan)
    for _ in range(84):
        run = begin(the_plan, cloud, mode="shadow")
        run.controller.run_tick()
        run.journal.close()
        cloud.advance()
    assert run.controller.jobs[0][0].done[0]
    assert not run.controller.jobs[0][0].missed[0]


def canaries(of: Market, count: int = 4) -> Plan:
    return plan(of, *(job(of, f"job-{k}", policy="spot-when-available") for k in range(count)))


def test_a_canary_acts_on_its_share_only_and_is_promoted_when_it_pays(begin: Begin) -> None:
    of = market([[9] * 120])
    the_plan = canaries(of)
    cloud = SimulatedCloud(of, the_plan)
    settings = {"canary": {"share": 0.25, "hours": 2.0}}
    run = begin(the_plan, cloud, mode="canary", **settings)
    chosen = set(run.controller.canary.names)  # type: ignore[union-attr]  # canary mode has one
    assert len(chosen) == 1
    for tick in range(13):
        assert {one.workload for one in cloud.instances()} <= chosen
        run.controller.run_tick()
        cloud.advance()
        if tick == 5:
            run.journal.close()
            run = begin(the_plan, cloud, mode="canary", **settings)
            assert run.controller.canary.names == chosen  # type: ignore[union-attr]  # as above
    assert run.controller.canary.state == "promoted"  # type: ignore[union-attr]  # as above
    run.controller.run_tick()
    assert {one.workload for one in cloud.instances()} == {f"job-{k}" for k in range(4)}
    assert "canary" in run.kinds()


def test_a_canary_that_costs_too_much_goes_back_to_on_demand_for_good(begin: Begin) -> None:
    of = market([[9] * 120], spot=2.9)
    the_plan = canaries(of)
    cloud = SimulatedCloud(of, the_plan)
    settings = {"canary": {"share": 0.25, "hours": 2.0, "most_cost_ratio": 0.9}}
    for _ in range(20):
        run = begin(the_plan, cloud, mode="canary", **settings)
        run.controller.run_tick()
        run.journal.close()
        cloud.advance()
    assert run.controller.canary.state == "rolled-back"  # type: ignore[union-attr]  # canary mode has one
    held = [one for one in cloud.instances() if one.state == "running"]
    assert [one.option for one in held] == ["on-demand"]


def test_a_canary_whose_promise_breaks_is_rolled_back_at_once(begin: Begin) -> None:
    of = market([[9] * 200])
    the_plan = plan(of, job(of, work_hours=2.0, deadline_hours=3.0), job(of, "other"))
    cloud = SimulatedCloud(of, the_plan)
    run = begin(the_plan, cloud, mode="canary", canary={"share": 1.0, "hours": 500.0})
    run.controller.jobs[0][0].work_left[0] = 1e6
    for _ in range(20):
        run.controller.run_tick()
        cloud.advance()
    assert run.controller.canary.state == "rolled-back"  # type: ignore[union-attr]  # canary mode has one


def test_a_canary_that_ran_nothing_is_not_promoted(begin: Begin) -> None:
    of = market([[9] * 200])
    the_plan = plan(of, *(job(of, f"job-{k}", policy="spot-when-available", begins=60) for k in range(4)))
    cloud = SimulatedCloud(of, the_plan)
    run = begin(the_plan, cloud, mode="canary", canary={"share": 0.25, "hours": 2.0})
    states = []
    for _ in range(90):
        run.controller.run_tick()
        states.append(run.controller.canary.state)  # type: ignore[union-attr]  # canary mode has one
        cloud.advance()
    assert set(states[:60]) == {"running"}
    assert states[-1] == "promoted"


@pytest.mark.parametrize("verdict", ["promoted", "rolled-back"])
def test_a_verdict_holds_for_the_next_plan_with_the_same_policies(begin: Begin, verdict: str) -> None:
    of = market([[9] * 120], spot=1.0 if verdict == "promoted" else 2.9)
    settings = {"canary": {"share": 0.25, "hours": 2.0, "most_cost_ratio": 0.9}}
    cloud = SimulatedCloud(of, canaries(of))
    run = begin(canaries(of), cloud, mode="canary", **settings)
    for _ in range(14):
        run.controller.run_tick()
        cloud.advance()
    assert run.controller.canary.state == verdict  # type: ignore[union-attr]  # canary mode has one
    run.journal.close()
    jobs = [job(of, f"job-{k}", policy="spot-when-available") for k in range(4)]
    renewed = plan(of, *jobs, caps={"usd_per_hour": 1e5})
    run = begin(renewed, cloud, mode="canary", **settings)
    assert run.controller.canary.state == verdict  # type: ignore[union-attr]  # as above


def test_what_runs_under_a_promoted_policy_is_looked_after_while_another_is_a_canary(begin: Begin) -> None:
    of = market([[9] * 120])
    settings = {"canary": {"share": 0.25, "hours": 2.0}}
    with FakeAws(of) as fake:
        before = canaries(of)
        run = begin(before, fake, mode="canary", provider=on_fake(fake, before), **settings)
        for _ in range(14):
            run.controller.run_tick()
            fake.advance(600)
        assert len(list(run.controller.inventory.workloads())) == 4
        run.journal.close()
        after = plan(of, *(job(of, f"job-{k}", policy="greedy") for k in range(4)))
        run = begin(after, fake, mode="canary", provider=on_fake(fake, after), **settings)
        canary = run.controller.canary
        assert canary is not None
        assert canary.state == "running"
        run.controller.run_tick()
        other = next(
            name for name in sorted(run.controller.inventory.workloads()) if name not in canary.names
        )
        fake.interrupt(run.controller.inventory.live(other)[0].id)
        run.controller.run_tick()
        (held,) = run.controller.inventory.live(other)
        assert held.option == "on-demand", "the safe baseline makes up for it"
        for _ in range(80):
            run.controller.run_tick()
            fake.advance(600)
        assert "deadline-missed" not in run.kinds()
        assert not run.controller.inventory.workloads()


def test_a_share_of_too_few_is_refused(begin: Begin) -> None:
    of = market([[9] * 120])
    the_plan = canaries(of)
    with pytest.raises(InputError, match=r"5% of 4 workloads .* at least 0\.250"):
        begin(the_plan, SimulatedCloud(of, the_plan), mode="canary")


def test_dry_run_does_not_blame_itself_for_deadlines(begin: Begin) -> None:
    of = market([[9] * 120])
    the_plan = plan(of, job(of))
    cloud = SimulatedCloud(of, the_plan)
    run = begin(the_plan, cloud, mode="dry-run")
    run.controller.jobs[0] = (run.controller.jobs[0][0], Idler())
    for _ in range(100):
        run.controller.run_tick()
        cloud.advance()
    assert "deadline-missed" not in run.kinds()
    assert not cloud.instances()


def test_deploy_files_fit_the_code(tmp_path: Path) -> None:
    """Every metric that the dashboard asks for exists; what the policy allows: `test_permissions.py`."""
    import re

    from optimizer.controller.status import prometheus

    root = Path(__file__).resolve().parents[3]
    of = market([[9] * 120])
    the_plan = plan(of, job(of), service(of))
    cloud = SimulatedCloud(of, the_plan)
    settings = ControllerSettings.model_validate(
        {
            "state_dir": tmp_path,
            "mode": "apply",
            "endpoint": {"enabled": False},
            "provider": {"kind": "simulated", "simulated": {"market": "unused"}},
        }
    )
    with Journal(tmp_path / "journal.sqlite") as journal:
        daemon = Daemon(the_plan, settings, cloud.provider(), journal, lambda *_: None)
        daemon.run(2)
        text = prometheus(daemon.status(), daemon.counts)
    dashboard: dict[str, Any] = json.loads((root / "deploy/grafana-dashboard.json").read_text())
    asked = {
        name
        for panel in dashboard["panels"]
        for target in panel["targets"]
        for name in re.findall(r"spotwise_\w+", target["expr"])
    }
    served = set(re.findall(r"# TYPE (spotwise_\w+)", text))
    assert asked <= served


def test_a_shadow_on_aws_says_how_much_rests_on_capacity_that_nobody_asked_for(begin: Begin) -> None:
    of = market([[9] * 60, [9] * 60], spot=[[1.0], [1.2]])
    the_plan = plan(of, service(of, cold_start_minutes=0.0))
    with FakeAws(of) as fake:
        run = begin(the_plan, fake, provider=on_fake(fake, the_plan), mode="shadow")
        for tick in range(4):
            report = run.controller.run_tick()
            status = snapshot(run.controller, report, Counts())
            # two instances at 1.0 and one at 1.2 instead of 3.0, for a sixth of an hour per tick
            assert status["assumed_saving_usd"] == pytest.approx(tick * (2 * 2.0 + 1.8) / 6)
            assert status["saved_usd"] == pytest.approx(status["assumed_saving_usd"]), "all of it, here"
            fake.advance(600)
        seen = list(run.journal.seen())
        run.journal.close()
        again = begin(the_plan, fake, provider=on_fake(fake, the_plan), mode="shadow")
        assert again.controller.belief is not None
        assert again.controller.belief.usd == pytest.approx(status["assumed_saving_usd"])
        assert status["assumed_pools"] == ["aws/us-east-1a/m5.large", "aws/us-east-1b/m5.large"]
        assert not fake.log.counts["RunInstances"]
        assert {held for *_, held, _ in seen} == {0}, "what a shadow believes is not recorded as a market"


def test_a_shadow_whose_cloud_tells_capacity_assumes_nothing(begin: Begin) -> None:
    of = market([[9] * 60])
    the_plan = plan(of, service(of, cold_start_minutes=0.0))
    cloud = SimulatedCloud(of, the_plan)
    run = begin(the_plan, cloud, mode="shadow")
    for _ in range(3):
        report = run.controller.run_tick()
        cloud.advance()
    status = snapshot(run.controller, report, Counts())
    assert status["saved_usd"] > 0
    assert (status["assumed_saving_usd"], status["assumed_pools"]) == (0.0, [])
