"""The controller: 10,000 workloads decided and guarded, and the first decision after start."""

import subprocess
import sys
import tempfile
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np

from optimizer.controller.config import ControllerSettings
from optimizer.controller.journal import Journal
from optimizer.controller.loop import Controller
from optimizer.controller.providers.simulated import SimulatedCloud
from optimizer.plan import Plan, write_plan
from simulator.market import Market, sample_market

WORKLOADS = 10_000
TICKS = 6


def run() -> dict[str, object]:
    market = sample_market().select([0, 1, 2])
    figures: dict[str, object] = {}
    for policy in ("uniform-progress", "planner"):
        figures[f"{WORKLOADS}_jobs_{policy}"] = _ticks(market, policy)
    figures["first_decision"] = _start(market)
    return figures


def _plan(market: Market, policy: str, count: int) -> Plan:
    rng = np.random.default_rng(0)
    pools = [
        {
            "provider": pool.provider,
            "region": pool.region,
            "zone": pool.zone,
            "instance_type": pool.instance_type,
            "on_demand_price": 3.06,
        }
        for pool in market.pools
    ]
    jobs: list[dict[str, Any]] = [
        {
            "name": f"job-{k}",
            "kind": "deadline",
            "pools": pools,
            "policy": policy,
            "begins": market.start,
            "deadline": market.start + timedelta(hours=float(rng.integers(30, 72))),
            "work_hours": 24.0,
            "restart_overhead_minutes": 12.0,
        }
        for k in range(count)
    ]
    return Plan.seal(
        created=market.start,
        expires=market.end,
        tick_seconds=market.tick_seconds,
        inputs={},
        policies=[{"name": policy, "kind": "deadline"}],
        caps={"usd_per_hour": 1e6, "launches_per_tick": 100_000, "terminations_per_tick": 100_000},
        workloads=jobs,
    )


def _ticks(market: Market, policy: str) -> dict[str, float]:
    plan = _plan(market, policy, WORKLOADS)
    cloud = SimulatedCloud(market, plan)
    decided, whole = [], []
    with tempfile.TemporaryDirectory() as folder:
        settings = ControllerSettings.model_validate(
            {
                "mode": "apply",
                "state_dir": folder,
                "policy_seconds": 60.0,
                "provider": {"kind": "simulated", "simulated": {"market": "unused"}},
            }
        )
        with Journal(Path(folder) / "journal.sqlite") as journal:
            controller = Controller(plan, settings, cloud.provider(), journal, lambda *_: None)
            for _ in range(TICKS):
                began = time.perf_counter()
                report = controller.run_tick()
                whole.append(time.perf_counter() - began)
                decided.append(report.seconds)
                cloud.advance()
    return {
        "first_tick_decide_and_guard_s": round(decided[0], 3),
        "decide_and_guard_s": round(float(np.median(decided[1:])), 3),
        "first_tick_whole_s": round(whole[0], 3),
        "whole_tick_s": round(float(np.median(whole[1:])), 3),
    }


def _start(market: Market) -> dict[str, float]:
    """Seconds of a whole process that reads a plan, decides once and ends; the best of three."""
    seconds = {}
    for policy in ("uniform-progress", "planner"):
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            market.save(folder / "market.npz")
            write_plan(_plan(market, policy, 20), folder / "plan.yaml")
            (folder / "controller.yaml").write_text(
                f"state_dir: {folder}/state\n"
                f"provider: {{kind: simulated, simulated: {{market: {folder}/market.npz}}}}\n"
            )
            command = [sys.executable, "-m", "optimizer.cli", "controller", "run", "--ticks", "1", "--json"]
            taken = []
            for _ in range(3):
                began = time.perf_counter()
                subprocess.run(
                    [*command, "--plan", f"{folder}/plan.yaml", "--config", f"{folder}/controller.yaml"],
                    check=True,
                    capture_output=True,
                )
                taken.append(time.perf_counter() - began)
            seconds[f"process_{policy}_s"] = round(min(taken), 2)
    return seconds
