"""Auto Scaling groups: what users change."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from optimizer.fake_aws.api.call import Action, Reply, Request
from optimizer.fake_aws.api.group_settings import changed_settings, new_settings, rejected
from optimizer.fake_aws.api.instances import find_instances
from optimizer.fake_aws.cloud.groups import Group, member
from optimizer.fake_aws.cloud.instances import Instance
from optimizer.fake_aws.errors import AwsError

PROCESSES = (
    "Launch",
    "Terminate",
    "AddToLoadBalancer",
    "AlarmNotification",
    "AZRebalance",
    "HealthCheck",
    "InstanceRefresh",
    "ReplaceUnhealthy",
    "ScheduledActions",
)


def find_group(request: Request, name: str) -> Group:
    """A group by name.

    Raises:
        AwsError: There is none.
    """
    group = request.region.groups.get(name)
    if group is None:
        raise rejected(f"AutoScalingGroup name not found - AutoScalingGroup {name[:100]} not found")
    found: Group = group
    return found


def create_auto_scaling_group(request: Request) -> Reply:
    """Make a group and start to fill it."""
    parameters = request.parameters
    name = parameters["AutoScalingGroupName"]
    if name in request.region.groups:
        raise AwsError(
            "AlreadyExists",
            f"AutoScalingGroup by this name already exists - A group with the name {name} already exists",
        )
    group = Group(request.cloud, request.region.name, name, new_settings(request))
    _set_tags(group, parameters.get("Tags", []))
    request.region.groups[name] = group
    group.reconcile()
    return {}


def update_auto_scaling_group(request: Request) -> Reply:
    """Change settings; a changed mix waits for future launches."""
    group = find_group(request, request.parameters["AutoScalingGroupName"])
    group.change(changed_settings(request, group.settings))
    return {}


def set_desired_capacity(request: Request) -> Reply:
    """Change the desired capacity within the group's bounds."""
    group = find_group(request, request.parameters["AutoScalingGroupName"])
    desired, settings = request.parameters["DesiredCapacity"], group.settings
    if desired > settings.most:
        raise rejected(
            f"New SetDesiredCapacity value {desired} is above max value {settings.most} for the "
            "AutoScalingGroup."
        )
    if desired < settings.least:
        raise rejected(
            f"New SetDesiredCapacity value {desired} is below min value {settings.least} for the "
            "AutoScalingGroup."
        )
    group.change(replace(settings, desired=desired))
    return {}


def delete_auto_scaling_group(request: Request) -> Reply:
    """Delete a group; one with instances only by force, and with them."""
    group = find_group(request, request.parameters["AutoScalingGroupName"])
    if group.members and not request.parameters.get("ForceDelete"):
        raise AwsError(
            "ResourceInUse",
            "You cannot delete an AutoScalingGroup while there are instances still in the group.",
        )
    group.deleted = True
    for instance in list(group.members.values()):
        group.terminate(instance, "the group was deleted")
    del request.region.groups[group.name]
    request.cloud.owners.pop(group.key, None)
    return {}


def terminate_instance(request: Request) -> Reply:
    """End one instance; it is replaced unless the desired capacity is lowered with it."""
    group, instance = _owned(request, request.parameters["InstanceId"])
    decrement = request.parameters["ShouldDecrementDesiredCapacity"]
    settings = group.settings
    lower = settings.desired - round(instance.weight)
    if decrement and lower < settings.least:
        raise rejected(
            "Currently, desiredSize equals minSize. Terminating instance without replacement will violate "
            "group's min size constraint. Either set shouldDecrementDesiredCapacity flag to false or lower "
            "group's min size."
        )
    group.terminate(instance, "instance was taken out of service in response to a user request")
    activity = _activity_of(group)
    if decrement:
        group.change(replace(settings, desired=lower))
    else:
        group.heal_later()
    return {"Activity": activity}


def _activity_of(group: Group) -> dict[str, Any]:
    last = group.activities[-1]
    return {
        "ActivityId": last.id,
        "AutoScalingGroupName": group.name,
        "Description": last.description,
        "Cause": last.cause,
        "StartTime": last.at,
        "StatusCode": "InProgress",
        "Progress": 0,
        "Details": last.details,
    }


def _owned(request: Request, name: str) -> tuple[Group, Instance]:
    try:
        (instance,) = find_instances(request, [name], request.cloud.now)
    except AwsError:
        raise rejected(
            f"Instance Id not found - No managed instance found for instance ID {name[:50]}"
        ) from None
    for group in request.region.groups.values():
        if name in group.members:
            return group, instance
    raise rejected(f"Instance Id not found - No managed instance found for instance ID {name}")


def attach_instances(request: Request) -> Reply:
    """Take running instances into a group; its desired capacity rises by them."""
    group = find_group(request, request.parameters["AutoScalingGroupName"])
    instances = find_instances(request, request.parameters.get("InstanceIds", []), request.cloud.now)
    desired = group.settings.desired + len(instances)
    if desired > group.settings.most:
        raise rejected(f"Desired capacity {desired} would exceed the max size {group.settings.most}.")
    for instance in instances:
        if not instance.held or instance.owner:
            raise rejected(f"Instance {instance.id} is not running, or already part of a group or fleet.")
    for instance in instances:
        group.attach(instance)
    group.change(replace(group.settings, desired=desired))
    return {}


def detach_instances(request: Request) -> Reply:
    """Let instances go on without the group, which replaces them unless its desired capacity is lowered."""
    group = find_group(request, request.parameters["AutoScalingGroupName"])
    instances = find_instances(request, request.parameters.get("InstanceIds", []), request.cloud.now)
    decrement = request.parameters["ShouldDecrementDesiredCapacity"]
    for instance in instances:
        member(group, instance)
    desired = group.settings.desired - (len(instances) if decrement else 0)
    if desired < group.settings.least:
        raise rejected(f"Desired capacity {desired} would fall below the min size {group.settings.least}.")
    for instance in instances:
        group.detach(instance)
    group.change(replace(group.settings, desired=desired))
    return {"Activities": []}


def set_instance_protection(request: Request) -> Reply:
    """Protect instances from scale-in, or no longer."""
    group = find_group(request, request.parameters["AutoScalingGroupName"])
    instances = find_instances(request, request.parameters["InstanceIds"], request.cloud.now)
    for instance in instances:
        member(group, instance)
    for instance in instances:
        instance.protected = request.parameters["ProtectedFromScaleIn"]
    return {}


def set_instance_health(request: Request) -> Reply:
    """An unhealthy instance is terminated and replaced."""
    group, instance = _owned(request, request.parameters["InstanceId"])
    if request.parameters["HealthStatus"].lower() == "unhealthy":
        group.terminate(instance, "an instance was taken out of service in response to a health-check")
        group.heal_later()
    return {}


def suspend_processes(request: Request) -> Reply:
    """Stop launching, terminating or others."""
    group, processes = _processes(request)
    group.suspended |= processes
    return {}


def resume_processes(request: Request) -> Reply:
    """Start them again."""
    group, processes = _processes(request)
    group.suspended -= processes
    group.reconcile()
    return {}


def _processes(request: Request) -> tuple[Group, set[str]]:
    group = find_group(request, request.parameters["AutoScalingGroupName"])
    processes = set(request.parameters.get("ScalingProcesses") or PROCESSES)
    unknown = processes - set(PROCESSES)
    if unknown:
        raise rejected(
            f"{sorted(unknown)[0][:50]} is not a valid scaling process; accepted: {', '.join(PROCESSES)}"
        )
    return group, processes


def create_or_update_tags(request: Request) -> Reply:
    """Set tags of groups; running instances keep theirs."""
    for tag in request.parameters["Tags"]:
        find_group(request, tag.get("ResourceId", ""))
    for tag in request.parameters["Tags"]:
        _set_tags(find_group(request, tag["ResourceId"]), [tag])
    return {}


def delete_tags(request: Request) -> Reply:
    """Remove tags of groups."""
    for tag in request.parameters["Tags"]:
        find_group(request, tag.get("ResourceId", "")).tags.pop(tag["Key"], None)
    return {}


def _set_tags(group: Group, tags: list[dict[str, Any]]) -> None:
    for tag in tags:
        group.tags[tag["Key"]] = (tag.get("Value", ""), bool(tag.get("PropagateAtLaunch", False)))


ACTIONS = {
    "CreateAutoScalingGroup": Action(create_auto_scaling_group, mutating=True),
    "UpdateAutoScalingGroup": Action(update_auto_scaling_group, mutating=True),
    "SetDesiredCapacity": Action(set_desired_capacity, mutating=True),
    "DeleteAutoScalingGroup": Action(delete_auto_scaling_group, mutating=True),
    "TerminateInstanceInAutoScalingGroup": Action(terminate_instance, mutating=True),
    "AttachInstances": Action(attach_instances, mutating=True),
    "DetachInstances": Action(detach_instances, mutating=True),
    "SetInstanceProtection": Action(set_instance_protection, mutating=True),
    "SetInstanceHealth": Action(set_instance_health, mutating=True),
    "SuspendProcesses": Action(suspend_processes, mutating=True),
    "ResumeProcesses": Action(resume_processes, mutating=True),
    "CreateOrUpdateTags": Action(create_or_update_tags, mutating=True),
    "DeleteTags": Action(delete_tags, mutating=True),
}
