"""Whatever is asked of it, the fake holds no more than the market has and charges what the market asks."""

from collections import Counter
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from botocore.exceptions import ClientError
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from optimizer.fake_aws import FakeAws, Options
from simulator.deadline import MarketStack
from simulator.market import Market, Pool
from simulator.service import Service, ServiceBatch
from tests.optimizer.fake_aws.scene import START, ZONE_A, ZONE_B, run, states

TICK, TICKS, STEP = 600, 40, 60
POOLS = [(zone, name) for zone in (ZONE_A, ZONE_B) for name in ("m5.large", "c5.large")]


def random_market(seed: int) -> Market:
    """Four pools in one region over `TICKS` ticks, with capacity 0 to 4 and prices in whole cents."""
    rng = np.random.default_rng(seed)
    return Market.build(
        [Pool("aws", "us-east-1", zone, name) for zone, name in POOLS],
        tick_seconds=TICK,
        start=START,
        spot_price=rng.integers(1, 50, (len(POOLS), TICKS)) / 100,
        spot_capacity=rng.integers(0, 5, (len(POOLS), TICKS)),
        on_demand_price=[1.0, 2.0, 1.0, 2.0],
    )


class AnyController(RuleBasedStateMachine):
    """Launches, terminates, keeps a group and fleets, and lets time pass, in any order.

    Everything in the fake happens at multiples of `STEP` seconds here, so the bill can be kept from outside
    by looking at what runs during each step.
    """

    @initialize(seed=st.integers(0, 1000), notice=st.sampled_from([0, 120, 900]))
    def begin(self, seed: int, notice: int) -> None:
        self.market = random_market(seed)
        options = Options(notice_seconds=notice, healing_seconds=STEP, rebalance_recall=0.5, seed=seed)
        self.fake = FakeAws(self.market, options)
        self.ec2 = self.fake.client("ec2")
        self.scaling = self.fake.client("autoscaling")
        self.ec2.create_launch_template(
            LaunchTemplateName="any", LaunchTemplateData={"ImageId": "ami-1", "InstanceType": "m5.large"}
        )
        self.scaling.create_auto_scaling_group(
            AutoScalingGroupName="g",
            MinSize=0,
            MaxSize=9,
            AvailabilityZones=[ZONE_A, ZONE_B],
            CapacityRebalance=True,
            MixedInstancesPolicy={
                "LaunchTemplate": {
                    "LaunchTemplateSpecification": {"LaunchTemplateName": "any"},
                    "Overrides": [{"InstanceType": "m5.large"}, {"InstanceType": "c5.large"}],
                },
                "InstancesDistribution": {"OnDemandPercentageAboveBaseCapacity": 25},
            },
        )
        self.expected = Fraction(0)

    def teardown(self) -> None:
        if hasattr(self, "fake"):
            self.fake.close()

    def running(self) -> list[dict[str, Any]]:
        alive = {"Name": "instance-state-name", "Values": ["pending", "running"]}
        reply = self.ec2.describe_instances(Filters=[alive])
        return [instance for reservation in reply["Reservations"] for instance in reservation["Instances"]]

    @rule(pool=st.sampled_from(POOLS), count=st.integers(1, 6), spot=st.booleans())
    def launch(self, pool: tuple[str, str], count: int, spot: bool) -> None:
        zone, name = pool
        held = Counter(_pool(instance) for instance in self.running() if _spot(instance))
        free = self._capacity(pool) - held[pool]
        wanted: dict[str, Any] = {
            "zone": zone,
            "spot": spot,
            "InstanceType": name,
            "MinCount": 1,
            "MaxCount": count,
        }
        if spot and free <= 0:
            with pytest.raises(ClientError, match="InsufficientInstanceCapacity"):
                run(self.fake, **wanted)
        else:
            assert len(run(self.fake, **wanted)) == (min(count, free) if spot else count)

    @rule(draw=st.randoms(use_true_random=False))
    def terminate(self, draw: Any) -> None:
        running = self.running()
        if running:
            chosen = draw.sample(running, draw.randint(1, len(running)))
            self.ec2.terminate_instances(InstanceIds=[instance["InstanceId"] for instance in chosen])

    @rule(desired=st.integers(0, 9))
    def scale(self, desired: int) -> None:
        self.scaling.set_desired_capacity(AutoScalingGroupName="g", DesiredCapacity=desired)

    @rule(kind=st.sampled_from(["instant", "maintain"]), total=st.integers(0, 6), spot=st.booleans())
    def ask_for_a_fleet(self, kind: str, total: int, spot: bool) -> None:
        self.ec2.create_fleet(
            Type=kind,
            LaunchTemplateConfigs=[
                {"LaunchTemplateSpecification": {"LaunchTemplateName": "any", "Version": "1"}}
            ],
            TargetCapacitySpecification={
                "TotalTargetCapacity": total,
                "DefaultTargetCapacityType": "spot" if spot else "on-demand",
            },
        )

    @rule(steps=st.integers(1, 15))
    def let_time_pass(self, steps: int) -> None:
        for _ in range(steps):
            tick = self.fake.tick()
            for instance in self.running():
                row = POOLS.index(_pool(instance))
                prices = self.market.spot_price if _spot(instance) else self.market.on_demand_price
                self.expected += Fraction(round(prices[row, tick] * 100) * STEP, 100 * 3600)
            self.fake.advance(STEP)
            self.no_pool_holds_more_than_the_market_has()

    def _capacity(self, pool: tuple[str, str]) -> int:
        return int(self.market.spot_capacity[POOLS.index(pool), self.fake.tick()])

    @invariant()
    def no_pool_holds_more_than_the_market_has(self) -> None:
        held = Counter(_pool(instance) for instance in self.running() if _spot(instance))
        assert all(count <= self._capacity(pool) for pool, count in held.items())
        told = {f"aws/{zone}/{name}": held[zone, name] for zone, name in POOLS}
        assert self.fake.held() == told

    @invariant()
    def the_bill_is_what_the_market_asked_for_what_ran(self) -> None:
        bill = self.fake.bill()
        assert bill.total == sum(bill.instances.values())
        assert bill.total == self.expected

    @invariant()
    def every_interruption_was_announced(self) -> None:
        warned = {event.instance_id for event in self.fake.events() if "Interruption" in event.kind}
        taken = {
            instance["InstanceId"]
            for reservation in self.ec2.describe_instances()["Reservations"]
            for instance in reservation["Instances"]
            if instance.get("StateReason", {}).get("Code") == "Server.SpotInstanceTermination"
        }
        assert taken <= warned


def _pool(instance: dict[str, Any]) -> tuple[str, str]:
    return instance["Placement"]["AvailabilityZone"], instance["InstanceType"]


def _spot(instance: dict[str, Any]) -> bool:
    return instance.get("InstanceLifecycle") == "spot"


TestAnyController = AnyController.TestCase
TestAnyController.settings = settings(max_examples=12, stateful_step_count=15, deadline=None)


@pytest.mark.parametrize("minimum_seconds", [0, 4 * TICK // 3, 5 * TICK // 2])
def test_grants_and_cost_are_those_of_the_service_kernel(minimum_seconds: int) -> None:
    market, rng = random_market(7).select([0, 2]), np.random.default_rng(7)
    service = Service.of(1, tick_seconds=TICK, ticks=TICKS, minimum_billed_seconds=minimum_seconds)
    batch = ServiceBatch(MarketStack.of([market]), service, 0, 0)
    with FakeAws(market, Options(notice_seconds=0, minimum_billed_seconds=minimum_seconds)) as fake:
        held: dict[str, list[str]] = {ZONE_A: [], ZONE_B: [], "on-demand": []}
        for tick in range(TICKS):
            asked = rng.integers(0, 5, 3)
            batch.step(asked[None, :])
            _forget_the_interrupted(fake, held)
            for row, (where, names) in enumerate(held.items()):
                capacity = int(market.spot_capacity[row, tick]) if row < 2 else 99
                _reach(fake, where, names, min(int(asked[row]), capacity))
            assert [len(names) for names in held.values()] == batch.observe().granted[0].tolist()
            fake.advance(TICK)
            expected = batch.cost[0]
        _forget_the_interrupted(fake, held)
        assert float(fake.bill().total) == pytest.approx(expected, rel=1e-9)


def _forget_the_interrupted(fake: FakeAws, held: dict[str, list[str]]) -> None:
    alive = {"Name": "instance-state-name", "Values": ["running"]}
    running = states(fake, Filters=[alive])
    for names in held.values():
        names[:] = [name for name in names if name in running]


def _reach(fake: FakeAws, where: str, names: list[str], count: int) -> None:
    """Launch what is missing, or give up the youngest."""
    spot = where != "on-demand"
    if count > len(names):
        names += run(fake, count - len(names), where if spot else ZONE_A, spot=spot)
    elif count < len(names):
        fake.client("ec2").terminate_instances(InstanceIds=names[count:])
        del names[count:]
