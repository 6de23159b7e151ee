"""A plan that expires while it runs, and controllers that are started again after that."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from optimizer.cli import app
from optimizer.controller.config import ControllerSettings
from optimizer.controller.daemon import Daemon
from optimizer.controller.journal import Journal
from optimizer.controller.providers.simulated import SimulatedCloud
from optimizer.controller.report import Report
from optimizer.plan import Plan, write_plan
from simulator.errors import InputError
from simulator.market import Market
from tests.optimizer.controller.scene import SetClock, job, market, plan, service

EXPIRES = 20
"""Tick at which plans of this file expire."""


@dataclass
class Ran:
    """What daemons one after the other did on one cloud."""

    decided: list[dict[str, Any]] = field(default_factory=list)
    events: list[tuple[str, str, str]] = field(default_factory=list)
    status: dict[str, Any] = field(default_factory=dict)

    def watch(self, report: Report) -> None:
        self.decided.append({key: wanted.tolist() for key, wanted in report.wanted.items()})


def scene() -> tuple[Market, Plan]:
    """Two pools that lose their capacity in turn, before and after the plan expires."""
    first = [9] * 12 + [0] * 6 + [9] * 12 + [0] * 6 + [9] * 64
    second = [9] * 24 + [0] * 20 + [9] * 56
    of = market([first, second], spot=[[1.0], [1.2]])
    the_plan = plan(
        of,
        job(of, "nightly"),
        job(of, "late", begins=30, work_hours=2.0, deadline_hours=6.0),
        service(of, cold_start_minutes=0.0),
        expires=of.start + timedelta(seconds=of.tick_seconds * EXPIRES),
    )
    return of, the_plan


@contextmanager
def daemon(
    folder: Path, the_plan: Plan, cloud: SimulatedCloud, ran: Ran, mode: str = "apply"
) -> Iterator[Daemon]:
    settings = ControllerSettings.model_validate(
        {
            "state_dir": folder,
            "mode": mode,
            "endpoint": {"enabled": False},
            "policy_seconds": 600.0,
            "provider": {"kind": "simulated", "simulated": {"market": "unused"}},
        }
    )
    with Journal(folder / "journal.sqlite") as journal:
        yield Daemon(the_plan, settings, cloud.provider(), journal, lambda *event: ran.events.append(event))


def run(folder: Path, the_plan: Plan, cloud: SimulatedCloud, *stints: int) -> Ran:
    """Run so many ticks, start again, run so many more, and so on."""
    ran = Ran()
    for ticks in stints:
        with daemon(folder, the_plan, cloud, ran) as made:
            made.run(ticks, ran.watch)
            ran.status = made.status()
    return ran


def test_a_daemon_that_is_started_again_after_the_end_does_what_one_that_ran_on_does(tmp_path: Path) -> None:
    of, the_plan = scene()
    stints = (EXPIRES - 1, 1, 1, 9, 4, 36)
    whole = run(tmp_path / "whole", the_plan, SimulatedCloud(of, the_plan), sum(stints))
    parts = run(tmp_path / "parts", the_plan, SimulatedCloud(of, the_plan), *stints)
    assert parts.decided == whole.decided
    for name in ("cost_usd", "saved_usd", "workloads", "instances"):
        assert parts.status[name] == whole.status[name]
    states = {one["name"]: one["state"] for one in parts.status["workloads"]}
    assert states == {"nightly": "done", "late": "done", "web": "ready"}
    assert [kind for _, kind, _ in whole.events].count("plan-expired") == 1
    assert [kind for _, kind, _ in parts.events].count("plan-expired") == 4, "told after each start"


def test_a_plan_that_never_ran_here_is_refused_once_it_has_expired(tmp_path: Path) -> None:
    of, the_plan = scene()
    cloud = SimulatedCloud(of, the_plan)
    for _ in range(EXPIRES):
        cloud.advance()
    with (
        pytest.raises(InputError, match=r"expired at .* does not show it as the last one in mode apply"),
        daemon(tmp_path, the_plan, cloud, Ran()),
    ):
        pass


def test_what_ran_in_another_mode_or_was_followed_by_another_plan_is_not_under_way(tmp_path: Path) -> None:
    of, the_plan = scene()
    longer = plan(of, service(of, cold_start_minutes=0.0))
    cloud = SimulatedCloud(of, the_plan)
    ran = Ran()
    with daemon(tmp_path, the_plan, cloud, ran, mode="dry-run") as made:
        made.run(EXPIRES + 1)
    with pytest.raises(InputError, match="mode apply"), daemon(tmp_path, the_plan, cloud, ran):
        pass
    with daemon(tmp_path, the_plan, cloud, ran, mode="dry-run") as made:
        assert made.run(1) == 1
    with daemon(tmp_path, longer, cloud, ran, mode="dry-run") as made:
        made.run(1)
    with pytest.raises(InputError, match="expired"), daemon(tmp_path, the_plan, cloud, ran, mode="dry-run"):
        pass


def test_a_look_in_another_mode_in_between_strands_nothing(tmp_path: Path) -> None:
    of, the_plan = scene()
    cloud = SimulatedCloud(of, the_plan)
    ran = Ran()
    with daemon(tmp_path, the_plan, cloud, ran) as made:
        made.run(EXPIRES - 2)
    with daemon(tmp_path, the_plan, cloud, ran, mode="dry-run") as made:
        made.run(5)
    with daemon(tmp_path, the_plan, cloud, ran) as made:
        made.run(1)
        assert made.status()["instances"] == 4


def test_a_host_whose_clock_is_wrong_after_a_reboot_does_not_strand_what_runs(tmp_path: Path) -> None:
    of, the_plan = scene()
    before = Plan.seal(
        **{
            **{name: getattr(the_plan, name) for name in ("tick_seconds", "inputs", "policies", "caps")},
            "workloads": the_plan.workloads,
            "created": of.start + timedelta(hours=1),
            "expires": the_plan.expires,
        }
    )
    cloud = SimulatedCloud(of, before)
    with (
        pytest.raises(InputError, match="check the clock of this machine"),
        daemon(tmp_path, before, cloud, Ran()),
    ):
        pass
    for _ in range(6):
        cloud.advance()
    ran = Ran()
    with daemon(tmp_path, before, cloud, ran) as made:
        made.run(5)
    wrong = SetClock(cloud, -30 * 86_400.0)
    with Journal(tmp_path / "journal.sqlite") as journal:
        provider = replace(cloud.provider(), clock=wrong)
        settings = made.settings
        again = Daemon(before, settings, provider, journal, lambda *event: ran.events.append(event))
        again.run(1)
        assert again.status()["instances"] == 4
    assert "clock-jump" in {kind for _, kind, _ in ran.events}


def test_the_command_goes_on_with_an_expired_plan_that_was_under_way_only(tmp_path: Path) -> None:
    of = market([[9] * 100, [9] * 100])
    later = replace(of, start=of.start + timedelta(hours=5))
    of.save(tmp_path / "before.npz")
    later.save(tmp_path / "after.npz")
    write_plan(
        plan(
            of,
            job(later, "nightly", begins=3, work_hours=4.0, deadline_hours=6.0),
            service(of, cold_start_minutes=0.0),
            expires=of.start + timedelta(hours=4),
        ),
        tmp_path / "plan.yaml",
    )

    def command(when: str, state: str) -> Any:
        config = tmp_path / "controller.yaml"
        config.write_text(
            f"state_dir: {tmp_path}/{state}\n"
            "mode: apply\n"
            "provider:\n"
            "  kind: simulated\n"
            f"  simulated: {{market: {tmp_path}/{when}.npz, begins: market}}\n"
        )
        words = ["run", "--plan", str(tmp_path / "plan.yaml"), "--config", str(config)]
        return CliRunner().invoke(app, ["controller", *words, "--ticks", "10", "--json"])

    refused = command("after", "fresh")
    assert isinstance(refused.exception, InputError)
    assert "spotwise recommend" in str(refused.exception)
    assert command("before", "state").exit_code == 0
    done = command("after", "state")
    assert done.exit_code == 0, done.output
    web = next(one for one in json.loads(done.stdout)["workloads"] if one["name"] == "web")
    assert (web["state"], web["placement"]) == ("ready", "3 of 3, 3 on-demand"), "what was lost, safely"
    nightly = next(one for one in json.loads(done.stdout)["workloads"] if one["name"] == "nightly")
    assert (nightly["state"], nightly["placement"]) == ("active", "on-demand")
