"""The process: commands, endpoint, metrics, logs; and that it starts light."""

from __future__ import annotations

import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from optimizer.cli import app
from optimizer.controller.config import ControllerSettings
from optimizer.controller.daemon import Daemon
from optimizer.controller.journal import Journal
from optimizer.controller.providers.simulated import SimulatedCloud
from optimizer.controller.report import Report
from optimizer.plan import write_plan
from optimizer.presets import presets_dir
from simulator.errors import InputError, SpotwiseError
from tests.optimizer.controller.browser import Browser
from tests.optimizer.controller.scene import SetClock, job, market, plan, service, sqlite_of
from training.configuration import read_configuration

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A market, a plan and a configuration for it."""
    of = market([[9] * 300, [1, 0] * 150])
    of.save(tmp_path / "market.npz")
    write_plan(
        plan(of, job(of, "nightly", deadline_hours=15.0), service(of, cold_start_minutes=0.0)),
        tmp_path / "plan.yaml",
    )
    (tmp_path / "controller.yaml").write_text(
        f"state_dir: {tmp_path}/state\n"
        "provider:\n"
        "  kind: simulated\n"
        f"  simulated: {{market: {tmp_path}/market.npz, seconds_per_tick: 0.05}}\n"
    )
    return tmp_path


def invoke(folder: Path, *words: str) -> Any:
    return CliRunner().invoke(app, ["controller", *words, "--config", str(folder / "controller.yaml")])


def run_command(folder: Path, *more: str) -> list[str]:
    files = ["--plan", str(folder / "plan.yaml"), "--config", str(folder / "controller.yaml")]
    return [sys.executable, "-m", "optimizer.cli", "controller", "run", *files, *more]


def test_the_default_mode_changes_nothing_and_journals_each_wish_once(folder: Path) -> None:
    done = invoke(folder, "run", "--plan", str(folder / "plan.yaml"), "--ticks", "5", "--json")
    assert done.exit_code == 0, done.output
    status = json.loads(done.stdout)
    assert (status["mode"], status["instances"], status["ticks"]) == ("dry-run", 0, 5)
    audit = invoke(folder, "journal", "--json")
    entries = json.loads(audit.stdout)["entries"]
    wishes = [one for one in entries if one["entry"] == "action"]
    assert {one["state"] for one in wishes} == {"dry-run"}
    assert {one["workload"] for one in wishes} == {"nightly", "web"}
    assert len([one for one in wishes if one["workload"] == "nightly"]) == 1
    assert "greedy" in wishes[0]["why"] or "even-spread" in wishes[0]["why"]
    plain = invoke(folder, "journal", "--workload", "nightly")
    assert "launch nightly: 1 spot aws/us-east-1a/m5.large" in plain.stdout


def test_apply_mode_acts_and_the_next_run_goes_on(folder: Path) -> None:
    for _ in range(2):
        done = invoke(folder, "run", "--plan", str(folder / "plan.yaml"), "--mode", "apply", "--ticks", "3")
        assert done.exit_code == 0, done.output
        assert "nightly" in done.stdout


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["run", "--plan", "absent.yaml"], "spotwise recommend"),
        (["run", "--plan", "PLAN", "--mode", "yolo"], "accepted: dry-run"),
        (["status"], "no controller is running"),
        (["pause"], "no controller is running"),
        (["journal"], "there is no journal yet"),
        (["journal", "--since", "yesterday"], "--since yesterday; accepted"),
    ],
)
def test_what_cannot_be_done_is_said(folder: Path, words: list[str], says: str) -> None:
    done = invoke(folder, *[str(folder / "plan.yaml") if word == "PLAN" else word for word in words])
    assert done.exit_code != 0
    assert says in str(done.exception)


def test_a_wrong_setting_is_named_with_its_line(folder: Path) -> None:
    (folder / "controller.yaml").write_text("provider: {kind: simulated}\nguards: {cooldown_seconds: -1}\n")
    done = invoke(folder, "status")
    assert isinstance(done.exception, InputError)
    assert "line 2, field guards.cooldown_seconds" in str(done.exception)
    assert "provider simulated needs its settings" in str(done.exception)


def test_the_shipped_preset_is_valid_and_names_every_setting() -> None:
    path = presets_dir() / "controller.yaml"
    settings = read_configuration(path, ControllerSettings, prefix="SPOTWISE_CONTROLLER", environ={})
    assert settings.mode == "dry-run"
    text = path.read_text(encoding="utf-8")
    for name in _fields(ControllerSettings.model_json_schema()):
        assert re.search(rf"\b{name}:", text), f"{name} is not in the preset"


def _fields(schema: dict[str, Any]) -> set[str]:
    names = set(schema["properties"])
    for part in schema["$defs"].values():
        names |= set(part["properties"])
    return names - {"template", "version", "subnets", "via"}


def test_a_plan_of_today_runs_on_a_market_of_last_year(folder: Path) -> None:
    today = market([[9] * 300], tick_seconds=600)
    moved = replace(today, start=today.start + timedelta(days=300, seconds=17))
    the_plan = plan(
        moved, job(replace(today, start=today.start + timedelta(days=300, hours=1)), deadline_hours=15.0)
    )
    path = folder / "market.npz"
    market([[9] * 300]).save(path)
    write_plan(the_plan, folder / "plan.yaml")
    done = invoke(folder, "run", "--plan", str(folder / "plan.yaml"), "--mode", "apply", "--json")
    assert done.exit_code == 0, done.output
    (one,) = json.loads(done.stdout)["workloads"]
    assert one["state"] == "done"
    settings = folder / "controller.yaml"
    settings.write_text(settings.read_text().replace("seconds_per_tick: 0.05", "begins: market"))
    refused = invoke(folder, "run", "--plan", str(folder / "plan.yaml"))
    assert "does not fit the market" in str(refused.exception)


def test_progress_of_jobs_is_reported_to_the_end(folder: Path) -> None:
    of = market([[9] * 300])
    write_plan(
        plan(of, job(of, "first", work_hours=2.0, deadline_hours=4.0), job(of, "later", begins=60)),
        folder / "plan.yaml",
    )
    words = ["run", "--plan", str(folder / "plan.yaml"), "--mode", "apply"]
    first = invoke(folder, *words, "--ticks", "8", "--json")
    assert first.exit_code == 0, first.output
    status = json.loads(first.stdout)
    one, later = status["workloads"]
    assert status["jobs"] == {"active": 1, "waiting": 1}
    # seven ticks of ten minutes, one of which is the start
    assert (one["work_done_hours"], one["work_left_hours"], one["state"]) == (1.0, 1.0, "active")
    assert one["expected_finish"] - status["at"] == pytest.approx(3600 * 7 / 6), "at the pace so far"
    assert later["expected_finish"] - of.start.timestamp() == pytest.approx(3600 * (10 + 1 / 6 + 10))
    settings = folder / "controller.yaml"
    settings.write_text(settings.read_text().replace("seconds_per_tick: 0.05", "seconds_per_tick: 0"))
    settings.write_text(settings.read_text().replace("/state", "/whole"))
    whole = invoke(folder, *words)
    assert whole.exit_code == 0, whole.output
    assert re.search(r"first +│ done +│ +│ 2.00 of 2.00 h", whole.stdout)
    entries = json.loads(invoke(folder, "journal", "--json", "--limit", "1000").stdout)["entries"]
    done = [one["message"] for one in entries if one["entry"] == "event" and one["kind"] == "job-done"]
    first_done = "first is done, 1.83 h before its deadline, for 2.17 USD (6.50 on on-demand capacity)"
    assert len(done) == 2
    assert first_done in done


@pytest.fixture
def running(folder: Path) -> Iterator[Path]:
    """A daemon process in apply mode."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        run_command(folder, "--mode", "apply"),
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        for _ in range(600):
            if process.poll() is not None:
                pytest.fail(process.communicate()[1])
            done = invoke(folder, "status", "--json") if (folder / "state/token").exists() else None
            if done is not None and done.exit_code == 0 and "tick" in json.loads(done.stdout):
                break
            time.sleep(0.1)
        yield folder
    finally:
        # one that was told to stop is about to end by itself
        if process.poll() is None and (folder / "state/token").exists():
            process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=30)
    assert process.returncode == 0, errors
    for line in errors.splitlines():
        assert set(json.loads(line)) >= {"time", "level", "kind", "message"}
    assert not (folder / "state/token").exists()


def test_a_running_daemon_obeys_commands(running: Path) -> None:
    token_file = running / "state/token"
    token = token_file.read_text()
    assert token_file.stat().st_mode & 0o077 == 0
    url = json.loads((running / "state/endpoint.json").read_text())["url"].removeprefix("http://")

    def ask(method: str, path: str, **headers: str) -> tuple[int, str]:
        connection = HTTPConnection(url, timeout=10)
        connection.request(method, path, headers=headers)
        answer = connection.getresponse()
        body = answer.read().decode()
        connection.close()
        return answer.status, body

    assert ask("GET", "/healthz")[0] == 200
    assert ask("GET", "/readyz")[0] == 200
    assert ask("GET", "/nothing")[0] == 404
    status, text = ask("GET", "/metrics")
    assert status == 200
    assert re.search(r"^spotwise_ticks_total \d+$", text, re.MULTILINE)
    assert 'spotwise_jobs{state="active"} 1' in text
    assert re.search(r'^spotwise_job_work_left_hours\{workload="nightly"\} ', text, re.MULTILINE)
    for line in text.splitlines():
        assert re.fullmatch(r"# (HELP|TYPE) \w+ .+|[a-z_]+(\{[^}]*\})? [-+0-9.einf]+", line), line
    status, page = ask("GET", "/")
    assert status == 200
    assert "Kill switch" in page
    assert not re.search(r"(src|href)\s*=", page), "the page needs nothing from elsewhere"

    assert ask("POST", "/pause")[0] == 401
    assert ask("POST", "/pause", Authorization="Bearer wrong")[0] == 401
    assert ask("GET", "/status", Host="evil.example:80")[0] == 421
    assert ask("POST", "/explode", Authorization=f"Bearer {token}")[0] == 404
    assert not json.loads(ask("GET", "/status")[1])["paused"]

    second = invoke(running, "run", "--plan", str(running / "plan.yaml"))
    assert "another controller runs with this state_dir" in str(second.exception)
    assert invoke(running, "pause").exit_code == 0
    assert json.loads(invoke(running, "status", "--json").stdout)["paused"]
    assert invoke(running, "resume").exit_code == 0
    assert not json.loads(invoke(running, "status", "--json").stdout)["paused"]
    assert invoke(running, "kill").exit_code == 0
    assert json.loads(invoke(running, "status", "--json").stdout)["killed"]
    assert invoke(running, "kill", "--off").exit_code == 0
    for _ in range(300):
        entries = json.loads(invoke(running, "journal", "--json", "--limit", "1000").stdout)["entries"]
        asked = [one for one in entries if one["entry"] == "event" and one["kind"] in ("pause", "resume")]
        if len(asked) == 2:
            break
        time.sleep(0.1)
    assert {one["kind"] for one in asked} == {"pause", "resume"}
    assert all(one["message"].startswith("asked by cli") for one in asked)
    assert token not in json.dumps(entries)
    assert invoke(running, "stop").exit_code == 0


def test_the_daemon_imports_no_training_library_and_no_cloud_library_that_it_does_not_use(
    folder: Path,
) -> None:
    code = (
        "import sys\n"
        f"sys.argv = {['spotwise', *run_command(folder, '--ticks', '1')[3:]]!r}\n"
        "from optimizer.cli import main\n"
        "main()\n"
        "print(sorted({name.partition('.')[0] for name in sys.modules}))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr
    loaded = done.stdout.splitlines()[-1]
    for heavy in ("torch", "mlflow", "gymnasium", "stable_baselines3", "pandas", "boto3", "duckdb", "plotly"):
        assert f"'{heavy}'" not in loaded


def test_the_endpoint_says_when_its_port_is_taken(tmp_path: Path) -> None:
    of = market([[9] * 99])
    the_plan = plan(of, job(of))
    cloud = SimulatedCloud(of, the_plan)

    def daemon(name: str, port: int, journal: Journal) -> Daemon:
        settings = ControllerSettings.model_validate(
            {
                "state_dir": tmp_path / name,
                "endpoint": {"port": port},
                "provider": {"kind": "simulated", "simulated": {"market": "unused"}},
            }
        )
        return Daemon(the_plan, settings, cloud.provider(), journal, lambda *_: None)

    with Journal(tmp_path / "a.sqlite") as one, Journal(tmp_path / "b.sqlite") as two:
        first = daemon("a", 0, one)
        assert first.endpoint is not None
        with pytest.raises(InputError, match="cannot be bound"):
            daemon("b", first.endpoint.port, two)
        first.endpoint.stop()


def test_the_journal_is_pruned_and_copied_in_time(tmp_path: Path) -> None:
    of = market([[9] * 300])
    the_plan = plan(of, service(of, cold_start_minutes=0.0))
    cloud = SimulatedCloud(of, the_plan)
    settings = ControllerSettings.model_validate(
        {
            "state_dir": tmp_path,
            "mode": "apply",
            "endpoint": {"enabled": False},
            "provider": {"kind": "simulated", "simulated": {"market": "unused"}},
            "journal": {"retention_days": 1.0, "backup_hours": 2.0},
        }
    )
    with Journal(tmp_path / "journal.sqlite") as journal:
        journal.save_tick(0, 1.0, "apply", {}, {"deadline:of-last-year": {"at": np.array([1.0])}})
        Daemon(the_plan, settings, cloud.provider(), journal, lambda *_: None).run(290)
        (kept,) = journal.state_keys("")
        assert kept.startswith("service:"), "the plan's own stays, what no plan has goes"
        assert (tmp_path / "journal.backup.sqlite").exists()
        ticks = sqlite_of(journal).execute("SELECT COUNT(*) FROM ticks").fetchone()[0]
        assert 144 <= ticks <= 144 + 14


@pytest.mark.parametrize("jump", [-30 * 86_400.0, 36_000.0])
def test_a_clock_that_was_set_neither_stops_the_ticks_nor_hurries_them(tmp_path: Path, jump: float) -> None:
    of = market([[9] * 300])
    the_plan = plan(of, service(of, cold_start_minutes=0.0))
    cloud = SimulatedCloud(of, the_plan)
    clock = SetClock(cloud)
    settings = ControllerSettings.model_validate(
        {
            "state_dir": tmp_path,
            "mode": "apply",
            "endpoint": {"enabled": False},
            "provider": {"kind": "simulated", "simulated": {"market": "unused"}},
        }
    )
    at: list[tuple[int, float]] = []

    def watch(report: Report) -> None:
        at.append((cloud.tick, report.now))
        if len(at) == 5:
            clock.offset = jump

    with Journal(tmp_path / "journal.sqlite") as journal:
        provider = replace(cloud.provider(), clock=clock)
        Daemon(the_plan, settings, provider, journal, lambda *_: None).run(7, watch)
    assert at == [(tick, of.start.timestamp() + 600.0 * tick) for tick in range(7)]


@pytest.fixture
def paced(folder: Path) -> None:
    """Ticks that leave a person time to click."""
    settings = folder / "controller.yaml"
    settings.write_text(settings.read_text().replace("seconds_per_tick: 0.05", "seconds_per_tick: 0.4"))


@pytest.mark.browser
def test_the_live_page_in_a_browser(paced: None, running: Path) -> None:
    """What it shows, and what its buttons do when they are clicked: nothing without the token."""
    del paced
    url = json.loads((running / "state/endpoint.json").read_text())["url"]
    token = (running / "state/token").read_text()
    with Browser(running / "chromium") as page:
        page.open(url)

        def shows(state: str) -> None:
            page.wait(lambda: page.text("#state") == state, f"{state}, but {page.text('#state')}")

        shows("running")
        whole = page.text("body")
        for part in (
            "nightly",
            "USD per hour",
            "spot aws/us-east-1a/m5.large",
            "finish expected",
            "jobs done",
        ):
            assert part in whole
        for name, dark in (("light", False), ("dark", True)):
            page.screenshot(running / f"{name}.png", dark=dark)
            assert page.value("matchMedia('(prefers-color-scheme: dark)').matches") is dark

        page.click("#pause")
        page.wait(lambda: "state_dir" in page.text("#message"), "a word on the token")
        shows("running")
        page.type("#token", "wrong")
        page.click("#pause")
        page.wait(lambda: "state_dir" in page.text("#message"), "a word on the token")
        assert not asked(running)["paused"]

        page.value("document.getElementById('token').value = ''")
        page.type("#token", token)
        page.click("#pause")
        shows("paused")
        assert page.text("#pause") == "Resume"
        assert asked(running)["paused"]
        page.click("#pause")
        shows("running")
        assert not asked(running)["paused"]

        page.accepts = False
        page.click("#kill")
        page.wait(lambda: len(page.dialogs) == 1, "a question before the switch is thrown")
        assert not (running / "state/KILL").exists()
        page.accepts = True
        page.click("#kill")
        shows("kill switch on")
        assert (running / "state/KILL").exists()
        page.wait(lambda: page.text("#kill") == "Release kill switch", "a way back")
        page.screenshot(running / "killed.png", dark=False)
        page.click("#kill")
        shows("running")
        assert not (running / "state/KILL").exists()
        assert len(page.dialogs) == 2, "releasing asks nothing"
        assert token not in page.text("body") + page.value("location.href")

        assert invoke(running, "stop").exit_code == 0
        shows("unreachable")
        assert "does not answer" in page.text("#message")
    entries = json.loads(invoke(running, "journal", "--json", "--limit", "1000").stdout)["entries"]
    assert any(one.get("kind") == "stop" for one in entries)
    by_page = [one["kind"] for one in entries if one.get("message") == "asked by page"]
    assert by_page[::-1] == ["pause", "resume", "kill", "unkill"]


def asked(folder: Path) -> dict[str, Any]:
    """The running controller's status, without the page."""
    found: dict[str, Any] = json.loads(invoke(folder, "status", "--json").stdout)
    return found


def test_a_loop_that_hangs_is_not_healthy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("optimizer.controller.daemon.HANGS_SECONDS", 0.2)
    of = market([[9] * 99])
    the_plan = plan(of, job(of))
    cloud = SimulatedCloud(of, the_plan)
    asked, answer = threading.Event(), threading.Event()

    class Hangs:
        def __getattr__(self, name: str) -> Any:
            return getattr(cloud, name)

        def instances(self) -> Any:
            asked.set()
            answer.wait(30)
            return cloud.instances()

    settings = ControllerSettings.model_validate(
        {
            "state_dir": tmp_path,
            "endpoint": {"enabled": False},
            "provider": {"kind": "simulated", "simulated": {"market": "unused"}},
        }
    )
    with Journal(tmp_path / "journal.sqlite") as journal:
        provider = replace(cloud.provider(), capacity=Hangs())
        daemon = Daemon(the_plan, settings, provider, journal, lambda *_: None)
        assert daemon.healthy()
        loop = threading.Thread(target=daemon.run, args=(1,))
        loop.start()
        assert asked.wait(10)
        time.sleep(0.3)
        assert not daemon.healthy()
        answer.set()
        loop.join(10)


def test_a_state_dir_that_cannot_be_written_is_said_and_nothing_calls_it_damaged(folder: Path) -> None:
    blocked = folder / "blocked"
    blocked.write_text("a file where the folder should be")
    settings = folder / "controller.yaml"
    settings.write_text(settings.read_text().replace(f"{folder}/state", str(blocked)))
    done = invoke(folder, "run", "--plan", str(folder / "plan.yaml"))
    assert isinstance(done.exception, InputError)
    assert "cannot be written" in str(done.exception)
    done = invoke(folder, "kill")
    assert isinstance(done.exception, SpotwiseError)
    assert "cannot be changed" in str(done.exception)
    assert "no controller is running" in str(done.exception)


def test_the_kill_command_reaches_a_controller_whose_disk_it_cannot_write(
    running: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuses(self: Path, *_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device", str(self))

    with monkeypatch.context() as patch:
        patch.setattr(Path, "touch", refuses)
        assert invoke(running, "kill").exit_code == 0
    assert json.loads(invoke(running, "status", "--json").stdout)["killed"]


def test_a_journal_without_room_is_not_called_damaged(tmp_path: Path) -> None:
    path = tmp_path / "journal.sqlite"
    Journal(path).close()
    holder = sqlite3.connect(path, isolation_level=None)
    holder.execute("PRAGMA journal_mode = DELETE")
    path.chmod(0o400)
    holder.execute("BEGIN EXCLUSIVE")
    try:
        with pytest.raises(InputError, match="It is not damaged") as error:
            Journal(path)
        assert "move it away" not in str(error.value)
    finally:
        holder.close()
