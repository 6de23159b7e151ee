"""A build step of the image: compiles into NUMBA_CACHE_DIR what numba would compile when a controller starts.

Every built-in policy carries out plans on a simulated cloud. They have each kind of workload that is compiled
by itself: jobs with and without a cost of lateness, a gang, pools of different speed, services with demand of
each kind. They have one workload and several, since numba compiles anew for arrays that lie in memory in
another way. That a controller then compiles nothing is checked by `make image-tests`.
"""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

from optimizer.controller.config import ControllerSettings
from optimizer.controller.journal import Journal
from optimizer.controller.loop import Controller
from optimizer.controller.policies import bundle_file
from optimizer.controller.providers.simulated import SimulatedCloud
from optimizer.controller.warm_up import warm_up
from optimizer.plan import Plan, PolicyReference, file_sha256
from policies.bundle import Kind
from policies.registry import policy_names
from simulator.market import Market, sample_market

TICKS = 20
"""Enough for launches, interruptions and cold starts."""
POOLS = (1, 3, 6)
"""Pools of a workload: the planner costs one by itself, up to five together, of more a shortlist."""
PATIENCE_SECONDS = 600.0
"""For one decision: a policy that is given up while it compiles leaves nothing."""


def jobs(market: Market) -> list[dict[str, Any]]:
    """Plain; late at a price; a gang with checkpoints; pools of different speed, with data to copy."""
    job = {
        "kind": "deadline",
        "pools": _pools(market),
        "begins": market.start,
        "deadline": market.start + timedelta(hours=12),
        "work_hours": 4.0,
        "restart_overhead_minutes": 12.0,
    }
    late = {"due": market.start + timedelta(hours=8), "lateness_usd_per_hour": 2.0}
    checkpoints = {"checkpoint_interval_minutes": 30.0, "checkpoint_cost_minutes": 1.0}
    fast, *others = _pools(market)
    return [
        job | {"name": "plain"},
        job | {"name": "committed", "nodes": 2, "committed": 1},
        job | {"name": "late"} | late,
        job | {"name": "gang", "nodes": 2, "committed": 1} | late | checkpoints,
        job | {"name": "data", "pools": [fast | {"throughput": 1.5}, *others], "checkpoint_size_gb": 50.0},
    ]


def services(market: Market) -> list[dict[str, Any]]:
    """With a fixed demand and with a forecast."""
    service = {"kind": "service", "pools": _pools(market), "cold_start_minutes": 5.0}
    forecast = {"source": "series", "start": market.start, "step_seconds": 3600, "instances": [3, 5, 4]}
    return [
        service | {"name": "fixed", "demand": {"source": "fixed", "instances": 4}},
        service | {"name": "forecast", "demand": forecast, "on_demand_floor": 1, "committed": 1},
    ]


def _pools(market: Market) -> list[dict[str, Any]]:
    return [
        {
            "provider": pool.provider,
            "region": pool.region,
            "zone": pool.zone,
            "instance_type": pool.instance_type,
            "on_demand_price": 3.0,
        }
        for pool in market.pools
    ]


def reference(name: str, kind: Kind) -> PolicyReference:
    """A built-in policy, and the checksum of its bundle where it has one."""
    policy = PolicyReference(name=name, kind=kind)
    bundle = bundle_file(policy)
    return policy if bundle is None else policy.model_copy(update={"bundle_sha256": file_sha256(bundle)})


def sealed(market: Market, policy: PolicyReference, workloads: list[dict[str, Any]]) -> Plan:
    """A plan of these workloads under one policy."""
    return Plan.seal(
        created=market.start,
        expires=market.end,
        tick_seconds=market.tick_seconds,
        inputs={},
        policies=[policy],
        caps={"usd_per_hour": 1e6, "launches_per_tick": 1000, "terminations_per_tick": 1000},
        workloads=[one | {"policy": policy.name} for one in workloads],
    )


def carry_out(market: Market, plan: Plan, ticks: int = TICKS) -> None:
    """Run a controller on the simulated cloud.

    Raises:
        RuntimeError: It warned of something: a policy that failed compiles nothing.
    """
    warnings: list[str] = []

    def tell(level: str, kind: str, message: str) -> None:
        if level != "info":
            warnings.append(f"{kind}: {message}")

    cloud = SimulatedCloud(market, plan)
    with tempfile.TemporaryDirectory() as folder:
        settings = ControllerSettings.model_validate(
            {
                "mode": "apply",
                "state_dir": folder,
                "policy_seconds": PATIENCE_SECONDS,
                "provider": {"kind": "simulated", "simulated": {"market": "in memory"}},
            }
        )
        with Journal(Path(folder) / "journal.sqlite") as journal:
            controller = Controller(plan, settings, cloud.provider(), journal, tell)
            warm_up(controller.jobs, controller.services, plan.tick_seconds, tell, threading.Event())
            for _ in range(ticks):
                controller.run_tick()
                cloud.advance()
    if warnings:
        raise RuntimeError(f"{plan.policies[0].name}: {'; '.join(warnings)}")


def main() -> None:
    """Every built-in policy, for one workload and for several, on few pools and on many."""
    kinds: tuple[tuple[Kind, Callable[[Market], list[dict[str, Any]]]], ...]
    kinds = ("deadline", jobs), ("service", services)
    for pools in POOLS:
        market = sample_market().select(range(pools))
        for kind, make in kinds:
            for name in policy_names(kind):
                for workloads in (make(market)[:1], make(market)[-1:], make(market)):
                    carry_out(market, sealed(market, reference(name, kind), workloads))


if __name__ == "__main__":
    main()
