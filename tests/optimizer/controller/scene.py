"""Plans, markets and controllers for the tests of this folder."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import numpy as np

from optimizer.controller.config import AwsSettings
from optimizer.controller.journal import Journal
from optimizer.controller.journal.sqlite import SqliteStore
from optimizer.controller.loop import Controller
from optimizer.controller.providers import Provider
from optimizer.controller.providers.aws import aws_provider
from optimizer.controller.providers.simulated import SimulatedCloud
from optimizer.fake_aws import FakeAws
from optimizer.plan import Plan
from policies.protocol import Memory
from simulator.market import Market, Pool
from tests.optimizer.controller.permissions import controller_client

START = datetime(2026, 1, 5, tzinfo=UTC)


def market(
    capacity: Any, *, tick_seconds: int = 600, spot: Any = 1.0, on_demand: Any = 3.0, zones: str = "abc"
) -> Market:
    """A market with one pool per row of `capacity`."""
    rows = np.asarray(capacity)
    return Market.build(
        [Pool("aws", "us-east-1", f"us-east-1{zone}", "m5.large") for zone in zones[: len(rows)]],
        tick_seconds=tick_seconds,
        start=START,
        spot_price=spot,
        spot_capacity=rows,
        on_demand_price=on_demand,
    )


def pools(of: Market) -> list[dict[str, Any]]:
    """The market's pools as a plan has them."""
    return [
        {
            "provider": pool.provider,
            "region": pool.region,
            "zone": pool.zone,
            "instance_type": pool.instance_type,
            "on_demand_price": float(of.on_demand_price[k, 0]),
        }
        for k, pool in enumerate(of.pools)
    ]


def job(
    of: Market, name: str = "job", *, policy: str = "greedy", begins: int = 0, **fields: Any
) -> dict[str, Any]:
    """A deadline job: 10 h of work due in 14 h, 10 min of overhead."""
    start = of.start + timedelta(seconds=of.tick_seconds * begins)
    return {
        "name": name,
        "kind": "deadline",
        "pools": pools(of),
        "policy": policy,
        "begins": start,
        "deadline": start + timedelta(hours=fields.pop("deadline_hours", 14.0)),
        "work_hours": fields.pop("work_hours", 10.0),
        "restart_overhead_minutes": fields.pop("overhead_minutes", 10.0),
        **fields,
    }


def service(of: Market, name: str = "web", *, policy: str = "even-spread", **fields: Any) -> dict[str, Any]:
    """A service of three instances with a cold start of two ticks."""
    return {
        "name": name,
        "kind": "service",
        "pools": pools(of),
        "policy": policy,
        "demand": {"source": "fixed", "instances": 3},
        "cold_start_minutes": 20.0,
        **fields,
    }


def plan(of: Market, *workloads: dict[str, Any], **fields: Any) -> Plan:
    """A plan of workloads with wide caps."""
    used = {(one["policy"], one["kind"]) for one in workloads}
    return Plan.seal(
        created=of.start,
        expires=fields.pop("expires", of.end + timedelta(days=365)),
        tick_seconds=of.tick_seconds,
        inputs={},
        policies=fields.pop("policies", [{"name": name, "kind": kind} for name, kind in sorted(used)]),
        caps={"usd_per_hour": 1e6, "launches_per_tick": 10_000, "terminations_per_tick": 10_000}
        | fields.pop("caps", {}),
        workloads=list(workloads),
        **fields,
    )


@dataclass
class Run:
    """A controller over a cloud."""

    controller: Controller
    journal: Journal
    cloud: Any
    events: list[tuple[str, str, str]] = field(default_factory=list)

    def kinds(self) -> set[str]:
        return {kind for _, kind, _ in self.events}


Begin = Callable[..., Run]


def sqlite_of(journal: Journal) -> sqlite3.Connection:
    """The database behind a journal in a file."""
    assert isinstance(journal.store, SqliteStore)
    return journal.store.database


class Idler:
    """A policy that never runs anything; with a fault, one that breaks in its own way."""

    name = "idler"

    def __init__(self, fault: Callable[[], Any] | None = None) -> None:
        self.fault = fault

    def reset(self, jobs: int, pools: int = 1) -> Memory:
        del pools
        return {"seen": np.zeros(jobs, np.int64)}

    def act(self, observation: Any, memory: Memory) -> tuple[Any, Memory]:
        answer = self.fault() if self.fault is not None else np.zeros(observation.jobs, np.int64)
        return answer, {"seen": np.asarray(memory["seen"]) + 1}


class FakeClock:
    """A fake AWS's time as the controller's; waiting does not move it."""

    def __init__(self, fake: FakeAws) -> None:
        self.fake = fake
        self.offset = 0.0

    def now(self) -> float:
        return self.fake.now().timestamp() + self.offset

    def steady(self) -> float:
        return self.fake.now().timestamp()

    def wait_until(self, moment: float) -> bool:
        del moment
        return False


class SetClock:
    """A simulated cloud's time, and a wall clock that somebody set."""

    def __init__(self, cloud: SimulatedCloud, offset: float = 0.0) -> None:
        self.cloud, self.offset = cloud, offset

    def now(self) -> float:
        return self.cloud.now() + self.offset

    def steady(self) -> float:
        return self.cloud.steady()

    def wait_until(self, moment: float) -> bool:
        return self.cloud.wait_until(moment - self.offset)


TEMPLATE = "spotwise-test"


def on_fake(fake: FakeAws, the_plan: Plan, **settings: Any) -> Provider:
    """The real AWS provider, with real boto3 clients, at a fake AWS."""
    regions = sorted({pool.region for one in the_plan.workloads for pool in one.pools})
    for region in regions:
        client = fake.client("ec2", region)
        if not client.describe_launch_templates()["LaunchTemplates"]:
            client.create_launch_template(
                LaunchTemplateName=TEMPLATE, LaunchTemplateData={"ImageId": "ami-12345678"}
            )
    queue = fake.client("sqs", regions[0]).get_queue_url(QueueName="spotwise-notices")["QueueUrl"]
    made = AwsSettings.model_validate(
        {
            "queue_url": queue,
            "queue_region": regions[0],
            "launch": {"default": {"template": TEMPLATE}},
            "calls_per_second": 1000.0,
            "call_burst": 10_000,
            "patience_seconds": 0.0,
            "capacity_memory_seconds": 0.0,
            **settings,
        }
    )
    return aws_provider(
        "spotwise", made, the_plan, make_client=partial(controller_client, fake), clock=FakeClock(fake)
    )
