"""How files become a market."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from simulator.market.readers import OnDemandPrices
from simulator.market.readers.advisor import InterruptionBands


@dataclass(frozen=True)
class BuildOptions:
    """How files become a market.

    Attributes:
        tick_seconds: Seconds per tick.
        start: Begin here instead of where all pools have data; also the time of the first sample of traces
            whose folder carries no date.
        end: End here instead of where the first pool runs out of data.
        spot_price: USD per hour for every pool at every tick, whatever the files say.
        fill_spot_price: USD per hour for pools whose files carry no spot price.
        on_demand_price: USD per hour for every pool, whatever the files say.
        on_demand_prices: List prices by region and type; before prices in the data.
        instance_types: Keep these types (as in the file or as sold); empty keeps all.
        zones: Keep these zones; empty keeps all.
        regions: Keep these regions; empty keeps all.
        product: Keep this product of AWS histories; None means Linux/UNIX where there are several.
        unit_capacity: Instances that one counted instance of a trace stands for; `UNLIMITED_CAPACITY` reads a
            0/1 trace as none or as many as asked.
        common_span: Whether traces of different gap or length are cut to the span they share, instead of
            being refused.
        drop_incomplete: Whether pools without data over the whole of [start, end] are left out instead of
            refused; without `end`, up to where the last pool has data.
        bands: Interruption bands from which to make up availability for pools without a trace.
        outage_hours: Mean outage assumed with the bands.
        seed: Seed of the availability made up with the bands.
    """

    tick_seconds: int = 600
    start: datetime | None = None
    end: datetime | None = None
    spot_price: float | None = None
    fill_spot_price: float | None = None
    on_demand_price: float | None = None
    on_demand_prices: OnDemandPrices | None = None
    instance_types: tuple[str, ...] = ()
    zones: tuple[str, ...] = ()
    regions: tuple[str, ...] = ()
    product: str | None = None
    unit_capacity: int = 1
    common_span: bool = False
    drop_incomplete: bool = False
    bands: InterruptionBands | None = None
    outage_hours: float = 2.0
    seed: int = 0
