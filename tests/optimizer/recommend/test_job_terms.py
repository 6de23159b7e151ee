"""Due time, cost of lateness, commitments and checkpoints of a job: from workloads.yaml to the plan."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from optimizer.plan import DeadlineWorkload, read_plan
from optimizer.recommend.jobs import JobCase, job_bound, replay_job
from optimizer.recommend.markdown import render_markdown
from optimizer.recommend.match import NamedMarket
from optimizer.recommend.run import Found
from optimizer.recommend.write import write_report
from policies.registry import load_policy
from simulator.deadline import DeadlineBatch, DeadlineJob, MarketStack
from simulator.errors import InputError
from tests.optimizer.recommend.scene import Scene, made_market

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
DUE_HOURS, LATENESS = 5.5, 0.05
TERMS = {
    "due_hours": DUE_HOURS,
    "lateness_usd_per_hour": LATENESS,
    "checkpoint_interval_minutes": 60.0,
    "checkpoint_cost_minutes": 2.0,
    "committed": 1,
}


@pytest.fixture(scope="module")
def with_terms(scene: Scene, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Return a function that writes the scene's job with other terms."""

    def write(**terms: Any) -> Path:
        folder = tmp_path_factory.mktemp("terms")
        data = yaml.safe_load(scene.workloads.read_text())
        data["workloads"] = [one for one in data["workloads"] if one["name"] == "nightly-etl"]
        data["workloads"][0]["job"] |= terms
        shutil.copy(scene.workloads.parent / data["demand_file"], folder)
        path = folder / "workloads.yaml"
        path.write_text(yaml.safe_dump(data))
        return path

    return write


@pytest.mark.parametrize("policy", ["on-demand", "greedy", "planner"])
def test_a_replay_charges_lateness_and_not_what_is_committed(policy: str) -> None:
    market = made_market("c5.2xlarge", 3)
    rate = float(market.on_demand_price[0, 0])
    job = DeadlineJob(
        5 * 3600.0, 24 * 3600.0, 720.0, nodes=4, committed=3,
        due_seconds=5 * 3600.0, lateness_usd_per_hour=1.5,
    )  # fmt: skip
    starts = np.array([0, 300, 700])
    case = JobCase((NamedMarket("m", market),), np.zeros(3, np.int64), starts, 1, 144, job, rate)
    found = replay_job(case, policy)
    batch = DeadlineBatch.of(MarketStack.of([market]), job, np.zeros(3, np.int64), starts)
    decider = load_policy(policy)
    memory = decider.reset(3, len(market.pools))
    while not batch.done.all():
        action, memory = decider.act(batch.observe(), memory)
        batch.step(action)
    assert found.cost == pytest.approx(batch.cost)
    assert found.lateness == pytest.approx(batch.lateness)
    # one of four instances is paid on demand, from the first tick, and the launch of 12 min makes it late
    assert found.on_demand == pytest.approx(np.ceil(5.2 * 6) / 6 * rate)
    assert found.on_demand_lateness == pytest.approx(0.2 * 1.5)
    if policy == "on-demand":
        assert found.cost == pytest.approx(found.on_demand + found.on_demand_lateness)
        assert found.hours[:, -1] == pytest.approx(np.ceil(5.2 * 6) / 6)
    assert (found.cost >= job_bound(case) - 1e-9).all()


def test_terms_go_from_the_file_through_the_report_into_the_plan(
    with_terms: Callable[..., Path], quick: Callable[..., Found], tmp_path: Path
) -> None:
    found = quick(workloads=with_terms(**TERMS))
    report = found.report
    (workload,) = report.workloads
    assert workload.market is not None, workload.decision
    scenarios = {one.role: one for one in workload.scenarios}
    late = {role: one.lateness_usd for role, one in scenarios.items()}
    assert late["as-billed"] == late["bound"] == 0.0
    assert late["heuristic"] > 0
    # what greedy saves by waiting it pays for being late; the total says so too
    assert scenarios["heuristic"].monthly_usd > late["heuristic"]
    total = {one.role: one.lateness_usd for one in report.total}
    assert total["heuristic"] == pytest.approx(late["heuristic"])
    said = " ".join(workload.decision.assumptions)
    assert f"{DUE_HOURS:g} h after its begin costs {LATENESS:g} USD/h" in said
    assert "1 of its 4 instances are committed" in said

    decision = workload.decision.model_copy(
        update={"action": "move", "role": "heuristic", "policy": scenarios["heuristic"].policy}
    )
    moved = report.model_copy(update={"workloads": (workload.model_copy(update={"decision": decision}),)})
    assert f"lateness {late['heuristic']:,.2f} USD a month" in render_markdown(moved)
    written = write_report(replace(found, report=moved), tmp_path, NOW)
    assert written.plan is not None
    assert f"lateness {late['heuristic']:,.2f} USD a month" in written.report.read_text()
    (planned,) = read_plan(written.plan, now=NOW).workloads
    assert isinstance(planned, DeadlineWorkload)
    assert planned.due == planned.begins + timedelta(hours=DUE_HOURS)
    assert planned.job == found.file.workloads[0].deadline_job()
    assert planned.job.work_seconds > planned.work_hours * 3600
    assert planned.expected is not None
    assert planned.expected.lateness_usd == pytest.approx(late["heuristic"])


def test_the_dearer_lateness_is_the_less_of_it_the_recommendation_takes(
    with_terms: Callable[..., Path], quick: Callable[..., Found]
) -> None:
    hours = []
    for price in (0.01, 20.0):
        terms = {"due_hours": 8.0, "lateness_usd_per_hour": price}
        (workload,) = quick(workloads=with_terms(**terms)).report.workloads
        champion = workload.scenario("champion")
        assert champion is not None
        hours.append(champion.lateness_usd / price)
    assert hours[1] < hours[0]


def test_a_job_that_is_committed_whole_changes_nothing(
    with_terms: Callable[..., Path], quick: Callable[..., Found]
) -> None:
    (workload,) = quick(workloads=with_terms(committed=4)).report.workloads
    assert workload.decision.action == "change-nothing"
    assert any("committed whole has nothing to decide" in text for text in workload.decision.reasons)


def test_contradicting_terms_are_refused_before_anything_is_replayed(
    with_terms: Callable[..., Path], quick: Callable[..., Found]
) -> None:
    with pytest.raises(InputError, match=r"workloads.yaml, line \d+, field workloads.0.job.due_hours"):
        quick(workloads=with_terms(due_hours=1000.0))
