"""`spotwise evaluate --workload service` as a user types it."""

import json
import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from simulator.market import Market, Pool


def spotwise(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    root = Path(__file__).resolve().parents[3]
    return subprocess.run(
        [sys.executable, "-m", "optimizer.cli", *arguments],
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(root), "COLUMNS": "80"},
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A market of three pools in which one is lost and comes back."""
    path = tmp_path_factory.mktemp("services")
    capacity = np.full((3, 1200), 9)
    capacity[0, 300:360] = capacity[1, 700:] = 0
    Market.build(
        [Pool("aws", f"r{p}", f"z{p}", "t") for p in range(3)], tick_seconds=30,
        start=datetime(2023, 1, 1, tzinfo=UTC), spot_price=1.0, spot_capacity=capacity, on_demand_price=3.0,
    ).save(path / "m.npz")  # fmt: skip
    (path / "two.csv").write_text("3\n4\n")
    return path


def evaluate(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return spotwise("evaluate", "--workload", "service", "-m", "m.npz", *arguments, cwd=folder)


def test_the_readme_command_on_the_four_node_traces(shared_data: Path, tmp_path: Path) -> None:
    traces = shared_data / "traces/skypilot_spot_traces/preemption/4-node/aws-08-03-2023"
    built = spotwise(
        "market", "build", *map(str, sorted(traces.glob("*.json"))), "--format", "skypilot", "--tick-seconds",
        "30", "--spot-price", "1", "--on-demand-price", "3", "--out", "markets/v100x4.npz", cwd=tmp_path,
    )  # fmt: skip
    assert built.returncode == 0, built.stderr
    done = spotwise(
        "evaluate", "--workload", "service", "--market", "markets/v100x4.npz", "--pools", "all",
        "--demand", "3", "--cold-start-seconds", "120", "--window-hours", "24", "--availability", "0.995",
        "--policy", "spothedge-1", "--policy", "service-champion", "--json", cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    result: dict[str, Any] = json.loads(done.stdout)
    assert result["episodes"] == 12
    bound = result["clairvoyant_optimum"]
    assert list(bound) == ["1", "0.999", "0.995", "0.99"]
    costs = [level["cost_relative_to_on_demand"] for level in bound.values()]
    assert costs == sorted(costs, reverse=True)
    assert all(level["dual_bound"] <= level["cost_relative_to_on_demand"] + 1e-9 for level in bound.values())
    hedge, champion = result["policies"]["spothedge-1"], result["policies"]["service-champion"]
    assert champion["availability"]["mean"] >= max(0.995, hedge["availability"]["mean"])
    for policy in (hedge, champion):
        cost = policy["cost_relative_to_on_demand"]
        assert cost["ci95"][0] <= cost["mean"] <= cost["ci95"][1]
        assert policy["availability"]["min"] <= policy["availability"]["mean"] <= 1
        assert 0 < policy["served_fraction"] <= 1
        assert policy["launches"] > 0
        assert 0 <= policy["target_met_windows"] <= 12
        assert cost["mean"] >= bound["0.99"]["dual_bound"]
    assert champion["cost_relative_to_on_demand"]["mean"] < hedge["cost_relative_to_on_demand"]["mean"]
    assert champion["against_reference"]["cost"]["ci95"][0] < 0


def test_rows_agree_with_the_summary(folder: Path) -> None:
    done = evaluate(
        folder,
        "--window-hours",
        "5",
        "-p",
        "on-demand",
        "-p",
        "spothedge-0",
        "--json",
        "--out",
        "out/rows.csv",
    )
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    rows = pd.read_csv(folder / "out" / "rows.csv")
    assert set(rows.policy) == {"on-demand", "spothedge-0", "spothedge-1"}
    assert result["episodes"] == 2
    for label, policy in result["policies"].items():
        own = rows[rows.policy == label]
        assert policy["availability"]["mean"] == pytest.approx(own.availability.mean())
        share = own.cost_usd.sum() / own.on_demand_usd.sum()
        assert policy["cost_relative_to_on_demand"]["mean"] == pytest.approx(share)
        spent = own.unavailable_ticks.sum() / own.counted_ticks.sum() / 0.005
        assert policy["error_budget_spent"] == pytest.approx(spent)
    assert result["policies"]["on-demand"]["cost_relative_to_on_demand"]["mean"] == pytest.approx(1.0)


def test_the_table_fits_eighty_columns(folder: Path) -> None:
    done = evaluate(folder, "--window-hours", "5", "-p", "spothedge-1", "-p", "service-champion")
    assert done.returncode == 0, done.stderr
    assert "service-champion" in done.stdout
    assert "clairvoyant" in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 80


def test_a_demand_file_is_cut_into_the_windows(folder: Path) -> None:
    (folder / "demand.csv").write_text("demand\n" + "\n".join(["1"] * 600 + ["4"] * 600) + "\n")
    done = evaluate(
        folder, "--demand", "demand.csv", "--window-hours", "5", "-p", "on-demand", "--no-bound", "--json",
        "--out", "rows2.csv",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    rows = pd.read_csv(folder / "rows2.csv")
    own = rows[rows.policy == "on-demand"]
    assert own.on_demand_usd.tolist() == pytest.approx([596 * 3 / 120, 4 * 596 * 3 / 120])


def test_launches_are_billed_for_their_minimum(folder: Path) -> None:
    costs = []
    for seconds in ("0", "3600"):
        done = evaluate(
            folder, "--window-hours", "5", "-p", "spothedge-0", "--no-bound", "--json",
            "--minimum-billed-seconds", seconds,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        policy = json.loads(done.stdout)["policies"]["spothedge-0"]
        costs.append(policy["cost_relative_to_on_demand"]["mean"])
    assert costs[1] > costs[0]


def test_windows_without_demand_weigh_nothing(folder: Path) -> None:
    (folder / "idle.csv").write_text("demand\n" + "\n".join(["3"] * 600 + ["0"] * 600) + "\n")
    arguments = ("--demand", "idle.csv", "--window-hours", "5", "-p", "on-demand", "--json")
    done = evaluate(folder, *arguments)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["policies"]["on-demand"]["cost_relative_to_on_demand"]["mean"] == pytest.approx(1.0)
    assert 0.3 < result["clairvoyant_optimum"]["0.995"]["cost_relative_to_on_demand"] < 0.5


def test_nothing_is_relative_to_an_on_demand_cost_of_zero(folder: Path) -> None:
    done = evaluate(folder, "--committed", "3", "--window-hours", "5", "-p", "spot-only", "--no-bound")
    assert done.returncode == 0, done.stderr
    row = next(line.split() for line in done.stdout.splitlines() if "spot-only" in line)
    assert row[2:5] == ["-", "-", "-"]


def test_counts_of_a_huge_service_do_not_overflow(folder: Path) -> None:
    done = evaluate(
        folder, "--demand", "1000000", "--window-hours", "5", "-p", "spot-only", "--no-bound", "--json"
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["policies"]["spot-only"]["failed_launches"] > 1e8


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--availability", "1"), "availability target of 1"),
        (("--availability", "0"), "availability target of 0"),
        (("--demand", "-1"), "whole numbers"),
        (("--demand", "2.5"), "whole numbers"),
        (("--demand", "nan"), "whole numbers"),
        (("--demand", "absent.csv"), "absent.csv"),
        (("--window-hours", "24"), "--repeat-market"),
        (("--window-hours", "-1"), "accepted"),
        (("--window-hours", "nan"), "windows of nan h"),
        (("--window-hours", "inf"), "windows of inf h"),
        (("--window-hours", "0.03"), "a cold start of 4, which does not count"),
        (("--demand", "two.csv"), "a demand of 2 ticks, a window has 600"),
        (("--pools", "some"), "accepted: each, all"),
        (("-p", "spothedge"), "no service policy 'spothedge'"),
        (("-p", "x" * 5000), "no service policy"),
        (("-p", "static-mix-101"), "0 to 100"),
        (("-p", "spothedge-1", "-p", "spothedge-1"), "given twice"),
        (("--demand-where", "region=a"), "demand file"),
        (("--cold-start-seconds", "-1"), "cold start"),
    ],
)
def test_bad_input_is_exit_code_2_without_a_traceback(
    folder: Path, arguments: tuple[str, ...], message: str
) -> None:
    base = () if "--window-hours" in arguments else ("--window-hours", "5")
    done = evaluate(folder, *base, "--no-bound", *arguments)
    assert done.returncode == 2, done.stderr
    assert message in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr


def test_a_demand_longer_than_the_market_is_repeated_when_asked(folder: Path) -> None:
    done = evaluate(
        folder, "--window-hours", "24", "--repeat-market", "-p", "spothedge-0", "--no-bound", "--json"
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["episodes"] == 1


def test_an_unknown_workload_is_refused(folder: Path) -> None:
    done = spotwise("evaluate", "--workload", "batch", "-m", "m.npz", cwd=folder)
    assert done.returncode == 2
    assert "accepted: deadline, service" in done.stderr
