"""A new plan, another mode, a restart: what was done counts, what was imagined does not."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from optimizer.controller.providers.simulated import SimulatedCloud
from optimizer.fake_aws import FakeAws
from simulator.market import Market
from tests.optimizer.controller.scene import Begin, Run, job, market, on_fake, plan, pools, service

SPOT = "spot-when-available"


def ticks(run: Run, fake: FakeAws, count: int) -> None:
    for _ in range(count):
        run.controller.run_tick()
        fake.advance(600)


def left(run: Run, name: str = "job") -> float:
    """Hours of work left."""
    return next(
        float(fleet.work_left[fleet.row[name]]) / 3600.0
        for fleet, _ in run.controller.jobs
        if name in fleet.row
    )


def missed(run: Run) -> bool:
    return "deadline-missed" in run.kinds()


@pytest.mark.parametrize("change", ["another", "order", "policy", "pools"])
def test_a_new_plan_keeps_what_jobs_have_done(begin: Begin, change: str) -> None:
    of = market([[9] * 200, [9] * 200], spot=[[1.0], [1.1]])
    one, other = job(of, policy=SPOT), job(of, "other", policy=SPOT)
    before = plan(of, one, other)
    after = {
        "another": plan(of, one, job(of, "new", policy=SPOT), other),
        "order": plan(of, other, one),
        "policy": plan(of, {**one, "policy": "greedy"}, other),
        "pools": plan(of, {**one, "pools": pools(of)[1:]}, other),
    }[change]
    with FakeAws(of) as fake:
        run = begin(before, fake, provider=on_fake(fake, before))
        ticks(run, fake, 49)
        done = left(run)
        assert done < 3.0
        run.journal.close()
        run = begin(after, fake, provider=on_fake(fake, after))
        run.controller.run_tick()
        assert left(run) == pytest.approx(done - 1 / 6 if change != "pools" else done)
        ticks(run, fake, 40)
        assert left(run) == 0.0
        late = [message for _, kind, message in run.events if kind == "deadline-missed"]
        assert not any("job" in message or "other" in message for message in late)


def test_a_service_keeps_its_record_under_a_new_plan(begin: Begin) -> None:
    of = market([[9] * 200, [9] * 200])
    web = service(of, cold_start_minutes=0.0)
    before, after = plan(of, web), plan(of, service(of, "api", cold_start_minutes=0.0), web)
    with FakeAws(of) as fake:
        run = begin(before, fake, provider=on_fake(fake, before))
        ticks(run, fake, 20)
        fleet = run.controller.services[0][0]
        cost, counted = float(fleet.cost[0]), int(fleet.counted_ticks[0])
        run.journal.close()
        run = begin(after, fake, provider=on_fake(fake, after))
        fleet = run.controller.services[0][0]
        row = fleet.row["web"]
        assert (float(fleet.cost[row]), int(fleet.counted_ticks[row])) == (cost, counted)
        ticks(run, fake, 2)
        assert len(run.controller.inventory.live("web")) == 3
        assert len(fake.log.of("RunInstances", acted=True)) == 4, "two pools for each service, nothing twice"


def later(of: Market, hours: float, **fields: Any) -> dict[str, Any]:
    one = job(of, policy=SPOT, **fields)
    return one | {name: one[name] + timedelta(hours=hours) for name in ("begins", "deadline")}


def test_the_next_run_of_a_job_is_not_taken_for_the_one_that_is_done(begin: Begin) -> None:
    of = market([[9] * 400])
    before, after = plan(of, job(of, policy=SPOT)), plan(of, later(of, 24.0))
    with FakeAws(of) as fake:
        run = begin(before, fake, provider=on_fake(fake, before))
        ticks(run, fake, 80)
        assert left(run) == 0.0
        run.journal.close()
        run = begin(after, fake, provider=on_fake(fake, after))
        assert left(run) == 10.0
        ticks(run, fake, 60)
        assert not list(run.controller.inventory.all_live())
        ticks(run, fake, 100)
        assert left(run) == 0.0
        assert not missed(run)
        assert len(fake.log.of("RunInstances", acted=True)) == 2


def test_a_running_job_is_finished_before_its_next_run_begins(begin: Begin) -> None:
    of = market([[9] * 400])
    before, after = plan(of, job(of, policy=SPOT)), plan(of, later(of, 24.0))
    with FakeAws(of) as fake:
        run = begin(before, fake, provider=on_fake(fake, before))
        ticks(run, fake, 30)
        run.journal.close()
        for _ in range(2):
            run = begin(after, fake, provider=on_fake(fake, after))
            ticks(run, fake, 5)
            assert not fake.log.of("TerminateInstances"), "it runs on"
            assert 3.5 < left(run) < 5.0
            run.journal.close()
        run = begin(after, fake, provider=on_fake(fake, after))
        ticks(run, fake, 60)
        assert left(run) == 10.0, "the next run waits"
        assert not list(run.controller.inventory.all_live())
        ticks(run, fake, 140)
        assert left(run) == 0.0
        assert not missed(run)
        assert len(fake.log.of("RunInstances", acted=True)) == 2
        assert run.controller.on_demand_cost == pytest.approx(2 * 3.0 * (10 + 1 / 6))


def test_what_a_shadow_imagined_is_not_believed_by_another_mode(begin: Begin) -> None:
    of = market([[9] * 200])
    the_plan = plan(of, job(of, policy=SPOT, deadline_hours=30.0))
    with FakeAws(of) as fake:
        run = begin(the_plan, fake, mode="shadow", provider=on_fake(fake, the_plan))
        ticks(run, fake, 40)
        assert left(run) < 5.0
        run.journal.close()
        run = begin(the_plan, fake, provider=on_fake(fake, the_plan))
        assert left(run) == 10.0
        run.controller.run_tick()
        assert len(fake.held()) == 1
        ticks(run, fake, 10)
        acted = left(run)
        assert acted > 8.0
        run.journal.close()
        run = begin(the_plan, fake, mode="shadow", provider=on_fake(fake, the_plan))
        assert left(run) < 5.0
        ticks(run, fake, 3)
        assert sum(fake.held().values()) == 1, "and the shadow ends nothing that runs"
        run.journal.close()
        run = begin(the_plan, fake, provider=on_fake(fake, the_plan))
        ticks(run, fake, 80)
        assert left(run) == 0.0
        assert not missed(run)
        assert len(fake.log.of("RunInstances", acted=True)) == 1


def test_another_mode_decides_at_once_and_not_at_the_next_tick(begin: Begin) -> None:
    of = market([[9] * 99])
    the_plan = plan(of, job(of))
    cloud = SimulatedCloud(of, the_plan)
    run = begin(the_plan, cloud, mode="dry-run")
    run.controller.run_tick()
    run.journal.close()
    run = begin(the_plan, cloud)
    assert run.controller.run_tick().outcome.launched == 1


def test_nothing_stays_in_a_pool_that_the_new_plan_does_not_have(begin: Begin) -> None:
    """Its replacement is ready before it goes."""
    of = market([[9] * 200] * 3)
    before = plan(of, service(of), job(of, policy=SPOT, deadline_hours=30.0) | {"pools": pools(of)[2:]})
    after = plan(
        of,
        service(of) | {"pools": pools(of)[:2]},
        job(of, policy=SPOT, deadline_hours=30.0) | {"pools": pools(of)[:2]},
    )
    with FakeAws(of) as fake:
        run = begin(before, fake, guards={}, provider=on_fake(fake, before))
        ticks(run, fake, 5)
        run.journal.close()
        run = begin(after, fake, guards={}, provider=on_fake(fake, after))
        for _ in range(8):
            run.controller.run_tick()
            assert sum(fake.held().values()) >= 4, "three ready for the service, one for the job"
            fake.advance(600)
        held = list(run.controller.inventory.all_live())
        assert sorted(row.workload for row in held) == ["job", "web", "web", "web"]
        assert not {row.pool for row in held} & {"aws/us-east-1c/m5.large"}
        assert sum(fake.held().values()) == 4


def test_instances_of_workloads_that_left_the_plan_are_told_after_each_start(begin: Begin) -> None:
    of = market([[9] * 200])
    before, after = (
        plan(of, job(of, policy=SPOT), job(of, "left", policy=SPOT)),
        plan(of, job(of, policy=SPOT)),
    )
    with FakeAws(of) as fake:
        run = begin(before, fake, provider=on_fake(fake, before))
        ticks(run, fake, 3)
        (left_over,) = run.controller.inventory.live("left")
        run.journal.close()
        for _ in range(2):
            run = begin(after, fake, provider=on_fake(fake, after))
            ticks(run, fake, 3)
            told = [message for _, kind, message in run.events if kind == "unplanned"]
            assert len(told) == 1
            assert left_over.id in told[0]
            assert run.controller.unplanned == {left_over.id}
            run.journal.close()
        run = begin(after, fake, provider=on_fake(fake, after))
        ticks(run, fake, 70)
        assert run.controller.finished, "what is nobody's does not keep the controller from ending"
        assert [row.id for row in run.controller.inventory.all_live()] == [left_over.id]


def test_the_budget_of_a_day_counts_what_the_plan_before_spent(begin: Begin) -> None:
    of = market([[9] * 200])
    with FakeAws(of) as fake:
        before = plan(of, service(of, cold_start_minutes=0.0))
        run = begin(before, fake, provider=on_fake(fake, before))
        ticks(run, fake, 20)
        spent = run.controller.cost
        assert spent > 5.0
        run.journal.close()
        after = plan(of, service(of, "api", cold_start_minutes=0.0))
        guards = {"budget_usd_per_day": 5.0, "keep_ready": False}
        run = begin(after, fake, provider=on_fake(fake, after), guards=guards)
        report = run.controller.run_tick()
        assert "budget" in {trip.guard for trip in report.trips}
        assert not run.controller.inventory.live("api")


def test_an_instance_with_the_tag_that_the_journal_did_not_launch_is_told(begin: Begin) -> None:
    """A copy made by hand carries the tags too; whoever made it must be able to find out where it went."""
    of = market([[9] * 99])
    the_plan = plan(of, job(of, policy=SPOT))
    with FakeAws(of) as fake:
        run = begin(the_plan, fake, provider=on_fake(fake, the_plan))
        ticks(run, fake, 2)
        assert "adopted" not in run.kinds()
        tags = {"spotwise:controller": "spotwise", "spotwise:workload": "job"}
        reply = fake.client("ec2", "us-east-1").run_instances(
            ImageId="ami-12345678",
            InstanceType="m5.large",
            MinCount=1,
            MaxCount=1,
            Placement={"AvailabilityZone": "us-east-1a"},
            TagSpecifications=[
                {
                    "ResourceType": "instance",
                    "Tags": [{"Key": key, "Value": value} for key, value in tags.items()],
                }
            ],
        )
        copy = reply["Instances"][0]["InstanceId"]
        fake.advance(600)
        run.controller.run_tick()
        (told,) = [message for _, kind, message in run.events if kind == "adopted"]
        assert copy in told
