"""Parity: one market through replay, environment and controller: the same decisions, the same cost."""

from __future__ import annotations

from datetime import timedelta

import numpy as np
import pytest

from envs.deadline_env import DeadlineEnv
from envs.jobs import JobDistribution, JobRange
from envs.series import EpisodeMarkets
from optimizer.controller.providers.simulated import SimulatedCloud
from optimizer.plan import DeadlineWorkload
from optimizer.recommend.plan import bundle_sha256
from policies.registry import load_policy
from policies.service import EvenSpread, ServicePolicy, SpotHedge
from simulator.deadline import DeadlineBatch, DeadlineJob, MarketStack
from simulator.market import Market, sample_market
from simulator.service import Service, ServiceBatch
from tests.optimizer.controller.scene import Begin, job, market, plan, service


def cut(first: int, ticks: int, pools: int) -> Market:
    """Part of the sample market."""
    return sample_market().select(range(pools)).window(first, ticks)


def replayed(of: Market, policy_name: str, terms: DeadlineJob, start: int) -> tuple[list[int], DeadlineBatch]:
    """Granted placement per tick, and the finished batch."""
    policy = load_policy(policy_name)
    batch = DeadlineBatch.of(MarketStack.of([of]), terms, [0], [start])
    memory = policy.reset(1, len(of.pools))
    placements = []
    while not batch.done[0]:
        action, memory = policy.act(batch.observe(), memory)
        placements.append(int(action[0]))
        batch.step(action)
    return placements, batch


def stepped(of: Market, terms: DeadlineJob, start: int, actions: list[int]) -> float:
    """Cost of the same actions through the Gymnasium environment."""
    jobs = JobDistribution([JobRange.of(terms)])
    env = DeadlineEnv(EpisodeMarkets.of([of], each_pool=False), jobs=jobs)
    env.reset(seed=0, options={"job": terms, "start": start, "market": 0})
    for action in actions:
        *_, info = env.step(action)
    return float(info["cost_usd"])


@pytest.mark.parametrize(
    "policy", ["on-demand", "greedy", "spot-when-available", "uniform-progress", "planner"]
)
@pytest.mark.parametrize(("pools", "checkpoint", "nodes"), [(1, 0.0, 1), (3, 0.0, 1), (2, 45.0, 2)])
def test_deadline_jobs_decide_and_cost_the_same(
    begin: Begin, policy: str, pools: int, checkpoint: float, nodes: int
) -> None:
    of = cut(300, 200, pools)
    begins = [0, 7, 30]
    terms = DeadlineJob(12 * 3600, 18 * 3600, 720, 60 * checkpoint, nodes)
    jobs = [
        job(
            of,
            f"job-{start}",
            policy=policy,
            begins=start,
            work_hours=12.0,
            deadline_hours=18.0,
            overhead_minutes=12.0,
            checkpoint_interval_minutes=checkpoint,
            nodes=nodes,
        )
        for start in begins
    ]
    the_plan = plan(of, *jobs)
    cloud = SimulatedCloud(of, the_plan)
    run = begin(the_plan, cloud)
    fleet, _ = run.controller.jobs[0]
    decided: dict[int, list[int]] = {start: [] for start in begins}
    while not run.controller.finished:
        report = run.controller.run_tick()
        for row, start in enumerate(begins):
            if fleet.active[row]:
                decided[start].append(int(report.wanted[fleet.key][row]))
        cloud.advance()
    for row, start in enumerate(begins):
        placements, batch = replayed(of, policy, terms, start)
        assert decided[start] == placements
        assert fleet.cost[row] == cloud.jobs[f"job-{start}"].cost[0] == batch.cost[0]
        assert fleet.work_left[row] == 0.0
        assert not fleet.missed[row]
        assert stepped(of, terms, start, placements) == batch.cost[0]


SOFT = {"due": 14.0, "lateness_usd_per_hour": 0.4}
"""Due long before the deadline; an hour of lateness costs less than an hour on on-demand capacity."""


@pytest.mark.parametrize("policy", ["greedy", "uniform-progress", "planner", "deadline-champion"])
@pytest.mark.parametrize(
    ("pools", "terms"),
    [
        (1, SOFT),
        (1, SOFT | {"lateness_usd_per_hour": 9.0}),
        (2, SOFT | {"lateness_usd_per_hour": 9.0}),
        (1, {"nodes": 3, "committed": 2}),
        (2, {"nodes": 3, "committed": 1}),
        (1, {"checkpoint_interval_minutes": 90.0, "checkpoint_cost_minutes": 7.0}),
        (
            2,
            SOFT
            | {"nodes": 2, "committed": 1}
            | {"checkpoint_interval_minutes": 45.0, "checkpoint_cost_minutes": 3.0},
        ),
    ],
    ids=["cheap to be late", "dear to be late", "dear, two pools", "committed", "committed, two pools",
         "checkpoints", "everything"],
)  # fmt: skip
def test_jobs_with_due_times_commitments_and_checkpoints_decide_and_cost_the_same(
    begin: Begin, policy: str, pools: int, terms: dict[str, float]
) -> None:
    of = cut(300, 200, pools)
    begins = [0, 7, 30]
    changes = {"due": timedelta(hours=terms["due"])} if "due" in terms else {}
    jobs = []
    for start in begins:
        made = job(
            of, f"job-{start}", policy=policy, begins=start, work_hours=12.0, deadline_hours=20.0,
            overhead_minutes=12.0, **{name: value for name, value in terms.items() if name != "due"},
        )  # fmt: skip
        jobs.append(made | {name: made["begins"] + after for name, after in changes.items()})
    digest = bundle_sha256(policy)
    the_plan = plan(of, *jobs, policies=[{"name": policy, "kind": "deadline", "bundle_sha256": digest}])
    cloud = SimulatedCloud(of, the_plan)
    run = begin(the_plan, cloud)
    fleet, _ = run.controller.jobs[0]
    decided: dict[int, list[int]] = {start: [] for start in begins}
    while not run.controller.finished:
        report = run.controller.run_tick()
        for row, start in enumerate(begins):
            if fleet.active[row]:
                decided[start].append(int(report.wanted[fleet.key][row]))
        cloud.advance()
    for row, start in enumerate(begins):
        workload = the_plan.workloads[row]
        assert isinstance(workload, DeadlineWorkload)
        placements, batch = replayed(of, policy, workload.job, start)
        assert decided[start] == placements
        assert cloud.jobs[f"job-{start}"].cost[0] == batch.cost[0]
        assert fleet.lateness[row] == pytest.approx(batch.lateness[0], abs=1e-9)
        assert fleet.cost[row] + fleet.lateness[row] == pytest.approx(batch.cost[0], abs=1e-9)
        assert not fleet.missed[row]
        assert stepped(of, workload.job, start, placements) == batch.cost[0]


def test_work_left_is_the_kernels_at_every_tick(begin: Begin) -> None:
    of = market(np.random.default_rng(5).integers(0, 2, (2, 150)))
    the_plan = plan(of, job(of, checkpoint_interval_minutes=35.0, deadline_hours=20.0))
    cloud = SimulatedCloud(of, the_plan)
    run = begin(the_plan, cloud)
    fleet, _ = run.controller.jobs[0]
    kernel = cloud.jobs["job"]
    while not run.controller.finished:
        run.controller.run_tick()
        if not kernel.done[0]:
            assert fleet.work_left[0] == kernel.work_left[0]
            assert fleet.unsaved[0] == kernel.unsaved[0] or fleet.placement[0] != kernel.placement[0]
        cloud.advance()
    assert kernel.counts[0, 1] > 0, "the window has no interruption: it proves nothing"


@pytest.mark.parametrize("cold_minutes", [0.0, 30.0])
@pytest.mark.parametrize(
    "policy",
    [EvenSpread(), SpotHedge(1), load_policy("look-ahead", "service")],
    ids=lambda policy: policy.name,
)
def test_services_ask_and_cost_the_same(begin: Begin, policy: ServicePolicy, cold_minutes: float) -> None:
    of = cut(1000, 200, 3)
    rng = np.random.default_rng(3)
    demand = rng.integers(0, 9, 199)
    the_plan = plan(
        of,
        service(
            of,
            policy=policy.name,
            cold_start_minutes=cold_minutes,
            demand={
                "source": "series",
                "start": of.start,
                "step_seconds": of.tick_seconds,
                "instances": [int(d) for d in demand],
            },
        ),
    )
    cloud = SimulatedCloud(of, the_plan)
    run = begin(the_plan, cloud)
    fleet, _ = run.controller.services[0]
    batch = ServiceBatch(
        MarketStack.of([of]),
        Service.of(demand, tick_seconds=of.tick_seconds, cold_start_seconds=60 * cold_minutes),
        0,
        [0],
    )
    memory = policy.reset(1, 3)
    for _ in range(199):
        asked, memory = policy.act(batch.observe(), memory)
        report = run.controller.run_tick()
        np.testing.assert_array_equal(report.wanted[fleet.key], asked)
        batch.step(asked)
        cloud.advance()
        np.testing.assert_array_equal(fleet.granted, batch.observe().granted)
        if fleet.ticks[0] > fleet.cold_ticks[0]:
            np.testing.assert_array_equal(fleet.ready, batch.ready)
    assert cloud.services["web"].cost[0] == batch.cost[0]
    assert cloud.services["web"].availability[0] == batch.availability[0]
    assert fleet.availability[0] == batch.availability[0]


def test_a_restart_at_every_tick_changes_nothing(begin: Begin) -> None:
    of = market(np.random.default_rng(6).integers(0, 2, (2, 120)))
    the_plan = plan(of, job(of, policy="planner", deadline_hours=15.0), job(of, "two", begins=5))
    cloud = SimulatedCloud(of, the_plan)
    while True:
        run = begin(the_plan, cloud)
        run.controller.run_tick()
        run.journal.close()
        if run.controller.finished:
            break
        cloud.advance()
    for name, policy, start, hours in (("job", "planner", 0, 15.0), ("two", "greedy", 5, 14.0)):
        terms = DeadlineJob(10 * 3600, hours * 3600, 600)
        _, batch = replayed(of, policy, terms, start)
        assert cloud.jobs[name].cost[0] == batch.cost[0]
    costs = {fleet.names[0]: fleet.cost[0] for fleet, _ in run.controller.jobs}
    assert costs == {name: batch.cost[0] for name, batch in cloud.jobs.items()}


def test_a_service_restarted_at_every_tick_asks_the_same(begin: Begin) -> None:
    of = cut(1000, 120, 3)
    the_plan = plan(of, service(of, policy="look-ahead"))
    asked: list[list[object]] = []
    for restarted in (False, True):
        cloud = SimulatedCloud(of, the_plan)
        run = begin(the_plan, cloud)
        asked.append([])
        for _ in range(119):
            report = run.controller.run_tick()
            asked[-1].append(report.wanted[run.controller.services[0][0].key].tolist())
            cloud.advance()
            if restarted:
                run.journal.close()
                run = begin(the_plan, cloud)
        run.journal.close()
    assert asked[0] == asked[1]


def test_the_clock_of_the_plan_is_the_markets(begin: Begin) -> None:
    of = cut(0, 60, 1)
    the_plan = plan(of, job(of, work_hours=2.0, deadline_hours=4.0))
    run = begin(the_plan, SimulatedCloud(of, the_plan))
    assert run.controller.run_tick().tick == 0
    assert run.controller.next_tick(of.start.timestamp()) == (of.start + timedelta(minutes=10)).timestamp()
