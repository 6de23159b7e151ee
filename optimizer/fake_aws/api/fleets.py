"""EC2 fleets: create, modify, describe, delete."""

from __future__ import annotations

from typing import Any

from optimizer.fake_aws.api.call import Action, Reply, Request, once, page, tag_list, tags_for
from optimizer.fake_aws.api.instances import price_of, zone_of_subnet
from optimizer.fake_aws.api.templates import find_template
from optimizer.fake_aws.clock import moment
from optimizer.fake_aws.cloud.allocation import Offer
from optimizer.fake_aws.cloud.fleets import Fleet, Target
from optimizer.fake_aws.cloud.instances import Instance
from optimizer.fake_aws.errors import AwsError, invalid

MOST_UNITS = 10_000
_NOT_MODELLED = ("SingleInstanceType", "SingleAvailabilityZone", "MaxTotalPrice")


def create_fleet(request: Request) -> Reply:
    """Launch a fleet; an instant one says at once what it got and which pools had nothing."""
    parameters = request.parameters
    kind = parameters.get("Type", "maintain")
    spot, on_demand = parameters.get("SpotOptions", {}), parameters.get("OnDemandOptions", {})
    for option in _NOT_MODELLED:
        if spot.get(option) or on_demand.get(option):
            raise AwsError("Unsupported", f"The fake does not model {option}")
    rebalance = spot.get("MaintenanceStrategies", {}).get("CapacityRebalance", {})
    if rebalance and kind != "maintain":
        raise invalid("CapacityRebalance is for fleets of type maintain only")
    target = _target(parameters["TargetCapacitySpecification"])
    offers, unsupported = _offers(request, parameters["LaunchTemplateConfigs"])

    def act() -> Reply:
        fleet = Fleet(
            cloud=request.cloud,
            id=_fleet_id(request),
            region=request.region.name,
            kind=kind,
            target=target,
            offers=offers,
            unsupported=unsupported,
            spot_strategy=spot.get("AllocationStrategy", "lowest-price"),
            on_demand_strategy=on_demand.get("AllocationStrategy", "lowest-price"),
            cheapest_pools=spot.get("InstancePoolsToUseCount", 1),
            instance_tags=tags_for(parameters, "instance"),
            shrink=parameters.get("ExcessCapacityTerminationPolicy", "termination") == "termination",
            tags=tags_for(parameters, "fleet"),
            shown={
                "rebalance": rebalance.get("ReplacementStrategy") in ("launch", "launch-before-terminate"),
                "ClientToken": parameters.get("ClientToken"),
                "LaunchTemplateConfigs": parameters["LaunchTemplateConfigs"],
            },
        )
        fleet.reconcile()
        least = max(spot.get("MinTargetCapacity", 0), on_demand.get("MinTargetCapacity", 0))
        if kind == "instant" and fleet.units() < least:
            for instance in list(fleet.members.values()):
                fleet.terminate(instance)
            fleet.launched = []
        request.region.fleets[fleet.id] = fleet
        fleet.forget_when_over()
        reply: Reply = {"FleetId": fleet.id}
        if kind == "instant":
            reply |= {"Errors": _errors(fleet), "Instances": _launched(fleet)}
        return reply

    request.stop_dry_run()
    return once(request, act)


def _fleet_id(request: Request) -> str:
    return f"fleet-{request.cloud.uuid()}"


def _target(specification: dict[str, Any]) -> Target:
    total = specification["TotalTargetCapacity"]
    on_demand, spot = specification.get("OnDemandTargetCapacity"), specification.get("SpotTargetCapacity")
    default = specification.get("DefaultTargetCapacityType", "on-demand")
    on_demand_units, spot_units = on_demand or 0, spot or 0
    if (
        not 0 <= total <= MOST_UNITS
        or on_demand_units < 0
        or spot_units < 0
        or on_demand_units + spot_units > total
    ):
        raise invalid(
            f"TargetCapacitySpecification of {total} with {on_demand_units} on-demand and {spot_units} spot; "
            f"accepted: 0 to {MOST_UNITS}, parts that do not exceed the total"
        )
    rest = total - on_demand_units - spot_units
    if default == "spot":
        return Target(on_demand_units, spot_units + rest, default)
    return Target(on_demand_units + rest, spot_units, default)


def _offers(
    request: Request, configs: list[dict[str, Any]]
) -> tuple[list[Offer], list[tuple[Offer, AwsError]]]:
    offers: list[Offer] = []
    unsupported: list[tuple[Offer, AwsError]] = []
    for config in configs:
        template = find_template(request, config.get("LaunchTemplateSpecification", {}))
        version = config["LaunchTemplateSpecification"].get("Version")
        data = template.data(version)
        named = {
            "LaunchTemplateId": template.id,
            "LaunchTemplateName": template.name,
            "Version": str(template.version(version)),
        }
        for order, override in enumerate(config.get("Overrides") or [{}]):
            if override.get("InstanceRequirements"):
                raise AwsError("Unsupported", "The fake does not model InstanceRequirements")
            one, bad = _offers_of(request, data, named, override, order)
            offers += one
            unsupported += bad
    if not offers and not unsupported:
        raise AwsError("InvalidFleetConfiguration", "The configuration names no instance type")
    return offers, unsupported


def _offers_of(
    request: Request, data: dict[str, Any], named: dict[str, Any], override: dict[str, Any], order: int
) -> tuple[list[Offer], list[tuple[Offer, AwsError]]]:
    instance_type = override.get("InstanceType") or data.get("InstanceType")
    if not instance_type:
        raise AwsError(
            "InvalidFleetConfiguration", "An override names no instance type, nor does its template"
        )
    zones = [override["AvailabilityZone"]] if override.get("AvailabilityZone") else []
    if override.get("SubnetId"):
        zones = [zone_of_subnet(request, subnet.strip()) for subnet in override["SubnetId"].split(",")]
    pools = request.cloud.pools
    wanted = zones or [z for z in request.region.zones if pools.find(z, instance_type) is not None]
    weight = override.get("WeightedCapacity", 1.0)
    if weight <= 0:
        raise invalid(f"WeightedCapacity {weight}; accepted: above 0")
    found, bad = [], []
    for zone in wanted or ["any"]:
        pool = pools.find(zone, instance_type) if zone in request.region.zones else None
        place = {"InstanceType": instance_type, "AvailabilityZone": zone, **override}
        offer = Offer(
            -1 if pool is None else pool,
            zone,
            weight,
            override.get("Priority", order),
            price_of(override.get("MaxPrice")),
            {
                "ImageId": override.get("ImageId") or data.get("ImageId"),
                "tags": tags_for(data, "instance"),
                "FleetType": instance_type,
            },
            {"LaunchTemplateSpecification": named, "Overrides": place},
        )
        if pool is not None:
            found.append(offer)
        else:
            text = (
                f"Your requested instance type ({instance_type[:50]}) is not supported in your requested "
                f"Availability Zone ({zone[:50]})."
            )
            bad.append((offer, AwsError("InvalidFleetConfiguration", text)))
    return found, bad


def _errors(fleet: Fleet) -> list[dict[str, Any]]:
    return [
        {
            "LaunchTemplateAndOverrides": offer.label,
            "Lifecycle": lifecycle,
            "ErrorCode": error.code,
            "ErrorMessage": error.message,
        }
        for offer, lifecycle, error in fleet.errors
    ]


def _launched(fleet: Fleet) -> list[dict[str, Any]]:
    sets: dict[tuple[int, str], tuple[Offer, list[Instance]]] = {}
    for offer, instance in fleet.launched:
        sets.setdefault((offer.pool, instance.lifecycle), (offer, []))[1].append(instance)
    return [
        {
            "LaunchTemplateAndOverrides": offer.label,
            "Lifecycle": lifecycle,
            "InstanceIds": [instance.id for instance in instances],
            "InstanceType": instances[0].instance_type,
        }
        for (_, lifecycle), (offer, instances) in sets.items()
    ]


def modify_fleet(request: Request) -> Reply:
    """Give a maintained fleet another target or other pools."""
    parameters = request.parameters
    fleet = _fleet(request, parameters["FleetId"])
    if fleet.kind != "maintain" or fleet.state != "active":
        raise AwsError(
            "InvalidFleetState",
            f"Fleet {fleet.id} is {fleet.kind}, {fleet.state}; accepted: maintain, active",
        )
    specification = parameters.get("TargetCapacitySpecification")
    target = (
        _target({"DefaultTargetCapacityType": fleet.target.default, **specification})
        if specification
        else None
    )
    configs = parameters.get("LaunchTemplateConfigs")
    offers = _offers(request, configs) if configs else None
    request.stop_dry_run()
    if parameters.get("ExcessCapacityTerminationPolicy"):
        fleet.shrink = parameters["ExcessCapacityTerminationPolicy"] == "termination"
    fleet.target = target or fleet.target
    if offers is not None:
        fleet.offers, fleet.unsupported = offers
        fleet.shown["LaunchTemplateConfigs"] = configs
    fleet.reconcile()
    return {"Return": True}


def delete_fleets(request: Request) -> Reply:
    """Delete fleets, with or without their instances."""
    done, failed = [], []
    terminate = request.parameters["TerminateInstances"]
    request.stop_dry_run()
    for name in request.parameters["FleetIds"]:
        fleet = request.region.fleets.get(name)
        if fleet is None:
            error = {"Code": "fleetIdDoesNotExist", "Message": f"The fleet ID '{name[:100]}' does not exist"}
            failed.append({"FleetId": name, "Error": error})
            continue
        if fleet.kind == "instant" and not terminate:
            error = {
                "Code": "fleetNotInDeletableState",
                "Message": "An instant fleet goes with its instances",
            }
            failed.append({"FleetId": name, "Error": error})
            continue
        before = fleet.state
        if before == "active":
            fleet.delete(terminate=terminate)
        done.append({"FleetId": name, "PreviousFleetState": before, "CurrentFleetState": fleet.state})
    return {"SuccessfulFleetDeletions": done, "UnsuccessfulFleetDeletions": failed}


def _fleet(request: Request, name: str) -> Fleet:
    fleet = request.region.fleets.get(name)
    if fleet is None:
        raise AwsError("InvalidFleetId.NotFound", f"The fleet ID '{name[:100]}' does not exist")
    found: Fleet = fleet
    return found


def describe_fleets(request: Request) -> Reply:
    """Fleets with what they hold of what they are to have."""
    wanted = request.parameters.get("FleetIds", [])
    fleets = [_fleet(request, name) for name in wanted] if wanted else list(request.region.fleets.values())
    seen = [fleet for fleet in fleets if fleet.created_ms <= request.seen_ms]
    shown, token = page(seen, lambda fleet: fleet.id, request)
    return {"Fleets": [_shown(fleet) for fleet in shown], "NextToken": token}


def _shown(fleet: Fleet) -> dict[str, Any]:
    whole = fleet.units() >= fleet.target.total
    return {
        "FleetId": fleet.id,
        "FleetState": fleet.state,
        "ActivityStatus": "fulfilled" if whole else "error" if fleet.errors else "pending_fulfillment",
        "CreateTime": moment(fleet.created_ms),
        "Type": fleet.kind,
        "ClientToken": fleet.shown["ClientToken"],
        "ExcessCapacityTerminationPolicy": "termination" if fleet.shrink else "no-termination",
        "FulfilledCapacity": fleet.units(),
        "FulfilledOnDemandCapacity": fleet.units("on-demand"),
        "LaunchTemplateConfigs": fleet.shown["LaunchTemplateConfigs"],
        "TargetCapacitySpecification": {
            "TotalTargetCapacity": fleet.target.total,
            "OnDemandTargetCapacity": fleet.target.on_demand,
            "SpotTargetCapacity": fleet.target.spot,
            "DefaultTargetCapacityType": fleet.target.default,
        },
        "SpotOptions": {"AllocationStrategy": fleet.spot_strategy},
        "OnDemandOptions": {"AllocationStrategy": fleet.on_demand_strategy},
        "Tags": tag_list(fleet.tags),
        "Errors": _errors(fleet),
        "Instances": _launched(fleet) if fleet.kind == "instant" else [],
    }


def describe_fleet_instances(request: Request) -> Reply:
    """Running instances of a fleet that is not instant."""
    fleet = _fleet(request, request.parameters["FleetId"])
    if fleet.kind == "instant":
        raise AwsError(
            "Unsupported", "DescribeFleetInstances does not take instant fleets; use DescribeFleets"
        )
    at = request.seen_ms
    seen = [i for i in fleet.members.values() if i.visible(at) and i.state(at)[1] in ("pending", "running")]
    shown, token = page(seen, lambda instance: instance.number, request)
    active = [
        {
            "InstanceId": instance.id,
            "InstanceType": instance.instance_type,
            "SpotInstanceRequestId": instance.details.get("SpotInstanceRequestId"),
            "InstanceHealth": "healthy",
        }
        for instance in shown
    ]
    return {"FleetId": fleet.id, "ActiveInstances": active, "NextToken": token}


def describe_fleet_history(request: Request) -> Reply:
    """What happened to a fleet since StartTime."""
    fleet = _fleet(request, request.parameters["FleetId"])
    start, kind = request.parameters["StartTime"], request.parameters.get("EventType")
    rows = [
        (number, at, what, subtype, text)
        for number, (at, what, subtype, text) in enumerate(fleet.history)
        if at >= start and kind in (None, what)
    ]
    shown, token = page(rows, lambda row: row[0], request)
    records = []
    for _, at, what, subtype, text in shown:
        information = {"EventSubType": subtype}
        information["InstanceId" if what == "instance-change" else "EventDescription"] = text
        records.append({"EventInformation": information, "EventType": what, "Timestamp": at})
    return {"FleetId": fleet.id, "HistoryRecords": records, "StartTime": start, "NextToken": token}


ACTIONS = {
    "CreateFleet": Action(create_fleet, mutating=True),
    "ModifyFleet": Action(modify_fleet, mutating=True),
    "DeleteFleets": Action(delete_fleets, mutating=True),
    "DescribeFleets": Action(describe_fleets),
    "DescribeFleetInstances": Action(describe_fleet_instances),
    "DescribeFleetHistory": Action(describe_fleet_history),
}
