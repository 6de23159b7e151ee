"""Bad prices, clocks, policies, clouds and disks: capacity stays, nothing ends for lack of data."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from optimizer.controller.providers import Quote, Unavailable
from optimizer.controller.providers.simulated import SimulatedCloud
from optimizer.fake_aws import FakeAws, Fault
from optimizer.plan import Plan, PlanPool
from simulator.market import Market
from tests.optimizer.controller.scene import (
    Begin,
    FakeClock,
    Idler,
    Run,
    job,
    market,
    on_fake,
    plan,
    service,
    sqlite_of,
)


def steady() -> tuple[Market, Plan]:
    of = market([[9] * 99, [9] * 99], spot=[[1.0], [1.1]])
    return of, plan(
        of,
        job(of, policy="spot-when-available", deadline_hours=15.0),
        service(of, cold_start_minutes=0.0),
    )


class Poisoned:
    """Prices that a test sets; None falls through to the market."""

    def __init__(self, cloud: SimulatedCloud) -> None:
        self.cloud = cloud
        self.change: Callable[[dict[str, Quote]], dict[str, Quote]] | None = None

    def quotes(self, pools: Sequence[PlanPool]) -> Mapping[str, Quote]:
        quotes = dict(self.cloud.quotes(pools))
        return self.change(quotes) if self.change is not None else quotes


def with_prices(begin: Begin, **settings: Any) -> tuple[Run, SimulatedCloud, Poisoned]:
    of, the_plan = steady()
    cloud = SimulatedCloud(of, the_plan)
    prices = Poisoned(cloud)
    run = begin(the_plan, cloud, provider=replace(cloud.provider(), prices=prices), **settings)
    run.controller.run_tick()
    cloud.advance()
    return run, cloud, prices


def held(cloud: SimulatedCloud) -> set[str]:
    return {one.id for one in cloud.instances() if one.state == "running"}


@pytest.mark.parametrize("price", [float("nan"), float("inf"), -1.0, 0.0, 1e-9, 1e9])
def test_a_price_that_cannot_be_is_not_believed(begin: Begin, price: float) -> None:
    run, cloud, prices = with_prices(begin)
    before = held(cloud)
    prices.change = lambda quotes: {name: Quote(price, quote.at) for name, quote in quotes.items()}
    for _ in range(5):
        run.controller.run_tick()
        cloud.advance()
    assert held(cloud) == before
    assert "price-refused" in run.kinds()
    assert run.controller.price == {"aws/us-east-1a/m5.large": 1.0, "aws/us-east-1b/m5.large": 1.1}
    assert len([1 for _, kind, _ in run.events if kind == "price-refused"]) == 2, "told once per pool"


def test_prices_that_grow_old_decide_nothing_more(begin: Begin) -> None:
    run, cloud, prices = with_prices(begin, freshness={"prices_seconds": 1800.0})
    before = held(cloud)
    prices.change = lambda quotes: {}
    for _ in range(12):
        run.controller.run_tick()
        cloud.advance()
    assert held(cloud) == before
    assert any("too old" in message for _, kind, message in run.events if kind == "fallback")
    prices.change = None
    fallbacks = len(run.events)
    run.controller.run_tick()
    assert len(run.events) == fallbacks, "fresh prices end the fallback"


def test_without_any_price_a_deadline_is_still_kept(begin: Begin) -> None:
    of = market([[9] * 99])
    the_plan = plan(of, job(of, policy="spot-when-available"))
    cloud = SimulatedCloud(of, the_plan)
    prices = Poisoned(cloud)
    prices.change = lambda quotes: {}
    run = begin(the_plan, cloud, provider=replace(cloud.provider(), prices=prices))
    while not run.controller.finished:
        run.controller.run_tick()
        cloud.advance()
    assert not run.controller.jobs[0][0].missed[0]
    assert not cloud.jobs["job"].missed[0]


def raises() -> Any:
    raise ValueError("poison")


@pytest.mark.parametrize(
    "fault",
    [
        raises,
        lambda: np.zeros(7),
        lambda: "nonsense",
        lambda: np.array([np.nan]),
        lambda: np.array([10**9]),
        lambda: np.array(["x"]),
        lambda: None,
    ],
)
def test_a_broken_policy_misses_no_deadline_and_kills_nothing(begin: Begin, fault: Callable[[], Any]) -> None:
    of = market([[9] * 99])
    the_plan = plan(of, job(of), service(of, cold_start_minutes=0.0))
    cloud = SimulatedCloud(of, the_plan)
    run = begin(the_plan, cloud)
    run.controller.jobs[0] = (run.controller.jobs[0][0], Idler(fault))
    run.controller.services[0] = (run.controller.services[0][0], Idler(fault))
    for _ in range(80):
        run.controller.run_tick()
        cloud.advance()
    assert cloud.jobs["job"].done[0]
    assert not cloud.jobs["job"].missed[0]
    assert cloud.services["web"].availability[0] == 1.0
    assert "fallback" in run.kinds()


def test_a_policy_that_hangs_is_left_behind(begin: Begin, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("optimizer.controller.decide.WARM_UP_SECONDS", 0.0)
    of, the_plan = steady()
    cloud = SimulatedCloud(of, the_plan)
    run = begin(the_plan, cloud, policy_seconds=0.05)
    release = threading.Event()
    run.controller.jobs[0] = (run.controller.jobs[0][0], Idler(lambda: release.wait(250.0)))
    for _ in range(3):
        run.controller.run_tick()
        cloud.advance()
    assert not release.is_set(), "the ticks went on although the policy has not come back"
    release.set()
    assert any("no decision within" in message for _, _, message in run.events)
    assert len(held(cloud)) == 4


@pytest.mark.parametrize("jump", [-36_000.0, 36_000.0])
def test_a_clock_that_jumps_ends_nothing(begin: Begin, jump: float) -> None:
    of, the_plan = steady()
    with FakeAws(of) as fake:
        provider = on_fake(fake, the_plan)
        clock = provider.clock
        assert isinstance(clock, FakeClock)
        run = begin(the_plan, fake, provider=provider)
        run.controller.run_tick()
        before = {row.id for row in run.controller.inventory.all_live()}
        work = float(run.controller.jobs[0][0].work_left[0])
        clock.offset = jump
        for _ in range(2):
            fake.advance(600)
            run.controller.run_tick()
        assert {row.id for row in run.controller.inventory.all_live()} == before
        assert "clock-jump" in run.kinds()
        assert work - run.controller.jobs[0][0].work_left[0] == pytest.approx(600.0), "time went on steadily"
        clock.offset = 0.0
        fake.advance(600)
        run.controller.run_tick()
        assert {row.id for row in run.controller.inventory.all_live()} == before
        assert not run.controller.jobs[0][0].missed[0]


@pytest.mark.parametrize("service_name", ["ec2", "sqs", "*"])
def test_an_hour_without_the_cloud_changes_nothing(begin: Begin, service_name: str) -> None:
    of, the_plan = steady()
    with FakeAws(of) as fake:
        run = begin(the_plan, fake, provider=on_fake(fake, the_plan))
        run.controller.run_tick()
        before = fake.held()
        memory_before = run.controller.jobs[0][0].work_left[0]
        fake.fault(Fault("unreachable", service=service_name, seconds=3601.0))
        for _ in range(6):
            fake.advance(600)
            report = run.controller.run_tick()
            assert report.held == ("" if service_name == "sqs" else "blind")
        assert fake.held() == before
        assert "unreachable" in run.kinds()
        fake.advance(600)
        report = run.controller.run_tick()
        assert report.held == ""
        assert fake.held() == before
        assert memory_before - run.controller.jobs[0][0].work_left[0] == pytest.approx(7 * 600 - 600)
        assert "reachable" in run.kinds()
        mutations = [call.action for call in fake.log.calls if call.mutating and call.service == "ec2"]
        assert "TerminateInstances" not in mutations


def test_a_full_disk_holds_capacity_until_there_is_room(begin: Begin) -> None:
    of = market([[0] * 5 + [9] * 94])
    the_plan = plan(of, job(of, policy="spot-when-available"), *(job(of, f"j{k}") for k in range(30)))
    cloud = SimulatedCloud(of, the_plan)
    run = begin(the_plan, cloud)
    run.controller.run_tick()
    cloud.advance()
    before = held(cloud)
    pages = sqlite_of(run.journal).execute("PRAGMA page_count").fetchone()[0]
    sqlite_of(run.journal).execute(f"PRAGMA max_page_count = {pages}")
    for _ in range(8):
        report = run.controller.run_tick()
        cloud.advance()
    assert held(cloud) == before, "what is not journalled is not done"
    assert report.held == "journal-full"
    assert "journal-full" in run.kinds()
    sqlite_of(run.journal).execute("PRAGMA max_page_count = 1000000")
    for _ in range(3):
        run.controller.run_tick()
        cloud.advance()
    assert held(cloud) != before
    assert run.journal.open_intents() == []


def test_instances_that_are_merely_absent_from_answers_are_believed_in(begin: Begin) -> None:
    of, the_plan = steady()
    cloud = SimulatedCloud(of, the_plan)

    class Forgetful:
        """Describes nothing for a while."""

        def __init__(self) -> None:
            self.blank = False

        def __getattr__(self, name: str) -> Any:
            return getattr(cloud, name)

        def instances(self) -> Any:
            return [] if self.blank else cloud.instances()

    forgetful = Forgetful()
    run = begin(the_plan, cloud, provider=replace(cloud.provider(), capacity=forgetful))
    run.controller.run_tick()
    before = held(cloud)
    forgetful.blank = True
    for _ in range(2):
        cloud.advance()
        report = run.controller.run_tick()
        assert report.outcome.launched == 0
    forgetful.blank = False
    cloud.advance()
    run.controller.run_tick()
    assert held(cloud) == before


def test_the_queue_failing_to_delete_is_told_and_harmless(begin: Begin) -> None:
    of = market([[1, 0] * 50])
    the_plan = plan(of, job(of, policy="spot-when-available"))
    cloud = SimulatedCloud(of, the_plan)

    class Stuck:
        def receive(self) -> Any:
            return cloud.receive()

        def acknowledge(self, receipts: Sequence[str]) -> None:
            raise Unavailable(f"{len(receipts)} messages stay")

    run = begin(the_plan, cloud, provider=replace(cloud.provider(), interruptions=Stuck()))
    while not run.controller.finished:
        run.controller.run_tick()
        cloud.advance()
    assert not cloud.jobs["job"].missed[0]
    assert len(cloud.receive()) > 0
