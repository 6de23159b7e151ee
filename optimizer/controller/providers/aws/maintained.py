"""EC2 Fleets of type maintain that somebody else made: read as groups, given targets with ModifyFleet."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from optimizer.controller.providers.aws.calls import Caller
from optimizer.controller.providers.aws.capacity import instance_of
from optimizer.controller.providers.aws.clients import Clients
from optimizer.controller.providers.protocol import Group, Instance, Refused

FLEET_ID = re.compile(r"fleet-[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
MOST_UNITS = 10_000
"""Target capacity of a fleet at most, without a higher quota."""


class MaintainedFleets:
    """Fleets by id, behind what `AutoScaling` does for groups."""

    def __init__(self, clients: Clients, call: Caller) -> None:
        """Ask with these clients."""
        self._clients, self._call = clients, call
        self._totals: dict[str, int] = {}

    def describe(self, region: str, ids: Sequence[str]) -> dict[str, Group]:
        """The fleets by id; one that does not exist, or no longer, is absent.

        Raises:
            Refused: A fleet is of another type, or counts in units that are not instances.
        """
        found: dict[str, Group] = {}
        for one in ids:
            try:
                reply = self._call(self._clients("ec2", region).describe_fleets, FleetIds=[one])
            except Refused as error:
                if "InvalidFleetId" not in str(error):
                    raise
                continue
            for fleet in reply["Fleets"]:
                if fleet["FleetState"] in ("submitted", "active", "modifying"):
                    found[one] = self._group(region, fleet)
        return found

    def shape(self, region: str, fleet: str, total: int | None, on_demand: int) -> None:
        """Set both targets; saying it twice changes nothing. None keeps the total that was seen."""
        total = self._totals[fleet] if total is None else total
        self._call(
            self._clients("ec2", region).modify_fleet,
            FleetId=fleet,
            TargetCapacitySpecification={
                "TotalTargetCapacity": total,
                "OnDemandTargetCapacity": min(on_demand, total),
                "SpotTargetCapacity": max(total - on_demand, 0),
                "DefaultTargetCapacityType": "spot",
            },
        )
        self._totals[fleet] = total

    def _group(self, region: str, fleet: Mapping[str, Any]) -> Group:
        name = str(fleet["FleetId"])
        if fleet["Type"] != "maintain":
            raise Refused(f"{name} is a fleet of type {fleet['Type']}; accepted: maintain")
        weights = {
            float(override.get("WeightedCapacity", 1.0))
            for config in fleet.get("LaunchTemplateConfigs", [])
            for override in config.get("Overrides", [])
        }
        if weights - {1.0}:
            raise Refused(f"{name} has overrides with a WeightedCapacity; accepted: instances as units")
        targets = fleet["TargetCapacitySpecification"]
        total, on_demand = int(targets["TotalTargetCapacity"]), int(targets.get("OnDemandTargetCapacity", 0))
        if targets.get("DefaultTargetCapacityType") == "on-demand":
            on_demand = total - int(targets.get("SpotTargetCapacity", 0))
        self._totals[name] = total
        members = self._members(region, name)
        return Group(
            name=name,
            desired=total,
            smallest=0,
            largest=MOST_UNITS,
            base=on_demand,
            percentage=0,
            mixed=True,
            members=members,
            in_service=frozenset(one.id for one in members if one.state == "running"),
            fleet=True,
            shrinks=fleet.get("ExcessCapacityTerminationPolicy", "termination") == "termination",
        )

    def _members(self, region: str, fleet: str) -> tuple[Instance, ...]:
        client = self._clients("ec2", region)
        ids: list[str] = []
        more: dict[str, str] = {}
        while True:
            reply = self._call(client.describe_fleet_instances, FleetId=fleet, **more)
            ids += [one["InstanceId"] for one in reply.get("ActiveInstances", [])]
            if not reply.get("NextToken"):
                break
            more = {"NextToken": reply["NextToken"]}
        found = []
        for k in range(0, len(ids), 200):
            filters = [{"Name": "instance-id", "Values": sorted(ids[k : k + 200])}]
            reply = self._call(client.describe_instances, Filters=filters)
            found += [
                instance_of(one) for reservation in reply["Reservations"] for one in reservation["Instances"]
            ]
        return tuple(one for one in found if one.state in ("pending", "running"))
