"""Jobs that may be late at a price, and committed instances, in accounts and status."""

from __future__ import annotations

from datetime import timedelta
from functools import partial
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from optimizer.cli.controller import app
from optimizer.controller.providers.simulated import SimulatedCloud
from optimizer.controller.status import Counts, prometheus, snapshot
from simulator.market import Market
from tests.optimizer.controller.scene import Begin, Run, job, market, plan

TICKS = 150


def scene(begin: Begin, *, of: Market | None = None, policy: str = "on-demand", **terms: Any) -> Run:
    of = of or market(np.zeros((1, TICKS)))
    the_plan = plan(of, job(of, policy=policy, due=of.start + timedelta(hours=8), **terms))
    return begin(the_plan, SimulatedCloud(of, the_plan))


def status_of(run: Run) -> dict[str, Any]:
    """The status after one tick, which is then ended."""
    found = snapshot(run.controller, run.controller.run_tick(), Counts())
    run.cloud.advance()
    return found


def test_lateness_is_expected_then_accounted_and_taken_off_the_savings(begin: Begin) -> None:
    """10 h of work and a restart of 10 min from the first tick on: 2 h 10 min late at 3 USD/h."""
    run = scene(begin, lateness_usd_per_hour=3.0)
    due = run.controller.plan.created + timedelta(hours=8)
    for _ in range(30):
        (one,) = status_of(run)["workloads"]
        assert one["due"] == due.timestamp()
        assert one["lateness_usd"] == 0.0
        assert one["expected_lateness_usd"] == pytest.approx(6.5, abs=1e-4)
    while not run.controller.finished:
        found = status_of(run)
    (one,) = found["workloads"]
    assert one["lateness_usd"] == one["expected_lateness_usd"] == pytest.approx(6.5, abs=1e-4)
    assert found["lateness_usd"] == pytest.approx(6.5)
    on_demand = run.controller.on_demand_cost
    assert found["saved_usd"] == pytest.approx(on_demand - found["cost_usd"] - 6.5, abs=1e-5)
    assert found["cost_usd"] == pytest.approx(3.0 * np.ceil(6 * (10 + 1 / 6)) / 6)
    assert "\nspotwise_lateness_usd 6.5" in prometheus(found, Counts())


def test_a_job_that_waits_is_expected_to_be_later_with_every_tick(begin: Begin) -> None:
    run = scene(begin, policy="greedy", lateness_usd_per_hour=0.1, deadline_hours=20.0)
    expected = [status_of(run)["workloads"][0]["expected_lateness_usd"] for _ in range(12)]
    # each tick of waiting is 10 min more, from 10 h of work and a restart on, 2 h 10 min too late
    assert expected == pytest.approx([0.1 * (13 / 6 + k / 6) for k in range(12)], abs=1e-4)


def test_a_job_without_a_cost_of_lateness_is_not_due_before_its_deadline(begin: Begin) -> None:
    run = scene(begin)
    (one,) = status_of(run)["workloads"]
    assert "due" not in one
    assert status_of(run)["lateness_usd"] == 0.0


def test_committed_instances_cost_nothing_on_demand(begin: Begin) -> None:
    run = scene(begin, nodes=4, committed=3)
    found = status_of(run)
    assert found["rate_usd_per_hour"] == pytest.approx(3.0)
    assert found["on_demand_usd_per_hour"] == pytest.approx(3.0)
    while not run.controller.finished:
        found = status_of(run)
    assert found["cost_usd"] == pytest.approx(3.0 * np.ceil(6 * (10 + 1 / 6)) / 6)
    assert found["cost_usd"] == pytest.approx(run.cloud.jobs["job"].cost[0])


def test_the_command_shows_when_a_job_is_due_and_what_being_late_may_cost(
    begin: Begin, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = scene(begin, lateness_usd_per_hour=3.0)
    found = status_of(run)
    monkeypatch.setattr("optimizer.cli.controller._call", lambda *_: found)
    monkeypatch.setattr("optimizer.cli.controller._settings", lambda _: run.controller.settings)
    monkeypatch.setattr("rich.console.Console", partial(Console, width=200, force_terminal=False))
    app(["status", "--config", "controller.yaml"], standalone_mode=False)
    shown = capsys.readouterr().out
    assert "due 2026-01-05 08:00 UTC (lateness 6.50 USD)" in shown
