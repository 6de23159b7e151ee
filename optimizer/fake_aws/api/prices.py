"""Spot prices and placement scores."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import numpy as np

from optimizer.fake_aws.api.call import Action, Reply, Request, page, passes
from optimizer.fake_aws.clock import milliseconds, moment
from optimizer.fake_aws.errors import AwsError, invalid

PRODUCT = "Linux/UNIX"
LONGEST = timedelta(days=90)


def describe_spot_price_history(request: Request) -> Reply:
    """Changes of price, newest first, and the price in force at StartTime."""
    parameters = request.parameters
    end = min(parameters.get("EndTime", request.now), request.now)
    start = max(parameters.get("StartTime", request.now), request.now - LONGEST)
    products = parameters.get("ProductDescriptions", [])
    if products and not {PRODUCT, f"{PRODUCT} (Amazon VPC)"} & set(products):
        return {"SpotPriceHistory": []}
    events = []
    for pool in _wanted_pools(request):
        events += _changes(request, pool, milliseconds(start), milliseconds(end))
    # newest first; the key is ascending, and pools break ties
    shown, token = page(events, lambda event: f"{10**15 - event[0]:016d}/{event[1]:09d}", request)
    history = [
        {
            "AvailabilityZone": request.cloud.pools.pools[pool].zone,
            "InstanceType": request.cloud.pools.pools[pool].instance_type,
            "ProductDescription": PRODUCT,
            "SpotPrice": _text(request.cloud.pools.price(pool, "spot", tick)),
            "Timestamp": moment(at),
        }
        for at, pool, tick in shown
    ]
    return {"SpotPriceHistory": history, "NextToken": token or ""}


def _text(price: float) -> str:
    """Six decimals as on AWS, or more where the market's price has more."""
    return np.format_float_positional(price, min_digits=6, trim="k")


def _wanted_pools(request: Request) -> list[int]:
    parameters, pools = request.parameters, request.cloud.pools
    types, zone = parameters.get("InstanceTypes", []), parameters.get("AvailabilityZone")
    wanted = []
    for pool in pools.in_region(request.region.name):
        place = pools.pools[pool]
        if (types and place.instance_type not in types) or (zone and zone != place.zone):
            continue
        values = {
            "availability-zone": place.zone,
            "instance-type": place.instance_type,
            "product-description": PRODUCT,
        }
        if passes(parameters.get("Filters", []), values):
            wanted.append(pool)
    return wanted


def _changes(request: Request, pool: int, start: int, end: int) -> list[tuple[int, int, int]]:
    """(time, pool, tick) of the changes in [start, end], and of the last one before."""
    pools = request.cloud.pools
    last = pools.tick_at(end)
    if end < pools.anchor_ms:
        return []
    prices = pools.spot_prices(pool)[: last + 1]
    ticks = np.concatenate([[0], 1 + np.nonzero(np.diff(prices))[0]])
    first = max(int(np.searchsorted(ticks, pools.tick_at(start), side="right")) - 1, 0)
    return [(pools.starts_at(int(tick)), pool, int(tick)) for tick in ticks[first:]]


def get_spot_placement_scores(request: Request) -> Reply:
    """1 to 10 per region or zone: 10 where the free capacity of the types covers the target."""
    parameters, pools = request.parameters, request.cloud.pools
    target = parameters["TargetCapacity"]
    types = parameters.get("InstanceTypes", [])
    if target < 1:
        raise invalid(f"Value ({target}) for TargetCapacity is invalid. Accepted: 1 or more")
    if not types:
        raise AwsError("MissingParameter", "The request must contain the parameter InstanceTypes")
    regions = parameters.get("RegionNames") or list(request.cloud.regions)
    by_zone = bool(parameters.get("SingleAvailabilityZone"))
    free: dict[tuple[str, str | None], int] = {}
    for pool, place in enumerate(pools.pools):
        if place.region in regions and place.instance_type in types:
            key = (place.region, place.zone if by_zone else None)
            free[key] = free.get(key, 0) + max(request.cloud.free(pool), 0)
    scores: list[dict[str, Any]] = [
        {
            "Region": region,
            "AvailabilityZoneId": zone,
            "Score": min(10, max(1, round(10 * there / target))),
        }
        for (region, zone), there in free.items()
    ]
    scores.sort(key=lambda score: (-score["Score"], score["Region"], score["AvailabilityZoneId"] or ""))
    return {"SpotPlacementScores": scores[:10]}


ACTIONS = {
    "DescribeSpotPriceHistory": Action(describe_spot_price_history),
    "GetSpotPlacementScores": Action(get_spot_placement_scores),
}
