"""Journal and lease in PostgreSQL: exact, durable, fenced, and nothing moves while the database is away."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psycopg
import pytest
import yaml

from optimizer.controller.config import ControllerSettings
from optimizer.controller.journal import Deposed, InstanceRow, Intent, Journal, JournalLost
from optimizer.controller.journal.choice import open_journal
from optimizer.controller.journal.postgresql import PostgresStore
from optimizer.controller.lease import FencedCapacity, PostgresLease
from optimizer.controller.loop import Controller
from optimizer.controller.providers import Refused
from optimizer.controller.providers.simulated import SimulatedCloud
from simulator.errors import InputError
from tests.optimizer.controller.postgres import Cluster
from tests.optimizer.controller.scene import job, market, plan, service

LAUNCH = {"pool": "p", "option": "spot", "count": 2, "at_least": 2}


class Time:
    def __init__(self) -> None:
        self.at = 1000.0

    def __call__(self) -> float:
        return self.at


@pytest.fixture
def name(request: pytest.FixtureRequest) -> str:
    """A controllers' name of the test's own."""
    return "-".join(request.node.name.split("_")[1:])[:40].strip("-").lower()


@pytest.fixture
def stores(cluster: Cluster, name: str) -> Iterator[Any]:
    """Makes stores on one schema; they are closed at the end."""
    opened: list[PostgresStore] = []

    def make(**settings: Any) -> PostgresStore:
        opened.append(PostgresStore(settings.pop("url", cluster.url), name, **settings))
        return opened[-1]

    yield make
    for store in opened:
        store.close()


def intent(name: str = "a", **changes: Any) -> Intent:
    values: dict[str, Any] = {
        "tick": 1,
        "workload": "job",
        "action": "launch",
        "token": name,
        "request": LAUNCH,
        "why": "because",
        "guards": ("cool-down",),
        "usd_per_hour": 0.1,
    }
    return Intent(**(values | changes))


def story(journal: Journal) -> list[Any]:
    """Everything that a controller asks of a journal, after everything that it writes there."""
    arrays = {"a": np.array([0.1, np.nan, -np.inf]), "b": np.array([[1, 2]], np.int8), "c": np.zeros((0, 3))}
    rows = [
        InstanceRow("i-1", "job", "p", "spot", "a", 10.1, "live"),
        InstanceRow("i-2", "web", "p", "spot", "b", 10.1, "gone", 20.5),
    ]
    journal.begin(10.1, "apply", [intent(why="because"), intent("b", workload="web", after="a")])
    journal.begin(10.2, "dry-run", [intent("c", why="")], state="dry-run")
    journal.settle(11.0, [("a", "done", "i-1,i-x")], rows)
    journal.save_tick(
        7,
        70.25,
        "apply",
        {"cost_usd": 1.1, "decided": True, "plan": "x"},
        {"fleet": arrays},
        [InstanceRow("i-1", "job", "p", "spot", "a", 10.1, "leaving", 70.0)],
        [("cool-down", "job", "2", "1")],
        [("p", None, 2, True), ("q", 1.3, 0, False)],
    )
    journal.save_tick(8, 80.0, "apply", {"cost_usd": 2.2, "decided": False}, {"fleet": arrays})
    journal.event(75.0, "info", "kind", "message")
    journal.remember(paused="yes")
    journal.remember(paused="no", other="x")
    found = journal.load_state("fleet")
    assert found is not None
    for key, array in arrays.items():
        np.testing.assert_array_equal(found[key], array)
        assert found[key].dtype == array.dtype
    answers = [
        journal.open_intents(),
        journal.live_instances(),
        journal.ended_since(20.4),
        journal.last_tick(),
        journal.last_decided("apply", "x"),
        journal.seen(),
        journal.recall("paused"),
        journal.recall("nothing"),
        journal.load_state("nothing"),
        journal.launched_since(0.0),
        journal.cost_at(75.0),
        journal.cost_at(99.0),
        journal.audit(),
        journal.audit(workload="web", limit=1),
    ]
    return [*answers, journal.prune(72.0), journal.audit(), journal.open_intents(), journal.last_tick()]


def test_it_answers_as_the_journal_in_a_file_does(stores: Any, tmp_path: Path) -> None:
    shared = Journal(stores())
    shared.lead(1)
    with Journal(tmp_path / "journal.sqlite") as file:
        assert story(shared) == story(file)


def test_an_intent_is_durable_when_begin_returns_and_no_token_is_used_twice(
    stores: Any, cluster: Cluster
) -> None:
    cluster.ask("ALTER ROLE spotwise SET synchronous_commit = off")
    journal, other = Journal(stores()), Journal(stores())
    cluster.ask("ALTER ROLE spotwise RESET synchronous_commit")
    journal.lead(1)
    journal.begin(1.0, "apply", [intent(why="because\0of this")])
    ((found, _),) = other.open_intents()
    assert found.why == "because\ufffdof this", "PostgreSQL has no NUL"
    assert journal.store.read("SHOW synchronous_commit") == [("on",)]
    with pytest.raises(psycopg.IntegrityError):
        journal.begin(2.0, "apply", [intent("b"), intent()])
    assert len(other.open_intents()) == 1


def test_the_database_refuses_a_deposed_leader(stores: Any) -> None:
    one, two = Journal(stores()), Journal(stores())
    with pytest.raises(Deposed):
        one.begin(1.0, "apply", [intent()])
    one.lead(1)
    one.begin(1.0, "apply", [intent()])
    two.lead(2)
    with pytest.raises(Deposed, match="number 2 leads; the write of number 1 was refused"):
        one.begin(2.0, "apply", [intent("b")])
    with pytest.raises(Deposed):
        one.settle(2.0, [("a", "done", "i-1")], [])
    with pytest.raises(Deposed, match="higher number"):
        one.lead(1)
    assert [found.token for found, _ in one.open_intents()] == ["a"]
    two.settle(3.0, [("a", "failed", "")], [])
    assert one.open_intents() == []


def lease(store: PostgresStore, owner: str, time: Time) -> PostgresLease:
    return PostgresLease(store, owner, seconds=90.0, steady=time, now=time)


def test_one_holds_the_lease_and_the_next_one_only_after_it_expired(stores: Any) -> None:
    time = Time()
    one, two = lease(stores(), "one", time), lease(stores(), "two", time)
    assert one.hold()
    assert not two.hold()
    assert not two.keep()
    time.at += 59.0
    assert one.valid()
    assert not one.fresh()
    assert one.keep()
    assert one.fresh()
    time.at += 61.0
    assert not one.valid(), "it stops before another may begin"
    assert not two.hold()
    time.at += 30.0
    assert not two.keep(), "kept is only what is held"
    assert two.hold()
    assert (one.fence, two.fence) == (1, 2)
    assert not one.keep()
    assert not one.hold()
    two.release()
    assert one.hold()
    assert one.fence == 3


def test_without_a_clock_of_its_own_the_lease_goes_by_the_databases(stores: Any, cluster: Cluster) -> None:
    steady = Time()
    one = PostgresLease(stores(), "one", seconds=90.0, steady=steady)
    two = PostgresLease(stores(), "two", seconds=90.0, steady=steady)
    assert one.hold()
    assert not two.hold()
    schema = stores().schema
    ((left,),) = cluster.ask(f"SELECT expires - EXTRACT(EPOCH FROM clock_timestamp()) FROM {schema}.leader")
    assert 60.0 < left <= 90.0
    cluster.ask(f"UPDATE {schema}.leader SET expires = EXTRACT(EPOCH FROM clock_timestamp()) - 1")
    assert two.hold()


def test_a_leader_that_stopped_inside_a_transaction_neither_blocks_nor_writes(stores: Any) -> None:
    time = Time()
    first, second = stores(), stores()
    one, two = lease(first, "one", time), lease(second, "two", time)
    assert one.hold()
    first.lead(one.fence)
    insert = "INSERT INTO events (at, level, kind, message) VALUES (1, 'info', 'late', '')"
    with pytest.raises(JournalLost), first.writing() as cursor:  # noqa: PT012 -- the block is the transaction
        cursor.execute(insert)
        time.at += 91.0
        assert two.hold(), "the lock of the one that stopped is gone"
        second.lead(two.fence)
        cursor.execute(insert)
    assert second.read("SELECT COUNT(*) FROM events") == [(0,)]
    with pytest.raises(Deposed):
        Journal(first).event(3.0, "info", "late", "")


def test_a_session_that_breaks_is_made_anew_and_the_lease_goes_on(stores: Any, cluster: Cluster) -> None:
    time = Time()
    store = stores()
    one = lease(store, "one", time)
    assert one.hold()
    store.lead(one.fence)
    cluster.ask("SELECT pg_terminate_backend(%s, 5000)", store.session_id)
    with pytest.raises(JournalLost):
        Journal(store).event(1.0, "info", "kind", "")
    assert one.hold()
    assert one.fence == 1
    Journal(store).event(1.0, "info", "kind", "")


class Way:
    """A way to the server that can go dead without a word, or be closed."""

    def __init__(self, folder: Path, cluster: Cluster) -> None:
        self._target = str(cluster.folder / ".s.PGSQL.5432")
        self.url = cluster.at(folder)
        self.open = threading.Event()
        self.open.set()
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(folder / ".s.PGSQL.5432"))
        self._listener.listen()
        self._sockets: list[socket.socket] = [self._listener]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            far = socket.socket(socket.AF_UNIX)
            far.connect(self._target)
            self._sockets += [near, far]
            for pair in ((near, far), (far, near)):
                threading.Thread(target=self._carry, args=pair, daemon=True).start()

    def _carry(self, source: socket.socket, sink: socket.socket) -> None:
        try:
            while data := source.recv(65536):
                self.open.wait()
                sink.sendall(data)
        except OSError:
            pass
        for one in (source, sink):
            one.close()

    def close(self) -> None:
        self.open.set()
        for one in self._sockets:
            one.close()


@pytest.fixture
def way(tmp_path: Path, cluster: Cluster) -> Iterator[Way]:
    made = Way(tmp_path, cluster)
    yield made
    made.close()


def test_a_server_that_does_not_answer_is_lost_and_no_call_leaves(stores: Any, way: Way) -> None:
    of = market([[9] * 99])
    the_plan = plan(of, job(of))
    cloud = SimulatedCloud(of, the_plan)
    time = Time()
    store = stores(url=way.url, answer_seconds=1.5)
    one = lease(store, "one", time)
    assert one.hold()
    time.at += 40.0
    way.open.clear()
    with pytest.raises(Refused, match="not the leader"):
        FencedCapacity(cloud, one).terminate(["i-1"])
    assert not one.valid()
    assert "does" in one.problem or "timeout" in one.problem
    with pytest.raises(JournalLost):
        store.read("SELECT 1")
    way.open.set()
    assert one.hold()
    assert one.fence == 1


def controllers(
    the_plan: Any, cloud: SimulatedCloud, stores: Any, folder: Path, names: list[str]
) -> dict[str, tuple[Controller, PostgresLease, list[str]]]:
    made = {}
    for one in names:
        store = stores()
        settings = ControllerSettings.model_validate(
            {
                "state_dir": folder / one,
                "mode": "apply",
                "guards": {"keep_ready": False},
                "journal": {"kind": "postgresql"},
                "provider": {"kind": "simulated", "simulated": {"market": "unused"}},
            }
        )
        term = PostgresLease(store, one, seconds=900.0, steady=cloud.steady, now=cloud.now)
        kinds: list[str] = []

        def tell(_level: str, kind: str, _message: str, kinds: list[str] = kinds) -> None:
            kinds.append(kind)

        controller = Controller(
            the_plan,
            settings,
            cloud.provider(),
            Journal(store),
            tell,
            lease=term,
        )
        made[one] = (controller, term, kinds)
    return made


def test_a_standby_that_takes_over_continues_exactly(stores: Any, name: str, tmp_path: Path) -> None:
    """With one controller or with two that take turns: the same decisions and cost, to the last bit."""
    rng = np.random.default_rng(5)
    of = market(rng.integers(0, 4, (2, 50)), spot=rng.uniform(0.5, 1.5, (2, 50)))
    the_plan = plan(
        of,
        job(of, policy="uniform-progress", work_hours=3.0, deadline_hours=5.0),
        job(of, "gang", policy="greedy", nodes=2, work_hours=3.0, deadline_hours=6.0),
        service(of),
    )

    def go(take_turns: bool) -> list[Any]:
        cloud = SimulatedCloud(of, the_plan)
        schema = stores()
        with schema.transaction() as cursor:
            cursor.execute(f"DROP SCHEMA {schema.schema} CASCADE")
        names = ["one", "two"] if take_turns else ["one"]
        runs = controllers(the_plan, cloud, stores, tmp_path / str(take_turns), names)
        decided = []
        for tick in range(40):
            led = []
            for controller, _, _ in runs.values():
                report = controller.run_tick()
                if report.held != "not-leader":
                    wanted = {key: one.tolist() for key, one in report.wanted.items()}
                    led.append((wanted, controller.cost, report.between, report.trips))
            assert len(led) == 1
            decided.append(led[0])
            if take_turns and tick % 7 == 3:
                for _, term, _ in runs.values():
                    term.release()
                names.append(names.pop(0))
                runs = {one: runs[one] for one in names}
            cloud.advance()
        assert all(kernel.done.all() and not kernel.missed.any() for kernel in cloud.jobs.values())
        return decided

    assert go(take_turns=True) == go(take_turns=False)


def test_nothing_moves_while_the_database_is_away(
    stores: Any, way: Way, tmp_path: Path, cluster: Cluster
) -> None:
    of = market([[0] * 4 + [9] * 95], spot=1.0)  # a job that is on-demand and would go to spot
    the_plan = plan(of, job(of, policy="spot-when-available"))
    cloud = SimulatedCloud(of, the_plan)

    def away(**_: Any) -> PostgresStore:
        made: PostgresStore = stores(url=way.url, answer_seconds=1.5)
        return made

    ((controller, _, kinds),) = controllers(the_plan, cloud, away, tmp_path, ["one"]).values()
    for _ in range(3):
        controller.run_tick()
        cloud.advance()
    before = cloud.instances()
    way.open.clear()
    for _ in range(2):
        report = controller.run_tick()
        assert report.held == "not-leader"
        assert report.outcome.launched == 0
        cloud.advance()
    assert cloud.instances() == before
    assert [one.option for one in before] == ["on-demand"]
    assert "lease" in kinds
    way.open.set()
    controller.run_tick()
    assert [one.option for one in cloud.instances() if one.state == "running"] == ["spot"]


# ------------------------------------------------------------------------------------- settings and words


def settings(**fields: Any) -> ControllerSettings:
    simulated = {"kind": "simulated", "simulated": {"market": "unused"}}
    return ControllerSettings.model_validate({"provider": simulated, **fields})


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"journal": {"kind": "postgresql", "url": "postgresql://me:hunter2@h/d"}}, "no password here"),
        ({"journal": {"kind": "postgresql", "url": "postgresql://h/d?password=hunter2"}}, "no password here"),
        ({"journal": {"kind": "postgresql", "url": "host=h password=hunter2"}}, "accepted: postgresql://"),
        ({"journal": {"kind": "sqlite", "url": "postgresql://h/d"}}, "kind: postgresql"),
        ({"lease": {"kind": "postgresql"}}, "journal.kind: postgresql"),
        ({"lease": {"kind": "dynamodb", "table": "leases"}}, "needs table and region"),
        (
            {"journal": {"kind": "postgresql"}, "lease": {"kind": "postgresql", "table": "leases"}},
            "of a lease in DynamoDB",
        ),
    ],
)
def test_settings_that_do_not_fit_are_refused_without_repeating_a_password(
    fields: dict[str, Any], says: str
) -> None:
    with pytest.raises(ValueError, match=says) as refused:
        settings(**fields)
    assert "hunter2" not in "".join(one["msg"] for one in refused.value.errors())  # type: ignore[attr-defined]  # pydantic's


def test_a_journal_that_can_be_shared_always_has_one_leader() -> None:
    implied = settings(journal={"kind": "postgresql"}).leadership
    assert implied is not None
    assert implied.kind == "postgresql"
    assert settings().leadership is None


def test_a_database_that_is_not_there_is_told_without_its_password(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PGPASSWORD", "hunter2")
    away = settings(journal={"kind": "postgresql", "url": f"postgresql://me@/d?host={tmp_path}"})
    with pytest.raises(JournalLost, match=r"journal spotwise_spotwise in PostgreSQL: connection") as lost:
        open_journal(away)
    assert "hunter2" not in str(lost.value)
    wrong = settings(journal={"kind": "postgresql", "url": "postgresql://me@h:port/d"})
    with pytest.raises((InputError, JournalLost)):
        open_journal(wrong)


def test_another_format_and_a_server_that_forgets_are_refused(stores: Any, cluster: Cluster) -> None:
    store = stores()
    cluster.ask(f"UPDATE {store.schema}.meta SET value = '99' WHERE key = 'format'")
    with pytest.raises(InputError, match="of format 99; this release reads"):
        stores()
    cluster.ask(f"UPDATE {store.schema}.meta SET value = '1' WHERE key = 'format'")
    cluster.ask("ALTER SYSTEM SET fsync = off")
    cluster.ask("SELECT pg_reload_conf()")
    try:
        with pytest.raises(InputError, match="fsync = on"):  # noqa: PT012 -- the server takes its time to reload
            for _ in range(100):
                stores()
    finally:
        cluster.ask("ALTER SYSTEM RESET fsync")
        cluster.ask("SELECT pg_reload_conf()")


def test_saved_state_that_was_tampered_with_is_refused(stores: Any, cluster: Cluster) -> None:
    journal = Journal(stores())
    journal.lead(1)
    journal.save_tick(7, 70.0, "apply", {"cost_usd": 1.0}, {"fleet": {"a": np.arange(3)}})
    cluster.ask(f"UPDATE {stores().schema}.state SET content = '\\x00'")
    with pytest.raises(InputError, match="is not what was written"):
        journal.load_state("fleet")


def test_the_audit_is_asked_on_the_command_line(
    stores: Any, cluster: Cluster, name: str, tmp_path: Path
) -> None:
    from typer.testing import CliRunner

    from optimizer.cli.controller import app

    path = tmp_path / "controller.yaml"
    path.write_text(
        yaml.safe_dump(
            {
                "name": name,
                "state_dir": str(tmp_path / "state"),
                "journal": {"kind": "postgresql", "url": cluster.url},
                "provider": {"kind": "simulated", "simulated": {"market": "unused"}},
            }
        )
    )
    asked = ["journal", "--config", str(path), "--json"]
    refused = CliRunner().invoke(app, asked)
    assert "there is no journal yet" in str(refused.exception)
    journal = Journal(stores())
    journal.lead(1)
    journal.begin(5.0, "apply", [intent()])
    answer = CliRunner().invoke(app, [*asked, "--workload", "job"])
    assert answer.exception is None, answer.output
    (entry,) = json.loads(answer.output)["entries"]
    assert entry["token"] == "a"
    assert not (tmp_path / "state" / "journal.sqlite").exists()
