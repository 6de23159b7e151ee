"""Before the first tick and before the lease policies decide on made-up data: no tick compiles anything."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from optimizer.controller.config import ControllerSettings
from optimizer.controller.daemon import Daemon
from optimizer.controller.journal import Journal
from optimizer.controller.providers.simulated import SimulatedCloud
from optimizer.plan import Plan
from policies.protocol import Memory
from tests.optimizer.controller.scene import Begin, Idler, job, market, plan, service

ROOT = Path(__file__).resolve().parents[3]


class OpenLease:
    """Always held; writes down when it is asked for."""

    problem, fence = "", 1

    def __init__(self, order: list[str]) -> None:
        self.order = order

    def hold(self) -> bool:
        self.order.append("lease")
        return True

    keep = hold

    def valid(self) -> bool:
        return True

    fresh = valid

    def release(self) -> None:
        self.order.append("released")


class Slow:
    """Greedy enough: on-demand, always; its first call takes a while, as one that compiles does."""

    name = "slow"

    def __init__(self, order: list[str], seconds: float) -> None:
        self.order, self.seconds = order, seconds

    def reset(self, jobs: int, pools: int = 1) -> Memory:
        del pools
        return {"seen": np.zeros(jobs, np.int64)}

    def act(self, observation: Any, memory: Memory) -> tuple[Any, Memory]:
        if "act" not in self.order:
            time.sleep(self.seconds)
        self.order.append("act")
        return np.ones(observation.jobs, np.int64), {"seen": np.asarray(memory["seen"]) + 1}


Make = Callable[..., Daemon]


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    journals: list[Journal] = []

    def daemon(the_plan: Plan, events: list[tuple[str, str, str]], **more: Any) -> Daemon:
        settings = ControllerSettings.model_validate(
            {
                "state_dir": tmp_path / f"state-{len(journals)}",
                "mode": "apply",
                "endpoint": {"enabled": False},
                "policy_seconds": more.pop("policy_seconds", 600.0),
                "provider": {"kind": "simulated", "simulated": {"market": "unused"}},
            }
        )
        journals.append(Journal(settings.state_dir / "journal.sqlite"))
        provider = more.pop("cloud", None) or SimulatedCloud(market([[9] * 99, [9] * 99]), the_plan)
        return Daemon(
            the_plan, settings, provider.provider(), journals[-1], lambda *event: events.append(event), **more
        )

    yield daemon
    for journal in journals:
        journal.close()


def test_a_slow_first_call_is_made_before_the_lease_and_counts_against_nothing(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("optimizer.controller.decide.WARM_UP_SECONDS", 0.0)
    of = market([[9] * 99, [9] * 99])
    order: list[str] = []
    events: list[tuple[str, str, str]] = []
    made = make(plan(of, job(of)), events, policy_seconds=0.5, lease=OpenLease(order))
    made.controller.jobs[0] = (made.controller.jobs[0][0], Slow(order, 1.0))
    made.run(2)
    assert order.index("act") < order.index("lease")
    assert "fallback" not in {kind for _, kind, _ in events}
    assert made.controller.jobs[0][0].memory["seen"].tolist() == [2], "ticks, not calls on made-up data"
    (ready,) = [message for _, kind, message in events if kind == "warm-up"]
    assert ready.startswith("policies are ready after 1.")


def test_a_policy_that_fails_or_hangs_in_it_does_not_keep_the_ticks_from_beginning(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("optimizer.controller.warm_up.LONGEST_SECONDS", 0.2)
    monkeypatch.setattr("optimizer.controller.decide.WARM_UP_SECONDS", 0.0)
    of = market([[9] * 99, [9] * 99])
    release = threading.Event()
    for fault, says in (
        (lambda: 1 // 0, "policy idler failed (ZeroDivisionError"),
        (lambda: release.wait(60.0), "not ready after"),
    ):
        events: list[tuple[str, str, str]] = []
        made = make(plan(of, job(of)), events, policy_seconds=0.1)
        made.controller.jobs[0] = (made.controller.jobs[0][0], Idler(fault))
        assert made.run(2) == 2
        assert any(kind == "warm-up" and says in message for _, kind, message in events)
        assert made.status()["workloads"][0]["placement"] == "on-demand", "the safe baseline decides"
    release.set()


def test_a_stop_does_not_wait_for_it(make: Make) -> None:
    of = market([[9] * 99, [9] * 99])
    asked, release = threading.Event(), threading.Event()

    def hangs() -> None:
        asked.set()
        release.wait(60.0)

    made = make(plan(of, job(of)), [])
    made.controller.jobs[0] = (made.controller.jobs[0][0], Idler(hangs))
    ran: list[int] = []
    loop = threading.Thread(target=lambda: ran.append(made.run()))
    loop.start()
    assert asked.wait(30)
    made.command("stop", "a test")
    loop.join(20)
    assert ran == [0]
    release.set()


def test_decisions_do_not_depend_on_it(make: Make, begin: Begin) -> None:
    of = market([[9] * 6 + [0] * 5 + [9] * 50, [0] * 4 + [9] * 57], spot=[[1.0], [1.2]])
    one_pool = job(of, "one", policy="planner", work_hours=2.0, deadline_hours=4.0)
    one_pool["pools"] = one_pool["pools"][:1]
    the_plan = plan(
        of,
        one_pool,
        job(of, "two", policy="planner", work_hours=2.0, deadline_hours=4.0),
        service(of, cold_start_minutes=0.0),
    )
    warm: list[Any] = []
    made = make(the_plan, [], cloud=SimulatedCloud(of, the_plan))
    made.run(30, lambda report: warm.append({key: one.tolist() for key, one in report.wanted.items()}))
    cloud = SimulatedCloud(of, the_plan)
    run = begin(the_plan, cloud)
    cold = []
    for _ in range(30):
        report = run.controller.run_tick()
        cold.append({key: one.tolist() for key, one in report.wanted.items()})
        cloud.advance()
    assert warm == cold
    assert made.controller.cost == run.controller.cost


CODE = """
import gc, sys, threading
from datetime import timedelta
from pathlib import Path
from numba.core.dispatcher import Dispatcher
from optimizer.controller.config import ControllerSettings
from optimizer.controller.journal import Journal
from optimizer.controller.loop import Controller
from optimizer.controller.providers.simulated import SimulatedCloud
from optimizer.controller.warm_up import warm_up
from optimizer.recommend.plan import bundle_sha256
from tests.optimizer.controller.scene import job, market, plan, service

of = market([[9] * 6 + [0] * 5 + [9] * 50, [0] * 4 + [9] * 57, [5] * 61], spot=[[1.0], [1.2], [1.1]])
names = ("planner", "deadline-champion", "uniform-progress")
short = {"work_hours": 2.0, "deadline_hours": 4.0}
jobs = [
    job(of, f"{name}-{begins}-{n}", policy=name, begins=begins, **short)
    for name in names for n in (1, 3) for begins in (0, 2)
]
for one in jobs:
    one["pools"] = one["pools"][: int(one["name"][-1])]
gang = job(of, "gang", policy="planner", nodes=2, lateness_usd_per_hour=1.0, **short)
jobs.append({**gang, "due": gang["begins"] + timedelta(hours=3)})
webs = [service(of, name, policy="service-champion") for name in ("web", "api")]
the_plan = plan(of, *jobs, *webs, policies=[
    {"name": name, "kind": kind, "bundle_sha256": bundle_sha256(name)}
    for kind, those in (("deadline", names), ("service", ("service-champion",))) for name in those
])
cloud = SimulatedCloud(of, the_plan)
settings = ControllerSettings.model_validate({
    "state_dir": sys.argv[1], "mode": "apply", "policy_seconds": 600.0,
    "provider": {"kind": "simulated", "simulated": {"market": "unused"}},
})

def compiled():
    made = [one for one in gc.get_objects() if isinstance(one, Dispatcher)]
    policies = [one for one in made if one.py_func.__module__.startswith("policies.")]
    named = {f"{one.py_func.__module__}.{one.py_func.__name__}": one for one in policies}
    return {f"{name} {types}" for name, one in named.items() for types in one.signatures}

with Journal(Path(sys.argv[1]) / "journal.sqlite") as journal:
    controller = Controller(the_plan, settings, cloud.provider(), journal, lambda *_: None)
    told = []
    warm_up(controller.jobs, controller.services, 600, lambda *event: told.append(event), threading.Event())
    assert [level for level, *_ in told] == ["info"], told
    before = compiled()
    assert before
    for _ in range(20):
        controller.run_tick()
        cloud.advance()
    for late in sorted(compiled() - before):
        print("compiled in a tick:", late)
"""


def test_nothing_is_compiled_in_a_tick(tmp_path: Path) -> None:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", CODE, str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
