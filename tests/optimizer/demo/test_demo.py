"""`spotwise demo`: figures, page, exit codes; and the page in a real browser."""

import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from optimizer.billing.ledger import Ledger
from optimizer.demo.page import render, summary_in_words, write_page
from optimizer.demo.run import OPTIMUM, SCENARIOS, TRAINED_LABEL, Demo, run_demo
from simulator.deadline import DeadlineBatch, MarketStack
from simulator.errors import InputError

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Demo:
    return run_demo(tmp_path_factory.mktemp("demo"), seed=0, steps=65_536, watch=lambda text, share: None)


@pytest.fixture(scope="module")
def page(demo: Demo) -> str:
    return render(demo)


def test_figures_on_the_page_are_those_of_the_evaluation(demo: Demo, page: str) -> None:
    for result in demo.results:
        for label, row in result.summary["policies"].items():
            assert f">{row['cost_usd']['mean']:.2f}</td>" in page
            assert f">{label}</td>" in page
            assert row["missed_deadlines"] == 0
        assert f">{result.summary['clairvoyant_optimum']['cost_usd']['mean']:.2f}</td>" in page
    assert TRAINED_LABEL in demo.results[0].summary["policies"]
    assert "synthetic" in page
    for label, row in demo.service.summary["policies"].items():
        assert f">{label}</td>" in page
        assert f">{row['availability']['mean']:.2%}</td>" in page


def test_timelines_are_what_the_kernel_bills(demo: Demo) -> None:
    for result in demo.results:
        window = result.timeline
        market = demo.judging_market.select([window.pool])
        for label, placements in window.placements.items():
            batch = DeadlineBatch.of(MarketStack.of([market]), result.scenario.job, [0], [window.start_tick])
            for action in placements[placements >= 0]:
                batch.step(np.array([action]))
            assert batch.done.all()
            assert not batch.missed.any()
            assert batch.cost[0] == pytest.approx(window.cost_usd[label], abs=1e-6)
        assert window.cost_usd[OPTIMUM] == min(window.cost_usd.values())


class _Resources(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found += [str(v) for k, v in attrs if k in ("src", "href", "data", "action") and v]


def test_page_asks_nobody_for_anything(page: str) -> None:
    resources = _Resources()
    resources.feed(page)
    assert resources.found == ["data:,"]
    assert not re.search(r"@import|url\(\s*['\"]?https?:", page.split("<script>")[0])


def test_hostile_names_are_escaped(demo: Demo) -> None:
    hostile = replace(demo, training_market=replace(demo.training_market, source="<script>alert(1)</script>"))
    assert "<script>alert(1)" not in render(hostile)
    assert "<script>alert(2)" not in render(replace(demo, trained=None), "<script>alert(2)</script>")


def test_words_are_honest(demo: Demo) -> None:
    words = summary_in_words(demo)
    tight = demo.results[0].summary["policies"]
    better = [
        label
        for label in tight
        if any(
            r.summary["policies"][label]["cost_usd"]["mean"]
            < r.summary["policies"][TRAINED_LABEL]["cost_usd"]["mean"]
            for r in demo.results
        )
    ]
    if better:
        assert "costs more than" in words
        assert all(label in words for label in better)
    else:
        assert "cheapest of all" in words
    assert f"{tight['on-demand']['cost_usd']['mean']:.0f} USD" in words


def test_page_is_written_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "report.html"
    path.write_text("old")

    def full(self: Path, target: Path) -> Path:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(InputError, match="No space left"):
        write_page("new", path)
    assert path.read_text() == "old"
    assert [each.name for each in tmp_path.iterdir()] == ["report.html"]


def test_others_may_read_the_page(tmp_path: Path) -> None:
    write_page("page", tmp_path / "report.html")
    (tmp_path / "plain").write_text("page")
    assert (tmp_path / "report.html").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_same_seed_same_figures(tmp_path: Path, demo: Demo, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("optimizer.demo.run.judge_service", lambda seed, watch: demo.service)  # see below
    first, second = (
        run_demo(tmp_path / name, seed=3, steps=65_536, watch=lambda text, share: None) for name in "ab"
    )
    for one, two in zip(first.results, second.results, strict=True):
        assert one.summary == two.summary
        assert one.timeline.cost_usd == two.timeline.cost_usd


def spotwise(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "optimizer.cli", *arguments],
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "80"},
    )


def test_command_without_training_writes_the_report_and_fits_the_screen(tmp_path: Path, demo: Demo) -> None:
    done = spotwise("demo", "--out", "report", "--steps", "0", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "No policy was trained: --steps 0 was given." in done.stdout
    assert "No policy was trained" in (tmp_path / "report" / "report.html").read_text()
    assert max(map(len, done.stdout.splitlines())) <= 80
    again = spotwise("demo", "--out", "report", "--steps", "0", "--json", "--no-progress", cwd=tmp_path)
    printed = json.loads(again.stdout)
    assert list(printed["jobs"]) == [scenario.title for scenario in SCENARIOS]
    mean = printed["jobs"][SCENARIOS[0].title]["policies"]["planner"]["cost_usd"]["mean"]
    assert f"{mean:.2f}" in done.stdout
    assert printed["service"] == json.loads(
        json.dumps(demo.service.figures())
    )  # another process, same figures
    assert f"{printed['service']['policies']['service-champion']['availability']['mean']:.2%}" in done.stdout
    bill = tmp_path / "report" / "bill"
    assert printed["bill"]["report"] == "report/bill/recommendation/report.html"
    assert printed["bill"]["headline"] in " ".join(done.stdout.split())  # the first run said the same
    recommended = json.loads((bill / "recommendation" / "recommendation.json").read_text())
    assert recommended["headline"] == printed["bill"]["headline"]
    truth = json.loads((bill / "export" / "_truth.json").read_text())
    with Ledger.open(bill / "ledger.duckdb") as ledger:
        (billed,) = ledger.rows("select sum(BilledCost) from focus")[0]
    assert float(billed) == pytest.approx(
        sum(float(invoice["total"]) for invoice in truth["billed"]), abs=0.005
    )


def test_without_torch_everything_but_the_training_is_shown(tmp_path: Path) -> None:
    hidden = "import sys; sys.modules['torch'] = None; from optimizer.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", hidden, "demo", "--out", "report", "--no-progress"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "80"},
    )
    assert done.returncode == 0, done.stderr
    assert "pip install" in done.stdout
    assert "'spotwise[train]'" in done.stdout
    assert "clairvoyant optimum" in done.stdout
    assert "spotwise[train]" in (tmp_path / "report" / "report.html").read_text()


def test_out_that_cannot_be_written_is_said_before_the_training(tmp_path: Path) -> None:
    if not Path("/proc/self").is_dir():
        pytest.skip("no folder here that even root cannot write to")
    done = spotwise("demo", "--out", "/proc/self", cwd=tmp_path)
    assert done.returncode == 2
    assert "not a folder that can be written" in done.stderr
    assert "training" not in done.stderr


def test_out_that_is_a_file_is_bad_input(tmp_path: Path) -> None:
    (tmp_path / "report").write_text("")
    done = spotwise("demo", "--out", "report", "--steps", "0", cwd=tmp_path)
    assert done.returncode == 2
    assert "--out report: not a folder" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.browser
def test_page_opens_in_a_browser_with_all_charts(page: str, tmp_path: Path) -> None:
    chromium = shutil.which("chromium")
    assert chromium, "chromium is not installed; apt-get install chromium"
    (tmp_path / "report.html").write_text(page)
    done = subprocess.run(
        [
            chromium, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
            "--disable-background-networking", "--disable-component-update", "--disable-sync",
            "--enable-logging=stderr", "--virtual-time-budget=8000",
            f"--user-data-dir={tmp_path / 'profile'}",
            "--dump-dom", (tmp_path / "report.html").as_uri(),
        ],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )  # fmt: skip
    assert done.stdout.count("main-svg") >= 9
    assert "CONSOLE" not in done.stderr, done.stderr
