"""Jobs that may run on several instance types or in several regions: their markets, and what differs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from optimizer.recommend.result import CopyTerms, PoolDifferences
from simulator.market import Market, Pool
from simulator.market.readers.zones import sold_as

if TYPE_CHECKING:
    from optimizer.billing.workloads import Workload
    from optimizer.recommend.match import Match, NamedMarket
    from simulator.deadline.observation import IntArray
    from simulator.deadline.terms import PoolTerms

Kept = tuple["NamedMarket", tuple[str, ...]]
"""A market and why its availability is assumed."""


def is_wide(workload: Workload) -> bool:
    """Whether a job names other pools than those of its own type in its own region, or tells pools apart."""
    job = workload.job if workload.kind == "deadline-job" else None
    return job is not None and bool(job.throughput or job.regions)


def types_of(workload: Workload) -> tuple[str, ...]:
    """Instance types that a workload may run on, its own first."""
    job = workload.job if workload.kind == "deadline-job" else None
    return (workload.instance_type, *(job.instance_types if job is not None else ()))


def regions_of(workload: Workload) -> tuple[str, ...]:
    """Regions that a workload may run in, its own first."""
    job = workload.job if workload.kind == "deadline-job" else None
    return (workload.region, *(job.regions if job is not None else ()))


def type_of(pool: Pool) -> str:
    """Instance type of a pool as it is sold."""
    return sold_as(replace(pool, provider="aws"))


def is_type(pool: Pool, name: str) -> bool:
    """Whether a pool has an instance type, as traces name it or as it is sold."""
    return name in (pool.instance_type, type_of(pool))


def own_rows(pools: Sequence[Pool], workload: Workload) -> IntArray:
    """Pools of the workload's own type in its own region: what its bill is for."""
    own = [
        row
        for row, pool in enumerate(pools)
        if pool.region == workload.region and is_type(pool, workload.instance_type)
    ]
    return np.array(own, np.int64)


def throughput_of(pools: Sequence[Pool], workload: Workload) -> tuple[float, ...]:
    """Work per hour in each pool; 1 everywhere for a service."""
    return tuple(workload.throughput_of(pool, type_of(pool)) for pool in pools)


def lacking(pools: Sequence[Pool], workload: Workload) -> list[str]:
    """What the workload names and none of the pools is, in words."""
    if workload.job is None or workload.kind != "deadline-job":
        return []
    found = [
        f"no pool of {name}"
        for name in workload.job.instance_types
        if not any(is_type(pool, name) for pool in pools)
    ]
    found += [
        f"no pool in {region}"
        for region in workload.job.regions
        if not any(pool.region == region for pool in pools)
    ]
    names = {pool.name for pool in pools} | {f"{p.provider}/{p.zone}/{type_of(p)}" for p in pools}
    return found + [
        f"no pool {name}" for name in workload.job.throughput if "/" in name and name not in names
    ]


def joined(kept: Sequence[Kept], workload: Workload, told: list[str]) -> list[Kept]:
    """Markets in which every pool of a job is: those of different pools are laid side by side in time.

    A market of the job's own pools is the base; others of the same tick add the pools that it has not,
    over the time that all of them have. What does not fit is told.
    """
    made: list[Kept] = []
    for base, assumed in kept:
        if not own_rows(base.market.pools, workload).size:
            continue
        files, market, reasons = [base.file], base.market, list(assumed)
        others = [one for one in kept if one[0].market.pools != base.market.pools]
        for pools in sorted({one[0].market.pools for one in others}, key=lambda p: [pool.name for pool in p]):
            same = [one for one in others if one[0].market.pools == pools]
            other, why = max(same, key=lambda one: _shared_seconds(market, one[0].market))
            new = [row for row, pool in enumerate(pools) if pool not in market.pools]
            if new and _fit_together(market, other.market):
                market = _side_by_side(market, other.market.select(new))
                files.append(other.file)
                reasons += why
        without = lacking(market.pools, workload)
        if without:
            told.append(
                f"{' + '.join(files)}: {', '.join(without)}; markets are put together if they have the "
                "same tick and share time"
            )
            continue
        made.append((replace(base, file=" + ".join(files), market=market), tuple(dict.fromkeys(reasons))))
    return made


def _shared_seconds(one: Market, other: Market) -> float:
    return (min(one.end, other.end) - max(one.start, other.start)).total_seconds()


def _fit_together(one: Market, other: Market) -> bool:
    offset = (one.start - other.start).total_seconds() / one.tick_seconds
    return (
        one.tick_seconds == other.tick_seconds and offset == int(offset) and _shared_seconds(one, other) > 0
    )


def _side_by_side(one: Market, other: Market) -> Market:
    start = max(one.start, other.start)
    ticks = int(_shared_seconds(one, other) // one.tick_seconds)
    cut = [
        market.window(int((start - market.start).total_seconds() // market.tick_seconds), ticks)
        for market in (one, other)
    ]
    return Market(
        cut[0].pools + cut[1].pools,
        one.tick_seconds,
        start,
        np.concatenate([market.spot_price for market in cut]),
        np.concatenate([market.spot_capacity for market in cut]),
        np.concatenate([market.on_demand_price for market in cut]),
        "; ".join(dict.fromkeys(market.source for market in cut)),
    )


def on_demand_prices(matched: Match, workload: Workload, rate: float) -> tuple[float, ...]:
    """USD per instance-hour on demand in each pool: the bill's rate, with the market's differences."""
    own = own_rows(matched.pools, workload)
    if len(own) == len(matched.pools):
        return (rate,) * len(matched.pools)
    means = np.mean([m.market.on_demand_price.mean(axis=1) for m in matched.markets], axis=0)
    return tuple(float(each) for each in rate * means / means[own].min())


def differences_of(workload: Workload, terms: PoolTerms, pools: Sequence[Pool]) -> PoolDifferences:
    """The same for the report."""
    if workload.job is None:
        return PoolDifferences(throughput={}, checkpoint_region=None, checkpoint_size_gb=0.0, copies=())
    regions = list(dict.fromkeys(pool.region for pool in pools)) if terms.moves_cost else []
    return PoolDifferences(
        throughput={pool.name: terms.of_pool(pool) for pool in pools},
        checkpoint_region=terms.data_region,
        checkpoint_size_gb=workload.job.checkpoint_size_gb if terms.moves_cost else 0.0,
        copies=tuple(
            CopyTerms(
                from_region=a,
                to_region=b,
                minutes=terms.between(a, b)[0] / 60.0,
                usd=terms.between(a, b)[1],
            )
            for a in regions
            for b in regions
            if a != b
        ),
    )


def notes_of(differences: PoolDifferences) -> list[str]:
    """What differs, in words."""
    notes = []
    by_factor: dict[float, list[str]] = {}
    for pool, factor in differences.throughput.items():
        if factor != 1.0:
            by_factor.setdefault(factor, []).append(pool)
    if by_factor:
        words = "; ".join(f"{factor:g} in {', '.join(pools)}" for factor, pools in sorted(by_factor.items()))
        notes.append(f"hours of work per hour, as workloads.yaml says: {words}; 1 in all others")
    if differences.copies:
        one = min(differences.copies, key=lambda copy: (copy.usd, copy.minutes))
        most = max(differences.copies, key=lambda copy: (copy.usd, copy.minutes))
        same = (one.usd, one.minutes) == (most.usd, most.minutes)
        usd = f"{one.usd:,.2f}" if same else f"{one.usd:,.2f} to {most.usd:,.2f}"
        times = [copy.minutes for copy in differences.copies]
        span = f"{times[0]:.1f}" if min(times) == max(times) else f"{min(times):.1f} to {max(times):.1f}"
        notes.append(
            f"its checkpoint of {differences.checkpoint_size_gb:g} GB is in {differences.checkpoint_region}; "
            f"a launch in another region copies it, which takes {span} min and {usd} USD"
        )
    return notes
