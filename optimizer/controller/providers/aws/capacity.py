"""Instances on EC2: RunInstances with a client token, tags that say whose they are."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from optimizer.controller.config import AwsSettings, LaunchSettings
from optimizer.controller.providers.aws.calls import WITHOUT_CAPACITY, Caller, ask_regions
from optimizer.controller.providers.aws.clients import Clients
from optimizer.controller.providers.protocol import Instance, Launch, LaunchResult, NoCapacity, Refused
from optimizer.plan import PlanPool
from simulator.market.market import UNLIMITED_CAPACITY

TAG = "spotwise:controller"
WORKLOAD_TAG = "spotwise:workload"
TOKEN_TAG = "spotwise:token"  # noqa: S105 -- the name of a tag
LONGEST_MEMORY_SECONDS = 6 * 3600.0
STATES: Mapping[str, Any] = {
    "pending": "pending",
    "running": "running",
    "shutting-down": "leaving",
    "stopping": "leaving",
    "stopped": "gone",
    "terminated": "gone",
}
_WHEN = re.compile(r"\((\d{4}-\d\d-\d\d \d\d:\d\d:\d\d) (?:GMT|UTC)\)")


class Ec2Capacity:
    """Capacity of EC2 in every region of the plan.

    AWS tells no spot capacity: a pool is believed to have some until a launch found none, and then not for a
    while that doubles with each failure.
    """

    def __init__(
        self,
        name: str,
        settings: AwsSettings,
        regions: Sequence[str],
        clients: Clients,
        call: Caller,
        now: Callable[[], float],
    ) -> None:
        """Look after the instances that carry the controller's name."""
        self._name, self._settings, self._regions = name, settings, tuple(regions)
        self._clients, self._call, self._now = clients, call, now
        self._shut: dict[str, tuple[float, float]] = {}
        self._region_of: dict[str, str] = {}

    def instances(self) -> Sequence[Instance]:
        """Every instance with the tag, terminated ones for about an hour."""
        return ask_regions(self._regions, self._described)

    def _described(self, region: str) -> list[Instance]:
        client = self._clients("ec2", region)
        found: list[Instance] = []
        more: dict[str, str] = {}
        while True:
            reply = self._call(
                client.describe_instances,
                Filters=[{"Name": f"tag:{TAG}", "Values": [self._name]}],
                MaxResults=1000,
                **more,
            )
            for reservation in reply.get("Reservations", []):
                for one in reservation.get("Instances", []):
                    self._region_of[one["InstanceId"]] = region
                    found.append(instance_of(one))
            if not reply.get("NextToken"):
                return found
            more = {"NextToken": reply["NextToken"]}

    def offers(self, pools: Sequence[PlanPool]) -> Mapping[str, int]:
        """Unlimited, or 0 for a pool that had none a short while ago."""
        now = self._now()
        return {
            pool.name: 0 if self._shut.get(pool.name, (0.0, 0.0))[0] > now else UNLIMITED_CAPACITY
            for pool in pools
        }

    def launch(self, request: Launch) -> LaunchResult:
        """Launch from the launch template, with RunInstances or an instant fleet."""
        pool, launch = request.pool, self._template(request.workload)
        try:
            if launch.via == "fleet":
                ids = self._create_fleet(request, launch)
            else:
                ids = self._run_instances(request, launch)
        except NoCapacity:
            if request.option == "spot":
                self._remember_shut(pool.name)
            raise
        self._region_of.update(dict.fromkeys(ids, pool.region))
        if len(ids) < request.count:
            if request.option == "spot":
                self._remember_shut(pool.name)
            return LaunchResult(ids, "capacity")
        self._shut.pop(pool.name, None)
        return LaunchResult(ids)

    def _run_instances(self, request: Launch, launch: LaunchSettings) -> tuple[str, ...]:
        pool = request.pool
        parameters: dict[str, Any] = {
            "LaunchTemplate": _template_of(launch),
            "InstanceType": pool.instance_type,
            "MinCount": request.at_least,
            "MaxCount": request.count,
            "ClientToken": request.token,
            "Placement": {"AvailabilityZone": pool.zone},
            "TagSpecifications": self._tags(request),
        }
        if pool.zone in launch.subnets:
            parameters["SubnetId"] = launch.subnets[pool.zone]
        if request.option == "spot":
            parameters["InstanceMarketOptions"] = {
                "MarketType": "spot",
                "SpotOptions": {
                    "SpotInstanceType": "one-time",
                    "InstanceInterruptionBehavior": "terminate",
                },
            }
        reply = self._call(self._clients("ec2", pool.region).run_instances, **parameters)
        return tuple(one["InstanceId"] for one in reply["Instances"])

    def _create_fleet(self, request: Launch, launch: LaunchSettings) -> tuple[str, ...]:
        """An instant fleet of one pool; what it could not launch is told in the reply."""
        pool = request.pool
        place: dict[str, Any] = {"InstanceType": pool.instance_type}
        if pool.zone in launch.subnets:
            place["SubnetId"] = launch.subnets[pool.zone]
        else:
            place["AvailabilityZone"] = pool.zone
        reply = self._call(
            self._clients("ec2", pool.region).create_fleet,
            Type="instant",
            ClientToken=request.token,
            LaunchTemplateConfigs=[
                {"LaunchTemplateSpecification": _template_of(launch), "Overrides": [place]}
            ],
            TargetCapacitySpecification={
                "TotalTargetCapacity": request.count,
                "DefaultTargetCapacityType": request.option,
            },
            TagSpecifications=self._tags(request),
        )
        ids = tuple(one for group in reply.get("Instances", []) for one in group["InstanceIds"])
        if len(ids) < request.at_least:
            codes = sorted({str(error.get("ErrorCode")) for error in reply.get("Errors", [])})
            if ids:
                self._terminate(pool.region, list(ids))
            if codes and not WITHOUT_CAPACITY.intersection(codes):
                raise Refused(f"{pool.name}: {', '.join(codes)}")
            raise NoCapacity(f"{pool.name}: {', '.join(codes) or 'fewer than asked'}")
        return ids

    def _tags(self, request: Launch) -> list[dict[str, Any]]:
        tags = {TAG: self._name, WORKLOAD_TAG: request.workload, TOKEN_TAG: request.token}
        return [
            {
                "ResourceType": "instance",
                "Tags": [{"Key": key, "Value": value} for key, value in tags.items()],
            }
        ]

    def terminate(self, ids: Sequence[str]) -> None:
        """Terminate in each region; ids that are gone are left out."""
        by_region: dict[str, list[str]] = {}
        for one in ids:
            by_region.setdefault(self._region_of.get(one, self._regions[0]), []).append(one)
        for region, mine in by_region.items():
            self._terminate(region, mine)

    def _terminate(self, region: str, ids: list[str]) -> None:
        client = self._clients("ec2", region)
        left = ids
        while left:
            try:
                self._call(client.terminate_instances, InstanceIds=left)
            except Refused as error:
                # one unknown id fails the whole call; the message names it
                known = [one for one in left if one not in str(error)]
                if "InvalidInstanceID" not in str(error) or len(known) == len(left):
                    raise
                left = known
            else:
                return

    def _template(self, workload: str) -> LaunchSettings:
        found = self._settings.launch.get(workload) or self._settings.launch.get("default")
        if found is None:
            raise Refused(f"no launch settings for {workload} and no `default`")
        return found

    def _remember_shut(self, pool: str) -> None:
        now = self._now()
        _, last = self._shut.get(pool, (0.0, 0.0))
        memory = min(max(2.0 * last, self._settings.capacity_memory_seconds), LONGEST_MEMORY_SECONDS)
        self._shut[pool] = (now + memory, memory)


def _template_of(launch: LaunchSettings) -> dict[str, str]:
    """How the calls name a launch template."""
    key = "LaunchTemplateId" if launch.template.startswith("lt-") else "LaunchTemplateName"
    return {key: launch.template, "Version": launch.version}


def instance_of(one: Mapping[str, Any]) -> Instance:
    """An instance as `describe_instances` shows it."""
    tags = {tag["Key"]: tag["Value"] for tag in one.get("Tags", [])}
    ended = _WHEN.search(str(one.get("StateTransitionReason", "")))
    return Instance(
        id=one["InstanceId"],
        workload=tags.get(WORKLOAD_TAG, ""),
        pool=f"aws/{one.get('Placement', {}).get('AvailabilityZone', '')}/{one.get('InstanceType', '')}",
        option="spot" if one.get("InstanceLifecycle") == "spot" else "on-demand",
        state=STATES.get(one.get("State", {}).get("Name", ""), "running"),
        launched_at=one["LaunchTime"].timestamp(),
        token=tags.get(TOKEN_TAG, ""),
        ended_at=datetime.strptime(ended[1], "%Y-%m-%d %H:%M:%S").replace(tzinfo=UTC).timestamp()
        if ended
        else None,
    )
