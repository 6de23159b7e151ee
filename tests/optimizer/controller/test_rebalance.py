"""Rebalance recommendations: followed where that pays, counted, and published."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from optimizer.controller.config import ControllerSettings
from optimizer.controller.daemon import Daemon
from optimizer.controller.journal import Journal
from optimizer.controller.rebalance import COUNTS, Rebalance
from optimizer.controller.report import Report
from optimizer.controller.status import Counts, prometheus, snapshot
from optimizer.fake_aws import FakeAws
from simulator.market import Market
from tests.optimizer.controller.scene import Begin, FakeClock, Run, job, market, on_fake, plan, service

REBALANCE = "EC2 Instance Rebalance Recommendation"


def test_rebalance_recommendations_alone_move_nothing(begin: Begin) -> None:
    of = market([[9] * 99])
    the_plan = plan(of, job(of, policy="spot-when-available"))
    with FakeAws(of) as fake:
        run = begin(the_plan, fake, provider=on_fake(fake, the_plan))
        run.controller.run_tick()
        before = {row.id for row in run.controller.inventory.all_live()}
        for one in before:
            fake.publish("us-east-1", REBALANCE, one, {"instance-id": one}, copies=3)
        for _ in range(8):
            fake.advance(600)
            report = run.controller.run_tick()
            assert report.lost == 0
            assert {row.id for row in run.controller.inventory.all_live()} == before
        assert run.controller.rebalance.counts["recommended"] == 1
        assert run.controller.rebalance.precision == 0.0


def test_a_recommendation_is_followed_when_that_pays(begin: Begin) -> None:
    """Much unsaved work and a small restart: leaving is cheaper than waiting for the interruption."""
    of = market([[9] * 99, [9] * 99], spot=[[1.0], [1.1]])
    dear: dict[str, Any] = {"checkpoint_interval_minutes": 300.0, "overhead_minutes": 1.0}
    the_plan = plan(
        of,
        job(of, "unsaved", policy="spot-when-available", deadline_hours=40.0, **dear),
        job(of, "saved", policy="spot-when-available", deadline_hours=40.0),
    )
    with FakeAws(of) as fake:
        run = begin(the_plan, fake, provider=on_fake(fake, the_plan))
        for _ in range(7):
            run.controller.run_tick()
            fake.advance(600)
        before = {row.workload: row for row in run.controller.inventory.all_live()}
        for row in before.values():
            fake.publish("us-east-1", REBALANCE, row.id, {"instance-id": row.id})
        work = run.controller.jobs[0][0].work_left.copy()
        report = run.controller.run_tick()
        after = {row.workload: row for row in run.controller.inventory.all_live()}
        assert after["saved"].id == before["saved"].id
        assert after["unsaved"].pool == "aws/us-east-1b/m5.large"
        assert "rebalance" in {trip.guard for trip in report.trips}
        assert (run.controller.jobs[0][0].work_left <= work).all(), "a planned move loses no work"
        fake.interrupt(after["saved"].id)
        fake.advance(600)
        run.controller.run_tick()
        found = run.controller.rebalance
        assert (found.counts["followed"], found.recall) == (1, 1.0)
        assert (
            begin(the_plan, fake, provider=on_fake(fake, the_plan)).controller.rebalance.counts
            == found.counts
        )


def recommend(fake: FakeAws, *instances: str) -> None:
    for one in instances:
        fake.publish("us-east-1", REBALANCE, one, {"instance-id": one}, copies=2)


def held(run: Run) -> Counter[str]:
    """Instances of the service by pool, on-demand apart."""
    live = run.controller.inventory.live("web")
    return Counter(row.pool[-10:-9] if row.option == "spot" else "on-demand" for row in live)


def begin_service(begin: Begin, fake: FakeAws, of: Market, policy: str, **fields: Any) -> Run:
    """A service that is ready: three of three."""
    the_plan = plan(of, service(of, policy=policy, availability_target=0.99, **fields))
    run = begin(the_plan, fake, provider=on_fake(fake, the_plan), guards={"keep_ready": True})
    for _ in range(4):
        run.controller.run_tick()
        fake.advance(600)
    return run


def test_a_service_replaces_a_recommended_instance_before_it_goes(begin: Begin) -> None:
    of = market([[9] * 99, [9] * 99], spot=[[1.0], [1.1]])
    with FakeAws(of) as fake:
        run = begin_service(begin, fake, of, "even-spread")
        assert held(run) == {"a": 2, "b": 1}
        (fleet, _) = run.controller.services[0]
        victim = next(
            row.id for row in run.controller.inventory.live("web") if row.pool.endswith("1a/m5.large")
        )
        recommend(fake, victim)
        report = run.controller.run_tick()
        assert "rebalance" in {trip.guard for trip in report.trips}
        assert (report.outcome.launched, report.outcome.terminated) == (1, 0)
        assert held(run) == {"a": 2, "b": 2}, "the replacement comes up in the other pool"
        for _ in range(3):
            fake.advance(600)
            run.controller.run_tick()
            assert fleet.ready[0] >= 3, "it is never short"
        assert held(run) == {"a": 1, "b": 2}
        assert (
            victim not in run.controller.inventory.rows
            or run.controller.inventory.rows[victim].state != "live"
        )
        for _ in range(8):
            fake.advance(600)
            run.controller.run_tick()
            assert fleet.ready[0] >= 3
        assert held(run) == {"a": 2, "b": 1}, "after the hour the policy's choice holds again"


@pytest.mark.parametrize(
    ("policy", "fields", "why"),
    [
        ("even-spread", {"cold_start_minutes": 0.0}, "the warning leaves time enough"),
        ("spothedge-1", {"cold_start_minutes": 20.0}, "it has a spare"),
        ("even-spread", {"cold_start_minutes": 20.0, "availability_target": 0.2}, "nobody minds a gap"),
    ],
)
def test_a_service_stays_where_leaving_does_not_pay(
    begin: Begin, policy: str, fields: dict[str, Any], why: str
) -> None:
    of = market([[9] * 99, [9] * 99], spot=[[2.5], [2.6]])
    with FakeAws(of) as fake:
        the_plan = plan(of, service(of, policy=policy, **fields))
        run = begin(the_plan, fake, provider=on_fake(fake, the_plan))
        for _ in range(5):
            run.controller.run_tick()
            fake.advance(600)
        before = {row.id for row in run.controller.inventory.live("web") if row.option == "spot"}
        recommend(fake, sorted(before)[0])
        for _ in range(3):
            run.controller.run_tick()
            fake.advance(600)
        assert before <= {row.id for row in run.controller.inventory.live("web")}, why


def test_without_another_pool_a_service_goes_to_on_demand_and_comes_back(begin: Begin) -> None:
    of = market([[9] * 99])
    with FakeAws(of) as fake:
        run = begin_service(begin, fake, of, "even-spread")
        victims = [row.id for row in run.controller.inventory.live("web")]
        recommend(fake, *victims)
        run.controller.run_tick()
        assert held(run) == {"a": 3, "on-demand": 3}
        for _ in range(3):
            fake.advance(600)
            run.controller.run_tick()
        assert held(run) == {"on-demand": 3}
        for _ in range(9):
            fake.advance(600)
            run.controller.run_tick()
        assert held(run) == {"a": 3}


def test_a_pool_that_turns_out_empty_is_given_up_for_on_demand(begin: Begin) -> None:
    of = market([[9] * 99, [1] * 99], spot=[[1.0], [1.1]])
    with FakeAws(of) as fake:
        run = begin_service(begin, fake, of, "even-spread")
        run.controller.provider.capacity._settings = run.controller.provider.capacity._settings.model_copy(  # type: ignore[attr-defined]  # EC2's own
            update={"capacity_memory_seconds": 7200.0}
        )
        victim = next(row.id for row in run.controller.inventory.live("web") if "1a" in row.pool)
        recommend(fake, victim)
        for _ in range(4):
            run.controller.run_tick()
            fake.advance(600)
        assert held(run) == {"a": 1, "b": 1, "on-demand": 1}


def test_a_move_that_was_begun_goes_on_after_a_restart(begin: Begin) -> None:
    of = market([[9] * 99, [9] * 99], spot=[[1.0], [1.1]])
    with FakeAws(of) as fake:
        run = begin_service(begin, fake, of, "even-spread")
        the_plan = run.controller.plan
        victim = next(row.id for row in run.controller.inventory.live("web") if "1a" in row.pool)
        recommend(fake, victim)
        for _ in range(4):
            run.controller.run_tick()
            run.journal.close()
            fake.advance(600)
            run = begin(the_plan, fake, provider=on_fake(fake, the_plan), guards={"keep_ready": True})
        assert held(run) == {"a": 1, "b": 2}
        assert len(fake.bill().instances) == 4, "one replacement, not one per start"


class MovingClock(FakeClock):
    """Waiting moves it."""

    def wait_until(self, moment: float) -> bool:
        self.fake.advance(max(moment - self.now(), 0.0))
        return False


def test_a_recommendation_is_not_left_until_the_next_tick(tmp_path: Path) -> None:
    of = market([[9] * 99, [9] * 99], spot=[[1.0], [1.1]])
    the_plan = plan(of, service(of, availability_target=0.99))
    settings = ControllerSettings.model_validate(
        {
            "state_dir": tmp_path,
            "mode": "apply",
            "endpoint": {"enabled": False},
            "provider": {"kind": "simulated", "simulated": {"market": "unused"}},
        }
    )
    seen: list[Report] = []
    with FakeAws(of) as fake, Journal(tmp_path / "journal.sqlite") as journal:
        provider = replace(on_fake(fake, the_plan), clock=MovingClock(fake))
        daemon = Daemon(the_plan, settings, provider, journal, lambda *_: None)

        def watch(report: Report) -> None:
            seen.append(report)
            if len(seen) == 4:
                recommend(fake, daemon.controller.inventory.live("web")[0].id)

        daemon.run(6, watch)
    assert seen[4].between
    assert seen[4].now - seen[3].now <= 10.0
    assert seen[4].outcome.launched == 1, "the replacement is asked for at once"
    assert not seen[5].between, "one message, one look"


def test_precision_and_recall_are_published_by_kind(begin: Begin) -> None:
    of = market([[9] * 99, [9] * 99], spot=[[1.0], [1.1]])
    the_plan = plan(of, job(of, policy="spot-when-available"), service(of))
    with FakeAws(of) as fake:
        run = begin(the_plan, fake, provider=on_fake(fake, the_plan))
        run.controller.run_tick()
        fake.advance(600)
        (job_at,) = run.controller.inventory.live("job")
        web = run.controller.inventory.live("web")
        recommend(fake, job_at.id, web[0].id)
        run.controller.run_tick()
        fake.interrupt(web[0].id, web[1].id)
        fake.advance(130)
        run.controller.run_tick()
        for _ in range(7):
            fake.advance(600)
            report = run.controller.run_tick()
        status = snapshot(run.controller, report, Counts())
        published = {kind: tuple(found.values()) for kind, found in status["rebalance"].items()}
        assert list(status["rebalance"]["service"]) == [*COUNTS, "precision", "recall"]
        assert published == {"deadline": (1, 0, 0, 0, 0.0, 0.0), "service": (1, 1, 2, 1, 1.0, 0.5)}
        text = prometheus(status, Counts())
        assert 'spotwise_rebalance_precision{kind="service"} 1\n' in text
        assert 'spotwise_rebalance_recall{kind="deadline"} 0\n' in text
        names = {"web"}
        assert Rebalance(run.journal, names).published() == status["rebalance"], "counts survive a restart"
