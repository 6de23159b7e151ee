"""Auto Scaling groups with a mixed instances policy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from optimizer.controller.providers.aws.calls import Caller
from optimizer.controller.providers.aws.capacity import instance_of
from optimizer.controller.providers.aws.clients import Clients
from optimizer.controller.providers.aws.maintained import FLEET_ID, MaintainedFleets
from optimizer.controller.providers.protocol import Group, Instance, Refused

GONE = ("Terminating", "Terminating:Wait", "Terminating:Proceed", "Terminated", "Detaching", "Detached")


class AutoScaling:
    """Groups of every region; what a member costs is read from EC2, which Auto Scaling does not tell.

    A name that is the id of a fleet (`fleet-...`) is one of type maintain.
    """

    def __init__(self, clients: Clients, call: Caller) -> None:
        """Ask with these clients."""
        self._clients, self._call = clients, call
        self._fleets = MaintainedFleets(clients, call)

    def describe(self, region: str, names: Sequence[str]) -> Mapping[str, Group]:
        """The groups by name; one that does not exist is absent."""
        client = self._clients("autoscaling", region)
        found = self._fleets.describe(region, [name for name in names if FLEET_ID.fullmatch(name)])
        names = [name for name in names if not FLEET_ID.fullmatch(name)]
        for k in range(0, len(names), 50):
            reply = self._call(
                client.describe_auto_scaling_groups,
                AutoScalingGroupNames=list(names[k : k + 50]),
                MaxRecords=100,
            )
            for one in reply["AutoScalingGroups"]:
                found[one["AutoScalingGroupName"]] = _group(one, self._members(region, one))
        return found

    def _members(self, region: str, group: Mapping[str, Any]) -> tuple[tuple[Instance, bool], ...]:
        service = {
            one["InstanceId"]: one["LifecycleState"] == "InService"
            for one in group.get("Instances", [])
            if one["LifecycleState"] not in GONE
        }
        if not service:
            return ()
        client = self._clients("ec2", region)
        reply = self._call(
            client.describe_instances,
            Filters=[{"Name": "instance-id", "Values": sorted(service)}],
        )
        found = []
        for reservation in reply["Reservations"]:
            for one in reservation["Instances"]:
                instance = instance_of(one)
                up = instance.state in ("pending", "running")
                found.append((instance, up and service[instance.id]))
        return tuple(found)

    def shape(self, region: str, name: str, desired: int | None, base: int, percentage: int) -> None:
        """Set the mix and, unless it is None, the desired capacity; saying it twice changes nothing.

        Of a fleet, `base` is the on-demand target and the rest is spot.
        """
        if FLEET_ID.fullmatch(name):
            self._fleets.shape(region, name, desired, base)
            return
        client = self._clients("autoscaling", region)
        self._call(
            client.update_auto_scaling_group,
            AutoScalingGroupName=name,
            **({} if desired is None else {"DesiredCapacity": desired}),
            MixedInstancesPolicy={
                "InstancesDistribution": {
                    "OnDemandBaseCapacity": base,
                    "OnDemandPercentageAboveBaseCapacity": percentage,
                }
            },
        )

    def remove(self, region: str, instance: str) -> None:
        """End one member and lower the desired capacity; one that is no member was removed before."""
        client = self._clients("autoscaling", region)
        try:
            self._call(
                client.terminate_instance_in_auto_scaling_group,
                InstanceId=instance,
                ShouldDecrementDesiredCapacity=True,
            )
        except Refused as error:
            if "not found" not in str(error).lower():
                raise


def _group(one: Mapping[str, Any], members: tuple[tuple[Instance, bool], ...]) -> Group:
    mixed = one.get("MixedInstancesPolicy") or {}
    distribution = mixed.get("InstancesDistribution", {})
    return Group(
        name=one["AutoScalingGroupName"],
        desired=one["DesiredCapacity"],
        smallest=one["MinSize"],
        largest=one["MaxSize"],
        base=distribution.get("OnDemandBaseCapacity", 0),
        percentage=distribution.get("OnDemandPercentageAboveBaseCapacity", 100),
        mixed=bool(mixed),
        members=tuple(instance for instance, _ in members),
        in_service=frozenset(instance.id for instance, up in members if up),
    )
