"""Parity of jobs whose pools differ in throughput and lie in several regions: decisions, work and cost."""

from __future__ import annotations

from itertools import count
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from optimizer.controller.inventory import Inventory
from optimizer.controller.jobs import JobFleet
from optimizer.controller.journal import InstanceRow
from optimizer.controller.providers.simulated import SimulatedCloud
from optimizer.controller.status import Counts, snapshot
from optimizer.fake_aws import FakeAws
from optimizer.plan import DeadlineWorkload, Plan
from optimizer.recommend.plan import bundle_sha256
from policies.registry import load_policy
from simulator.deadline import FIRST_SPOT, ON_DEMAND, DeadlineBatch, MarketStack
from simulator.market import Market, Pool
from tests.optimizer.controller.scene import START, Begin, job, on_fake, plan

EAST, WEST = "us-east-1", "us-west-2"
PLACES = (
    (EAST, "a", "m5.large"),
    (EAST, "a", "m5.xlarge"),
    (WEST, "a", "m5.large"),
    (WEST, "b", "m5.xlarge"),
)
SPEED = (1.0, 1.7, 1.0, 1.3)
COPY: dict[str, Any] = {"data_region": EAST, "checkpoint_size_gb": 60.0, "egress_usd_per_gb": 0.005}
"""10 minutes and 0.30 USD."""


NUMBERS = count()
"""Of folders of journals."""


def wide_market(seed: int = 4, ticks: int = 220) -> Market:
    """Four pools of two types in two regions; each has runs with and without spot."""
    rng = np.random.default_rng(seed)
    capacity = np.zeros((4, ticks), np.int32)
    for row in capacity:
        tick, up = 0, bool(rng.integers(2))
        while tick < ticks:
            length = int(rng.geometric(0.15 if up else 0.25))
            row[tick : tick + length] = 4 * up
            tick, up = tick + length, not up
    return Market.build(
        [Pool("aws", region, f"{region}{zone}", kind) for region, zone, kind in PLACES],
        tick_seconds=600,
        start=START,
        spot_price=np.array([[0.30], [0.55], [0.22], [0.35]]),
        spot_capacity=capacity,
        on_demand_price=np.array([[1.0], [1.9], [1.1], [1.4]]),
    )


def wide_job(of: Market, name: str = "job", **fields: Any) -> dict[str, Any]:
    """A job over all pools of the market."""
    made = job(of, name, work_hours=12.0, deadline_hours=19.0, overhead_minutes=7.0, **fields)
    for pool, speed in zip(made["pools"], SPEED, strict=True):
        pool["throughput"] = speed
    return made


def replayed(of: Market, the_plan: Plan, name: str, start: int) -> tuple[list[int], DeadlineBatch]:
    """Granted placement per tick, and the finished batch."""
    workload = next(one for one in the_plan.workloads if one.name == name)
    assert isinstance(workload, DeadlineWorkload)
    policy = load_policy(workload.policy)
    batch = DeadlineBatch.of(MarketStack.of([of], workload.job.terms), workload.job, [0], [start])
    memory = policy.reset(1, len(of.pools))
    placements = []
    while not batch.done[0]:
        action, memory = policy.act(batch.observe(), memory)
        placements.append(int(action[0]))
        batch.step(action)
    return placements, batch


@pytest.mark.parametrize(
    ("policy", "restarted_every"),
    [("greedy", 1), ("uniform-progress", 1000), ("planner", 9)],
    ids=["greedy, restarted at every tick", "uniform-progress", "planner, restarted now and then"],
)
@pytest.mark.parametrize(
    "terms",
    [
        COPY,
        {},
        COPY | {"data_region": None},
        COPY | {"nodes": 3, "committed": 1, "checkpoint_interval_minutes": 45.0},
        COPY
        | {
            "transfers": [
                {"from_region": WEST, "to_region": EAST, "egress_usd_per_gb": 0.001},
                {"from_region": EAST, "to_region": WEST, "bandwidth_mb_per_second": 40.0},
            ]
        },
    ],
    ids=["copies", "throughputs only", "begins anywhere", "gang", "one way dear"],
)
def test_decisions_work_and_cost_are_the_replays(
    begin: Begin, policy: str, terms: dict[str, Any], restarted_every: int
) -> None:
    of = wide_market()
    begins = [0, 7, 30]
    jobs = [wide_job(of, f"job-{start}", policy=policy, begins=start, **terms) for start in begins]
    digest = bundle_sha256(policy)
    the_plan = plan(of, *jobs, policies=[{"name": policy, "kind": "deadline", "bundle_sha256": digest}])
    cloud = SimulatedCloud(of, the_plan)
    run = begin(the_plan, cloud)
    decided: dict[int, list[int]] = {start: [] for start in begins}
    while not run.controller.finished:
        report = run.controller.run_tick()
        fleet, _ = run.controller.jobs[0]
        for row, start in enumerate(begins):
            kernel = cloud.jobs.get(f"job-{start}")
            if fleet.active[row] and kernel is not None:
                decided[start].append(int(report.wanted[fleet.key][row]))
                assert fleet.work_left[row] == kernel.work_left[0]
                # a launch of this tick is not in the kernel yet
                assert fleet.pending[row] == kernel.pending[0] or fleet.placement[row] != kernel.placement[0]
        cloud.advance()
        if cloud.tick % restarted_every == 0:
            run.journal.close()
            run = begin(the_plan, cloud)
    fleet, _ = run.controller.jobs[0]
    moves = 0
    for row, start in enumerate(begins):
        placements, batch = replayed(of, the_plan, f"job-{start}", start)
        assert decided[start] == placements
        assert fleet.cost[row] == cloud.jobs[f"job-{start}"].cost[0] == batch.cost[0]
        assert not fleet.missed[row]
        moves += len({placement for placement in placements if placement > ON_DEMAND}) > 1
    assert moves, "no job was in two pools: it proves nothing"


@pytest.mark.parametrize("policy", ["planner", "deadline-champion"])
def test_jobs_over_one_pool_with_a_throughput_are_remembered_through_restarts(
    begin: Begin, policy: str
) -> None:
    """Over one pool a throughput gives the planner's memory another form, from the first tick on."""
    of = wide_market().select([0])
    begins = [0, 7, 30]
    fields: dict[str, Any] = {"policy": policy, "work_hours": 6.0, "deadline_hours": 10.0}
    jobs = [job(of, f"job-{start}", begins=start, **fields) for start in begins]
    for one in jobs:
        one["pools"][0]["throughput"] = 1.5
    digest = bundle_sha256(policy)
    the_plan = plan(of, *jobs, policies=[{"name": policy, "kind": "deadline", "bundle_sha256": digest}])
    cloud = SimulatedCloud(of, the_plan)
    run = begin(the_plan, cloud)
    decided: dict[int, list[int]] = {start: [] for start in begins}
    while not run.controller.finished:
        report = run.controller.run_tick()
        fleet, _ = run.controller.jobs[0]
        for row, start in enumerate(begins):
            if fleet.active[row] and f"job-{start}" in cloud.jobs:
                decided[start].append(int(report.wanted[fleet.key][row]))
        cloud.advance()
        if cloud.tick % 4 == 0:
            run.journal.close()
            run = begin(the_plan, cloud)
    fleet, _ = run.controller.jobs[0]
    for row, start in enumerate(begins):
        placements, batch = replayed(of, the_plan, f"job-{start}", start)
        assert decided[start] == placements
        assert fleet.cost[row] == batch.cost[0]
        assert len(set(placements)) > 1, "it was in one place only: it proves nothing"


@pytest.mark.parametrize(("size", "goes_to"), [(6.0, FIRST_SPOT + 2), (600.0, ON_DEMAND)])
def test_the_shield_knows_how_long_a_copy_takes(begin: Begin, size: float, goes_to: int) -> None:
    """Spot is in the other region only; there is an hour of slack, and a copy takes one minute, or 100."""
    of = wide_market()
    capacity = np.repeat(np.array([[0], [0], [4], [4]], np.int32), of.ticks, axis=1)
    of = Market(of.pools, 600, of.start, of.spot_price, capacity, of.on_demand_price)
    one = wide_job(of, policy="greedy", **COPY) | {"work_hours": 18.0, "checkpoint_size_gb": size}
    the_plan = plan(of, one)
    run = begin(the_plan, SimulatedCloud(of, the_plan))
    fleet, _ = run.controller.jobs[0]
    report = run.controller.run_tick()
    assert int(report.wanted[fleet.key][0]) == replayed(of, the_plan, "job", 0)[0][0] == goes_to
    tripped = {trip.guard for trip in report.trips}
    assert ("deadline-shield" in tripped) == (goes_to == ON_DEMAND)
    if goes_to >= FIRST_SPOT:
        assert fleet.pending[0] == 7 * 60 + 60


def only_west(ticks: int = 220) -> Market:
    """Spot in one pool of the other region, from tick 3 to 12; on-demand elsewhere is cheaper."""
    of = wide_market(ticks=ticks)
    capacity = np.zeros((4, ticks), np.int32)
    capacity[2, 3:13] = 4
    return Market(of.pools, 600, of.start, of.spot_price, capacity, of.on_demand_price)


def test_on_demand_capacity_is_taken_where_the_checkpoint_is(begin: Begin) -> None:
    of = only_west()
    the_plan = plan(of, wide_job(of, policy="spot-when-available", **COPY))
    cloud = SimulatedCloud(of, the_plan)
    run = begin(the_plan, cloud)
    placed: list[tuple[str, str]] = []
    while not run.controller.finished:
        run.controller.run_tick()
        held = [(one.option, one.pool) for one in run.controller.inventory.live("job")]
        if held and held[0] not in placed:
            placed.append(held[0])
            status = snapshot(run.controller, run.controller.run_tick(), Counts())
            # what is still being copied is where it was
            region = WEST if len(placed) == 3 else EAST
            assert status["workloads"][0]["data_region"] == region
        cloud.advance()
    assert placed == [
        ("on-demand", "aws/us-east-1a/m5.large"),
        ("spot", "aws/us-west-2a/m5.large"),
        ("on-demand", "aws/us-west-2a/m5.large"),
    ]
    fleet, _ = run.controller.jobs[0]
    assert fleet.cost[0] == replayed(of, the_plan, "job", 0)[1].cost[0]
    # what it saved is counted against on-demand capacity where it began
    assert fleet.on_demand_cost[0] == pytest.approx(12 + 7 / 60)


def test_on_aws_a_job_goes_to_the_other_region_and_stays_there(begin: Begin) -> None:
    of = only_west()
    the_plan = plan(of, wide_job(of, policy="spot-when-available", **COPY))
    placed: list[tuple[str, str]] = []
    with FakeAws(of) as fake:
        run = begin(the_plan, fake, provider=on_fake(fake, the_plan))
        while not run.controller.finished:
            run.controller.run_tick()
            held = {(one.option, one.pool) for one in run.controller.inventory.live("job")}
            placed += held - set(placed)
            fake.advance(600)
        billed = float(fake.bill().total)
    assert placed == [
        ("on-demand", "aws/us-east-1a/m5.large"),
        ("spot", "aws/us-west-2a/m5.large"),
        ("on-demand", "aws/us-west-2a/m5.large"),
    ]
    fleet, _ = run.controller.jobs[0]
    assert fleet.done[0]
    assert not fleet.missed[0]
    # launches that failed, in every pool at every tick, copied nothing: the data went once
    assert fleet.cost[0] == pytest.approx(billed + 0.3, abs=0.005)
    assert fleet.cost[0] == pytest.approx(replayed(of, the_plan, "job", 0)[1].cost[0], abs=0.005)


def test_on_demand_capacity_that_is_not_there_is_asked_of_pools_of_the_same_region() -> None:
    of = wide_market()
    one = wide_job(of, **COPY)
    one["pools"].append(one["pools"][0] | {"zone": "us-east-1c", "on_demand_price": 1.05})
    slow = one["pools"][0] | {"zone": "us-east-1d", "on_demand_price": 0.1, "throughput": 0.5}
    one["pools"].append(slow)
    workload = plan(of, one).workloads[0]
    assert isinstance(workload, DeadlineWorkload)
    fleet = JobFleet("k", [workload])
    assert fleet.on_demand_price[0] == 1.0
    asked = []
    for _ in range(4):
        asked.append(workload.pools[int(fleet.cheapest[0])].name)
        fleet.ask_next_pool(0)
    names = ["us-east-1a/m5.large", "us-east-1a/m5.xlarge", "us-east-1c/m5.large", "us-east-1a/m5.large"]
    assert asked == [f"aws/{name}" for name in names]


@pytest.mark.parametrize("change", ["pools in another order", "without the other region", "without copies"])
def test_a_new_plan_finds_the_checkpoint_where_it_is(begin: Begin, change: str) -> None:
    of = only_west()
    one = wide_job(of, policy="spot-when-available", **COPY)
    before = plan(of, one)
    cloud = SimulatedCloud(of, before)
    run = begin(before, cloud)
    for _ in range(15):
        run.controller.run_tick()
        cloud.advance()
    done, cost = run.controller.jobs[0][0].work_left[0], run.controller.cost
    assert cloud.jobs["job"].home[0] == 1
    run.journal.close()
    changed = {
        "pools in another order": {"pools": one["pools"][::-1]},
        "without the other region": {"pools": one["pools"][:2]},
        "without copies": {"checkpoint_size_gb": 0.0},
    }[change]
    run = begin(plan(of, one | changed), cloud)
    fleet, _ = run.controller.jobs[0]
    assert (fleet.work_left[0], run.controller.cost) == (done, cost)
    run.controller.run_tick()
    (held,) = run.controller.inventory.live("job")
    wanted = {
        "pools in another order": "us-west-2a/m5.large",
        "without the other region": "us-east-1a/m5.large",
    }
    # without copies on-demand capacity anywhere will do, and so stays where it is
    assert held.pool == f"aws/{wanted.get(change, 'us-west-2a/m5.large')}"
    assert held.option == "on-demand"


def test_a_job_that_runs_although_nothing_is_recorded_takes_the_copy_into_account() -> None:
    of = wide_market()
    workload = plan(of, wide_job(of, **COPY)).workloads[0]
    assert isinstance(workload, DeadlineWorkload)
    fleet = JobFleet("k", [workload])
    now = START.timestamp()
    row = InstanceRow("i-1", "job", "aws/us-west-2a/m5.large", "spot", "token", now - 300, "live")
    inventory = Inventory([row])
    fleet.look(now, np.zeros((1, 5), np.int64), {})
    fleet.adopt(fleet.held(inventory), inventory, now)
    assert fleet.placement[0] == FIRST_SPOT + 2
    # 7 min of restart and 10 of copying, 5 of which are over
    assert fleet.pending[0] == 12 * 60
    assert fleet.fee[0] == pytest.approx(0.3)
    fleet.look(now + 3600, fleet.held(inventory), {})
    assert fleet.work_left[0] == (12 - 0.8) * 3600
    assert fleet.cost[0] == pytest.approx(0.3)


SPEEDS = st.sampled_from([0.25, 0.9, 1.0, 1.3, 2.5])


@given(
    seed=st.integers(0, 10_000),
    speeds=st.tuples(SPEEDS, SPEEDS),
    size=st.sampled_from([0.0, 1.0, 37.5, 500.0]),
    egress=st.sampled_from([0.0, 0.013, 1.0]),
    bandwidth=st.sampled_from([3.0, 100.0, 777.0]),
    overhead=st.sampled_from([0.0, 7.0, 31.0]),
    region=st.sampled_from([None, EAST, WEST]),
)
@settings(max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_whatever_the_terms_work_and_cost_are_the_kernels(
    begin: Begin,
    seed: int,
    speeds: tuple[float, float],
    size: float,
    egress: float,
    bandwidth: float,
    overhead: float,
    region: str | None,
) -> None:
    of = wide_market(seed, ticks=130)
    copies: dict[str, Any] = {
        "checkpoint_size_gb": size,
        "egress_usd_per_gb": egress,
        "bandwidth_mb_per_second": bandwidth,
    }
    one = wide_job(of, policy="greedy", data_region=region, **copies) | {"restart_overhead_minutes": overhead}
    for pool, speed in zip(one["pools"], (1.0, speeds[0], 1.0, speeds[1]), strict=True):
        pool["throughput"] = speed
    the_plan = plan(of, one)
    cloud = SimulatedCloud(of, the_plan)
    run = begin(the_plan, cloud, folder=f"run-{next(NUMBERS)}")
    decided = []
    fleet, _ = run.controller.jobs[0]
    while not run.controller.finished:
        report = run.controller.run_tick()
        if fleet.active[0]:
            assert fleet.work_left[0] == cloud.jobs["job"].work_left[0]
            decided.append(int(report.wanted[fleet.key][0]))
        cloud.advance()
    run.journal.close()
    placements, batch = replayed(of, the_plan, "job", 0)
    assert decided == placements
    assert fleet.cost[0] == batch.cost[0]
    assert not fleet.missed[0]
