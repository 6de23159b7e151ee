"""Regions, zones, subnets and instance types: what the market has."""

from __future__ import annotations

from optimizer.fake_aws.api.call import Action, Reply, Request, page, passes
from optimizer.fake_aws.cloud.pools import subnet_of
from optimizer.fake_aws.errors import invalid

VPC = "vpc-00000000000000001"


def describe_regions(request: Request) -> Reply:
    """All regions of the market."""
    names = request.parameters.get("RegionNames") or list(request.cloud.regions)
    return {
        "Regions": [
            {"RegionName": name, "Endpoint": request.endpoint, "OptInStatus": "opt-in-not-required"}
            for name in request.cloud.regions
            if name in names
        ]
    }


def describe_availability_zones(request: Request) -> Reply:
    """The region's zones; their ids are their names."""
    names = request.parameters.get("ZoneNames") or request.region.zones
    unknown = set(names) - set(request.region.zones)
    if unknown:
        raise invalid(f"Invalid availability zone: [{sorted(unknown)[0][:100]}]")
    return {
        "AvailabilityZones": [
            {
                "ZoneName": zone,
                "ZoneId": zone,
                "RegionName": request.region.name,
                "State": "available",
                "ZoneType": "availability-zone",
                "OptInStatus": "opt-in-not-required",
            }
            for zone in request.region.zones
            if zone in names
        ]
    }


def describe_subnets(request: Request) -> Reply:
    """One default subnet per zone."""
    subnets = []
    wanted = request.parameters.get("SubnetIds", [])
    for index, zone in enumerate(request.region.zones):
        name = subnet_of(zone)
        values = {
            "availability-zone": zone,
            "subnet-id": name,
            "vpc-id": VPC,
            "default-for-az": "true",
            "state": "available",
        }
        if (wanted and name not in wanted) or not passes(request.parameters.get("Filters", []), values, {}):
            continue
        subnets.append(
            {
                "SubnetId": name,
                "AvailabilityZone": zone,
                "AvailabilityZoneId": zone,
                "VpcId": VPC,
                "State": "available",
                "DefaultForAz": True,
                "CidrBlock": f"10.{index % 256}.0.0/16",
                "OwnerId": request.cloud.options.account,
            }
        )
    return {"Subnets": subnets}


def describe_instance_type_offerings(request: Request) -> Reply:
    """Which instance types each zone, or the region, offers."""
    by_zone = request.parameters.get("LocationType", "region").startswith("availability-zone")
    pools = request.cloud.pools
    offered = set()
    for pool in pools.in_region(request.region.name):
        place = pools.pools[pool]
        location = place.zone if by_zone else place.region
        values = {
            "instance-type": place.instance_type,
            "location": location,
        }
        if passes(request.parameters.get("Filters", []), values):
            offered.add((place.instance_type, location))
    shown, token = page(offered, "\n".join, request)
    kind = request.parameters.get("LocationType", "region")
    return {
        "InstanceTypeOfferings": [
            {"InstanceType": name, "LocationType": kind, "Location": location} for name, location in shown
        ],
        "NextToken": token,
    }


ACTIONS = {
    "DescribeRegions": Action(describe_regions),
    "DescribeAvailabilityZones": Action(describe_availability_zones),
    "DescribeSubnets": Action(describe_subnets),
    "DescribeInstanceTypeOfferings": Action(describe_instance_type_offerings),
}
