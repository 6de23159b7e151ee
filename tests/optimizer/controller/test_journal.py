"""The journal: durable, exact, and refused when it is damaged."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import numpy as np
import pytest

from optimizer.controller.journal import InstanceRow, Intent, Journal, JournalFull
from simulator.errors import InputError
from tests.optimizer.controller.scene import sqlite_of


def intent(name: str = "a", **changes: object) -> Intent:
    values = {
        "tick": 1,
        "workload": "job",
        "action": "launch",
        "token": name,
        "request": {"pool": "p", "option": "spot", "count": 2, "at_least": 2},
        "why": "because",
        "guards": ("cool-down",),
        "usd_per_hour": 2.5,
    }
    return Intent(**(values | changes))  # type: ignore[arg-type]  # the values' types are those above


def test_an_intent_is_durable_before_anything_else_happens(tmp_path: Path) -> None:
    path = tmp_path / "journal.sqlite"
    with Journal(path) as journal:
        journal.begin(10.0, "apply", [intent()])
        with Journal(path) as other:
            ((found, at),) = other.open_intents()
        assert (found, at) == (intent(), 10.0)
        row = InstanceRow("i-1", "job", "p", "spot", "a", 10.0, "live")
        journal.settle(11.0, [("a", "done", "i-1")], [row])
        assert journal.open_intents() == []
        assert journal.live_instances() == [row]
    assert path.stat().st_mode & 0o077 == 0


def test_a_token_is_never_used_twice(tmp_path: Path) -> None:
    with Journal(tmp_path / "journal.sqlite") as journal:
        journal.begin(10.0, "apply", [intent()])
        with pytest.raises(sqlite3.IntegrityError):
            journal.begin(11.0, "apply", [intent("b"), intent()])
        assert len(journal.open_intents()) == 1


def test_state_comes_back_exactly(tmp_path: Path) -> None:
    arrays = {
        "a": np.array([0.1, np.nan, -np.inf]),
        "b": np.array([[1, 2]], np.int8),
        "c": np.zeros((0, 3)),
        "d": np.array([True]),
    }
    with Journal(tmp_path / "journal.sqlite") as journal:
        journal.save_tick(7, 70.0, "apply", {"cost_usd": 1.0}, {"fleet": arrays})
    with Journal(tmp_path / "journal.sqlite") as journal:
        found = journal.load_state("fleet")
        assert found is not None
        assert list(found) == list(arrays)
        for name, array in arrays.items():
            np.testing.assert_array_equal(found[name], array)
            assert found[name].dtype == array.dtype
        assert journal.load_state("other") is None
        assert journal.last_tick() == (7, 70.0)
        assert journal.cost_at(60.0) == 1.0


def test_a_damaged_page_is_refused_and_the_message_restores_it(tmp_path: Path) -> None:
    path = tmp_path / "journal.sqlite"
    with Journal(path) as journal:
        journal.begin(1.0, "apply", [intent(str(n)) for n in range(500)])
    with pytest.raises(InputError, match="no copy yet"):
        _open_damaged(path)
    path.unlink()
    with Journal(path) as journal:
        journal.begin(1.0, "apply", [intent(str(n)) for n in range(500)])
        journal.back_up()
    with pytest.raises(InputError, match=r"damaged .* cp .*backup\.sqlite") as refused:
        _open_damaged(path)
    assert "Nothing was changed in the cloud" in str(refused.value)
    path.rename(tmp_path / "journal.sqlite.damaged")
    path.write_bytes((tmp_path / "journal.backup.sqlite").read_bytes())
    with Journal(path) as journal:
        assert len(journal.open_intents()) == 500


def _open_damaged(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[3 * 4096 : 4 * 4096] = b"\xa5" * 4096
    path.write_bytes(content)
    Journal(path)


def test_saved_state_that_was_tampered_with_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "journal.sqlite"
    with Journal(path) as journal:
        journal.save_tick(7, 70.0, "apply", {"cost_usd": 1.0}, {"fleet": {"a": np.arange(3)}})
    with sqlite3.connect(path) as raw:
        raw.execute("UPDATE state SET content = zeroblob(100)")
    raw.close()
    with Journal(path) as journal, pytest.raises(InputError, match="is not what was written"):
        journal.load_state("fleet")


@pytest.mark.parametrize("content", [b"not a database at all, but long enough to be looked at" * 100, b"x"])
def test_what_is_no_journal_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "journal.sqlite"
    path.write_bytes(content)
    with pytest.raises(InputError):
        Journal(path)


def test_another_database_and_another_format_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "journal.sqlite"
    with sqlite3.connect(path) as raw:
        raw.execute("CREATE TABLE mine (x)")
    raw.close()
    with pytest.raises(InputError, match="no journal of a controller"):
        Journal(path)
    path.unlink()
    with Journal(path) as journal:
        journal.remember(format="99")
    with pytest.raises(InputError, match="format 99"):
        Journal(path)


def test_a_full_disk_is_told_and_leaves_what_was_there(tmp_path: Path) -> None:
    with Journal(tmp_path / "journal.sqlite") as journal:
        journal.begin(1.0, "apply", [intent()])
        pages = sqlite_of(journal).execute("PRAGMA page_count").fetchone()[0]
        sqlite_of(journal).execute(f"PRAGMA max_page_count = {pages}")
        with pytest.raises(JournalFull, match="full"):
            journal.begin(2.0, "apply", [intent(f"more-{n}") for n in range(1000)])
        assert len(journal.open_intents()) == 1
        sqlite_of(journal).execute(f"PRAGMA max_page_count = {10 * pages}")
        journal.begin(3.0, "apply", [intent("again")])
        assert len(journal.open_intents()) == 2


def test_retention_keeps_open_intents_and_live_instances(tmp_path: Path) -> None:
    with Journal(tmp_path / "journal.sqlite") as journal:
        journal.begin(1.0, "apply", [intent("open"), intent("done")])
        live = InstanceRow("i-1", "job", "p", "spot", "open", 1.0, "live")
        gone = InstanceRow("i-2", "job", "p", "spot", "done", 1.0, "gone", 2.0)
        journal.settle(1.0, [("done", "done", "")], [live, gone])
        journal.event(1.0, "info", "old", "old")
        journal.save_tick(1, 1.0, "apply", {"cost_usd": 0.0}, {}, trips=[("cap", "job", "2", "1")])
        journal.event(100.0, "info", "new", "new")
        assert journal.prune(50.0) == 5
        kinds = [one["entry"] for one in journal.audit()]
        assert kinds == ["event", "action"]
        assert journal.live_instances() == [live]


def test_retention_deletes_the_state_of_fleets_that_nobody_looks_at_any_more(tmp_path: Path) -> None:
    def looked(*at: float) -> dict[str, np.ndarray]:
        return {"at": np.array(at), "cost": np.ones(len(at))}

    with Journal(tmp_path / "journal.sqlite") as journal:
        state = {
            "deadline:old": looked(10.0, np.nan),
            "shadow:service:old": looked(20.0),
            "deadline:never": looked(np.nan),
            "deadline:young": looked(10.0, 60.0),
            "deadline:planned": looked(10.0),
            "deadline:planned-later": looked(np.nan),
        }
        journal.save_tick(1, 60.0, "apply", {}, state)
        assert journal.prune(50.0, {"deadline:planned", "deadline:planned-later"}) == 3
        assert journal.state_keys("") == ["deadline:planned", "deadline:planned-later", "deadline:young"]


def test_the_audit_says_who_what_why_and_at_what_cost(tmp_path: Path) -> None:
    with Journal(tmp_path / "journal.sqlite") as journal:
        journal.begin(5.0, "apply", [intent()])
        journal.begin(6.0, "apply", [intent("other", workload="web")])
        (mine,) = journal.audit(workload="web")
        assert mine["workload"] == "web"
        assert mine["why"] == "because"
        assert mine["expected_usd_per_hour"] == 2.5
        assert mine["guards"] == ["cool-down"]
        assert mine["actual_usd_per_hour"] is None
        journal.settle(7.0, [("a", "done", "i-1"), ("other", "failed", "no capacity")], [])
        assert [one["actual_usd_per_hour"] for one in journal.audit()] == [0.0, 1.25]
        assert [one["at"] for one in journal.audit()] == [6.0, 5.0]
        assert journal.audit(since=7.0) == []
        assert len(journal.audit(limit=1)) == 1
        assert journal.launched_since(0.0) == {"job": 2}
