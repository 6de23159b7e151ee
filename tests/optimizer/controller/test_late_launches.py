"""Launches that leave late in a tick: a job is credited the work that its instances can have done."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from optimizer.controller.providers import Instance, Launch, LaunchResult
from optimizer.controller.providers.simulated import SimulatedCloud
from optimizer.plan import Plan
from simulator.market import Market
from tests.optimizer.controller.scene import Begin, Run, job, market, plan

TICK, LATE, OVERHEAD, WORK = 600, 45.0, 600.0, 3600.0


class SlowCloud(SimulatedCloud):
    """A cloud that is throttled: each launch takes effect so long after it was asked for.

    Attributes:
        skew: Seconds by which the cloud's own clock is ahead.
    """

    def __init__(self, of: Market, the_plan: Plan, skew: float = 0.0) -> None:
        self._waited, self.skew = 0.0, skew
        super().__init__(of, the_plan)

    def now(self) -> float:
        return super().now() + self._waited

    def advance(self) -> None:
        self._waited = 0.0
        super().advance()

    def launch(self, request: Launch) -> LaunchResult:
        self._waited += LATE
        return super().launch(request)

    def instances(self) -> Sequence[Instance]:
        return [replace(one, launched_at=one.launched_at + self.skew) for one in super().instances()]


def scene(nodes: int = 1) -> tuple[Market, Plan]:
    of = market([[9] * 40])
    return of, plan(of, job(of, policy="greedy", work_hours=1.0, deadline_hours=4.0, nodes=nodes))


def ran(run: Run, cloud: SlowCloud) -> float:
    """Seconds from the launch of the job's instances to their end, the run being gone through to its end."""
    while not run.controller.finished:
        run.controller.run_tick()
        cloud.advance()
    gone = [one for one in SimulatedCloud.instances(cloud) if one.ended_at is not None]
    assert gone
    return min(one.ended_at - one.launched_at for one in gone if one.ended_at is not None)


@pytest.mark.parametrize("skew", [-86_400.0, 0.0, 86_400.0])
@pytest.mark.parametrize("nodes", [1, 2])
def test_a_job_is_not_ended_before_its_work_is_done(begin: Begin, nodes: int, skew: float) -> None:
    of, the_plan = scene(nodes)
    cloud = SlowCloud(of, the_plan, skew)
    run = begin(the_plan, cloud)
    # 45 s are missing at the look at which it would have been done: it runs on to the next
    assert ran(run, cloud) == pytest.approx(OVERHEAD + WORK + TICK - LATE)
    fleet = run.controller.jobs[0][0]
    assert fleet.finished_at[0] == pytest.approx(of.start.timestamp() + LATE + OVERHEAD + WORK)
    assert not fleet.missed[0]


def test_a_restart_right_after_the_launch_credits_no_more(begin: Begin) -> None:
    of, the_plan = scene()
    cloud = SlowCloud(of, the_plan)
    run = begin(the_plan, cloud)
    run.controller.run_tick()
    run.journal.close()
    cloud.advance()
    again = begin(the_plan, cloud)
    fleet = again.controller.jobs[0][0]
    assert fleet.late[0] == LATE
    again.controller.run_tick()
    assert fleet.pending[0] == pytest.approx(OVERHEAD + LATE - TICK)
    assert "interrupted" not in again.kinds()
    assert again.controller.inventory.rows, "its instance is the one that it began with"
    assert ran(again, cloud) == pytest.approx(OVERHEAD + WORK + TICK - LATE)


def test_a_tick_that_dies_after_the_launch_credits_no_more(
    begin: Begin, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The launch is known by the journal, the account of its tick is not."""
    of, the_plan = scene()
    cloud = SlowCloud(of, the_plan)
    run = begin(the_plan, cloud)

    def dies(*given: object, **named: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(run.journal, "save_tick", dies)
        with pytest.raises(KeyboardInterrupt):
            run.controller.run_tick()
    run.journal.close()
    cloud.advance()
    again = begin(the_plan, cloud)
    assert ran(again, cloud) == pytest.approx(OVERHEAD + WORK + TICK - LATE)
    assert len(SimulatedCloud.instances(cloud)) == 1
