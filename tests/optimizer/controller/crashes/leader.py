"""One controller process of a crash schedule: real daemon, journal and lease; the cloud is the runner's.

The runner sees every call, before it leaves and when it arrives, and strikes there.
"""

from __future__ import annotations

import mmap
import os
import struct
import sys
import traceback
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Literal

from botocore.exceptions import ClientError, EndpointConnectionError

from optimizer.controller.config import ControllerSettings
from optimizer.controller.daemon import Daemon
from optimizer.controller.journal import Journal, JournalLost
from optimizer.controller.journal.postgresql import PostgresStore
from optimizer.controller.lease import DynamoLease, Lease, PostgresLease
from optimizer.controller.providers import Instance, Launch, LaunchResult, Notice, Provider, Quote
from optimizer.controller.providers.protocol import LAST_WORD
from optimizer.controller.report import Report
from optimizer.plan import Plan, PlanPool

Kind = Literal["postgresql", "postgresql+dynamodb", "sqlite+dynamodb"]
KINDS: tuple[Kind, ...] = ("postgresql", "postgresql+dynamodb", "sqlite+dynamodb")
LEASE_SECONDS = 300.0
WITHOUT_JOURNAL = 3


class SharedTime:
    """The schedule's time, in memory that all its processes share."""

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, 8)

    @property
    def now(self) -> float:
        return float(struct.unpack("d", self._memory[:8])[0])

    @now.setter
    def now(self, value: float) -> None:
        self._memory[:8] = struct.pack("d", value)


@dataclass(frozen=True)
class Place:
    """Where a controller keeps what: `url` is its own way to the database, which can be cut."""

    kind: Kind
    url: str
    state_dir: Path
    owner: str
    name: str = "crash"


class Wire:
    """Questions to the runner, one at a time."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def ask(self, *question: Any) -> Any:
        self._connection.send(question)
        answer = self._connection.recv()
        if isinstance(answer, BaseException):
            raise answer
        return answer


class RemoteCloud:
    """The runner's cloud behind every interface; waiting gives the word to the runner."""

    def __init__(self, wire: Wire, time: SharedTime, session: Any) -> None:
        self._wire, self._time, self._session = wire, time, session

    def now(self) -> float:
        return self._time.now

    def steady(self) -> float:
        return self._time.now

    def wait_until(self, moment: float) -> bool:
        del moment
        self._wire.ask("wait")
        return False

    def quotes(self, pools: Sequence[PlanPool]) -> Mapping[str, Quote]:
        found: Mapping[str, Quote] = self._wire.ask("quotes")
        return found

    def offers(self, pools: Sequence[PlanPool]) -> Mapping[str, int]:
        found: Mapping[str, int] = self._wire.ask("offers")
        return found

    def instances(self) -> Sequence[Instance]:
        found: Sequence[Instance] = self._wire.ask("instances")
        return found

    def receive(self) -> Sequence[Notice]:
        found: Sequence[Notice] = self._wire.ask("receive")
        return found

    def acknowledge(self, receipts: Sequence[str]) -> None:
        self._wire.ask("acknowledge", list(receipts))

    def launch(self, request: Launch) -> LaunchResult:
        found: LaunchResult = self._mutate("launch", request)
        return found

    def terminate(self, ids: Sequence[str]) -> None:
        self._mutate("terminate", list(ids))

    def _mutate(self, *question: Any) -> Any:
        self._wire.ask("about", self._session())
        check = LAST_WORD.get()
        assert check is not None, "a call left without anybody asking who leads"
        check()
        return self._wire.ask(*question)


class RemoteTable:
    """A DynamoDB client that reaches the table through the runner, unless the way is cut."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire

    def update_item(self, **request: Any) -> Any:
        answer = self._wire.ask("update_item", request)
        if answer is None:
            raise EndpointConnectionError(endpoint_url="http://nowhere")
        if "Error" in answer:
            raise ClientError(answer, "UpdateItem")
        return answer


def live(connection: Connection, time: SharedTime, the_plan: Plan, place: Place) -> None:
    """Run a controller until it is told that the schedule is over, or killed. Never returns."""
    code = 1
    try:
        _run(connection, time, the_plan, place)
        code = 0
    except EOFError:
        code = 0
    except JournalLost:
        # no database at the start: the system starts the process again
        code = WITHOUT_JOURNAL
    except BaseException:  # noqa: BLE001 -- the process ends here; the runner shows what it wrote
        traceback.print_exc(file=sys.stderr)
        sys.stderr.flush()
    finally:
        # the parent's sockets must not be closed politely from here
        os._exit(code)


def _open_intents(journal: Journal) -> int | None:
    try:
        return len(journal.open_intents())
    except JournalLost:
        return None


def _run(connection: Connection, time: SharedTime, the_plan: Plan, place: Place) -> None:
    wire = Wire(connection)
    shared = place.kind != "sqlite+dynamodb"
    store = PostgresStore(place.url, place.name, answer_seconds=5.0) if shared else None
    journal = Journal(store if store is not None else place.state_dir / "journal.sqlite")

    def session() -> int:
        return store.session_id if store is not None else 0

    cloud = RemoteCloud(wire, time, session)
    provider = Provider("remote", cloud, cloud, cloud, cloud)
    lease: Lease
    if place.kind == "postgresql":
        assert store is not None
        lease = PostgresLease(store, place.owner, seconds=LEASE_SECONDS, steady=cloud.steady, now=cloud.now)
    else:
        lease = DynamoLease(
            RemoteTable(wire),
            "leases",
            place.name,
            place.owner,
            seconds=LEASE_SECONDS,
            now=cloud.now,
            steady=cloud.steady,
        )
    settings = ControllerSettings.model_validate(
        {
            "name": place.name,
            "mode": "apply",
            "state_dir": place.state_dir,
            "endpoint": {"enabled": False},
            "provider": {"kind": "simulated", "simulated": {"market": "unused"}},
            "journal": {"kind": "postgresql"} if shared else {"kind": "sqlite", "backup_hours": 1000},
        }
    )
    daemon = Daemon(the_plan, settings, provider, journal, lambda *_: None, lease=lease)

    def watch(report: Report) -> None:
        controller = daemon.controller
        held = Counter(row.workload for row in controller.inventory.all_live())
        leads = controller.leads and not report.held and lease.valid()
        wire.ask(
            "ticked",
            {
                "at": report.now,
                "leads": leads,
                "inventory": dict(held),
                "open": _open_intents(journal) if leads else 0,
                "missed": [
                    name
                    for fleet, _ in controller.jobs
                    for name, row in fleet.row.items()
                    if fleet.missed[row]
                ],
                "done": [
                    name for fleet, _ in controller.jobs for name, row in fleet.row.items() if fleet.done[row]
                ],
                "cost": controller.cost,
            },
        )

    daemon.run(watch=watch)
