"""Gangs: all instances of a job in one pool, or none; part of one is not left running."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest

from optimizer.controller.providers import Instance, Launch, LaunchResult, NoCapacity, Refused, Unavailable
from optimizer.controller.providers.simulated import SimulatedCloud
from optimizer.plan import PlanPool
from simulator.deadline import FIRST_SPOT, IDLE, ON_DEMAND
from simulator.market import Market
from tests.optimizer.controller.scene import Begin, Run, job, market, plan

NODES = 4
TICKS = 200


class FewerCloud(SimulatedCloud):
    """A cloud in which somebody terminates instances, and that refuses launches if asked to.

    Attributes:
        refusal: Raised instead of launching.
        deaf: Whether launches take effect without an answer.
        dry: Whether no pool offers anything.
        shown: Instances that are described at most, the oldest first; None = all.
    """

    refusal: Exception | None = None
    deaf = dry = False
    shown: int | None = None

    def refuses(self, request: Launch) -> bool:
        """Whether `refusal` is raised for a launch."""
        return self.refusal is not None

    def launch(self, request: Launch) -> LaunchResult:
        if self.refuses(request):
            assert self.refusal is not None
            raise self.refusal
        result = super().launch(request)
        if self.deaf:
            raise Unavailable("no answer")
        return result

    def offers(self, pools: Sequence[PlanPool]) -> Mapping[str, int]:
        return dict.fromkeys(super().offers(pools), 0) if self.dry else super().offers(pools)

    def instances(self) -> Sequence[Instance]:
        return list(super().instances())[: self.shown]

    def lose(self, count: int) -> None:
        """Take the oldest instances of the job, as an outsider would: without a notice."""
        running = [one for one in self.instances() if one.state == "running"]
        self.terminate([one.id for one in running[:count]])


def scene(
    begin: Begin, *, policy: str = "spot-when-available", of: Market | None = None, **settings: Any
) -> Run:
    caps = settings.pop("caps", {})
    of = of or market(np.full((2, TICKS), 10), spot=[[1.0] * TICKS, [1.2] * TICKS])
    the_plan = plan(of, job(of, policy=policy, nodes=NODES, **settings.pop("terms", {})), caps=caps)
    return begin(the_plan, FewerCloud(of, the_plan), **settings)


def held(run: Run) -> list[tuple[str, str]]:
    return sorted((one.pool, one.option) for one in run.controller.inventory.live("job"))


def whole(run: Run) -> bool:
    """Nothing runs, or one gang in one pool."""
    places = held(run)
    return not places or (len(places) == NODES and len(set(places)) == 1)


def run_ticks(run: Run, count: int) -> None:
    for _ in range(count):
        run.controller.run_tick()
        assert whole(run), held(run)
        run.cloud.advance()


@pytest.mark.parametrize("lost", [1, 2, 3])
def test_a_gang_that_lost_a_part_is_made_whole_where_it_is(begin: Begin, lost: int) -> None:
    run = scene(begin)
    run_ticks(run, 5)
    before = {one.id for one in run.controller.inventory.live("job")}
    run.cloud.lose(lost)
    run.controller.run_tick()
    after = {one.id for one in run.controller.inventory.live("job")}
    assert whole(run)
    assert len(after) == NODES
    assert len(before & after) == NODES - lost, "what is left of the gang is used"
    fleet, _ = run.controller.jobs[0]
    assert fleet.pending[0] == fleet.restart_overhead[0], "a gang that lost a part begins anew"


def test_the_rest_of_a_gang_goes_at_once_where_the_pool_has_no_more(begin: Begin) -> None:
    run = scene(begin, policy="greedy")
    run_ticks(run, 5)
    run.cloud.lose(1)
    run.cloud.refusal = NoCapacity("none")
    run.controller.run_tick()
    assert held(run) == []
    assert run.controller.jobs[0][0].placement[0] == IDLE
    run.cloud.refusal = None
    run.cloud.advance()
    run_ticks(run, 3)
    assert len(held(run)) == NODES


def test_the_rest_of_a_gang_goes_at_once_where_the_call_is_refused(begin: Begin) -> None:
    run = scene(begin)
    run_ticks(run, 5)
    run.cloud.lose(1)
    run.cloud.refusal = Refused("quota")
    report = run.controller.run_tick()
    assert held(run) == []
    assert report.outcome.terminated == NODES - 1
    journalled = [one for one in run.journal.audit(workload="job") if one.get("action") == "terminate"]
    assert "part of a gang" in journalled[0]["why"]


def test_the_rest_of_a_gang_goes_where_caps_forbid_its_launch(begin: Begin) -> None:
    run = scene(begin, guards={"launches_per_hour": 1.0, "keep_ready": False})
    run_ticks(run, 5)
    run.cloud.lose(1)
    report = run.controller.run_tick()
    assert "launches-per-hour" in {trip.guard for trip in report.trips}
    assert held(run) == []


def test_what_is_left_of_a_gang_is_not_held_by_cool_down(begin: Begin) -> None:
    """A cap lets two of three go at once; the third goes in the next tick, though the job was just moved."""
    run = scene(
        begin,
        policy="greedy",
        caps={"terminations_per_tick": 2},
        guards={"cooldown_seconds": 86_400.0, "keep_ready": False},
    )
    run_ticks(run, 5)
    run.cloud.lose(1)
    run.cloud.dry = True
    run.controller.run_tick()
    assert len(held(run)) == 1
    run.cloud.advance()
    run.controller.run_tick()
    assert held(run) == []


def test_a_gang_that_needs_another_pool_does_not_wait_for_it_with_a_part(begin: Begin) -> None:
    capacity = np.full((2, TICKS), 10)
    capacity[0, 6:] = NODES - 1
    run = scene(begin, of=market(capacity, spot=[[1.0] * TICKS, [1.2] * TICKS]))
    run_ticks(run, 6)
    run.controller.run_tick()
    assert whole(run)
    assert {pool for pool, _ in held(run)} == {run.controller.plan.workloads[0].pools[1].name}


@pytest.mark.parametrize("lost", [1, 3])
def test_a_gang_on_demand_is_in_one_pool_even_if_one_has_no_more(begin: Begin, lost: int) -> None:
    run = scene(begin, policy="on-demand")
    run_ticks(run, 5)
    first = {pool for pool, _ in held(run)}
    run.cloud.lose(lost)
    run.cloud.refuses = lambda request: {request.pool.name} == first
    run.cloud.refusal = NoCapacity("none")
    run.controller.run_tick()
    assert whole(run)
    assert len(held(run)) == NODES
    assert {pool for pool, _ in held(run)} != first
    run_ticks(run, 3)
    assert run.controller.jobs[0][0].placement[0] == ON_DEMAND


def test_a_gang_that_is_described_in_part_is_waited_for(begin: Begin) -> None:
    """After a lost reply half of it is described: the other half is neither launched again nor is it gone."""
    run = scene(begin, grace_seconds=3600.0)
    run.cloud.deaf, run.cloud.shown = True, NODES // 2
    run.controller.run_tick()
    run.cloud.deaf = False
    run.cloud.advance()
    report = run.controller.run_tick()
    assert report.in_doubt == {"job"}
    run.cloud.advance()
    run.cloud.shown = None
    run_ticks(run, 3)
    assert len(run.cloud.instances()) == NODES
    assert run.controller.jobs[0][0].placement[0] >= FIRST_SPOT


@pytest.mark.parametrize("seed", range(8))
def test_whatever_is_lost_a_gang_is_whole_or_gone_and_in_time(begin: Begin, seed: int) -> None:
    rng = np.random.default_rng(seed)
    capacity = rng.integers(NODES - 2, NODES + 3, (3, TICKS))
    run = scene(begin, of=market(capacity, spot=rng.uniform(0.5, 1.5, (3, TICKS))), policy="greedy")
    fleet, _ = run.controller.jobs[0]
    seen = set()
    while not run.controller.finished:
        run.controller.run_tick()
        assert whole(run), held(run)
        seen.add(min(int(fleet.placement[0]), FIRST_SPOT))
        if fleet.placement[0] >= FIRST_SPOT and rng.random() < 0.2:
            run.cloud.lose(int(rng.integers(1, NODES)))
        run.cloud.advance()
    assert fleet.done[0]
    assert not fleet.missed[0]
    assert FIRST_SPOT in seen
