"""The process around the loop: it waits for ticks, answers the endpoint, keeps the journal in shape."""

from __future__ import annotations

import math
import os
import secrets
import signal
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from optimizer.controller.config import ControllerSettings, Mode
from optimizer.controller.endpoint import Endpoint, NotLeading
from optimizer.controller.journal import Journal, JournalFull
from optimizer.controller.lease import DynamoLease, Lease, PostgresLease
from optimizer.controller.loop import Controller
from optimizer.controller.observe import Tell
from optimizer.controller.providers import Provider
from optimizer.controller.report import Report
from optimizer.controller.resume import refuse_expired
from optimizer.controller.status import Counts, prometheus, snapshot
from optimizer.controller.warm_up import warm_up
from optimizer.plan import Plan

HANGS_SECONDS = 900.0
"""Without a sign of life for longer than this the loop is taken to hang; a throttled tick takes minutes."""
POLL_SECONDS = 5.0
"""Between two looks at the queue: an interruption is answered at once, not at the next tick."""


def make_provider(settings: ControllerSettings, plan: Plan) -> Provider:
    """The cloud that the settings name.

    Raises:
        InputError: It does not fit the plan.
    """
    if settings.provider.simulated is not None and settings.provider.kind == "simulated":
        from optimizer.controller.providers.simulated import SimulatedCloud, joined

        chosen = settings.provider.simulated
        market = joined(chosen.market if isinstance(chosen.market, tuple) else (chosen.market,))
        if chosen.begins == "plan":
            tick = market.tick_seconds
            first = math.ceil(plan.created.timestamp() / tick) * tick
            market = replace(market, start=datetime.fromtimestamp(first, UTC))
        return SimulatedCloud(market, plan, seconds_per_tick=chosen.seconds_per_tick).provider()
    from optimizer.controller.providers.aws import aws_provider

    assert settings.provider.aws is not None  # noqa: S101 -- the settings' validator has checked it
    return aws_provider(settings.name, settings.provider.aws, plan)


class Daemon:
    """Runs a controller until it is told to stop, the plan is done, or a number of ticks has passed."""

    def __init__(
        self,
        plan: Plan,
        settings: ControllerSettings,
        provider: Provider,
        journal: Journal,
        log: Tell,
        mode: Mode | None = None,
        *,
        lease: Lease | None = None,
    ) -> None:
        """Make the controller and its endpoint; nothing is done yet.

        Args:
            plan: What is to be placed.
            settings: Limits and the rest.
            provider: The cloud.
            journal: An open journal.
            log: Takes events.
            mode: Instead of the settings' mode.
            lease: Instead of the settings' lease.

        Raises:
            InputError: See `Controller`; or the plan has expired and was not under way here.
        """
        refuse_expired(plan, journal, mode or settings.mode, provider.clock.now())
        self.settings, self.provider, self.journal = settings, provider, journal
        self.counts = Counts()
        self._log = log
        self._lease = lease or make_lease(settings, provider, journal)
        self.controller = Controller(plan, settings, provider, journal, self._told, mode, self._lease)
        self._stop = threading.Event()
        self._status: dict[str, Any] = {}
        self._backed_up = 0.0
        self._alive = time.monotonic()
        self._asked: list[tuple[str, str]] = []
        self._lock = threading.Lock()
        self.endpoint: Endpoint | None = None
        if settings.endpoint.enabled:
            self.endpoint = Endpoint(self, settings.endpoint, settings.state_dir)

    def _told(self, level: str, kind: str, message: str) -> None:
        if level != "info":
            self.counts.errors[kind] += 1
        self._log(level, kind, message)

    # ----------------------------------------------------------------------------------- for the endpoint

    def status(self) -> dict[str, Any]:
        """The snapshot of the last tick, with what was asked since."""
        with self._lock:
            status = dict(self._status)
        return status | {
            "paused": self.controller.paused,
            "killed": self.controller.killed or self.kill_file.exists(),
            "stopping": self._stop.is_set(),
        }

    def metrics(self) -> str:
        """Prometheus text; empty before the first tick."""
        status = self.status()
        return prometheus(status, self.counts) if "tick" in status else ""

    def healthy(self) -> bool:
        """Whether the loop is alive: it is not stopping, and gave a sign of life a short while ago."""
        simulated = self.settings.provider.simulated
        pause = simulated.seconds_per_tick if simulated is not None else 0.0
        return not self._stop.is_set() and time.monotonic() - self._alive <= HANGS_SECONDS + pause

    def ready(self) -> bool:
        """Whether a tick was run and it was not blind."""
        return bool(self._status) and self._status.get("state") not in ("blind", "journal-full")

    @property
    def kill_file(self) -> Path:
        """While this file exists nothing is launched or terminated."""
        return self.settings.state_dir / "KILL"

    def command(self, name: str, who: str) -> None:
        """Carry out `pause`, `resume`, `stop`, `kill` or `unkill`; the journal has who asked.

        A pause is in the journal. Where that is the leader's, the leader is to be told.

        Raises:
            NotLeading: This controller stands by.
        """
        if name in ("pause", "resume") and not self.controller.writes:
            raise NotLeading("this controller stands by; tell the leader")
        if name == "pause":
            self.controller.paused = True
        elif name == "resume":
            self.controller.paused = False
        elif name == "kill":
            # first in memory: a full disk must not keep the switch from working
            self.controller.killed = True
            try:
                self.kill_file.touch()
            except OSError as error:
                self._told(
                    "error", "kill-switch", f"{self.kill_file} cannot be made ({error}); it is on anyway"
                )
        elif name == "unkill":
            self.kill_file.unlink(missing_ok=True)
            self.controller.killed = False
        elif name == "stop":
            self._stop.set()
        with self._lock:
            self._asked.append((name, who))

    def _tell_asked(self) -> None:
        """Journal who asked for what since the last tick, the stop that ends the process included."""
        with self._lock:
            asked, self._asked = self._asked, []
        for name, who in asked:
            self.controller.tell("info", name, f"asked by {who}")

    # --------------------------------------------------------------------------------------------- running

    def run(self, most_ticks: int | None = None, watch: Callable[[Report], None] | None = None) -> int:
        """Run ticks; returns how many.

        Args:
            most_ticks: Stop after so many.
            watch: Called after each tick.
        """
        clock = self.provider.clock
        ticks = 0
        if self.endpoint is not None:
            self.endpoint.start()
        try:
            # before the lease is taken: nobody waits for a leader that compiles
            warm_up(
                self.controller.jobs,
                self.controller.services,
                self.controller.plan.tick_seconds,
                self._told,
                self._stop,
            )
            while not self._stop.is_set() and (most_ticks is None or ticks < most_ticks):
                self._alive = time.monotonic()
                report = self.controller.run_tick()
                ticks += 1
                self._after(report)
                if watch is not None:
                    watch(report)
                if self.controller.finished or getattr(clock, "over", False):
                    break
                self._wait(self.controller.next_look(report))
        finally:
            self._tell_asked()
            if self._lease is not None:
                self._lease.release()
            if self.endpoint is not None:
                self.endpoint.stop()
        return ticks

    def stop_on_signals(self) -> None:
        """SIGTERM and SIGINT end the run after the tick that is going on; a second one ends it at once."""

        def handle(number: int, _frame: object) -> None:
            self._stop.set()
            signal.signal(number, signal.SIG_DFL)

        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, handle)

    def _wait(self, until: float) -> None:
        clock = self.provider.clock
        while not self._stop.is_set():
            self._alive = time.monotonic()
            now = self.controller.believed_now()
            if now >= until:
                return
            # a wall clock that was set back by a day must not put off the next tick by a day
            astray = clock.now() - now
            if (
                clock.wait_until(min(until, now + POLL_SECONDS) + astray)
                or self._changed_hands()
                or self._interrupted()
            ):
                return

    def _changed_hands(self) -> bool:
        """Renew the lease between ticks; whether it changed hands, so that the next tick begins at once."""
        if self._lease is None:
            return False
        if self.controller.leads:
            return not self._lease.keep()
        return self._lease.hold()

    def _interrupted(self) -> bool:
        """Whether a word on a held instance waits; it is handled by the look that begins at once.

        A recommendation too: it comes minutes before the warning, if at all, and a tick may be longer.
        """
        queue = self.controller.provider.interruptions
        if queue is None or not self.controller.listens:
            return False
        from optimizer.controller.providers import CloudError

        try:
            notices = queue.receive()
        except CloudError:
            # told by the next look, which asks again
            return False
        rows = self.controller.inventory.rows
        return any(notice.instance in rows for notice in notices)

    def _after(self, report: Report) -> None:
        self.counts.add(report, self.controller)
        with self._lock:
            self._status = snapshot(self.controller, report, self.counts)
        self._tell_asked()
        try:
            if not self.controller.writes:
                return
            self.journal.remember(
                paused="yes" if self.controller.paused else "no",
                present_cost=repr(self.controller.present_cost),
            )
            if report.now - self._backed_up >= 3600.0 * self.settings.journal.backup_hours:
                oldest = report.now - 86_400.0 * self.settings.journal.retention_days
                self.journal.prune(oldest, self.controller.saved_keys)
                self.journal.back_up()
                self._backed_up = report.now
        except JournalFull as error:
            self._log("error", "journal-full", str(error))
        self._log(
            "info",
            "tick",
            f"tick {report.tick} at {datetime.fromtimestamp(report.now, UTC):%Y-%m-%d %H:%M:%S}: "
            f"{report.outcome.launched} launched, {report.outcome.terminated} terminated, "
            f"{report.lost} lost, "
            f"{len(report.trips)} guard trips, {self._status['rate_usd_per_hour']:.4f} USD/h"
            + (f", held: {report.held}" if report.held else ""),
        )


def make_lease(settings: ControllerSettings, provider: Provider, journal: Journal) -> Lease | None:
    """The lease that the settings name, not yet held; None where there is one controller only."""
    chosen = settings.leadership
    if chosen is None:
        return None
    owner = f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(4)}"
    if chosen.kind == "postgresql":
        from optimizer.controller.journal.postgresql import PostgresStore

        assert isinstance(journal.store, PostgresStore)  # noqa: S101 -- the settings' validator has checked it
        return PostgresLease(journal.store, owner, seconds=chosen.seconds, steady=provider.clock.steady)
    from optimizer.controller.providers.aws.clients import Clients

    assert chosen.table is not None and chosen.region is not None  # noqa: S101, PT018 -- as above
    return DynamoLease(
        Clients()("dynamodb", chosen.region),
        chosen.table,
        settings.name,
        owner,
        seconds=chosen.seconds,
        now=provider.clock.now,
        steady=provider.clock.steady,
    )
