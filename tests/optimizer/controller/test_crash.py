"""Crashes before and after every mutating call, with lost replies and throttles: nothing twice, no orphan."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from optimizer.controller.journal import Intent
from optimizer.controller.providers import Capacity, Instance, Launch, LaunchResult, Unavailable
from optimizer.controller.providers.simulated import SimulatedCloud
from optimizer.fake_aws import FakeAws, Options
from optimizer.fake_aws.journal import Call
from optimizer.plan import PlanPool, write_plan
from simulator.market import Market, Pool
from tests.optimizer.controller.scene import START, TEMPLATE, Begin, job, market, on_fake, plan, service

ROOT = Path(__file__).resolve().parents[3]


class Crash(BaseException):
    """The process dies here. No `except Exception` survives it, as none survives SIGKILL."""


class Treacherous:
    """A capacity whose mutating calls crash the caller, lose their replies or are throttled, by seed."""

    def __init__(self, inner: Capacity, seed: int, share: float = 0.35) -> None:
        self.inner, self.random, self.share = inner, random.Random(seed), share
        self.struck = 0

    def instances(self) -> Sequence[Instance]:
        return self.inner.instances()

    def offers(self, pools: Sequence[PlanPool]) -> Mapping[str, int]:
        return self.inner.offers(pools)

    def launch(self, request: Launch) -> LaunchResult:
        result = self._strike(lambda: self.inner.launch(request))
        assert isinstance(result, LaunchResult)
        return result

    def terminate(self, ids: Sequence[str]) -> None:
        self._strike(lambda: self.inner.terminate(ids))

    def _strike(self, call: Any) -> Any:
        kind = self.random.choice(["before", "after", "lost", "throttled"])
        if self.random.random() >= self.share:
            return call()
        self.struck += 1
        if kind == "before":
            raise Crash
        if kind == "throttled":
            raise Unavailable("throttled")
        answer = call()
        if kind == "after":
            raise Crash
        if kind == "lost":
            raise Unavailable("the reply was lost")
        return answer


def scenario(seed: int) -> tuple[Market, Any]:
    rng = np.random.default_rng(seed)
    of = market(rng.integers(0, 4, (2, 40)), spot=[[1.0], [1.1]])
    return of, plan(
        of,
        job(of, "single", policy="spot-when-available", work_hours=2.0, deadline_hours=4.0),
        job(of, "gang", policy="greedy", work_hours=2.0, deadline_hours=4.5, nodes=2, begins=2),
        service(of, "web", cold_start_minutes=0.0, demand={"source": "fixed", "instances": 2}),
    )


def wide_scenario(seed: int) -> tuple[Market, Any]:
    """The same jobs over two regions and two types, with a checkpoint that takes four minutes to copy."""
    rng = np.random.default_rng(seed)
    places = (("us-east-1", "a", "m5.large"), ("us-west-2", "a", "m5.large"), ("us-west-2", "b", "m5.xlarge"))
    of = Market.build(
        [Pool("aws", region, f"{region}{zone}", kind) for region, zone, kind in places],
        tick_seconds=600,
        start=START,
        spot_price=np.array([[1.0], [0.7], [0.9]]),
        spot_capacity=rng.integers(0, 4, (3, 40)),
        on_demand_price=np.array([[3.0], [3.1], [4.0]]),
    )
    copies: dict[str, Any] = {"data_region": "us-east-1", "checkpoint_size_gb": 24.0}
    single = job(of, "single", policy="spot-when-available", work_hours=2.0, deadline_hours=4.3, **copies)
    gang = job(of, "gang", policy="greedy", work_hours=2.0, deadline_hours=4.6, nodes=2, begins=2, **copies)
    for one in (single, gang):
        one["pools"][2]["throughput"] = 1.5
    web = service(of, "web", cold_start_minutes=0.0, demand={"source": "fixed", "instances": 2})
    return of, plan(of, single, gang, web)


def endure(begin: Begin, seed: int, cloud: Any, provider: Any, ticks: int) -> tuple[Any, int]:
    """Run a plan to its end through crashes; the last run and the number of crashes."""
    capacity = Treacherous(provider.capacity, seed)
    treacherous = replace(provider, capacity=capacity)
    the_plan = cloud.the_plan
    run = begin(the_plan, cloud, provider=treacherous)
    crashes = 0
    for tick in range(ticks):
        try:
            report = run.controller.run_tick()
        except Crash:
            crashes += 1
            run.journal.close()
            run = begin(the_plan, cloud, provider=treacherous)
            # restarts may crash again; the storm around one tick ends at some time
            for attempt in range(6):
                try:
                    report = run.controller.run_tick()
                    break
                except Crash:
                    crashes += 1
                    run.journal.close()
                    if attempt == 4:
                        capacity.share = 0.0
                    run = begin(the_plan, cloud, provider=treacherous)
        # the last ticks are quiet: what is in doubt must come to an end
        capacity.share = 0.35 if tick < ticks - 3 else 0.0
        if not report.outcome.unknown and not report.in_doubt:
            check_converged(run, provider)
        cloud.step()
    return run, crashes


def check_converged(run: Any, provider: Any) -> None:
    """What the cloud has is what was decided: nothing twice, nothing that nobody knows."""
    held: dict[str, int] = {}
    for one in provider.capacity.instances():
        if one.state in ("pending", "running"):
            held[one.workload] = held.get(one.workload, 0) + 1
    known = {name: len(run.controller.inventory.live(name)) for name in ("single", "gang", "web")}
    assert held == {name: count for name, count in known.items() if count}
    assert held.get("single", 0) <= 1
    assert held.get("gang", 0) <= 2
    assert held.get("web", 0) <= 2


class Simulated:
    def __init__(self, seed: int, made: Callable[[int], tuple[Market, Any]]) -> None:
        self.of, self.the_plan = made(seed)
        self.cloud = SimulatedCloud(self.of, self.the_plan)

    def step(self) -> None:
        self.cloud.advance()


class Faked:
    def __init__(self, fake: FakeAws, the_plan: Any) -> None:
        self.fake, self.the_plan = fake, the_plan

    def step(self) -> None:
        self.fake.advance(600)


def finish(run: Any, crashes: int) -> None:
    fleets = [fleet for fleet, _ in run.controller.jobs]
    assert all(fleet.done.all() for fleet in fleets)
    assert not any(fleet.missed.any() for fleet in fleets)
    assert not run.controller.inventory.live("single")
    assert not run.controller.inventory.live("gang")
    assert run.journal.open_intents() == []
    assert crashes >= 0


def schedule_on_kernels(begin: Begin, seed: int, made: Callable[[int], tuple[Market, Any]] = scenario) -> int:
    simulated = Simulated(seed, made)
    run, crashes = endure(begin, seed, simulated, simulated.cloud.provider(), 34)
    finish(run, crashes)
    return crashes


def schedule_on_aws(begin: Begin, seed: int) -> int:
    of, the_plan = scenario(seed)
    with FakeAws(of, Options(consistency_seconds=0.0)) as fake:
        run, crashes = endure(begin, seed, Faked(fake, the_plan), on_fake(fake, the_plan), 34)
        finish(run, crashes)
    return crashes


def test_crashes_on_the_kernels(begin: Begin, tmp_path: Path) -> None:
    crashes = 0
    for seed in range(40):
        crashes += schedule_on_kernels(_in(begin, tmp_path, seed), seed)
    assert crashes > 40


def test_crashes_of_jobs_over_two_regions(begin: Begin, tmp_path: Path) -> None:
    crashes = 0
    for seed in range(200, 210):
        crashes += schedule_on_kernels(_in(begin, tmp_path, seed), seed, wide_scenario)
    assert crashes > 10


def test_crashes_on_aws(begin: Begin, tmp_path: Path) -> None:
    assert sum(schedule_on_aws(_in(begin, tmp_path, seed), seed) for seed in range(100, 110)) > 10


def _in(begin: Begin, tmp_path: Path, seed: int) -> Begin:
    del tmp_path

    def made(*given: Any, **named: Any) -> Any:
        return begin(*given, folder=f"state-{seed}", **named)

    return made


@pytest.mark.slow
@pytest.mark.parametrize("block", range(20))
def test_two_thousand_schedules(begin: Begin, tmp_path: Path, block: int) -> None:
    for seed in range(1000 + 100 * block, 1100 + 100 * block):
        one = schedule_on_aws if seed % 10 == 0 else schedule_on_kernels
        one(_in(begin, tmp_path, seed), seed)


# ------------------------------------------------------------------------------------------ real SIGKILL

CHILD = textwrap.dedent(
    """
    import sys
    from pathlib import Path
    from optimizer.controller.config import AwsSettings, ControllerSettings
    from optimizer.controller.journal import Journal
    from optimizer.controller.loop import Controller
    from optimizer.controller.providers.aws import aws_provider
    from optimizer.plan import read_plan

    class At:
        def now(self): return float(sys.argv[3])
        def steady(self): return float(sys.argv[3])
        def wait_until(self, moment): return False

    plan = read_plan(Path(sys.argv[1]))
    aws = {"launch": {"default": {"template": sys.argv[4]}}, "patience_seconds": 0}
    aws["capacity_memory_seconds"] = 0
    settings = ControllerSettings.model_validate({
        "state_dir": sys.argv[2], "mode": "apply", "provider": {"kind": "aws", "aws": aws},
    })
    provider = aws_provider("spotwise", settings.provider.aws, plan, clock=At())
    with Journal(Path(sys.argv[2]) / "journal.sqlite") as journal:
        controller = Controller(plan, settings, provider, journal, lambda *event: None)
        controller.run_tick()
        print("finished" if controller.finished else "more")
    """
)


def test_a_real_sigkill_before_and_after_each_mutating_call(tmp_path: Path) -> None:
    of = market([[1, 0, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1]], spot=1.0)
    the_plan = plan(of, job(of, policy="spot-when-available", work_hours=0.2, deadline_hours=0.8))
    write_plan(the_plan, tmp_path / "plan.yaml")
    with FakeAws(of) as fake:
        on_fake(fake, the_plan)
        child: list[subprocess.Popen[str]] = []
        deadly = {("before", 1), ("after", 2), ("before", 3)}
        count = [0]
        killed = [0]

        def strike(when: str) -> Any:
            def hook(call: Call) -> None:
                if not call.mutating or call.action == "CreateLaunchTemplate":
                    return
                count[0] += when == "before"
                if (when, count[0]) in deadly:
                    deadly.discard((when, count[0]))
                    os.kill(child[-1].pid, signal.SIGKILL)
                    killed[0] += 1

            return hook

        fake.before_call.append(strike("before"))
        fake.after_call.append(strike("after"))
        environment = {
            **os.environ,
            "AWS_ENDPOINT_URL": fake.endpoint,
            "AWS_ACCESS_KEY_ID": "fake",
            "AWS_SECRET_ACCESS_KEY": "fake",
            "OMP_NUM_THREADS": "1",
        }
        outcome = ""
        for _ in range(11):
            for _ in range(5):
                command = [sys.executable, "-c", CHILD, str(tmp_path / "plan.yaml"), str(tmp_path / "state")]
                child.append(
                    subprocess.Popen(
                        [*command, str(fake.now().timestamp()), TEMPLATE],
                        cwd=ROOT,
                        env=environment,
                        stdout=subprocess.PIPE,
                        stderr=subprocess.PIPE,
                        text=True,
                    )
                )
                outcome, errors = child[-1].communicate(timeout=60)
                if child[-1].returncode == 0:
                    break
                assert child[-1].returncode == -signal.SIGKILL, errors
            running = fake.held()
            assert sum(running.values()) <= 1
            if outcome.strip() == "finished":
                break
            fake.advance(600)
        assert outcome.strip() == "finished"
        assert killed[0] == 3
        described = fake.client("ec2", "us-east-1").describe_instances()["Reservations"]
        states = [one["State"]["Name"] for group in described for one in group["Instances"]]
        assert set(states) == {"terminated"}


def test_a_launch_in_doubt_is_not_sent_again_for_a_workload_that_left_the_plan(begin: Begin) -> None:
    of = market([[9] * 99])
    the_plan = plan(of, job(of))
    with FakeAws(of) as fake:
        run = begin(the_plan, fake, provider=on_fake(fake, the_plan))
        request = {"pool": the_plan.workloads[0].pools[0].name, "option": "spot", "count": 1, "at_least": 1}
        at = run.controller.provider.clock.now()
        run.journal.begin(
            at, "apply", [Intent(0, "left", "launch", "a" * 32, request, "before the new plan")]
        )
        run.controller.run_tick()
        assert [row.workload for row in run.controller.inventory.all_live()] == ["job"]
        fake.advance(600)
        run.controller.run_tick()
        assert len(fake.log.of("RunInstances", acted=True)) == 1
        assert not run.journal.open_intents()
