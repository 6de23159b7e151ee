"""An ingest is all or nothing: interrupted or killed at any point, it leaves the ledger as it was."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import pytest

from optimizer.billing.ingest import ingest
from optimizer.billing.ledger import Ledger
from optimizer.billing.sample import demo_scenario, write_cur

Rows = list[tuple[Any, ...]]


def fingerprint(path: Path) -> Rows:
    """Return everything that a ledger says, apart from when it was written."""
    with Ledger.open(path) as ledger:
        return [
            *ledger.rows("SELECT count(*), sum(hash(ledger)) FROM ledger"),
            *ledger.rows("SELECT * FROM bills ORDER BY ALL"),
            *ledger.rows("SELECT * FROM rejected_rows ORDER BY ALL"),
            *ledger.rows("SELECT * FROM ingest_files ORDER BY ALL"),
        ]


def test_ctrl_c_leaves_the_ledger_as_it_was(tmp_path: Path) -> None:
    write_cur(demo_scenario(days=2), tmp_path / "one")
    write_cur(demo_scenario(days=2, seed=5), tmp_path / "two")
    path = tmp_path / "l.duckdb"
    ingest([str(tmp_path / "one")], path)
    before = fingerprint(path)
    for stage in ("reading", "checking", "writing"):

        def press(said: str, wanted: str = stage) -> None:
            if said.startswith(wanted):
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            ingest([str(tmp_path / "two")], path, progress=press)
        assert fingerprint(path) == before


def test_progress_is_told_and_never_printed(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    write_cur(demo_scenario(days=60), tmp_path / "export")
    stages: list[str] = []
    shares: list[float] = []
    ingest([str(tmp_path / "export")], tmp_path / "l.duckdb", progress=stages.append, percent=shares.append)
    assert stages == [
        "looking for files",
        "reading 3 aws-cur files",
        "comparing the files",
        "checking the sums",
        "writing",
    ]
    assert all(0 <= share <= 100 for share in shares)
    assert capfd.readouterr() == ("", "")


def _fail_inside(path: Path, error: Exception) -> None:
    with Ledger.open(path):
        raise error


def test_ctrl_c_inside_a_query_is_ctrl_c(cur_csv: Callable[..., Path], tmp_path: Path) -> None:
    path = tmp_path / "l.duckdb"
    ingest([str(cur_csv({}))], path)
    # On Ctrl-C DuckDB raises errors of its own, which the command line would take for a defect.
    for error in (RuntimeError("Query interrupted"), duckdb.InterruptException("Interrupted!")):
        with pytest.raises(KeyboardInterrupt):
            _fail_inside(path, error)
    with pytest.raises(RuntimeError, match="something else"):
        _fail_inside(path, RuntimeError("something else"))


INGEST = """
import sys
from pathlib import Path
from optimizer.billing.ingest import ingest
ingest([sys.argv[1]], Path(sys.argv[2]), progress=lambda stage: print(stage, flush=True))
print("done", flush=True)
"""


def kill_at(stage: str, delay: float, export: Path, ledger: Path) -> str:
    """Start an ingest, kill it `delay` seconds after it reports `stage`, return what it said after that."""
    with subprocess.Popen(
        [sys.executable, "-c", INGEST, str(export), str(ledger)],
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[3],
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[3])},
    ) as process:
        assert process.stdout is not None
        while not process.stdout.readline().startswith(stage):
            assert process.poll() is None
        time.sleep(delay)
        process.send_signal(signal.SIGKILL)
        return process.stdout.read()


def test_a_killed_ingest_leaves_the_ledger_as_it_was(tmp_path: Path) -> None:
    write_cur(demo_scenario(days=3), tmp_path / "one")
    write_cur(demo_scenario(days=30, seed=5), tmp_path / "two")
    path = tmp_path / "l.duckdb"
    ingest([str(tmp_path / "one")], path)
    before = fingerprint(path)
    for stage, delay in (
        ("looking", 0.0),
        ("reading", 0.0),
        ("reading", 0.3),
        ("checking", 0.0),
        ("writing", 0.0),
    ):
        said = kill_at(stage, delay, tmp_path / "two", path)
        if stage == "writing" or "writing" in said:
            # The commit was reached: either all of it is there or nothing.
            assert fingerprint(path) == before or fingerprint(path)[0][0] > before[0][0]
            before = fingerprint(path)
        else:
            assert fingerprint(path) == before


def test_a_killed_first_ingest_leaves_a_ledger_to_begin_with(tmp_path: Path) -> None:
    write_cur(demo_scenario(days=2), tmp_path / "export")
    path = tmp_path / "l.duckdb"
    kill_at("reading", 0.0, tmp_path / "export", path)
    assert ingest([str(tmp_path / "export")], path).rows > 0


def test_the_same_files_twice_change_nothing(tmp_path: Path) -> None:
    write_cur(demo_scenario(days=3), tmp_path / "export")
    path = tmp_path / "l.duckdb"
    assert not ingest([str(tmp_path / "export")], path).unchanged
    before = fingerprint(path)
    assert ingest([str(tmp_path / "export")], path).unchanged
    assert ingest([str(next((tmp_path / "export").rglob("*.parquet")))], path).unchanged
    assert fingerprint(path) == before
