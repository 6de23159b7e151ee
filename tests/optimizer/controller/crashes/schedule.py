"""One seeded schedule: two controller processes over one cloud, and what befalls them at their calls."""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np

from optimizer.controller.providers import CloudError, Instance, Launch, Unavailable
from optimizer.controller.providers.simulated import SimulatedCloud
from optimizer.plan import DeadlineWorkload, Plan
from simulator.market import Market
from tests.optimizer.controller.crashes.leader import (
    KINDS,
    WITHOUT_JOURNAL,
    Kind,
    Place,
    SharedTime,
    live,
)
from tests.optimizer.controller.scene import job, market, plan, service

Strike = Literal[
    "kill-before", "kill-after", "pause-before", "pause-after", "cut-before", "cut-after", "lost", "throttled"
]
STRIKES: tuple[Strike, ...] = (
    "kill-before",
    "kill-after",
    "pause-before",
    "pause-after",
    "cut-before",
    "cut-after",
    "lost",
    "throttled",
)
NEED = {"single": 1, "gang": 2, "web": 2}
TICKS, LAST_STRIKE = 20, 14
LONGEST = 25
"""Ticks that a schedule has if a job that nobody led for long is not done in the usual ones."""
STEPS = 4
"""Looks at the lease per tick, as the daemon does between ticks."""
SHARE = 0.15
"""Of calls that are struck beside the one that the seed names."""
ROUNDS = 2
"""Within which a leader that took over or was struck has everything as it should be."""


class Table(Protocol):
    """The DynamoDB table of the leases."""

    def clear(self) -> None: ...

    def update(self, request: dict[str, Any]) -> dict[str, Any]: ...


class Database(Protocol):
    """The PostgreSQL of the journals."""

    def at(self, folder: Path) -> str: ...

    def end_session(self, pid: int) -> None: ...

    folder: Path


@dataclass
class Seat:
    """One of the two controllers: its process, or when the next one starts."""

    name: str
    way: Path
    pid: int = 0
    connection: Connection | None = None
    state: Literal["waiting", "paused", "dead", "over"] = "dead"
    back_at: int = 0
    answer: Any = None
    cut: bool = False
    heal_at: int = 0
    session: int = 0
    lives: int = 0
    led: bool = False


@dataclass
class Verdict:
    """What came of a schedule. `problems` is empty if all went as it must."""

    seed: int
    kind: Kind
    strikes: Counter[str] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)
    takeovers: int = 0
    calls: int = 0
    missed: list[str] = field(default_factory=list)
    leaderless_seconds: float = 0.0


class ScheduleError(Exception):
    """The schedule has shown a fault."""


def scenario(seed: int) -> tuple[Market, Plan]:
    """Two pools that come and go; a job, a gang and a service."""
    rng = np.random.default_rng(seed)
    of = market(rng.integers(0, 4, (2, TICKS + 6)), spot=[[1.0], [1.1]])
    return of, plan(
        of,
        job(of, "single", policy="spot-when-available", work_hours=1.0, deadline_hours=2.7),
        job(of, "gang", policy="greedy", work_hours=1.0, deadline_hours=2.7, nodes=2, begins=1),
        service(of, "web", cold_start_minutes=0.0, demand={"source": "fixed", "instances": 2}),
    )


class SteppedCloud(SimulatedCloud):
    """The kernels' cloud, with the time between two ticks as well: what is launched then is launched then."""

    def __init__(self, market: Market, the_plan: Plan, time: SharedTime) -> None:
        self._time = time
        time.now = market.start.timestamp()
        super().__init__(market, the_plan)

    def now(self) -> float:
        return self._time.now


class Meter:
    """What a job has really done, by the instances that it had: an account beside the controllers'.

    Attributes:
        worked: Seconds of work done.
        last: When the last of it was done, seconds since 1970; exact to one step.
    """

    def __init__(self, workload: DeadlineWorkload) -> None:
        self._name, self._nodes = workload.name, workload.nodes
        self._work = 3600.0 * workload.work_hours
        self._overhead = 60.0 * workload.restart_overhead_minutes
        self._begins = workload.begins.timestamp()
        self.deadline = workload.deadline.timestamp()
        self.worked = self.last = 0.0
        self._runs: dict[tuple[str, str], float] = {}

    def add(self, instances: Sequence[Instance], now: float, seconds: float) -> None:
        """Count a step, with what is held in it after everybody has acted."""
        held = Counter(
            (one.pool, one.option)
            for one in instances
            if one.workload == self._name and one.state == "running"
        )
        whole = [place for place, count in held.items() if count >= self._nodes]
        self._runs = {place: self._runs.get(place, 0.0) + seconds for place in whole}
        if self.short > 0.0 and now >= self._begins and self._runs:
            useful = min(max(max(self._runs.values()) - self._overhead, 0.0), seconds)
            self.worked += useful
            self.last = now + seconds if useful else self.last

    @property
    def short(self) -> float:
        """Seconds of work that are left."""
        return max(self._work - self.worked, 0.0)


class Schedule:
    """Runs one seed."""

    def __init__(self, seed: int, folder: Path, table: Table, database: Database) -> None:
        self.verdict = Verdict(seed, KINDS[seed % len(KINDS)])
        self._random = random.Random(seed)
        self._first: Strike = STRIKES[seed // len(KINDS) % len(STRIKES)]
        self._first_call = seed // (len(KINDS) * len(STRIKES)) % 16
        self._folder, self._table, self._database = folder, table, database
        self._time = SharedTime()
        self._market, self._plan = scenario(seed)
        self._cloud = SteppedCloud(self._market, self._plan, self._time)
        self._meters = {
            one.name: Meter(one) for one in self._plan.workloads if isinstance(one, DeadlineWorkload)
        }
        self._step = 0
        self._tick_led = False
        self._rounds = 0
        self._troubled = True
        self._drawn: Strike | None = None
        self._facts: dict[str, Any] | None = None
        self._seats = [Seat(name, folder / f"way-{name}") for name in ("one", "two")]

    def run(self) -> Verdict:
        """Run it to its end; processes are gone afterwards."""
        tick = self._market.tick_seconds
        begun = self._market.start.timestamp()
        try:
            for seat in self._seats:
                self._heal(seat)
            for step in range(LONGEST * STEPS):
                if step >= TICKS * STEPS and step % STEPS == 0 and self._all_done():
                    break
                self._step = step
                self._time.now = begun + step * tick / STEPS
                if step and step % STEPS == 0:
                    self._cloud.advance()
                    self._count_leaderless()
                for seat in self._seats:
                    self._go_on(seat)
                for meter in self._meters.values():
                    meter.add(self._cloud.instances(), self._time.now, tick / STEPS)
            self._finish()
        except ScheduleError as error:
            self.verdict.problems.append(f"step {self._step}: {error}")
        finally:
            for seat in self._seats:
                self._kill(seat)
                seat.way.unlink(missing_ok=True)
        return self.verdict

    # ----------------------------------------------------------------------------------------- processes

    def _go_on(self, seat: Seat) -> None:
        if seat.cut and self._step >= seat.heal_at:
            self._heal(seat)
        if seat.state == "dead" and self._step >= seat.back_at:
            self._start(seat)
            self._serve(seat)
        elif seat.state == "paused" and self._step >= seat.back_at:
            os.kill(seat.pid, signal.SIGCONT)
            seat.state = "waiting"
            self._reply(seat, seat.answer)
            self._serve(seat)
        elif seat.state == "waiting":
            self._reply(seat, None)
            self._serve(seat)

    def _start(self, seat: Seat) -> None:
        seat.lives += 1
        here, there = multiprocessing.Pipe()
        place = Place(
            self.verdict.kind,
            self._database.at(seat.way),
            self._folder / f"state-{seat.name}",
            f"{seat.name}-{seat.lives}",
        )
        pid = os.fork()
        if pid == 0:
            here.close()
            for other in self._seats:
                if other.connection is not None:
                    other.connection.close()
            live(there, self._time, self._plan, place)
        there.close()
        seat.pid, seat.connection, seat.state, seat.led = pid, here, "waiting", False

    def _kill(self, seat: Seat) -> None:
        if seat.connection is None:
            return
        os.kill(seat.pid, signal.SIGKILL)
        os.waitpid(seat.pid, 0)
        seat.connection.close()
        seat.connection, seat.state, seat.led = None, "dead", False

    def _heal(self, seat: Seat) -> None:
        seat.cut = False
        if not seat.way.is_symlink():
            seat.way.symlink_to(self._database.folder)

    # ----------------------------------------------------------------------------------------- questions

    def _reply(self, seat: Seat, answer: Any) -> None:
        assert seat.connection is not None
        seat.connection.send(answer)

    def _serve(self, seat: Seat) -> None:
        """Answer a process until it waits for time to pass, is stopped, or is no more."""
        while seat.state == "waiting":
            assert seat.connection is not None
            try:
                question = seat.connection.recv()
            except (EOFError, ConnectionResetError):
                _, status = os.waitpid(seat.pid, 0)
                seat.connection.close()
                seat.connection = None
                code = os.waitstatus_to_exitcode(status)
                if code not in (0, WITHOUT_JOURNAL) or (code and not seat.cut):
                    raise ScheduleError(f"controller {seat.name} ended with {status}") from None
                seat.state, seat.back_at = ("dead" if code else "over"), self._step + 1
                return
            if question[0] == "wait":
                return
            if question[0] == "about":
                seat.session = question[1]
                if self._strike(seat):
                    self._reply(seat, None)
            elif question[0] in ("launch", "terminate"):
                self._carry_out(seat, question)
            elif question[0] == "ticked":
                self._judge(seat, question[1])
                self._reply(seat, None)
            elif question[0] == "update_item":
                self._reply(seat, None if seat.cut else self._table.update(question[1]))
            else:
                self._reply(seat, self._look(*question))

    def _look(self, what: str, *given: Any) -> Any:
        if what == "quotes":
            return self._cloud.quotes(self._pools())
        if what == "offers":
            return self._cloud.offers(self._pools())
        if what == "instances":
            return self._cloud.instances()
        if what == "receive":
            return self._cloud.receive()
        assert what == "acknowledge"
        return self._cloud.acknowledge(*given)

    def _pools(self) -> list[Any]:
        return list({pool.name: pool for one in self._plan.workloads for pool in one.pools}.values())

    def _carry_out(self, seat: Seat, question: tuple[Any, ...]) -> None:
        call: Strike | None = self._drawn
        self._drawn = None
        if call == "throttled":
            self._note(call)
            self._reply(seat, Unavailable("throttled"))
            return
        answer: Any
        try:
            answer = getattr(self._cloud, question[0])(question[1])
        except CloudError as error:
            answer = error
        if question[0] == "launch":
            self._check_doubles(question[1])
        if call == "lost":
            self._note(call)
            answer = Unavailable("the reply was lost")
        elif call is not None and call.endswith("-after"):
            self._befall(seat, call, answer)
            if seat.state != "waiting":
                return
        self._reply(seat, answer)

    # ------------------------------------------------------------------------------------------- strikes

    def _strike(self, seat: Seat) -> bool:
        """Draw what befalls the call that is about to leave; whether the process goes on now."""
        number = self.verdict.calls
        self.verdict.calls += 1
        self._drawn = None
        if self._step >= LAST_STRIKE * STEPS:
            return True
        if number == self._first_call:
            self._drawn = self._first
        elif self._random.random() < SHARE:
            self._drawn = self._random.choice(STRIKES)
        if self._drawn is not None and self._drawn.endswith("-before"):
            self._befall(seat, self._drawn, None)
            self._drawn = None
            return seat.state == "waiting"
        return True

    def _befall(self, seat: Seat, what: Strike, answer: Any) -> None:
        self._note(what)
        kind = what.partition("-")[0]
        if kind == "kill":
            self._kill(seat)
            seat.back_at = self._step + self._random.choice([0, 1, 3, 6])
        elif kind == "pause":
            os.kill(seat.pid, signal.SIGSTOP)
            seat.state, seat.answer = "paused", answer
            seat.back_at = self._step + self._random.choice([1, 3, 4, 8, 12])
        elif kind == "cut":
            seat.cut = True
            seat.heal_at = self._step + self._random.choice([1, 3, 4, 8])
            seat.way.unlink(missing_ok=True)
            if seat.session:
                self._database.end_session(seat.session)

    def _note(self, what: Strike) -> None:
        self.verdict.strikes[what] += 1
        self._rounds, self._troubled = 0, True

    # ---------------------------------------------------------------------------------------- judgement

    def _held(self) -> Counter[str]:
        return Counter(one.workload for one in self._cloud.instances() if one.state == "running")

    def _check_doubles(self, request: Launch) -> None:
        """In one pool and option nothing replaces anything: more than the need is a double."""
        here = sum(
            one.workload == request.workload
            and one.state == "running"
            and (one.pool, one.option) == (request.pool.name, request.option)
            for one in self._cloud.instances()
        )
        if here > NEED[request.workload]:
            raise ScheduleError(
                f"{request.workload} has {here} instances in {request.pool.name} {request.option}"
            )

    def _judge(self, seat: Seat, facts: dict[str, Any]) -> None:
        """After each tick of a leader: soon everything is as it should be, and stays so."""
        if not facts["leads"]:
            seat.led = False
            return
        if facts["at"] != self._time.now:
            # it was stopped since it looked, though not for as long as it leads
            return
        self._tick_led = True
        if not seat.led:
            seat.led = True
            self.verdict.takeovers += 1
            self._rounds, self._troubled = 0, True
        self._rounds += 1
        held = self._held()
        surplus = {name: count for name, count in held.items() if count > NEED[name]}
        wrong = []
        if dict(held) != facts["inventory"]:
            wrong.append(f"the cloud has {dict(held)}, the controller {facts['inventory']}")
        if surplus:
            wrong.append(f"more than needed: {surplus}")
        if facts["open"] != 0:
            wrong.append(f"{facts['open']} intents are open")
        self._facts = facts
        if not wrong:
            self._troubled = False
        elif self._rounds >= ROUNDS or not self._troubled:
            raise ScheduleError(f"round {self._rounds} of {seat.name}: {'; '.join(wrong)}")

    def _count_leaderless(self) -> None:
        if not self._tick_led:
            self.verdict.leaderless_seconds += self._market.tick_seconds
        self._tick_led = False

    def _all_done(self) -> bool:
        return self._facts is not None and set(self._facts["done"]) == {"single", "gang"}

    def _finish(self) -> None:
        if self._facts is None:
            raise ScheduleError("nobody ever led")
        self.verdict.missed = list(self._facts["missed"])
        if not self._all_done():
            raise ScheduleError(f"only {self._facts['done']} are done")
        for name, meter in self._meters.items():
            if meter.short:
                raise ScheduleError(f"{name} was given up after {meter.worked:.0f} s of work")
            late = meter.last - meter.deadline
            if late > 0 and name not in self.verdict.missed:
                raise ScheduleError(f"{name} is late by {late:.0f} s and the controller does not know")
            if late > self.verdict.leaderless_seconds:
                raise ScheduleError(f"{name} is late by {late:.0f} s, which was avoidable")
        if self._troubled or set(self._held()) - {"web"}:
            raise ScheduleError(f"at the end there are {dict(self._held())}")
        # with a journal each, what was done under the other one is not known: then only the meters tell
        shared = self.verdict.kind != "sqlite+dynamodb"
        if shared and self.verdict.missed and not self.verdict.leaderless_seconds:
            raise ScheduleError(
                f"deadlines missed although somebody led in every tick: {self.verdict.missed}"
            )
