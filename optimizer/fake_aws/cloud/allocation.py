"""Which pool gets the next instance: the allocation strategies of fleets and groups, and their mix."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from optimizer.fake_aws.cloud.cloud import Cloud
from optimizer.fake_aws.cloud.instances import Instance
from optimizer.fake_aws.errors import AwsError

SPOT_STRATEGIES = (
    "lowest-price",
    "diversified",
    "capacity-optimized",
    "capacity-optimized-prioritized",
    "price-capacity-optimized",
)
ON_DEMAND_STRATEGIES = ("lowest-price", "prioritized")


@dataclass(frozen=True)
class Offer:
    """A pool that a group or fleet may launch in.

    Attributes:
        pool: Index of the pool.
        zone: Its zone.
        weight: Units of capacity that one instance counts.
        priority: Lower goes first in prioritized strategies.
        max_price: Highest spot price to pay; None is no limit.
        details: What an instance launched from it shows (image, template).
        label: The override, as replies repeat it.
    """

    pool: int
    zone: str
    weight: float
    priority: float
    max_price: float | None
    details: dict[str, Any] = field(default_factory=dict)
    label: dict[str, Any] = field(default_factory=dict)


@dataclass
class Filled:
    """What came of an attempt: instances by offer, and the error of each offer that had none left."""

    launched: list[tuple[Offer, Instance]] = field(default_factory=list)
    failed: list[tuple[Offer, AwsError]] = field(default_factory=list)
    units: float = 0.0


def on_demand_units(total: float, base: float, percentage: float) -> int:
    """On-demand units of a mix: the base, and the percentage of what is above it, rounded up.

    Source: Auto Scaling user guide, "OnDemandPercentageAboveBaseCapacity": fractions round in favour of
    on-demand.
    """
    above = max(total - base, 0)
    return int(min(total, base) + math.ceil(above * percentage / 100 - 1e-9))


def fill(
    cloud: Cloud,
    offers: Sequence[Offer],
    lifecycle: str,
    strategy: str,
    units: float,
    launch: Callable[[Offer], Instance],
    *,
    held: Counter[int],
    cheapest_pools: int = 1,
    zones: Counter[str] | None = None,
) -> Filled:
    """Launch instances one by one, each in the best pool, until `units` are there or no pool has any left.

    Args:
        cloud: The cloud.
        offers: Pools to choose from.
        lifecycle: `spot` or `on-demand`.
        strategy: One of `SPOT_STRATEGIES` or `ON_DEMAND_STRATEGIES`.
        units: Units wanted.
        launch: Launches one instance; raises `AwsError` where the pool has none left.
        held: Instances that the owner holds by pool; kept up to date.
        cheapest_pools: Pools over which `lowest-price` spreads.
        zones: Instances that the owner holds by zone, to be balanced first; None to not balance.

    Returns:
        What was launched, and where not.
    """
    filled = Filled()
    left = list(offers)
    deep = frozenset(offer.pool for offer in offers if cloud.free(offer.pool) * offer.weight >= units)
    while filled.units < units and left:
        rank = _ranking(cloud, left, lifecycle, strategy, deep, held, cheapest_pools)
        offer = min(
            left, key=lambda offer: (zones[offer.zone] if zones is not None else 0, rank(offer), offer.pool)
        )
        try:
            instance = launch(offer)
        except AwsError as error:
            filled.failed.append((offer, error))
            left = [other for other in left if other.pool != offer.pool]
            continue
        filled.launched.append((offer, instance))
        filled.units += offer.weight
        held[offer.pool] += 1
        if zones is not None:
            zones[offer.zone] += 1
    return filled


def _ranking(
    cloud: Cloud,
    offers: Sequence[Offer],
    lifecycle: str,
    strategy: str,
    deep: frozenset[int],
    held: Counter[int],
    cheapest_pools: int,
) -> Callable[[Offer], tuple[float, ...]]:
    def price(offer: Offer) -> float:
        return cloud.pools.price(offer.pool, lifecycle, cloud.tick) / offer.weight

    if lifecycle == "on-demand":
        return (lambda o: (o.priority,)) if strategy == "prioritized" else lambda o: (price(o),)
    match strategy:
        case "lowest-price":
            cheapest = {
                o.pool for o in sorted(offers, key=lambda o: (price(o), o.pool))[: max(cheapest_pools, 1)]
            }
            return lambda o: (o.pool not in cheapest, held[o.pool] if cheapest_pools > 1 else 0, price(o))
        case "diversified":
            return lambda o: (held[o.pool], price(o))
        case "capacity-optimized":
            return lambda o: (-cloud.free(o.pool), price(o))
        case "capacity-optimized-prioritized":
            return lambda o: (cloud.free(o.pool) <= 0, o.priority)
        case _:
            # price-capacity-optimized: among pools that were deep enough for all that is wanted, the cheapest
            return lambda o: (
                cloud.free(o.pool) <= 0,
                o.pool not in deep,
                price(o),
            )
