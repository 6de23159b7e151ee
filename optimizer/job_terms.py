"""How pools differ for a job beside their prices, as workloads files and plans say it.

Work is counted on the instance type that the job was billed for, at throughput 1. Its checkpoint lies in one
region; a launch in another one copies it there, which takes time and money. Within a region nothing is
copied.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Annotated, Protocol

from pydantic import BaseModel, ConfigDict, Field

if TYPE_CHECKING:
    from simulator.deadline.terms import PoolTerms
    from simulator.market import Pool

LOWEST_THROUGHPUT, HIGHEST_THROUGHPUT = 0.01, 100.0
"""Those of `simulator.deadline.terms`, which reading a file need not compile; a test holds them equal."""
EGRESS_USD_PER_GB = 0.02
"""Between two regions, unless said otherwise."""
BANDWIDTH_MB_PER_SECOND = 100.0
"""The same; 1 GB is 1,000 MB."""
MOST_TRANSFERS = 1000

Throughput = Annotated[
    float, Field(strict=True, ge=LOWEST_THROUGHPUT, le=HIGHEST_THROUGHPUT, allow_inf_nan=False)
]
Gigabytes = Annotated[float, Field(strict=True, ge=0, le=1_000_000, allow_inf_nan=False)]
EgressPrice = Annotated[float, Field(strict=True, ge=0, le=1000, allow_inf_nan=False)]
Bandwidth = Annotated[float, Field(strict=True, ge=0.001, le=1_000_000, allow_inf_nan=False)]
RegionName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]


class Transfer(BaseModel):
    """Copies from one region to another, in this direction, where they differ from all others.

    Attributes:
        from_region: Region that the checkpoint is in.
        to_region: Region that it is copied to.
        egress_usd_per_gb: Price of the copy; None: as of any other.
        bandwidth_mb_per_second: Its speed; None: as of any other.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    from_region: RegionName
    to_region: RegionName
    egress_usd_per_gb: EgressPrice | None = None
    bandwidth_mb_per_second: Bandwidth | None = None


class Copies(Protocol):
    """What a workload says of its checkpoint and of copies of it."""

    @property
    def checkpoint_size_gb(self) -> float:
        """Size of what is copied."""
        ...

    @property
    def egress_usd_per_gb(self) -> float:
        """Price of a copy between two regions that `transfers` does not name."""
        ...

    @property
    def bandwidth_mb_per_second(self) -> float:
        """Speed of such a copy."""
        ...

    @property
    def transfers(self) -> Sequence[Transfer]:
        """Pairs of regions that differ."""
        ...


def check_transfers(transfers: Sequence[Transfer], regions: Collection[str]) -> None:
    """Refuse pairs that cannot be meant.

    Raises:
        ValueError: A region is none of the job's, a pair is given twice, or it is one region.
    """
    seen: set[tuple[str, str]] = set()
    for one in transfers:
        for region in (one.from_region, one.to_region):
            if region not in regions:
                raise ValueError(f"no pool is in region {region}; accepted: {', '.join(sorted(regions))}")
        pair = (one.from_region, one.to_region)
        if one.from_region == one.to_region:
            raise ValueError(f"from {one.from_region} to itself; within a region nothing is copied")
        if pair in seen:
            raise ValueError(f"from {pair[0]} to {pair[1]} is given twice; give it once")
        seen.add(pair)


def pool_terms(
    pools: Sequence[Pool], throughput: Sequence[float], copies: Copies, data_region: str | None
) -> PoolTerms | None:
    """The simulator's terms of a job over some pools.

    Args:
        pools: The pools.
        throughput: Of each, 1 = as the work is counted.
        copies: Of the checkpoint. Pairs of regions in which no pool is are left out.
        data_region: Where the checkpoint is before the first launch; None: the job begins anywhere for
            nothing.

    Returns:
        None if the pools differ in price only.

    Raises:
        InputError: On-demand capacity of some region is slower than the work is counted, or no pool is where
            the checkpoint is.
    """
    from simulator.deadline.terms import Move, PoolTerms
    from simulator.errors import InputError

    regions = list(dict.fromkeys(pool.region for pool in pools))
    moves = len(regions) > 1 and copies.checkpoint_size_gb > 0
    if not moves and all(factor == 1.0 for factor in throughput):
        return None
    for region in regions if moves else regions[:1]:
        there = [f for pool, f in zip(pools, throughput, strict=True) if not moves or pool.region == region]
        if max(there) < 1.0:
            raise InputError(
                f"region {region}: no pool has a throughput of 1 or more, so that on-demand capacity there "
                "would not keep the deadline; accepted: pools of the type that the work is counted on, or "
                "faster ones"
            )
    if moves and data_region is not None and data_region not in regions:
        raise InputError(
            f"the checkpoint is in region {data_region}, where no pool is; accepted: {', '.join(regions)}"
        )

    def move(one: Transfer) -> Move:
        price = copies.egress_usd_per_gb if one.egress_usd_per_gb is None else one.egress_usd_per_gb
        speed = one.bandwidth_mb_per_second or copies.bandwidth_mb_per_second
        size = copies.checkpoint_size_gb
        return Move(one.from_region, one.to_region, size * 1000.0 / speed, size * price)

    usual = PoolTerms.for_data(
        copies.checkpoint_size_gb if moves else 0.0,
        usd_per_gigabyte=copies.egress_usd_per_gb,
        megabytes_per_second=copies.bandwidth_mb_per_second,
    )
    return PoolTerms(
        throughput=tuple(
            (pool.name, float(f)) for pool, f in zip(pools, throughput, strict=True) if f != 1.0
        ),
        move_seconds=usual.move_seconds,
        move_usd=usual.move_usd,
        moves=tuple(
            move(one)
            for one in (copies.transfers if moves else ())
            if one.from_region in regions and one.to_region in regions
        ),
        data_region=data_region if moves else None,
    )
