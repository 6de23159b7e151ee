"""Which pools of which markets speak for a workload, and why the others do not."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

import numpy as np

from optimizer.recommend.wide import (
    is_type,
    is_wide,
    joined,
    own_rows,
    regions_of,
    throughput_of,
    types_of,
)
from simulator.errors import InputError
from simulator.market import Market, Pool
from simulator.market.assumed import assumed_capacity
from simulator.market.market import UNLIMITED_CAPACITY
from simulator.market.readers.advisor import InterruptionBands, hazard_per_tick

if TYPE_CHECKING:
    from optimizer.billing.workloads import Workload, WorkloadFile

PROVIDERS = {"amazon web services": "aws", "google cloud": "gcp", "google": "gcp", "microsoft": "azure"}
SYNTHETIC = "synthetic"
PRICE_TOLERANCE = 0.02
"""Difference of the on-demand prices of ledger and market from which on it is told."""
SAME_PRODUCT = 0.25
"""Difference from which on they are taken for two products: another operating system, licence or tenancy."""


@dataclass(frozen=True, eq=False)
class NamedMarket:
    """A market and the file it came from."""

    file: str
    market: Market


@dataclass(frozen=True, eq=False)
class Match:
    """What the markets have for one workload.

    Attributes:
        markets: Markets of the same pools and tick, cut to the pools that matched; empty if none did.
        pools: Those pools.
        matched: In words.
        not_matched: In words.
        assumed: Why availability is assumed, if it is.
        missing: Which data would be needed, if it does not do.
        throughput: (P,) hours of work per hour in each pool; of services 1.
    """

    markets: tuple[NamedMarket, ...]
    pools: tuple[Pool, ...]
    matched: tuple[str, ...]
    not_matched: tuple[str, ...]
    assumed: tuple[str, ...]
    missing: tuple[str, ...]
    throughput: tuple[float, ...] = ()


@dataclass(frozen=True)
class Assumptions:
    """How availability is made up for pools of which only prices are known.

    Attributes:
        bands: Advisor bands; None if there are none.
        outage_hours: Mean outage.
        seed: Of the draw.
    """

    bands: InterruptionBands | None
    outage_hours: float
    seed: int


def match(
    workload: Workload, found: WorkloadFile, markets: Sequence[NamedMarket], assumptions: Assumptions
) -> Match:
    """Find the pools of a workload.

    Pools match by provider, region and instance type (as traces name it or as it is sold); every zone of the
    region is taken. A job may also name other types and regions; markets of these are laid side by side.
    Markets whose on-demand price is far from the ledger's are of another product. Hours that two markets of
    the same pools share count once. Of markets that differ in pools or tick the best group is used: recorded
    before assumed availability, then more pools, then more hours.
    """
    kept: list[tuple[NamedMarket, tuple[str, ...]]] = []
    told: list[str] = []
    missing: list[str] = []
    for named in markets:
        rows = [row for row, pool in enumerate(named.market.pools) if _fits(pool, workload)]
        if not rows:
            told.append(f"{named.file}: no pool of {_wanted(workload)}; {_offers(named.market)}")
            continue
        own = [row for row in rows if _is_own(named.market.pools[row], workload)]
        other = _other_product(named.market.select(own), workload) if own else ""
        if other:
            told.append(f"{named.file}: {other}; the spot price of one says nothing of the other")
            missing.append(
                f"a market of the product that is billed: {_wanted(workload)} of the same operating system, "
                "with its on-demand price (market build --product, --on-demand-price)"
            )
            continue
        cut, assumed, lacking = _with_availability(named.market.select(rows), assumptions)
        if lacking:
            told.append(
                f"{named.file}: only prices are known of {_listed([p.name for p in lacking])}, not when spot "
                "was to be had"
            )
            missing.append(
                f"an availability trace of {_wanted(workload)}, or --advisor FILE with an interruption band"
            )
        if cut is not None:
            kept.append((NamedMarket(named.file, cut), assumed))
    if not kept:
        if not missing:
            missing.append(
                f"a market with {_wanted(workload)}: {_source(workload)}, and an availability trace or "
                "--advisor FILE"
            )
        return Match((), (), (), tuple(told), (), tuple(dict.fromkeys(missing)))
    kept = _side_by_side(kept, told)
    if is_wide(workload):
        kept = joined(kept, workload, told)
        if not kept:
            missing = [
                f"markets of the same time and tick with {_wanted(workload)} and every type and region that "
                "the job names, or a job that names only those"
            ]
            return Match((), (), (), tuple(told), (), tuple(missing))
    chosen, others = _best_group(kept)
    for named in others:
        told.append(f"{named.file}: other pools or another tick than {chosen[0][0].file}; not mixed in")
    pools = chosen[0][0].market.pools
    reasons = tuple(dict.fromkeys(reason for _, why in chosen for reason in why))
    words = [f"{len(pools)} pools by region and instance type: {_listed([pool.name for pool in pools])}"]
    for named, _ in chosen:
        words.append(_in_time(named, found))
        told += _prices(named, workload)
    speed = throughput_of(pools, workload)
    return Match(tuple(n for n, _ in chosen), pools, tuple(words), tuple(told), reasons, (), speed)


def _fits(pool: Pool, workload: Workload) -> bool:
    provider = workload.provider.lower()
    return (
        pool.provider in (PROVIDERS.get(provider, provider), SYNTHETIC)
        and pool.region in regions_of(workload)
        and any(is_type(pool, name) for name in types_of(workload))
    )


def _is_own(pool: Pool, workload: Workload) -> bool:
    return pool.region == workload.region and is_type(pool, workload.instance_type)


def _with_availability(
    market: Market, assumptions: Assumptions
) -> tuple[Market | None, tuple[str, ...], list[Pool]]:
    """The market of pools whose availability is known or assumed, why so, and the pools left out."""
    capacity = np.array(market.spot_capacity)
    assumed: list[str] = []
    priced = [row for row in range(len(market.pools)) if (capacity[row] >= UNLIMITED_CAPACITY).all()]
    lacking: list[Pool] = []
    if assumptions.bands is not None:
        rows, hazards = [], []
        for row in priced:
            band = assumptions.bands.band(market.pools[row])
            if band is None:
                lacking.append(market.pools[row])
            else:
                rows.append(row)
                hazards.append(hazard_per_tick(band, market.tick_seconds))
        outage = assumptions.outage_hours * 3600.0 / market.tick_seconds
        if rows and outage < 1:
            raise InputError(
                f"--outage-hours {assumptions.outage_hours:g} at a tick of {market.tick_seconds} s; "
                "accepted: one tick or longer"
            )
        if rows:
            capacity[rows] = assumed_capacity(
                hazards, market.ticks, outage_ticks=outage, seed=assumptions.seed
            )
            assumed.append(
                f"interruptions of {_listed([market.pools[row].name for row in rows])} are made up from "
                f"advisor bands, outages of {assumptions.outage_hours:g} h on average"
            )
    else:
        lacking = [market.pools[row] for row in priced]
    if "ASSUMED" in market.source:
        assumed.append(f"the market's source says: {market.source}")
    if any(pool.provider == SYNTHETIC for pool in market.pools) or "SYNTHETIC" in market.source:
        assumed.append("the market is synthetic: it shows how the report works, not what your pools will do")
    keep = [row for row, pool in enumerate(market.pools) if pool not in lacking]
    if not keep:
        return None, (), lacking
    made = Market(
        market.pools,
        market.tick_seconds,
        market.start,
        market.spot_price,
        capacity,
        market.on_demand_price,
        market.source,
    )
    return made.select(keep), tuple(assumed), lacking


def _other_product(market: Market, workload: Workload) -> str:
    """Why the pools of a market are not what is billed, in words; empty if they may be."""
    billed = workload.on_demand_price
    if billed is None or not billed > 0:
        return ""
    theirs = float(market.on_demand_price.min(axis=0).mean())
    if abs(theirs / billed - 1.0) <= SAME_PRODUCT:
        return ""
    return (
        f"on-demand at {theirs:.4f} USD/h where the ledger's list price is {billed:.4f}: another operating "
        "system, licence or tenancy"
    )


def _side_by_side(
    kept: Sequence[tuple[NamedMarket, tuple[str, ...]]], told: list[str]
) -> list[tuple[NamedMarket, tuple[str, ...]]]:
    """Markets of the same pools without what they have in common: an hour given twice tells no more."""
    made: list[tuple[NamedMarket, tuple[str, ...]]] = []
    for named, assumed in sorted(kept, key=lambda one: (one[0].market.start, -one[0].market.ticks)):
        market = named.market
        ends = [
            m.market.end
            for m, why in made
            if (m.market.pools, m.market.tick_seconds, why) == (market.pools, market.tick_seconds, assumed)
        ]
        seconds = (max(ends) - market.start).total_seconds() if ends else 0.0
        skipped = max(math.ceil(seconds / market.tick_seconds), 0)
        if skipped >= market.ticks:
            told.append(f"{named.file}: all of its hours are in another market too; counted once")
            continue
        if skipped:
            told.append(
                f"{named.file}: its first {seconds / 3600:g} h are in another market too; counted once"
            )
            market = market.window(skipped, market.ticks - skipped)
        made.append((NamedMarket(named.file, market), assumed))
    return made


def _best_group(
    kept: list[tuple[NamedMarket, tuple[str, ...]]],
) -> tuple[list[tuple[NamedMarket, tuple[str, ...]]], list[NamedMarket]]:
    groups: dict[tuple[object, ...], list[tuple[NamedMarket, tuple[str, ...]]]] = {}
    for named, assumed in kept:
        key = (named.market.tick_seconds, named.market.pools, bool(assumed))
        groups.setdefault(key, []).append((named, assumed))
    ranked = sorted(
        groups.values(),
        key=lambda group: (
            bool(group[0][1]),
            -len(group[0][0].market.pools),
            -sum(named.market.ticks * named.market.tick_seconds for named, _ in group),
        ),
    )
    return ranked[0], [named for group in ranked[1:] for named, _ in group]


def _in_time(named: NamedMarket, found: WorkloadFile) -> str:
    begin = found.span.start
    end = begin + timedelta(hours=found.span.hours)
    market = named.market
    text = f"{named.file}: {market.start:%Y-%m-%d} to {market.end:%Y-%m-%d}"
    shared = (min(end, market.end) - max(begin, market.start)).total_seconds() / 3600.0
    if shared <= 0:
        return (
            f"{text}, no hour in common with the ledger ({begin:%Y-%m-%d} to {end:%Y-%m-%d}): its windows "
            "stand for what such a market does, not for what happened then"
        )
    return f"{text}, {shared:.0f} of the ledger's {found.span.hours} hours in common"


def _prices(named: NamedMarket, workload: Workload) -> list[str]:
    if workload.on_demand_price is None:
        return []
    own = own_rows(named.market.pools, workload)
    theirs = float(named.market.on_demand_price[own].min(axis=0).mean())
    if abs(theirs / workload.on_demand_price - 1.0) <= PRICE_TOLERANCE:
        return []
    return [
        f"{named.file}: on-demand at {theirs:.4f} USD/h, the ledger's list price is "
        f"{workload.on_demand_price:.4f}; the replays take on-demand from the ledger and spot from the market"
    ]


def _wanted(workload: Workload) -> str:
    types, regions = ", ".join(types_of(workload)), ", ".join(regions_of(workload))
    return f"{workload.provider} {types} in {regions}"


def _source(workload: Workload) -> str:
    """Where such a market comes from; only AWS is asked by this program."""
    if PROVIDERS.get(workload.provider.lower(), workload.provider.lower()) == "aws":
        return f"spotwise market fetch --region {workload.region} --instance-type {workload.instance_type}"
    return "a price history for spotwise market build"


def _offers(market: Market) -> str:
    places = sorted({f"{pool.instance_type} in {pool.region}" for pool in market.pools})
    return f"it has {_listed(places)}"


def _listed(names: Sequence[str], most: int = 6) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
