"""Journals that earlier releases wrote: they are continued, or refused with the reason, and nothing is ended.

The journals are written by this release and then brought into the shape of the first one through SQL: state
without the workloads' names, jobs' terms and lateness, another memory, fewer figures, no table `seen`.
"""

from __future__ import annotations

import hashlib
import io
import json
from datetime import timedelta
from typing import Any

import numpy as np
import pytest

from optimizer.controller.inventory import Inventory
from optimizer.controller.journal import Journal
from optimizer.fake_aws import FakeAws
from optimizer.plan import Plan
from simulator.errors import InputError
from simulator.market import Market
from tests.optimizer.controller.scene import Begin, Run, job, market, on_fake, plan, service, sqlite_of

FIRST = (
    "work_left",
    "unsaved",
    "pending",
    "placement",
    "cost",
    "rate",
    "at",
    "moved_at",
    "done",
    "missed",
)
"""What the first release saved of jobs, beside the policy's memory."""
SINCE = ("names", "layouts", "layout")
"""What it did not save of any workload."""


def state_of(journal: Journal) -> dict[str, dict[str, Any]]:
    return {key: dict(journal.load_state(key) or {}) for key in journal.state_keys("")}


def put(journal: Journal, key: str, arrays: dict[str, Any]) -> None:
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, **arrays)
    content = buffer.getvalue()
    sqlite_of(journal).execute(
        "UPDATE state SET sha256 = ?, content = ? WHERE key = ?",
        (hashlib.sha256(content).hexdigest(), content, key),
    )


def as_the_first_release(journal: Journal) -> None:
    """Bring a journal into the shape of the first release."""
    for key, arrays in state_of(journal).items():
        kept = {name: array for name, array in arrays.items() if name not in SINCE}
        if key.startswith("deadline:"):
            kept = {name: array for name, array in kept.items() if name in FIRST or "memory." in name}
        if "memory.belief" in kept:
            belief = kept["memory.belief"].astype(np.float64)
            kept["memory.belief"] = belief[:, : belief.shape[1] // 2]
        put(journal, key, kept)
    database = sqlite_of(journal)
    for row, summary in database.execute("SELECT rowid, summary FROM ticks").fetchall():
        figures = json.loads(summary)
        kept = {name: figures[name] for name in ("cost_usd", "held", "launched", "terminated", "lost")}
        database.execute("UPDATE ticks SET summary = ? WHERE rowid = ?", (json.dumps(kept), row))
    database.execute("DROP TABLE seen")
    database.execute("DELETE FROM meta WHERE key != 'format'")


def scene() -> tuple[Market, Plan]:
    of = market([[9] * 200, [9] * 200], spot=[[1.0], [1.1]])
    one_pool = job(of, "planned", policy="planner")
    one_pool["pools"] = one_pool["pools"][:1]
    return of, plan(of, one_pool, job(of, "greedy"), service(of, cold_start_minutes=0.0))


def ticks(run: Run, fake: FakeAws, count: int) -> None:
    for _ in range(count):
        run.controller.run_tick()
        fake.advance(600)


def facts(run: Run) -> dict[str, Any]:
    """What jobs and services have done and cost, and what they hold."""
    found: dict[str, Any] = {}
    for fleet, _ in run.controller.jobs:
        for name, row in fleet.row.items():
            found[name] = (float(fleet.work_left[row]), float(fleet.cost[row]), int(fleet.placement[row]))
    for services, _ in run.controller.services:
        for name, row in services.row.items():
            found[name] = (services.granted[row].tolist(), float(services.cost[row]))
    return found | {"held": held(run.controller.inventory)}


def held(inventory: Inventory) -> set[str]:
    return {row.id for row in inventory.all_live()}


def test_jobs_and_services_of_the_first_release_go_on(begin: Begin) -> None:
    of, the_plan = scene()
    with FakeAws(of) as fake:
        run = begin(the_plan, fake, provider=on_fake(fake, the_plan))
        ticks(run, fake, 30)
        before = facts(run)
        as_the_first_release(run.journal)
        run.journal.close()
        run = begin(the_plan, fake, provider=on_fake(fake, the_plan))
        assert facts(run) == before
        assert {(level, kind) for level, kind, _ in run.events} == {
            ("info", "earlier-release"),
            ("warning", "memory"),
        }
        (forgotten,) = [message for _, kind, message in run.events if kind == "memory"]
        assert "what policy planner remembered of 1 workloads has another shape" in forgotten
        journalled = {one["kind"] for one in run.journal.audit(limit=10) if one["entry"] == "event"}
        assert {"earlier-release", "memory"} <= journalled
        launched = len(fake.log.of("RunInstances", acted=True))
        run.controller.run_tick()
        assert facts(run)["held"] == before["held"]
        assert len(fake.log.of("RunInstances", acted=True)) == launched
        assert not fake.log.of("TerminateInstances")
        for name in ("planned", "greedy"):
            assert facts(run)[name][0] == pytest.approx(before[name][0] - 600.0)
            assert facts(run)[name][1] > before[name][1]
        run.journal.close()
        # from now on it is a journal of this release
        run = begin(the_plan, fake, provider=on_fake(fake, the_plan))
        assert not run.events
        ticks(run, fake, 60)
        assert [facts(run)[name][0] for name in ("planned", "greedy")] == [0.0, 0.0]
        assert "deadline-missed" not in run.kinds()


def test_a_call_in_doubt_of_the_first_release_is_resolved_and_not_sent_twice(begin: Begin) -> None:
    of, the_plan = scene()
    with FakeAws(of) as fake:
        run = begin(the_plan, fake, provider=on_fake(fake, the_plan))
        ticks(run, fake, 10)
        before = facts(run)
        as_the_first_release(run.journal)
        database = sqlite_of(run.journal)
        # it died after a launch left and before the answer was written down
        ((token,),) = database.execute("SELECT token FROM intents WHERE workload = 'greedy'").fetchall()
        database.execute("UPDATE intents SET state = 'pending', result = '', settled_at = NULL")
        database.execute("DELETE FROM instances")
        launched = len(fake.log.of("RunInstances", acted=True))
        run.journal.close()
        run = begin(the_plan, fake, provider=on_fake(fake, the_plan))
        ticks(run, fake, 3)
        assert facts(run)["held"] == before["held"]
        assert not run.journal.open_intents()
        states = {one["token"]: one["state"] for one in run.journal.audit() if one["entry"] == "action"}
        assert states[token] == "done"
        assert len(fake.log.of("RunInstances", acted=True)) == launched
        assert not fake.log.of("TerminateInstances")


def later(of: Market, the_plan: Plan, hours: float) -> Plan:
    """The next run of the jobs of a plan."""
    moved = [
        one.model_dump()
        | {name: getattr(one, name) + timedelta(hours=hours) for name in ("begins", "deadline")}
        if one.kind == "deadline"
        else one.model_dump()
        for one in the_plan.workloads
    ]
    return plan(of, *moved)


def test_jobs_whose_terms_were_not_saved_are_not_taken_for_their_next_run(begin: Begin) -> None:
    of, the_plan = scene()
    with FakeAws(of) as fake:
        run = begin(the_plan, fake, provider=on_fake(fake, the_plan))
        ticks(run, fake, 10)
        as_the_first_release(run.journal)
        run.journal.close()
        tomorrow = later(of, the_plan, 24.0)
        others = plan(of, job(of, "another"))
        for new, says in (
            (tomorrow, "Under way were "),
            (others, "were jobs of a plan with other workloads"),
        ):
            with pytest.raises(InputError, match=says) as refused:
                begin(new, fake, provider=on_fake(fake, new))
            assert "what runs stays as it is" in str(refused.value)
        # with the plan under which they began they go on
        run = begin(the_plan, fake, provider=on_fake(fake, the_plan))
        ticks(run, fake, 1)
        assert not fake.log.of("TerminateInstances")


def test_after_they_are_done_their_next_run_begins_anew(begin: Begin) -> None:
    of, the_plan = scene()
    with FakeAws(of) as fake:
        run = begin(the_plan, fake, provider=on_fake(fake, the_plan))
        ticks(run, fake, 90)
        done = facts(run)
        assert [done[name][0] for name in ("planned", "greedy")] == [0.0, 0.0]
        as_the_first_release(run.journal)
        run.journal.close()
        tomorrow = later(of, the_plan, 24.0)
        run = begin(tomorrow, fake, provider=on_fake(fake, tomorrow))
        assert [facts(run)[name][:2] for name in ("planned", "greedy")] == [(36_000.0, 0.0)] * 2
        assert facts(run)["web"] == done["web"]


def test_what_another_release_did_not_save_at_all_is_refused(begin: Begin) -> None:
    of, the_plan = scene()
    with FakeAws(of) as fake:
        run = begin(the_plan, fake, provider=on_fake(fake, the_plan))
        ticks(run, fake, 1)
        for key, arrays in state_of(run.journal).items():
            put(run.journal, key, {name: array for name, array in arrays.items() if name != "cost"})
        run.journal.close()
        with pytest.raises(InputError, match=r"has no cost: another release wrote it\. .* stays as it is"):
            begin(the_plan, fake, provider=on_fake(fake, the_plan))
