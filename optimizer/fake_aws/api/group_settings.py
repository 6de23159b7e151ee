"""From the parameters of create and update calls to the settings of a group."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from optimizer.fake_aws.api.call import Request, tags_for
from optimizer.fake_aws.api.instances import price_of, zone_of_subnet
from optimizer.fake_aws.api.templates import find_template
from optimizer.fake_aws.cloud.allocation import SPOT_STRATEGIES, Offer
from optimizer.fake_aws.cloud.groups import Mix, Settings
from optimizer.fake_aws.errors import AwsError

MOST_UNITS = 10_000
_ON_DEMAND = ("lowest-price", "prioritized")
_NOT_MODELLED = (
    "LaunchConfigurationName",
    "InstanceId",
    "WarmPoolConfiguration",
    "InstanceMaintenancePolicy",
)


def rejected(message: str) -> AwsError:
    """What Auto Scaling answers to anything unusable."""
    return AwsError("ValidationError", message)


def new_settings(request: Request) -> Settings:
    """Settings of a new group.

    Raises:
        AwsError: Something is missing, unusable or not modelled.
    """
    parameters = request.parameters
    least, most = parameters["MinSize"], parameters["MaxSize"]
    zones = _zones(request)
    if not zones:
        raise rejected("At least one Availability Zone or VPC Subnet is required.")
    return _checked(
        request, Settings(least, most, parameters.get("DesiredCapacity", least), zones, (), Mix())
    )


def changed_settings(request: Request, old: Settings) -> Settings:
    """Settings after an update; what the call does not name stays.

    Raises:
        AwsError: See `new_settings`.
    """
    parameters = request.parameters
    least, most = parameters.get("MinSize", old.least), parameters.get("MaxSize", old.most)
    desired = parameters.get("DesiredCapacity", min(max(old.desired, least), most))
    return _checked(
        request, replace(old, least=least, most=most, desired=desired, zones=_zones(request) or old.zones)
    )


def _checked(request: Request, settings: Settings) -> Settings:
    parameters = request.parameters
    for name in _NOT_MODELLED:
        if parameters.get(name):
            raise AwsError(
                "ValidationError",
                f"The fake does not model {name}; accepted: LaunchTemplate, MixedInstancesPolicy",
            )
    if not 0 <= settings.least <= settings.most <= MOST_UNITS:
        raise rejected(
            f"Min bound, {settings.least}, must be less than or equal to max bound, {settings.most}, and "
            f"both between 0 and {MOST_UNITS}"
        )
    if not settings.least <= settings.desired <= settings.most:
        raise rejected(
            f"Desired capacity:{settings.desired} must be between the specified min size:{settings.least} "
            f"and max size:{settings.most}"
        )
    shown = dict(settings.shown)
    for name in ("MixedInstancesPolicy", "LaunchTemplate"):
        if parameters.get(name):
            other = {"MixedInstancesPolicy": "LaunchTemplate", "LaunchTemplate": "MixedInstancesPolicy"}[name]
            if parameters.get(other):
                raise rejected(
                    "Valid requests must contain either LaunchTemplate or MixedInstancesPolicy, not both."
                )
            shown.pop(other, None)
            shown[name] = (
                _merged_policy(shown.get(name, {}), parameters[name]) if name[0] == "M" else parameters[name]
            )
    for name in ("HealthCheckType", "HealthCheckGracePeriod", "DefaultCooldown"):
        if name in parameters:
            shown[name] = parameters[name]
    settings = replace(
        settings,
        shown=shown,
        mix=_mix(shown),
        capacity_rebalance=parameters.get("CapacityRebalance", settings.capacity_rebalance),
        protect_new=parameters.get("NewInstancesProtectedFromScaleIn", settings.protect_new),
        policies=tuple(parameters.get("TerminationPolicies") or settings.policies),
    )
    return replace(settings, offers=_offers(request, settings))


def _merged_policy(old: dict[str, Any], new: dict[str, Any]) -> dict[str, Any]:
    """An update may give the launch template or the distribution alone, and some of their members."""
    return {
        name: {**old.get(name, {}), **new.get(name, {})}
        for name in ("LaunchTemplate", "InstancesDistribution")
    }


def _zones(request: Request) -> tuple[str, ...]:
    zones = list(request.parameters.get("AvailabilityZones", []))
    subnets = request.parameters.get("VPCZoneIdentifier", "")
    try:
        zones += [zone_of_subnet(request, name.strip()) for name in subnets.split(",") if name.strip()]
    except AwsError as error:
        raise rejected(error.message) from error
    for zone in zones:
        if zone not in request.region.zones:
            raise rejected(f"Invalid availability zones: {zone[:50]}")
    return tuple(dict.fromkeys(zones))


def _mix(shown: dict[str, Any]) -> Mix:
    given = shown.get("MixedInstancesPolicy", {}).get("InstancesDistribution", {})
    spot = given.get("SpotAllocationStrategy") or "lowest-price"
    on_demand = given.get("OnDemandAllocationStrategy") or "lowest-price"
    base, percentage = (
        given.get("OnDemandBaseCapacity", 0),
        given.get("OnDemandPercentageAboveBaseCapacity", 100),
    )
    if base < 0 or not 0 <= percentage <= 100:
        raise rejected(f"On-demand base {base}, percentage {percentage}; accepted: 0 or more, 0 to 100")
    if spot not in SPOT_STRATEGIES or on_demand not in _ON_DEMAND:
        raise rejected(
            f"Allocation strategies {spot[:50]}, {on_demand[:50]}; accepted: {', '.join(SPOT_STRATEGIES)}; "
            f"{', '.join(_ON_DEMAND)}"
        )
    price = given.get("SpotMaxPrice") or None
    return Mix(base, percentage, on_demand, spot, given.get("SpotInstancePools", 2), price_of(price))


def _offers(request: Request, settings: Settings) -> tuple[Offer, ...]:
    policy = settings.shown.get("MixedInstancesPolicy")
    if policy:
        launch = policy.get("LaunchTemplate", {})
        specification, overrides = launch.get("LaunchTemplateSpecification"), launch.get("Overrides") or [{}]
    else:
        specification, overrides = settings.shown.get("LaunchTemplate"), [{}]
    if not specification:
        raise rejected("Valid requests must contain a LaunchTemplate or a MixedInstancesPolicy with one.")
    try:
        template = find_template(request, specification)
        data = template.data(specification.get("Version"))
    except AwsError as error:
        raise rejected(error.message) from error
    pools, offers = request.cloud.pools, []
    for order, override in enumerate(overrides):
        if override.get("InstanceRequirements"):
            raise rejected("The fake does not model InstanceRequirements")
        instance_type = override.get("InstanceType") or data.get("InstanceType")
        weight = override.get("WeightedCapacity", "1")
        if not weight.isascii() or not weight.isdigit() or not 1 <= int(weight[:4]) <= 999:
            raise rejected(f"WeightedCapacity {weight[:20]}; accepted: 1 to 999")
        details = {
            "ImageId": data.get("ImageId"),
            "tags": tags_for(data, "instance"),
            "Template": {
                "LaunchTemplateId": template.id,
                "LaunchTemplateName": template.name,
                "Version": str(template.version(specification.get("Version"))),
            },
        }
        for zone in settings.zones:
            pool = pools.find(zone, instance_type or "")
            if pool is not None:
                offers.append(Offer(pool, zone, float(int(weight)), order, None, details))
    if not offers:
        raise rejected(
            "You must use a valid fully-formed launch template: none of its types is offered in the group's "
            "zones."
        )
    return tuple(offers)
