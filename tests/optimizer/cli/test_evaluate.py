"""`spotwise evaluate` as a user types it."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from typer.testing import CliRunner

from optimizer.cli.evaluate import app as evaluate_app
from simulator.errors import InputError
from simulator.market import sample_market

WINDOWS = ("--work-hours", "20", "--deadline-hours", "24", "--window-stride", "900")


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
    path = tmp_path_factory.mktemp("evaluate")
    sample_market("v100-unseen").save(path / "m.npz")
    return path


@pytest.fixture(scope="module")
def result(folder: Path) -> dict[str, Any]:
    done = spotwise(
        "evaluate", "-m", "m.npz", *WINDOWS, "-p", "on-demand", "-p", "greedy", "-p", "planner",
        "--json", "--out", "rows.csv", cwd=folder,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    printed: dict[str, Any] = json.loads(done.stdout)
    return printed


def test_json_has_everything_and_agrees_with_the_rows(result: dict[str, Any], folder: Path) -> None:
    rows = pd.read_csv(folder / "rows.csv")
    assert result["episodes"] == 8 * 8
    assert list(result["policies"]) == ["on-demand", "greedy", "planner"]
    baseline = rows[rows.policy == "uniform-progress"].cost_usd.mean()
    optimum = result["clairvoyant_optimum"]["cost_usd"]["mean"]
    assert optimum == pytest.approx(rows.optimum_usd.mean())
    for label, policy in result["policies"].items():
        own = rows[rows.policy == label]
        assert policy["cost_usd"]["mean"] == pytest.approx(own.cost_usd.mean())
        low, high = policy["cost_usd"]["ci95"]
        assert low <= policy["cost_usd"]["mean"] <= high
        assert policy["gap_closed"] == pytest.approx((baseline - own.cost_usd.mean()) / (baseline - optimum))
        assert policy["missed_deadlines"] == policy["infeasible"] == 0
        assert set(policy["per_pool"]) == set(own.market)
        for pool, part in policy["per_pool"].items():
            assert part["cost_usd"] == pytest.approx(own[own.market == pool].cost_usd.mean())
    assert result["policies"]["on-demand"]["relative_to_on_demand"] == pytest.approx(1.0)
    assert result["policies"]["planner"]["gap_closed"] > 0.3


def test_all_pools_together_are_cheaper(result: dict[str, Any], folder: Path) -> None:
    done = spotwise(
        "evaluate", "-m", "m.npz", *WINDOWS, "--pools", "all", "-p", "greedy", "--json", cwd=folder
    )
    together = json.loads(done.stdout)
    assert together["episodes"] == 8
    each = result["clairvoyant_optimum"]["cost_usd"]["mean"]
    assert together["clairvoyant_optimum"]["cost_usd"]["mean"] < each


def test_knowing_only_the_occupied_pool_costs_more(folder: Path) -> None:
    arguments = ("evaluate", "-m", "m.npz", *WINDOWS, "--pools", "all", "-p", "planner", "--json")
    cost = [
        json.loads(spotwise(*arguments, *more, cwd=folder).stdout)["policies"]["planner"]["cost_usd"]["mean"]
        for more in ((), ("--observability", "occupied"))
    ]
    assert cost[0] < cost[1]


def test_table_fits_eighty_columns(folder: Path) -> None:
    done = spotwise("evaluate", "-m", "m.npz", *WINDOWS, "-p", "uniform-progress", cwd=folder)
    assert done.returncode == 0
    assert "uniform-progress" in done.stdout
    assert "clairvoyant optimum" in done.stdout
    assert max(len(line) for line in done.stdout.splitlines()) <= 80


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("-m", "none.npz"), "no such file"),
        (("-m", "m.npz", "--deadline-hours", "9999"), "longer than the market"),
        (("-m", "m.npz", "--work-hours", "50", "--deadline-hours", "40"), "infeasible job"),
        (("-m", "m.npz", "-p", "nobody"), "no deadline policy 'nobody'"),
        (("-m", "m.npz", "-p", "greedy", "-p", "greedy"), "given twice"),
        (("-m", "m.npz", "--pools", "some"), "accepted: each, all"),
        (("-m", "m.npz", "--window-stride", "0"), "window stride"),
        (("-m", "m.npz", "--pools", "all", "--observability", "none"), "accepted: full, occupied, probed"),
        (("-m", "broken.npz"), "not a whole market file"),
    ],
)
def test_bad_input_is_explained(folder: Path, arguments: tuple[str, ...], message: str) -> None:
    (folder / "broken.npz").write_bytes((folder / "m.npz").read_bytes()[:2000])
    done = spotwise("evaluate", *arguments, cwd=folder)
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


def test_a_market_given_twice_is_refused(folder: Path) -> None:
    (folder / "copy.npz").write_bytes((folder / "m.npz").read_bytes())
    for other in ("m.npz", "copy.npz"):
        done = spotwise("evaluate", "-m", "m.npz", "-m", other, *WINDOWS, "-p", "greedy", cwd=folder)
        assert done.returncode == 2
        assert f"{other}: the same market as m.npz" in done.stderr


def test_jobs_may_be_late_at_a_price_and_partly_committed(folder: Path) -> None:
    done = spotwise(
        "evaluate", "-m", "m.npz", *WINDOWS, "--due-hours", "21", "--lateness-usd-per-hour", "0.5",
        "--nodes", "1", "--checkpoint-interval-minutes", "60", "--checkpoint-cost-minutes", "1",
        "-p", "greedy", "-p", "planner", "--json", cwd=folder,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    policies = json.loads(done.stdout)["policies"]
    assert policies["planner"]["cost_usd"]["mean"] <= policies["greedy"]["cost_usd"]["mean"]
    assert policies["greedy"]["lateness_usd"] > 0.0
    done = spotwise("evaluate", "-m", "m.npz", *WINDOWS, "--committed", "1", cwd=folder)
    assert done.returncode == 2
    assert "1 committed instances of 1; accepted: 0 to 0" in done.stderr


def test_pools_may_differ_in_throughput_and_moves_cost(folder: Path) -> None:
    # "all" of three pools in two regions; the throughput is that of one of them
    few = sample_market("v100-unseen").select(range(3))
    few.save(folder / "few.npz")
    arguments = ("evaluate", "-m", "few.npz", *WINDOWS, "--pools", "all", "-p", "planner", "--json")
    means = []
    for extra in (
        (),
        ("--throughput", f"{few.pools[0].name}=1.4", "--move-minutes", "10", "--move-usd", "2"),
    ):
        done = spotwise(*arguments, *extra, cwd=folder)
        assert done.returncode == 0, done.stderr
        printed = json.loads(done.stdout)
        assert printed["policies"]["planner"]["missed_deadlines"] == 0
        means.append(printed["clairvoyant_optimum"]["cost_usd"]["mean"])
    assert means[0] != pytest.approx(means[1])
    done = spotwise(*arguments, "--throughput", "g5=2", cwd=folder)
    assert done.returncode == 2
    assert "throughput of g5: no such pool or instance type" in done.stderr


@pytest.mark.parametrize(
    ("workload", "option"),
    [
        ("service", ("--throughput", "a=1")),
        ("service", ("--move-usd", "1")),
        ("service", ("--work-hours", "48")),
        ("service", ("--deadline-hours", "52")),
        ("service", ("--restart-overhead-minutes", "12")),
        ("service", ("--checkpoint-interval-minutes", "0")),
        ("service", ("--checkpoint-cost-minutes", "0")),
        ("service", ("--nodes", "1")),
        ("service", ("--due-hours", "50")),
        ("service", ("--lateness-usd-per-hour", "0.5")),
        ("service", ("--observability", "full")),
        ("deadline", ("--availability", "0.99")),
        ("deadline", ("--window-hours", "24")),
        ("deadline", ("--repeat-market",)),
        ("deadline", ("--no-bound",)),
    ],
)
def test_options_of_the_other_workload_are_refused_by_name(
    folder: Path, workload: str, option: tuple[str, ...]
) -> None:
    """Even where they say what the default is: whoever gives one expects it to matter."""
    done = CliRunner().invoke(
        evaluate_app, ["-m", str(folder / "m.npz"), "--workload", workload, *option], standalone_mode=False
    )
    assert isinstance(done.exception, InputError)
    assert f"{option[0].replace('--no-', '--')} with --workload {workload}" in str(done.exception)
