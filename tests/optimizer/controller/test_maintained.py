"""Fleets of type maintain that their owner sizes: the mix is reached by targets alone, without a dip."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from optimizer.controller.maintained import next_targets
from optimizer.fake_aws import FakeAws, Fault
from optimizer.plan import Plan
from simulator.market import Market
from tests.optimizer.controller.scene import TEMPLATE, Begin, Run, market, on_fake, plan, service


@given(st.integers(0, 60), st.data())
def test_targets_never_let_a_fleet_fall_below_the_demand_and_reach_the_mix(
    demand: int, data: st.DataObject
) -> None:
    base = data.draw(st.integers(0, demand))
    on_demand, spot = data.draw(st.integers(0, 80)), data.draw(st.integers(0, 80))
    lag = data.draw(st.integers(0, 3), "ticks until an instance is ready")
    ages = {"on-demand": [lag] * on_demand, "spot": [lag] * spot}
    enough = on_demand + spot >= demand
    for _ in range(45 * (lag + 1)):
        ready = {kind: sum(age >= lag for age in held) for kind, held in ages.items()}
        if enough:
            assert sum(ready.values()) >= demand
        held = {kind: len(mine) for kind, mine in ages.items()}
        targets = next_targets(
            demand, base, (held["on-demand"], ready["on-demand"]), (held["spot"], ready["spot"])
        )
        assert sum(targets) >= demand
        for kind, target in zip(ages, targets, strict=True):
            # what EC2 ends first is not known: the worst is that it is what was ready
            kept = sorted(ages[kind])[:target] if target < held[kind] else ages[kind]
            ages[kind] = [age + 1 for age in kept] + [0] * max(target - held[kind], 0)
    assert (len(ages["on-demand"]), len(ages["spot"])) == (base, demand - base)


def make_fleet(fake: FakeAws, of: Market, desired: int, **more: Any) -> tuple[str, Any, Plan]:
    """A fleet that is all on-demand, as its owner left it."""
    placeholder = plan(of, service(of))
    on_fake(fake, placeholder)
    request: dict[str, Any] = {
        "Type": "maintain",
        "LaunchTemplateConfigs": [
            {
                "LaunchTemplateSpecification": {"LaunchTemplateName": TEMPLATE, "Version": "$Latest"},
                "Overrides": [
                    {"InstanceType": "m5.large", "AvailabilityZone": pool.zone} for pool in of.pools
                ],
            }
        ],
        "TargetCapacitySpecification": {
            "TotalTargetCapacity": desired,
            "DefaultTargetCapacityType": "on-demand",
        },
        "SpotOptions": {"AllocationStrategy": "price-capacity-optimized"},
        **more,
    }
    name = fake.client("ec2", "us-east-1").create_fleet(**request)["FleetId"]
    fake.advance(60)
    demand = {"source": "group", "group": name, "region": "us-east-1"}
    the_plan = plan(of, service(of, demand=demand, cold_start_minutes=0.0))
    return name, on_fake(fake, the_plan), the_plan


def state(fake: FakeAws, name: str) -> tuple[int, int, int]:
    """Total target, members on-demand, members on spot."""
    client = fake.client("ec2", "us-east-1")
    (fleet,) = client.describe_fleets(FleetIds=[name])["Fleets"]
    ids = [one["InstanceId"] for one in client.describe_fleet_instances(FleetId=name)["ActiveInstances"]]
    spot = 0
    if ids:
        reply = client.describe_instances(InstanceIds=ids)
        found = [one for reservation in reply["Reservations"] for one in reservation["Instances"]]
        spot = sum(one.get("InstanceLifecycle") == "spot" for one in found)
    return fleet["TargetCapacitySpecification"]["TotalTargetCapacity"], len(ids) - spot, spot


def run_ticks(run: Run, fake: FakeAws, name: str, ticks: int, lowest: int) -> list[tuple[int, int, int]]:
    seen = []
    for _ in range(ticks):
        run.controller.run_tick()
        seen.append(state(fake, name))
        assert sum(seen[-1][1:]) >= lowest, "capacity never dips"
        fake.advance(600)
    return seen


def modified(fake: FakeAws) -> int:
    return fake.log.counts["ModifyFleet"]


def test_a_running_fleet_is_converted_without_a_dip_and_then_left_alone(begin: Begin) -> None:
    of = market([[20] * 200, [20] * 200])
    with FakeAws(of) as fake:
        name, provider, the_plan = make_fleet(fake, of, 5)
        run = begin(the_plan, fake, provider=provider)
        seen = run_ticks(run, fake, name, 12, lowest=5)
        assert seen[0] == (6, 5, 1), "one more than the demand, to begin with"
        assert state(fake, name) == (5, 0, 5)
        before = modified(fake)
        run_ticks(run, fake, name, 3, lowest=5)
        assert modified(fake) == before
        (fleet, _) = run.controller.services[0]
        assert (fleet.demand[0], fleet.granted[0].tolist()[-1]) == (5, 0)
        assert not fake.log.counts["TerminateInstances"] + fake.log.counts["RunInstances"]


def test_what_is_taken_is_the_fleets_to_replace(begin: Begin) -> None:
    of = market([[20] * 200, [20] * 200])
    with FakeAws(of) as fake:
        name, provider, the_plan = make_fleet(fake, of, 4)
        run = begin(the_plan, fake, provider=provider)
        run_ticks(run, fake, name, 9, lowest=4)
        fake.interrupt_youngest(2)
        for _ in range(3):
            fake.advance(130)
            run.controller.run_tick()
        assert state(fake, name) == (4, 0, 4)
        assert not fake.log.counts["RunInstances"], "two owners of one capacity would launch twice"


def test_the_owner_scales_while_a_conversion_goes_on(begin: Begin) -> None:
    of = market([[30] * 200])
    with FakeAws(of) as fake:
        name, provider, the_plan = make_fleet(fake, of, 4)
        run = begin(the_plan, fake, provider=provider)
        run.controller.run_tick()
        assert state(fake, name)[0] == 5
        client = fake.client("ec2", "us-east-1")
        client.modify_fleet(FleetId=name, TargetCapacitySpecification={"TotalTargetCapacity": 9})
        fake.advance(600)
        run_ticks(run, fake, name, 12, lowest=4)
        assert state(fake, name) == (8, 0, 8), "its owner added four to the five"
        client.modify_fleet(FleetId=name, TargetCapacitySpecification={"TotalTargetCapacity": 2})
        fake.advance(600)
        run_ticks(run, fake, name, 4, lowest=2)
        assert state(fake, name) == (2, 0, 2)


def test_spot_without_capacity_keeps_what_is_there(begin: Begin) -> None:
    of = market([[0] * 200])
    with FakeAws(of) as fake:
        name, provider, the_plan = make_fleet(fake, of, 3)
        run = begin(the_plan, fake, provider=provider)
        run_ticks(run, fake, name, 6, lowest=3)
        assert state(fake, name)[1:] == (3, 0)


@pytest.mark.parametrize("kind", ["lost_reply", "throttle", "unreachable"])
def test_faults_and_restarts_on_the_way_lose_and_double_nothing(begin: Begin, kind: Any) -> None:
    of = market([[30] * 300])
    with FakeAws(of) as fake:
        name, provider, the_plan = make_fleet(fake, of, 4)
        for k in range(20):
            run = begin(the_plan, fake, provider=provider)
            if k < 12 and k % 2:
                fake.fault(Fault(kind, action="ModifyFleet", times=1))
            run.controller.run_tick()
            run.journal.close()
            total, on_demand, spot = state(fake, name)
            assert 4 <= on_demand + spot <= 5
            assert 4 <= total <= 5
            fake.advance(600)
        assert state(fake, name) == (4, 0, 4)


def test_a_fleet_that_keeps_its_surplus_is_told_of(begin: Begin) -> None:
    of = market([[30] * 200])
    with FakeAws(of) as fake:
        name, provider, the_plan = make_fleet(fake, of, 3, ExcessCapacityTerminationPolicy="no-termination")
        run = begin(the_plan, fake, provider=provider)
        run_ticks(run, fake, name, 6, lowest=3)
        assert any("ExcessCapacityTerminationPolicy" in message for _, _, message in run.events)
        assert not fake.log.counts["TerminateInstances"]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"Type": "request"}, "fleet of type request; accepted: maintain"),
        (
            {
                "LaunchTemplateConfigs": [
                    {
                        "LaunchTemplateSpecification": {
                            "LaunchTemplateName": TEMPLATE,
                            "Version": "$Latest",
                        },
                        "Overrides": [{"InstanceType": "m5.large", "WeightedCapacity": 2.0}],
                    }
                ]
            },
            "WeightedCapacity; accepted: instances as units",
        ),
    ],
)
def test_fleets_that_cannot_be_handled_are_told_and_left_alone(
    begin: Begin, change: dict[str, Any], says: str
) -> None:
    of = market([[30] * 200])
    with FakeAws(of) as fake:
        _, provider, the_plan = make_fleet(fake, of, 4, **change)
        run = begin(the_plan, fake, provider=provider)
        report = run.controller.run_tick()
        assert (report.held, report.outcome.launched, report.again) == ("", 0, True)
        assert any(says in message for _, _, message in run.events)
        assert not modified(fake)


def test_a_fleet_that_is_gone_is_told_and_left_alone(begin: Begin) -> None:
    of = market([[30] * 200])
    with FakeAws(of) as fake:
        name, provider, the_plan = make_fleet(fake, of, 4)
        fake.client("ec2", "us-east-1").delete_fleets(FleetIds=[name], TerminateInstances=True)
        run = begin(the_plan, fake, provider=provider)
        report = run.controller.run_tick()
        assert (report.held, report.outcome.launched, report.again) == ("", 0, True)
        assert any(f"no group {name}" in message for _, _, message in run.events)
