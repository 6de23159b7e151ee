"""Guards: no cap is exceeded whatever is wanted, and each guard says that it was the one."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from optimizer.controller.guard import Limits, Situation, guard
from optimizer.controller.journal import InstanceRow
from optimizer.controller.moves import Move, Wish
from optimizer.controller.providers.simulated import SimulatedCloud
from optimizer.fake_aws import FakeAws
from optimizer.plan import Plan, PlanPool
from simulator.market import Market
from tests.optimizer.controller.scene import Begin, Idler, job, market, on_fake, plan, service

POOL = PlanPool(
    provider="aws", region="us-east-1", zone="us-east-1a", instance_type="m5.large", on_demand_price=3.0
)
WIDE = Limits(launches_per_tick=1000, terminations_per_tick=1000, usd_per_hour=1e6)


def move(
    name: str = "job",
    launches: int = 1,
    ends: int = 0,
    *,
    price: float = 1.0,
    saves: float = 0.0,
    **flags: Any,
) -> Move:
    rows = [InstanceRow(f"{name}-{k}", name, POOL.name, "spot", "", 0.0, "live") for k in range(ends)]
    wishes = [Wish(POOL, "spot", launches, price)] if launches else []
    values: dict[str, Any] = {"gang": True, "urgent": False, "voluntary": bool(ends), "why": "w"} | flags
    return Move(name, "key", wishes, rows, saves=saves if rows else 0.0, **values)


def names(trips: Any) -> set[str]:
    return {trip.guard for trip in trips}


moves = st.lists(
    st.builds(
        move,
        st.from_regex(r"\A[a-e]\Z"),
        st.integers(0, 6),
        st.integers(0, 6),
        price=st.floats(0.01, 5.0),
        saves=st.floats(0.0, 10.0),
        gang=st.booleans(),
        urgent=st.booleans(),
    ),
    max_size=12,
)


@given(moves, st.integers(0, 10), st.integers(0, 10), st.floats(0.1, 30.0), st.floats(0.0, 30.0))
def test_no_cap_is_ever_exceeded(
    wanted: list[Move], launches: int, ends: int, highest: float, rate: float
) -> None:
    gangs = {id(one): (one.launched, len(one.terminate)) for one in wanted if one.gang}
    limits = Limits(launches_per_tick=launches, terminations_per_tick=ends, usd_per_hour=highest)
    done, trips = guard(wanted, limits, Situation(0.0, rate=rate))
    assert sum(one.launched for one in done) <= launches
    assert sum(len(one.terminate) for one in done) <= ends
    running = rate
    for one in done:
        running += one.net_usd_per_hour
        if one.launches and one.net_usd_per_hour > 0:
            assert running <= highest + 1e-6
        if one.gang and one.launches:
            assert (one.launched, len(one.terminate)) == gangs[id(one)]
    assert bool(trips) or sum(map(bool, wanted)) == len(done)


def test_urgent_moves_come_first_then_those_that_save() -> None:
    wanted = [move("a", price=2.0), move("b", price=1.0), move("c", price=3.0, urgent=True)]
    done, trips = guard(wanted, Limits(2, 10, 1e6), Situation(0.0))
    assert [one.workload for one in done] == ["c", "b"]
    assert names(trips) == {"launches-per-tick"}


@pytest.mark.parametrize("reason", ["kill-switch", "paused", "blind"])
def test_nothing_moves_while_held_back(reason: str) -> None:
    done, trips = guard([move(), move("b", 0, 2)], WIDE, Situation(0.0, held_back=reason))
    assert done == []
    assert names(trips) == {reason}
    assert {trip.got for trip in trips} == {"nothing"}


def test_doubtful_data_terminates_nothing() -> None:
    done, trips = guard(
        [move("a", 0, 2), move("b", 1, 1), move("c", 1, 1, urgent=True)],
        WIDE,
        Situation(0.0, hold_terminations="clock-jump"),
    )
    assert [(one.workload, len(one.terminate)) for one in done] == [("c", 0)]
    assert names(trips) == {"clock-jump"}


def test_cool_down_holds_voluntary_moves_only() -> None:
    situation = Situation(100.0, last_move={"a": 50.0, "b": 50.0, "c": 0.0})
    limits = Limits(9, 9, 1e6, cooldown_seconds=60.0)
    wanted = [move("a", 1, 1), move("b", 1, 1, urgent=True), move("c", 1, 1), move("d", 1, 0)]
    done, trips = guard(wanted, limits, situation)
    assert {one.workload for one in done} == {"b", "c", "d"}
    assert [(trip.guard, trip.workload) for trip in trips] == [("cool-down", "a")]


def test_budget_stops_what_costs_more_but_no_deadline() -> None:
    limits = Limits(9, 9, 1e6, budget_usd_per_day=10.0)
    wanted = [
        move("a"),
        move("b", 1, 1, saves=2.0),
        move("c", urgent=True),
        move("d", gang=False, urgent=True),
    ]
    done, trips = guard(wanted, limits, Situation(0.0, spent_today=10.0))
    assert {one.workload for one in done} == {"b", "c"}
    assert names(trips) == {"budget"}
    done, _ = guard([move("a")], limits, Situation(0.0, spent_today=9.99))
    assert done


def test_a_flapping_pool_is_bounded_per_hour() -> None:
    limits = Limits(9, 9, 1e6, launches_per_hour=2.0)
    situation = Situation(0.0, launched_last_hour={"a": 2, "b": 1}, most_held={"a": 1, "b": 1})
    done, trips = guard([move("a"), move("b")], limits, situation)
    assert [one.workload for one in done] == ["b"]
    assert names(trips) == {"launches-per-hour"}


def test_ready_instances_are_kept_until_the_replacement_is_ready() -> None:
    wanted = [move("web", 0, 3, gang=False, saves=3.0)]
    done, trips = guard(wanted, WIDE, Situation(0.0, spare={"web": 1}))
    assert len(done[0].terminate) == 1
    assert done[0].saves == pytest.approx(1.0)
    assert names(trips) == {"keep-ready"}


def test_a_call_in_doubt_keeps_its_workload_still() -> None:
    done, trips = guard([move("a"), move("b")], WIDE, Situation(0.0, in_doubt=frozenset({"a"})))
    assert [one.workload for one in done] == ["b"]
    assert names(trips) == {"in-doubt"}


# --------------------------------------------------------------------------------- in a running controller


def test_guards_name_themselves_in_the_journal(begin: Begin) -> None:
    of = market([[9] * 99])
    the_plan = plan(of, *(job(of, f"job-{k}") for k in range(6)), caps={"launches_per_tick": 4})
    run = begin(the_plan, SimulatedCloud(of, the_plan))
    run.controller.run_tick()
    entries = [one for one in run.journal.audit() if one["entry"] == "guard"]
    assert {one["guard"] for one in entries} == {"launches-per-tick"}
    assert len(entries) == 2
    assert len(list(run.controller.inventory.all_live())) == 4


def test_the_cost_cap_of_the_plan_holds_over_all_workloads(begin: Begin) -> None:
    of = market([[9] * 99])
    the_plan = plan(of, *(job(of, f"job-{k}") for k in range(6)), caps={"usd_per_hour": 3.5})
    cloud = SimulatedCloud(of, the_plan)
    run = begin(the_plan, cloud)
    for _ in range(20):
        run.controller.run_tick()
        assert sum(fleet.rate.sum() for fleet, _ in run.controller.jobs) <= 3.5
        cloud.advance()


def test_the_deadline_shield_names_itself(begin: Begin) -> None:
    of = market([[0] * 99])
    the_plan = plan(of, job(of, policy="greedy", work_hours=5.0, deadline_hours=6.0))
    cloud = SimulatedCloud(of, the_plan)
    run = begin(the_plan, cloud)
    run.controller.jobs[0] = (run.controller.jobs[0][0], Idler())
    shielded = []
    while not run.controller.finished:
        report = run.controller.run_tick()
        shielded += [trip.guard for trip in report.trips]
        cloud.advance()
    assert "deadline-shield" in shielded
    fleet, _ = run.controller.jobs[0]
    assert not fleet.missed[0]


def test_a_floor_of_on_demand_and_a_share_per_pool(begin: Begin) -> None:
    of = market([[9] * 9, [9] * 9])
    the_plan = plan(of, service(of, demand={"source": "fixed", "instances": 4}, on_demand_floor=2))
    run = begin(the_plan, SimulatedCloud(of, the_plan))
    run.controller.run_tick()
    fleet, _ = run.controller.services[0]
    assert fleet.granted[0].tolist() == [1, 1, 2]
    share = plan(of, service(of, demand={"source": "fixed", "instances": 5}))
    guards = {"max_pool_share": 0.4, "keep_ready": False}
    run = begin(share, SimulatedCloud(of, share), folder="share", guards=guards)
    report = run.controller.run_tick()
    fleet, _ = run.controller.services[0]
    assert fleet.granted[0].tolist() == [2, 2, 1]
    assert names(report.trips) == {"max-pool-share"}


def test_the_kill_switch_and_a_pause_stop_everything_and_survive_a_restart(begin: Begin) -> None:
    of = market([[9] * 99])
    the_plan = plan(of, job(of))
    cloud = SimulatedCloud(of, the_plan)
    run = begin(the_plan, cloud)
    switch = run.controller.settings.state_dir / "KILL"
    switch.touch()
    assert run.controller.run_tick().held == "kill-switch"
    assert not cloud.instances()
    switch.unlink()
    run.controller.run_tick()
    assert len(cloud.instances()) == 1
    run.journal.remember(paused="yes")
    run.journal.close()
    cloud.advance()
    run = begin(the_plan, cloud)
    assert run.controller.run_tick().held == "paused"
    assert len(cloud.instances()) == 1


def expiring(of: Market, *workloads: dict[str, Any]) -> Plan:
    full = plan(of, *workloads)
    values = {name: getattr(full, name) for name in Plan.model_fields if name not in ("version", "checksum")}
    return Plan.seal(**values | {"expires": of.start + timedelta(minutes=50)})


def test_an_expired_plan_asks_no_policy_and_breaks_no_promise(begin: Begin) -> None:
    """What runs is held, what is lost is made up for, what is done is ended."""
    of = market([[9] * 120])
    the_plan = expiring(
        of,
        job(of, "short", policy="spot-when-available", work_hours=2.0),
        job(of, "long", policy="spot-when-available"),
        service(of, cold_start_minutes=0.0),
    )
    with FakeAws(of) as fake:
        run = begin(the_plan, fake, provider=on_fake(fake, the_plan))
        for tick in range(90):
            if tick == 20:
                for name in ("long", "web"):
                    fake.interrupt(run.controller.inventory.live(name)[0].id)
            report = run.controller.run_tick()
            assert report.held == ""
            assert len(run.controller.inventory.live("web")) == 3
            fake.advance(600)
        assert run.controller.jobs[0][0].done.all()
        assert "deadline-missed" not in run.kinds()
        assert [message for _, kind, message in run.events if kind == "plan-expired"] != []
        assert {one.workload for one in run.controller.inventory.all_live()} == {"web"}
        late = [
            one for one in run.journal.audit(limit=5000) if one.get("action") == "launch" and one["tick"] > 5
        ]
        assert {one["request"]["option"] for one in late} == {"on-demand"}
        assert {one["why"] for one in late} == {"the plan has expired"}


@pytest.mark.parametrize("how", ["file", "pause"])
def test_the_kill_switch_works_in_the_middle_of_a_tick(begin: Begin, how: str) -> None:
    of = market([[99] * 99])
    the_plan = plan(of, *(job(of, f"job-{k}") for k in range(20)))
    with FakeAws(of) as fake:
        run = begin(the_plan, fake, provider=on_fake(fake, the_plan))
        switch = run.controller.settings.state_dir / "KILL"
        launched = []

        def throw(call: Any) -> None:
            if call.action == "RunInstances":
                launched.append(call)
                if how == "file":
                    switch.touch()
                else:
                    run.controller.paused = True

        fake.after_call.append(throw)
        run.controller.run_tick()
        assert len(launched) == 1
        dropped = [one for one in run.journal.audit() if one.get("state") == "dropped"]
        assert len(dropped) == 19
        assert all("the call did not leave" in one["result"] for one in dropped)
        switch.unlink(missing_ok=True)
        run.controller.paused = False
        fake.advance(600)
        fake.after_call.clear()
        run.controller.run_tick()
        assert len(fake.log.of("RunInstances", acted=True)) == 20
        assert not run.journal.open_intents()


def test_a_long_pause_does_not_fill_the_journal(begin: Begin) -> None:
    of = market([[99] * 99])
    the_plan = plan(of, *(job(of, f"job-{k}", policy="spot-when-available") for k in range(10)))
    cloud = SimulatedCloud(of, the_plan)
    run = begin(the_plan, cloud)
    for paused in (True, False, True):
        run.controller.paused = paused
        for _ in range(8):
            run.controller.run_tick()
            cloud.advance()
    trips = [one for one in run.journal.audit(limit=5000) if one["entry"] == "guard"]
    assert [one["guard"] for one in trips] == ["paused"] * 10, (
        "once per workload; later nothing was to be done"
    )
    assert {one["wanted"] for one in trips} == {"launch 1 spot in aws/us-east-1a/m5.large"}
