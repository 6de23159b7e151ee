"""Auto Scaling groups: what describe calls show."""

from __future__ import annotations

from typing import Any

from optimizer.fake_aws.api.call import Action, Reply, Request, page, passes
from optimizer.fake_aws.api.group_settings import rejected
from optimizer.fake_aws.cloud.groups import Group, Settings
from optimizer.fake_aws.cloud.instances import Instance
from optimizer.fake_aws.cloud.interruptions import SPOT_TAKEN
from optimizer.fake_aws.cloud.pools import subnet_of


def describe_auto_scaling_groups(request: Request) -> Reply:
    """Groups by name, or all; names that do not exist are left out."""
    names = request.parameters.get("AutoScalingGroupNames", [])
    groups: list[Group] = list(request.region.groups.values())
    if names:
        groups = [
            request.region.groups[name] for name in dict.fromkeys(names) if name in request.region.groups
        ]
    filters, at = request.parameters.get("Filters", []), request.seen_ms
    found = []
    for group in groups:
        tags = {key: value for key, (value, _) in group.tags.items()}
        values = {"auto-scaling-group-name": group.name}
        if passes(filters, values, tags):
            settings = group.seen(at)
            if settings is not None:
                found.append((group, settings))
    shown, token = page(
        found, lambda pair: pair[0].name, request, most=100, default=50, size_name="MaxRecords"
    )
    return {"AutoScalingGroups": [_group(request, *pair) for pair in shown], "NextToken": token}


def _group(request: Request, group: Group, settings: Settings) -> dict[str, Any]:
    account, region = request.cloud.options.account, request.region.name
    return {
        "AutoScalingGroupName": group.name,
        "AutoScalingGroupARN": f"arn:aws:autoscaling:{region}:{account}:autoScalingGroup:{group.name}",
        "MinSize": settings.least,
        "MaxSize": settings.most,
        "DesiredCapacity": settings.desired,
        "DefaultCooldown": settings.shown.get("DefaultCooldown", 300),
        "AvailabilityZones": list(settings.zones),
        "VPCZoneIdentifier": ",".join(subnet_of(zone) for zone in settings.zones),
        "HealthCheckType": settings.shown.get("HealthCheckType", "EC2"),
        "HealthCheckGracePeriod": settings.shown.get("HealthCheckGracePeriod", 0),
        "CreatedTime": group.created,
        "LaunchTemplate": settings.shown.get("LaunchTemplate"),
        "MixedInstancesPolicy": settings.shown.get("MixedInstancesPolicy"),
        "Instances": [_instance(request, i) for i in group.seen_members(request.seen_ms)],
        "SuspendedProcesses": [
            {"ProcessName": name, "SuspensionReason": "User suspended"} for name in sorted(group.suspended)
        ],
        "Tags": [_tag(group, key) for key in group.tags],
        "TerminationPolicies": list(settings.policies),
        "NewInstancesProtectedFromScaleIn": settings.protect_new,
        "CapacityRebalance": settings.capacity_rebalance,
    }


def _tag(group: Group, key: str) -> dict[str, Any]:
    value, propagate = group.tags[key]
    return {
        "ResourceId": group.name,
        "ResourceType": "auto-scaling-group",
        "Key": key,
        "Value": value,
        "PropagateAtLaunch": propagate,
    }


def _instance(request: Request, instance: Instance) -> dict[str, Any]:
    state = instance.state(request.seen_ms)[1]
    taken = state not in ("pending", "running") and instance.reason == SPOT_TAKEN
    life = {"pending": "Pending", "running": "InService"}.get(state, "Terminating")
    return {
        "InstanceId": instance.id,
        "InstanceType": instance.instance_type,
        "AvailabilityZone": instance.zone,
        "LifecycleState": life,
        "HealthStatus": "Unhealthy" if taken else "Healthy",
        "ProtectedFromScaleIn": instance.protected,
        "LaunchTemplate": instance.details.get("Template"),
        "WeightedCapacity": f"{instance.weight:g}",
    }


def describe_auto_scaling_instances(request: Request) -> Reply:
    """Instances of all groups."""
    wanted = request.parameters.get("InstanceIds", [])
    rows = [
        (group, instance)
        for group in request.region.groups.values()
        for instance in group.seen_members(request.seen_ms)
        if not wanted or instance.id in wanted
    ]
    shown, token = page(rows, lambda row: row[1].number, request, most=50, size_name="MaxRecords")
    return {
        "AutoScalingInstances": [
            {
                **{k: v for k, v in _instance(request, instance).items() if k != "HealthStatus"},
                "AutoScalingGroupName": group.name,
                "HealthStatus": "HEALTHY",
            }
            for group, instance in shown
        ],
        "NextToken": token,
    }


def describe_scaling_activities(request: Request) -> Reply:
    """What a group did, newest first; failed launches say which pool had no capacity."""
    name, ids = request.parameters.get("AutoScalingGroupName"), request.parameters.get("ActivityIds", [])
    if name is not None and name not in request.region.groups:
        raise rejected(f"AutoScalingGroup name not found - no such group: {name[:100]}")
    rows = []
    for group in request.region.groups.values():
        if name in (None, group.name):
            rows += [(group, a) for a in group.activities if not ids or a.id in ids]
    ordered = sorted(rows, key=lambda row: row[1].at, reverse=True)
    numbered = list(enumerate(ordered))
    shown, token = page(numbered, lambda row: row[0], request, most=100, size_name="MaxRecords")
    return {
        "Activities": [
            {
                "ActivityId": activity.id,
                "AutoScalingGroupName": group.name,
                "Description": activity.description,
                "Cause": activity.cause,
                "StartTime": activity.at,
                "EndTime": activity.at,
                "StatusCode": "Failed" if activity.failure else "Successful",
                "StatusMessage": activity.failure or None,
                "Progress": 100,
                "Details": activity.details,
            }
            for _, (group, activity) in shown
        ],
        "NextToken": token,
    }


def describe_tags(request: Request) -> Reply:
    """Tags of groups."""
    rows = []
    for group in request.region.groups.values():
        for key, (value, propagate) in group.tags.items():
            values = {
                "auto-scaling-group": group.name,
                "key": key,
                "value": value,
                "propagate-at-launch": str(propagate).lower(),
            }
            if passes(request.parameters.get("Filters", []), values):
                rows.append((group, key))
    shown, token = page(rows, lambda row: f"{row[0].name}\n{row[1]}", request, size_name="MaxRecords")
    return {"Tags": [_tag(group, key) for group, key in shown], "NextToken": token}


ACTIONS = {
    "DescribeAutoScalingGroups": Action(describe_auto_scaling_groups),
    "DescribeAutoScalingInstances": Action(describe_auto_scaling_instances),
    "DescribeScalingActivities": Action(describe_scaling_activities),
    "DescribeTags": Action(describe_tags),
}
