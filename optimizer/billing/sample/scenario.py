"""What a synthetic bill is made of: workloads with their demand and where it was placed, hour by hour."""

from __future__ import annotations

import zlib
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from simulator.errors import InputError

Counts = NDArray[np.int64]
CommitmentKind = Literal["savings-plan", "reserved"]
OPTIONS = ("on-demand", "spot", "committed")
"""Purchase options, in the order of `Usage.option`."""


@dataclass(frozen=True)
class PlantedWorkload:
    """A workload whose hourly demand and placement are known.

    Attributes:
        name: Its name, which is the value of the tag `app` unless `tagged` is false.
        account: Account, project or subscription it runs in.
        region: Region of its cloud.
        zone: Zone inside the region.
        instance_type: One type; its demand counts instances of it.
        vcpus: Virtual CPUs of that type.
        memory_gib: Memory of that type in GiB.
        on_demand_price: USD per instance-hour.
        spot_price: USD per instance-hour.
        on_demand: Instances on on-demand capacity, shape (hours,).
        spot: Instances on spot capacity, shape (hours,).
        committed: Instances covered by a commitment, shape (hours,).
        bought: Instances the commitment pays for in every hour; the rest is unused.
        commitment: Kind of the commitment.
        tagged: Whether its resources carry `app`, `Owner` and `Environment`.
    """

    name: str
    account: str
    region: str
    zone: str
    instance_type: str
    vcpus: int
    memory_gib: float
    on_demand_price: float
    spot_price: float
    on_demand: Counts
    spot: Counts
    committed: Counts
    bought: int = 0
    commitment: CommitmentKind = "savings-plan"
    tagged: bool = True

    @property
    def demand(self) -> Counts:
        """Instances needed per hour, shape (hours,)."""
        return self.on_demand + self.spot + self.committed

    @property
    def committed_price(self) -> float:
        """USD per committed instance-hour: 28 % or 35 % below on-demand."""
        return round(self.on_demand_price * (0.72 if self.commitment == "savings-plan" else 0.65), 6)

    @property
    def tags(self) -> dict[str, str]:
        """Tags of its resources."""
        if not self.tagged:
            return {"synthetic": "true"}
        return {
            "app": self.name,
            "Environment": "prod" if len(self.name) % 2 else "dev",
            "Owner": f"team-{self.name.split('-')[0]}",
            "synthetic": "true",
        }


@dataclass(frozen=True, slots=True)
class Anomaly:
    """A sudden cost: `cost` USD of data transfer in one hour of one workload."""

    workload: int
    hour: int
    cost: float


@dataclass(frozen=True)
class Scenario:
    """A bill to write.

    Attributes:
        start: First hour, UTC.
        hours: Number of hours.
        workloads: What ran.
        billing_account: Payer.
        missing: Hours (indices) that the export lost: no hourly row of any kind is written for them.
        anomalies: Planted cost spikes.
        tax_rate: Share of the usage billed as tax at the end of each billing period.
        credit: USD of credit per billing period.
        refund: USD of refund per billing period.
    """

    start: datetime
    hours: int
    workloads: tuple[PlantedWorkload, ...]
    billing_account: str = "999900001111"
    missing: frozenset[int] = frozenset()
    anomalies: tuple[Anomaly, ...] = ()
    tax_rate: float = 0.1
    credit: float = 25.0
    refund: float = 7.5
    currency: str = field(default="USD")

    def __post_init__(self) -> None:
        """Check that the series fit the span."""
        if self.start.tzinfo is not UTC or self.start.minute or self.start.second:
            raise InputError(f"start of {self.start}; accepted: a full hour with tzinfo=UTC")
        for w in self.workloads:
            for name, series in (("on_demand", w.on_demand), ("spot", w.spot), ("committed", w.committed)):
                if series.shape != (self.hours,) or int(series.min(initial=0)) < 0:
                    raise InputError(f"{w.name}.{name}: accepted: {self.hours} counts of 0 or more")
            if int(w.committed.max(initial=0)) > w.bought:
                raise InputError(f"{w.name}: more committed instances than the {w.bought} bought")

    def time(self, hour: int) -> datetime:
        """Return the start of hour `hour`."""
        return self.start + timedelta(hours=hour)

    def present(self) -> NDArray[np.bool_]:
        """Return which hours the export has, shape (hours,)."""
        there = np.ones(self.hours, dtype=bool)
        there[sorted(self.missing)] = False
        return there

    def months(self) -> list[tuple[datetime, NDArray[np.int64]]]:
        """Return each billing month (UTC) with its hours that the export has."""
        stamps = np.datetime64(self.start.replace(tzinfo=None), "h") + np.arange(self.hours)
        month = stamps.astype("datetime64[M]")
        found = []
        for value in np.unique(month):
            first = value.astype("datetime64[D]").astype(object)
            hours = np.flatnonzero((month == value) & self.present())
            found.append((datetime(first.year, first.month, 1, tzinfo=UTC), hours))
        return found


@dataclass(frozen=True, slots=True)
class Usage:
    """Instance-hours as parallel arrays, one entry per instance and hour.

    Attributes:
        workload: Index into `Scenario.workloads`.
        hour: Hour index.
        option: Index into `OPTIONS`.
        instance: Number of the instance within its workload and option.
    """

    workload: NDArray[np.int64]
    hour: NDArray[np.int64]
    option: NDArray[np.int64]
    instance: NDArray[np.int64]

    def __len__(self) -> int:
        return int(self.workload.size)


def usage(scenario: Scenario, hours: NDArray[np.int64]) -> Usage:
    """Expand the placements of `hours` into instance-hours."""
    parts: list[tuple[NDArray[np.int64], ...]] = []
    for index, workload in enumerate(scenario.workloads):
        for option, series in enumerate((workload.on_demand, workload.spot, workload.committed)):
            counts = series[hours]
            total = int(counts.sum())
            begins = np.repeat(np.cumsum(counts) - counts, counts)
            parts.append(
                (
                    np.full(total, index, dtype=np.int64),
                    np.repeat(hours, counts).astype(np.int64),
                    np.full(total, option, dtype=np.int64),
                    np.arange(total, dtype=np.int64) - begins,
                )
            )
    if not parts:
        empty = np.zeros(0, dtype=np.int64)
        return Usage(empty, empty, empty, empty)
    joined = [np.concatenate(column) for column in zip(*parts, strict=True)]
    order = np.lexsort((joined[3], joined[0], joined[1]))
    return Usage(joined[0][order], joined[1][order], joined[2][order], joined[3][order])


def instance_token(workload: PlantedWorkload, option: int, instance: int) -> str:
    """Return a stable 17-digit hexadecimal token that names one instance."""
    seed = f"{workload.account}/{workload.name}/{workload.zone}/{workload.instance_type}/{option}/{instance}"
    low = zlib.crc32(seed.encode())
    high = zlib.crc32(seed[::-1].encode())
    return f"{high:08x}{low:08x}{option:x}"


def place(
    demand: Counts, *, bought: int = 0, spot_share: float = 0.6, interrupted: float = 0.02, seed: int = 0
) -> tuple[Counts, Counts, Counts]:
    """Split a demand into (on-demand, spot, committed) counts that sum to it in every hour.

    Args:
        demand: Instances per hour, shape (hours,).
        bought: Committed instances; they are filled first.
        spot_share: Share of the rest that runs on spot.
        interrupted: Share of hours in which spot is taken back and the rest runs on demand.
        seed: Seed of the interruptions.
    """
    rng = np.random.default_rng(seed)
    committed = np.minimum(demand, bought)
    rest = demand - committed
    spot = np.floor(rest * spot_share).astype(np.int64)
    spot[rng.random(demand.size) < interrupted] = 0
    return rest - spot, spot, committed


@dataclass(frozen=True, slots=True)
class _Shape:
    provider: str
    region: str
    zones: tuple[str, ...]
    types: tuple[tuple[str, int, float, float, float], ...]
    accounts: tuple[str, ...]


SHAPES: dict[str, _Shape] = {
    "aws": _Shape(
        "aws",
        "us-east-1",
        ("us-east-1a", "us-east-1b"),
        (
            ("m5.large", 2, 8.0, 0.096, 0.0361),
            ("c5.2xlarge", 8, 16.0, 0.34, 0.1399),
            ("r5.xlarge", 4, 32.0, 0.252, 0.0908),
        ),
        ("111122223333", "444455556666"),
    ),
    "gcp": _Shape(
        "gcp",
        "us-central1",
        ("us-central1-a", "us-central1-b"),
        (("n2-standard-4", 4, 16.0, 0.194236, 0.058272), ("c2-standard-8", 8, 32.0, 0.41776, 0.125328)),
        ("spotwise-web", "spotwise-batch"),
    ),
    "azure": _Shape(
        "azure",
        "eastus",
        ("1", "2"),
        (("Standard_D2s_v3", 2, 8.0, 0.096, 0.0192), ("Standard_F8s_v2", 8, 16.0, 0.338, 0.0676)),
        ("11111111-2222-3333-4444-555555555555", "66666666-7777-8888-9999-000000000000"),
    ),
}
"""Regions, zones and types per cloud: (type, vCPUs, GiB, on-demand and spot USD/h); not offers."""


def _planted(
    names: list[str], demands: list[Counts], shape: _Shape, *, untagged: frozenset[str], seed: int
) -> tuple[PlantedWorkload, ...]:
    built = []
    for index, (name, demand) in enumerate(zip(names, demands, strict=True)):
        kind, vcpus, memory, on_demand_price, spot_price = shape.types[index % len(shape.types)]
        bought = int(np.percentile(demand, 25)) if index % 3 == 0 else 0
        # A commitment that demand falls below now and then, so that some of it is unused.
        on_demand, spot, committed = place(
            demand, bought=bought, spot_share=0.3 + 0.2 * (index % 3), seed=seed + index
        )
        built.append(
            PlantedWorkload(
                name=name,
                account=shape.accounts[index % len(shape.accounts)],
                region=shape.region,
                zone=shape.zones[index % len(shape.zones)],
                instance_type=kind,
                vcpus=vcpus,
                memory_gib=memory,
                on_demand_price=on_demand_price,
                spot_price=spot_price,
                on_demand=on_demand,
                spot=spot,
                committed=committed,
                bought=bought,
                commitment="reserved" if index % 6 == 3 else "savings-plan",
                tagged=name not in untagged,
            )
        )
    return tuple(built)


def _shape(provider: str) -> _Shape:
    if provider not in SHAPES:
        raise InputError(f"provider {provider!r}; accepted: {', '.join(SHAPES)}")
    return SHAPES[provider]


def demo_scenario(
    provider: str = "aws",
    *,
    days: int = 14,
    seed: int = 0,
    start: datetime = datetime(2024, 3, 25, tzinfo=UTC),
) -> Scenario:
    """Return the demo bill: five workloads, one of them untagged, commitments, an anomaly, a gap.

    The span crosses a month end and, by default, the days around it.
    """
    if days < 2:
        raise InputError(f"{days} days; accepted: 2 or more")
    hours = days * 24
    rng = np.random.default_rng(seed)
    clock = np.arange(hours)
    day = np.sin((clock % 24 - 9) / 24 * 2 * np.pi)
    week = np.where((clock // 24) % 7 < 5, 1.0, 0.6)
    noise = rng.normal(0, 0.4, (5, hours))
    demands = [
        np.maximum(np.rint((8 + 4 * day) * week + noise[0]), 0),
        np.rint(4 * (clock % 24 < 5) * np.ones(hours)),
        np.maximum(np.rint(3 + 1.5 * day + noise[2]), 0),
        np.maximum(np.rint(5 + 2.5 * week * day + noise[3]), 0),
        np.maximum(np.rint(2 + noise[4]), 0),
    ]
    names = ["web-frontend", "nightly-etl", "search-api", "payments-core", "legacy-vm"]
    workloads = _planted(
        names,
        [series.astype(np.int64) for series in demands],
        _shape(provider),
        untagged=frozenset({"legacy-vm"}),
        seed=seed,
    )
    gap = frozenset(range(hours // 2 + 3, hours // 2 + 6)) if provider != "azure" else frozenset()
    return Scenario(start, hours, workloads, missing=gap, anomalies=(Anomaly(0, hours // 3, 180.0),))


def snowflake_scenario(
    path: Path,
    *,
    provider: str = "aws",
    days: int = 7,
    scale: float = 0.02,
    start: datetime = datetime(2023, 6, 1, tzinfo=UTC),
) -> Scenario:
    """Return a bill whose demand is Snowflake's real virtual-machine demand (Shaved Ice, CC BY 4.0).

    Args:
        path: `snowflake_shavedice_hourly_normalized.parquet` or its CSV.
        provider: Cloud to bill it on.
        days: Length.
        scale: Instances per normalised unit (the file is scaled to 1000 per region).
        start: First hour; the file covers 2021-02 to 2024-01.

    Raises:
        InputError: The file is absent, has other columns, or has no rows in the span.
    """
    import duckdb

    if not path.exists():
        raise InputError(f"{path}: no such file; accepted: the Snowflake hourly demand as parquet or CSV")
    hours = days * 24
    first = start.replace(tzinfo=None)
    reader = "read_parquet" if path.suffix == ".parquet" else "read_csv"
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        try:
            # `reader` is one of the two names above; values are bound.
            rows = connection.execute(
                "SELECT region_num::INT, instance_type, date_diff('hour', ?, usage_hour::TIMESTAMP)::INT,"
                f" norm_usage::DOUBLE FROM {reader}(?)"
                " WHERE usage_hour::TIMESTAMP >= ? AND usage_hour::TIMESTAMP < ?",
                [first, str(path), first, first + timedelta(hours=hours)],
            ).fetchall()
        except duckdb.Error as error:
            raise InputError(
                f"{path}: {str(error).splitlines()[0]}; accepted: the columns region_num, instance_type,"
                " usage_hour and norm_usage"
            ) from error
    if not rows:
        raise InputError(f"{path}: no rows in the {days} days from {first:%Y-%m-%d}")
    series: dict[str, Counts] = {}
    for region, kind, hour, value in rows:
        name = f"r{region}-{kind}"
        # A row that is absent means that nothing ran.
        series.setdefault(name, np.zeros(hours, dtype=np.int64))[hour] = round(value * scale)
    names = sorted(name for name, values in series.items() if values.any())
    return Scenario(
        start,
        hours,
        _planted(names, [series[n] for n in names], _shape(provider), untagged=frozenset(), seed=1),
    )
