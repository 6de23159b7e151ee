"""A look that does not see everything: who may have something there stays still, the others go on."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from optimizer.controller.config import AwsSettings, ControllerSettings
from optimizer.controller.daemon import Daemon
from optimizer.controller.journal import Journal
from optimizer.controller.providers import Partly
from optimizer.controller.providers.aws import aws_provider
from optimizer.controller.providers.simulated import SimulatedCloud
from optimizer.controller.report import Report
from optimizer.fake_aws import FakeAws, Fault
from optimizer.plan import Plan
from simulator.market import Market, Pool
from tests.optimizer.controller.scene import (
    START,
    Begin,
    FakeClock,
    job,
    market,
    on_fake,
    plan,
    pools,
    service,
)

SPOT = "spot-when-available"
DENIED = Fault(
    "error", region="eu-west-1", action="DescribeInstances", code="UnauthorizedOperation", status=403
)


def two_regions() -> Market:
    return Market.build(
        [
            Pool("aws", "us-east-1", "us-east-1a", "m5.large"),
            Pool("aws", "eu-west-1", "eu-west-1a", "m5.large"),
        ],
        tick_seconds=600,
        start=START,
        spot_price=[[1.0], [0.9]],
        spot_capacity=np.full((2, 200), 9),
        on_demand_price=3.0,
    )


def apart(of: Market) -> Plan:
    """A job in each region, and one that may use both."""
    here, there = pools(of)[:1], pools(of)[1:]
    return plan(
        of,
        job(of, "here", policy=SPOT) | {"pools": here},
        job(of, "there", policy=SPOT) | {"pools": there},
        job(of, "both", policy=SPOT, deadline_hours=20.0),
    )


@pytest.mark.parametrize("fault", [DENIED, Fault("unreachable", region="eu-west-1", service="ec2")])
def test_a_region_that_does_not_answer_holds_up_no_other(begin: Begin, fault: Fault) -> None:
    of = two_regions()
    the_plan = apart(of)
    with FakeAws(of) as fake:
        run = begin(the_plan, fake, provider=on_fake(fake, the_plan))
        run.controller.run_tick()
        held = {row.workload: row for row in run.controller.inventory.all_live()}
        assert held["both"].pool.startswith("aws/eu-west-1a")
        fake.fault(fault)
        fake.advance(600)
        fake.interrupt(held["here"].id)
        for _ in range(6):
            report = run.controller.run_tick()
            assert report.held == ""
            fake.advance(600)
        (new,) = run.controller.inventory.live("here")
        assert new.id != held["here"].id
        for name in ("there", "both"):
            assert [row.id for row in run.controller.inventory.live(name)] == [held[name].id]
        assert [
            message for _, kind, message in run.events if kind == "unreachable" and "eu-west-1" in message
        ]
        fake.faults.clear()
        for _ in range(75):
            run.controller.run_tick()
            fake.advance(600)
        assert run.controller.jobs[0][0].done.all()
        assert all(fleet.done.all() for fleet, _ in run.controller.jobs)
        assert "deadline-missed" not in run.kinds()
        assert len(fake.log.of("RunInstances", acted=True)) == 4, "nothing was launched twice"
        assert not list(run.controller.inventory.all_live())


def test_a_region_that_never_answered_keeps_its_workloads_still(begin: Begin) -> None:
    of = two_regions()
    the_plan = apart(of)
    with FakeAws(of) as fake:
        fake.fault(DENIED)
        run = begin(the_plan, fake, provider=on_fake(fake, the_plan))
        run.controller.run_tick()
        assert {row.workload for row in run.controller.inventory.all_live()} == {"here"}
        fake.faults.clear()
        fake.advance(10)
        run.controller.run_tick()
        assert {row.workload for row in run.controller.inventory.all_live()} == {"here", "there", "both"}


def test_a_group_that_was_deleted_holds_up_no_other_workload(begin: Begin) -> None:
    of = market([[30] * 200, [30] * 200])
    demand = {"source": "group", "group": "web-group", "region": "us-east-1"}
    the_plan = plan(of, service(of, demand=demand, cold_start_minutes=0.0), job(of, policy=SPOT))
    with FakeAws(of) as fake:
        provider = on_fake(fake, the_plan)
        fake.client("autoscaling", "us-east-1").create_auto_scaling_group(
            AutoScalingGroupName="web-group",
            MinSize=0,
            MaxSize=9,
            DesiredCapacity=4,
            AvailabilityZones=["us-east-1a", "us-east-1b"],
            MixedInstancesPolicy={
                "LaunchTemplate": {
                    "LaunchTemplateSpecification": {
                        "LaunchTemplateName": "spotwise-test",
                        "Version": "$Latest",
                    },
                    "Overrides": [{"InstanceType": "m5.large"}],
                }
            },
        )
        fake.advance(60)
        run = begin(the_plan, fake, provider=provider)
        run.controller.run_tick()
        fake.client("autoscaling", "us-east-1").delete_auto_scaling_group(
            AutoScalingGroupName="web-group", ForceDelete=True
        )
        fake.advance(600)
        (held,) = run.controller.inventory.live("job")
        fake.interrupt(held.id)
        report = run.controller.run_tick()
        assert (report.held, report.outcome.launched) == ("", 1)
        assert any("no group web-group" in message for _, _, message in run.events)
        for _ in range(80):
            run.controller.run_tick()
            fake.advance(600)
        assert run.controller.jobs[0][0].done.all()
        assert "deadline-missed" not in run.kinds()


class Waits(FakeClock):
    """Moves the fake's time on when the daemon waits."""

    def wait_until(self, moment: float) -> bool:
        self.fake.advance(max(moment - self.now(), 0.0))
        return False


def drive(tmp_path: Path, fake: FakeAws, the_plan: Plan, fault: Fault, ticks: int) -> list[Report]:
    settings = ControllerSettings.model_validate(
        {
            "state_dir": tmp_path,
            "mode": "apply",
            "endpoint": {"enabled": False},
            "provider": {"kind": "simulated", "simulated": {"market": "unused"}},
        }
    )
    provider = replace(on_fake(fake, the_plan), clock=Waits(fake))
    fake.fault(fault)
    reports: list[Report] = []
    with Journal(tmp_path / "journal.sqlite") as journal:
        Daemon(the_plan, settings, provider, journal, lambda *_: None).run(ticks, reports.append)
    return reports


@pytest.mark.parametrize("kind", ["blind", "in doubt"])
def test_what_a_look_left_open_is_settled_soon_and_not_at_the_next_tick(tmp_path: Path, kind: str) -> None:
    of = market([[9] * 99], tick_seconds=3600)
    the_plan = plan(of, job(of, policy=SPOT))
    with FakeAws(of) as fake:
        action, times = ("DescribeInstances", 1) if kind == "blind" else ("RunInstances", 2)
        reports = drive(tmp_path, fake, the_plan, Fault("unreachable", action=action, times=times), 3)
        assert sum(fake.held().values()) == 1
        assert reports[1].now - reports[0].now == pytest.approx(10.0, abs=1.0)
        (launch,) = fake.log.of("RunInstances", acted=True)
        assert launch.at.timestamp() - reports[0].now == pytest.approx(10.0, abs=1.0)


def test_an_hour_without_an_answer_is_not_filled_with_questions(tmp_path: Path) -> None:
    of = market([[9] * 99], tick_seconds=3600)
    the_plan = plan(of, job(of, policy=SPOT))
    with FakeAws(of) as fake:
        reports = drive(tmp_path, fake, the_plan, Fault("unreachable", service="ec2", seconds=3500.0), 18)
        blind = [report for report in reports if report.held == "blind"]
        assert 10 <= len(blind) <= 17
        assert reports[-1].now <= START.timestamp() + 2 * 3600.0


def test_work_of_an_instance_that_nobody_sees_is_not_counted(begin: Begin) -> None:
    of = market([[9] * 99])
    the_plan = plan(of, job(of))
    cloud = SimulatedCloud(of, the_plan)

    class Blank:
        blank = False

        def __getattr__(self, name: str) -> Any:
            return getattr(cloud, name)

        def instances(self) -> Any:
            return [] if self.blank else cloud.instances()

    view = Blank()
    run = begin(the_plan, cloud, provider=replace(cloud.provider(), capacity=view))
    fleet = run.controller.jobs[0][0]
    for _ in range(3):
        run.controller.run_tick()
        cloud.advance()
    run.controller.run_tick()
    before = float(fleet.work_left[0])
    view.blank = True
    for _ in range(2):
        cloud.advance()
        run.controller.run_tick()
        assert float(fleet.work_left[0]) == before
    view.blank = False
    cloud.advance()
    run.controller.run_tick()
    assert float(fleet.work_left[0]) == before - 1800.0, "it ran all the time"
    view.blank = True
    cloud.terminate([run.controller.inventory.live("job")[0].id])
    for _ in range(3):
        cloud.advance()
        run.controller.run_tick()
    assert float(fleet.work_left[0]) == before - 1800.0
    assert len([one for one in cloud.instances() if one.state == "running"]) == 1, "it is replaced"


def test_prices_of_the_regions_that_answer_are_used() -> None:
    of = two_regions()
    the_plan = apart(of)
    with FakeAws(of) as fake:
        fake.fault(Fault("error", region="eu-west-1", code="UnauthorizedOperation", status=403))
        settings = AwsSettings.model_validate(
            {"launch": {"default": {"template": "spotwise-test"}}, "patience_seconds": 0}
        )
        provider = aws_provider("x", settings, the_plan, make_client=fake.client, clock=FakeClock(fake))
        with pytest.raises(Partly, match="eu-west-1") as error:
            provider.prices.quotes([pool for one in the_plan.workloads for pool in one.pools])
        assert set(error.value.found) == {"aws/us-east-1a/m5.large"}


def test_looks_that_find_nothing_for_weeks_come_at_most_every_five_minutes(begin: Begin) -> None:
    of = market([[9] * 99], tick_seconds=3600)
    the_plan = plan(of, job(of))
    run = begin(the_plan, SimulatedCloud(of, the_plan))
    now = START.timestamp()
    waits = [run.controller.next_look(Report(0, now, again=True)) - now for _ in range(3000)]
    assert waits[:5] == [10.0, 20.0, 40.0, 80.0, 160.0]
    assert set(waits[5:]) == {300.0}
    assert run.controller.next_look(Report(0, now)) - now == 3600.0
    assert run.controller.next_look(Report(0, now, again=True)) - now == 10.0
