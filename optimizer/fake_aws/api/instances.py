"""EC2 instances: run, describe, terminate, tag."""

from __future__ import annotations

import re
from typing import Any

from optimizer.fake_aws.api.call import Action, Reply, Request, once, page, passes, tag_list, tags_for
from optimizer.fake_aws.api.templates import merged_template
from optimizer.fake_aws.clock import moment
from optimizer.fake_aws.cloud.cloud import USER_ENDED
from optimizer.fake_aws.cloud.instances import Instance
from optimizer.fake_aws.cloud.interruptions import SPOT_TAKEN
from optimizer.fake_aws.cloud.pools import subnet_of
from optimizer.fake_aws.errors import AwsError, invalid, missing

MOST_INSTANCES = 10_000
_ID = re.compile(r"i-[0-9a-f]{17}")


def run_instances(request: Request) -> Reply:
    """Launch between MinCount and MaxCount instances of one type, in one zone."""
    parameters = merged_template(request, request.parameters)
    least, most = parameters["MinCount"], parameters["MaxCount"]
    if not 1 <= least <= most <= MOST_INSTANCES:
        raise invalid(
            f"MinCount {least}, MaxCount {most}; accepted: 1 <= MinCount <= MaxCount <= {MOST_INSTANCES}"
        )
    instance_type = parameters.get("InstanceType")
    if not instance_type:
        raise missing("InstanceType")
    if not parameters.get("ImageId"):
        raise missing("ImageId")
    lifecycle, max_price = _market(parameters.get("InstanceMarketOptions"))
    pools = _places(request, parameters, instance_type)

    def act() -> Reply:
        cloud = request.cloud
        if lifecycle == "spot":
            pool = max(pools, key=lambda pool: (cloud.free(pool), -pool))
        else:
            pool = min(pools, key=lambda pool: (cloud.pools.price(pool, lifecycle, cloud.tick), pool))
        count = min(most, cloud.room(pool, lifecycle))
        cloud.check_launch(pool, lifecycle, max_price, max(count, least))
        if request.limits is not None:
            request.limits.check_resources(request.region.name, request.action, count, cloud.now)
        reservation = cloud.identifier("r")
        details = {
            "ImageId": parameters["ImageId"],
            "ReservationId": reservation,
            "ClientToken": request.parameters.get("ClientToken"),
            "KeyName": parameters.get("KeyName"),
        }
        launched = [
            cloud.launch(
                pool,
                lifecycle,
                max_price=max_price,
                tags=tags_for(parameters, "instance"),
                details={**details, "AmiLaunchIndex": index},
            )
            for index in range(count)
        ]
        return _reservation(request, reservation, launched, cloud.now, fresh=True)

    request.stop_dry_run()
    return once(request, act)


def _market(options: dict[str, Any] | None) -> tuple[str, float | None]:
    if not options or options.get("MarketType") != "spot":
        return "on-demand", None
    spot = options.get("SpotOptions", {})
    if spot.get("SpotInstanceType", "one-time") != "one-time":
        raise AwsError("Unsupported", "The fake runs one-time spot requests only")
    if spot.get("InstanceInterruptionBehavior", "terminate") != "terminate":
        raise AwsError(
            "Unsupported", "The fake terminates interrupted instances; it cannot stop or hibernate"
        )
    return "spot", price_of(spot.get("MaxPrice"))


def price_of(text: str | None) -> float | None:
    """A highest price as a number; None if there is none.

    Raises:
        AwsError: It is no positive number.
    """
    if text is None:
        return None
    if not re.fullmatch(r"\d{1,9}(\.\d{1,12})?", text) or float(text) == 0:
        raise invalid(
            f"Value ({text[:50]}) for a price is invalid. Accepted: a positive number of USD per hour"
        )
    return float(text)


def _places(request: Request, parameters: dict[str, Any], instance_type: str) -> list[int]:
    """Pools in which a launch may end: those of the type, in the zone or subnet if one is given."""
    zone = parameters.get("Placement", {}).get("AvailabilityZone")
    subnet = parameters.get("SubnetId") or next(
        (n["SubnetId"] for n in parameters.get("NetworkInterfaces", []) if n.get("SubnetId")), None
    )
    if subnet:
        zone = zone_of_subnet(request, subnet)
    if zone and zone not in request.region.zones:
        raise invalid(f"Invalid availability zone: [{zone[:100]}]")
    pools = request.cloud.pools
    offered = [
        pool
        for pool in pools.in_region(request.region.name)
        if pools.pools[pool].instance_type == instance_type
    ]
    if not offered:
        raise invalid(f"Invalid value '{instance_type[:100]}' for InstanceType.")
    there = [pool for pool in offered if zone in (None, pools.pools[pool].zone)]
    if not there:
        raise AwsError(
            "Unsupported",
            f"Your requested instance type ({instance_type}) is not supported in your requested "
            f"Availability Zone ({zone}).",
        )
    return there


def zone_of_subnet(request: Request, subnet: str) -> str:
    """The zone of a subnet.

    Raises:
        AwsError: `InvalidSubnetID.NotFound`.
    """
    for zone in request.region.zones:
        if subnet_of(zone) == subnet:
            return zone
    raise AwsError("InvalidSubnetID.NotFound", f"The subnet ID '{subnet[:100]}' does not exist")


def describe_instances(request: Request) -> Reply:
    """Reservations with the instances that pass the filters, as they were a moment ago."""
    parameters, at = request.parameters, request.seen_ms
    ids = parameters.get("InstanceIds", [])
    if ids and parameters.get("MaxResults"):
        raise AwsError(
            "InvalidParameterCombination",
            "The parameter instancesSet cannot be used with the parameter maxResults",
        )
    wanted = find_instances(request, ids, at) if ids else _visible(request, at)
    found = [i for i in wanted if passes(parameters.get("Filters", []), filter_values(i, at), i.tags)]
    shown, token = page(found, lambda instance: instance.number, request)
    reservations: dict[str, list[Instance]] = {}
    for instance in shown:
        reservations.setdefault(instance.details.get("ReservationId", instance.id), []).append(instance)
    return {
        "Reservations": [
            _reservation(request, name, instances, at) for name, instances in reservations.items()
        ],
        "NextToken": token,
    }


def _visible(request: Request, at: int) -> list[Instance]:
    return [instance for instance in request.region.instances.values() if instance.visible(at)]


def find_instances(request: Request, ids: list[str], at: int) -> list[Instance]:
    """Instances by id.

    Raises:
        AwsError: `InvalidInstanceID.Malformed` or `InvalidInstanceID.NotFound`.
    """
    found, unknown = [], []
    for name in ids:
        if not _ID.fullmatch(name):
            raise AwsError("InvalidInstanceID.Malformed", f'Invalid id: "{name[:100]}"')
        instance = request.region.instances.get(name)
        if instance is None or not instance.visible(at):
            unknown.append(name)
        else:
            found.append(instance)
    if unknown:
        one = len(unknown) == 1
        named = f"'{', '.join(unknown[:20])}'"
        raise AwsError(
            "InvalidInstanceID.NotFound",
            f"The instance ID {named} does not exist" if one else f"The instance IDs {named} do not exist",
        )
    return found


def filter_values(instance: Instance, at: int) -> dict[str, str | None]:
    """What the filters of describe calls compare."""
    return {
        "instance-id": instance.id,
        "instance-type": instance.instance_type,
        "availability-zone": instance.zone,
        "subnet-id": subnet_of(instance.zone),
        "image-id": instance.details.get("ImageId"),
        "instance-lifecycle": "spot" if instance.lifecycle == "spot" else None,
        "instance-state-name": instance.state(at)[1],
        "instance-state-code": str(instance.state(at)[0]),
        "client-token": instance.details.get("ClientToken"),
        "reservation-id": instance.details.get("ReservationId"),
        "spot-instance-request-id": instance.details.get("SpotInstanceRequestId"),
    }


def _reservation(
    request: Request, name: str, instances: list[Instance], at: int, *, fresh: bool = False
) -> dict[str, Any]:
    return {
        "ReservationId": name,
        "OwnerId": request.cloud.options.account,
        "Groups": [],
        "Instances": [_shown(instance, at, fresh=fresh) for instance in instances],
    }


def _shown(instance: Instance, at: int, *, fresh: bool) -> dict[str, Any]:
    code, state = (0, "pending") if fresh else instance.state(at)
    spot = instance.lifecycle == "spot"
    shown = {
        "InstanceId": instance.id,
        "ImageId": instance.details.get("ImageId"),
        "State": {"Code": code, "Name": state},
        "InstanceType": instance.instance_type,
        "LaunchTime": moment(instance.launched_ms),
        "Placement": {"AvailabilityZone": instance.zone, "GroupName": "", "Tenancy": "default"},
        "SubnetId": subnet_of(instance.zone),
        "VpcId": "vpc-00000000000000001",
        "Architecture": "x86_64",
        "AmiLaunchIndex": instance.details.get("AmiLaunchIndex", 0),
        "ClientToken": instance.details.get("ClientToken"),
        "KeyName": instance.details.get("KeyName"),
        "InstanceLifecycle": "spot" if spot else None,
        "SpotInstanceRequestId": instance.details.get("SpotInstanceRequestId") if spot else None,
        "Tags": tag_list(instance.tags) or None,  # as on AWS: no member without tags
    }
    if state in ("shutting-down", "terminated"):
        reason_code, message, transition = instance.reason
        ended = moment(instance.ended_ms or 0).strftime("%Y-%m-%d %H:%M:%S GMT")
        shown["StateReason"] = {"Code": reason_code, "Message": message}
        shown["StateTransitionReason"] = f"{transition} ({ended})"
    return shown


def terminate_instances(request: Request) -> Reply:
    """End instances; none is touched if one of them does not exist."""
    now = request.cloud.now
    instances = find_instances(request, request.parameters["InstanceIds"], now)
    request.stop_dry_run()
    if request.limits is not None:
        request.limits.check_resources(request.region.name, request.action, len(instances), now)
    changes = []
    for instance in instances:
        before = instance.state(now)
        request.cloud.end(instance, USER_ENDED)
        after = instance.state(now) if before[0] >= 32 else (32, "shutting-down")
        changes.append(
            {
                "InstanceId": instance.id,
                "PreviousState": {"Code": before[0], "Name": before[1]},
                "CurrentState": {"Code": after[0], "Name": after[1]},
            }
        )
    return {"TerminatingInstances": changes}


def describe_instance_status(request: Request) -> Reply:
    """States and checks; running instances only, unless all are asked for."""
    parameters, at = request.parameters, request.seen_ms
    ids = parameters.get("InstanceIds", [])
    wanted = find_instances(request, ids, at) if ids else _visible(request, at)
    if not parameters.get("IncludeAllInstances"):
        wanted = [instance for instance in wanted if instance.state(at)[1] == "running"]
    found = [i for i in wanted if passes(parameters.get("Filters", []), filter_values(i, at))]
    shown, token = page(found, lambda instance: instance.number, request)
    statuses = []
    for instance in shown:
        code, state = instance.state(at)
        check = {"running": "ok", "pending": "initializing"}.get(state, "not-applicable")
        statuses.append(
            {
                "InstanceId": instance.id,
                "AvailabilityZone": instance.zone,
                "InstanceState": {"Code": code, "Name": state},
                "InstanceStatus": {"Status": check},
                "SystemStatus": {"Status": check},
            }
        )
    return {"InstanceStatuses": statuses, "NextToken": token}


def describe_spot_instance_requests(request: Request) -> Reply:
    """One request per spot instance, with the status that says why it ended."""
    at, parameters = request.seen_ms, request.parameters
    wanted = parameters.get("SpotInstanceRequestIds", [])
    spot = [instance for instance in _visible(request, at) if instance.lifecycle == "spot"]
    found = [
        instance
        for instance in spot
        if (not wanted or instance.details["SpotInstanceRequestId"] in wanted)
        and passes(parameters.get("Filters", []), filter_values(instance, at), instance.tags)
    ]
    shown, token = page(found, lambda instance: instance.number, request)
    return {"SpotInstanceRequests": [_spot_request(i, at) for i in shown], "NextToken": token}


def _spot_request(instance: Instance, at: int) -> dict[str, Any]:
    over = instance.state(at)[0] >= 32
    if over:
        taken = instance.reason[0] == SPOT_TAKEN[0]
        status = "instance-terminated-no-capacity" if taken else "instance-terminated-by-user"
    else:
        status = "marked-for-termination" if instance.taken_ms is not None else "fulfilled"
    return {
        "SpotInstanceRequestId": instance.details["SpotInstanceRequestId"],
        "InstanceId": instance.id,
        "State": "closed" if over else "active",
        "Status": {
            "Code": status,
            "Message": status,
            "UpdateTime": moment(instance.ended_ms or instance.launched_ms),
        },
        "Type": "one-time",
        "CreateTime": moment(instance.launched_ms),
        "LaunchedAvailabilityZone": instance.zone,
        "InstanceInterruptionBehavior": "terminate",
        "SpotPrice": None if instance.max_price is None else f"{instance.max_price:.6f}",
    }


ACTIONS = {
    "RunInstances": Action(run_instances, mutating=True),
    "DescribeInstances": Action(describe_instances),
    "TerminateInstances": Action(terminate_instances, mutating=True),
    "DescribeInstanceStatus": Action(describe_instance_status),
    "DescribeSpotInstanceRequests": Action(describe_spot_instance_requests),
}
