"""The controller: 10,000 workloads decided and guarded, and the first decision after start."""

import os
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np

from optimizer.controller.config import ControllerSettings
from optimizer.controller.journal import Journal
from optimizer.controller.loop import Controller
from optimizer.controller.providers.aws import aws_provider
from optimizer.controller.providers.simulated import SimulatedCloud
from optimizer.fake_aws import Call, FakeAws, Options
from optimizer.plan import Plan, write_plan
from simulator.market import Market, Pool, sample_market

WORKLOADS = 10_000
TICKS = 6
INSTANCES = 150
WARNING = "EC2 Spot Instance Interruption Warning"


def run() -> dict[str, object]:
    market = sample_market().select([0, 1, 2])
    figures: dict[str, object] = {}
    for policy in ("uniform-progress", "planner"):
        figures[f"{WORKLOADS}_jobs_{policy}"] = _ticks(market, policy)
    figures["first_decision"] = _start(market)
    figures["storm"] = _storm()
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
    """Seconds of a whole process that reads a plan, decides once and ends.

    The best of three; without anything in numba's cache, as in a fresh image, of one.
    """
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
            command += ["--plan", f"{folder}/plan.yaml", "--config", f"{folder}/controller.yaml"]
            seconds[f"process_{policy}_s"] = round(min(_seconds(command, {}) for _ in range(3)), 2)
            nothing = {"NUMBA_CACHE_DIR": f"{folder}/numba"}
            seconds[f"process_{policy}_without_cache_s"] = round(_seconds(command, nothing), 2)
    return seconds


def _seconds(command: list[str], environment: dict[str, str]) -> float:
    began = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True, env={**os.environ, **environment})
    return time.perf_counter() - began


def _storm() -> dict[str, float]:
    """15,000 doubled, shuffled warnings for 150 instances at the fake AWS, through real boto3 clients."""
    start = datetime(2026, 1, 1, tzinfo=UTC)
    market = Market.build(
        [Pool("aws", "us-east-1", f"us-east-1{zone}", "m5.large") for zone in "ab"],
        tick_seconds=600,
        start=start,
        spot_price=[[1.0], [1.1]],
        spot_capacity=np.full((2, 600), 1000),
        on_demand_price=3.06,
    )
    plan = _plan(market, "spot-when-available", INSTANCES)
    with FakeAws(market, Options(shuffle_events=True)) as fake, tempfile.TemporaryDirectory() as folder:
        client = fake.client("ec2", "us-east-1")
        client.create_launch_template(
            LaunchTemplateName="bench", LaunchTemplateData={"ImageId": "ami-12345678"}
        )
        queue = fake.client("sqs", "us-east-1").get_queue_url(QueueName="spotwise-notices")["QueueUrl"]
        aws = {
            "queue_url": queue,
            "queue_region": "us-east-1",
            "launch": {"default": {"template": "bench"}},
            "calls_per_second": 1000.0,
            "call_burst": 10_000,
        }
        settings = ControllerSettings.model_validate(
            {"mode": "apply", "state_dir": folder, "provider": {"kind": "aws", "aws": aws}}
        )
        if settings.provider.aws is None:
            raise AssertionError("the settings above have it")
        provider = aws_provider(
            "spotwise", settings.provider.aws, plan, make_client=fake.client, clock=_Clock(fake)
        )
        with Journal(Path(folder) / "journal.sqlite") as journal:
            controller = Controller(plan, settings, provider, journal, lambda *_: None)
            controller.run_tick()
            held = [row.id for row in controller.inventory.all_live()]
            fake.advance(100)
            for one in held:
                fake.publish("us-east-1", WARNING, one, {"instance-id": one}, copies=15_000 // INSTANCES)
            received: list[float] = []
            asked: list[float] = []

            def note(call: Call) -> None:
                if call.action == "ReceiveMessage":
                    received.append(time.perf_counter())
                elif call.action == "RunInstances":
                    # from the first receipt of this look: no message can have waited longer
                    asked.append(time.perf_counter() - received[0])

            fake.before_call.append(note)
            looks, began = 0, time.perf_counter()
            while True:
                received.clear()
                controller.run_tick()
                looks += 1
                if len(received) <= 1:
                    break
    return {
        "receipt_to_replacement_request_s_p99": round(float(np.percentile(asked, 99)), 3),
        "replacements": len(asked),
        "all_messages_handled_s": round(time.perf_counter() - began, 2),
        "looks": looks,
    }


class _Clock:
    """The fake's time."""

    def __init__(self, fake: FakeAws) -> None:
        self._fake = fake

    def now(self) -> float:
        return self._fake.now().timestamp()

    def steady(self) -> float:
        return self.now()

    def wait_until(self, moment: float) -> bool:
        del moment
        return False
