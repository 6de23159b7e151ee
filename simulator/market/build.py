"""From files to a market: read, select, put on one clock, resample, price."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from fractions import Fraction
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from simulator.errors import InputError
from simulator.market.assumed import assumed_capacity
from simulator.market.clock import Clock, Span, common_clock, milliseconds, refuse_unequal_traces
from simulator.market.market import UNLIMITED_CAPACITY, Market, Pool
from simulator.market.readers import (
    CapacityTrace,
    OnDemandPrices,
    PriceHistory,
    merge_histories,
    read_records,
)
from simulator.market.readers.advisor import InterruptionBands, hazard_per_tick
from simulator.market.readers.zones import sold_as
from simulator.market.resample import sample_index, step_values

HIGHEST_CELLS = 200_000_000
"""Pools x ticks of one market; 4 GB of arrays."""
DEFAULT_PRODUCT = "Linux/UNIX"


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


@dataclass(frozen=True)
class _Offer:
    """What is known of one pool: a trace, a price history, or both."""

    pool: Pool
    trace: CapacityTrace | None
    history: PriceHistory | None

    @property
    def files(self) -> str:
        return ", ".join(part.file for part in (self.trace, self.history) if part is not None)


def build_market(
    paths: Sequence[Path],
    options: BuildOptions,
    *,
    format_name: str | None = None,
    on_file: Callable[[Path], None] | None = None,
) -> Market:
    """Build a market from trace and price files.

    Traces give capacity, at each tick the sample floor(i · tick / gap); histories give prices, the last
    value carried forward; a pool with both gets both, a pool with prices only has unlimited capacity (or
    made-up availability where `options.bands` asks for it). `Market.source` says which.

    Args:
        paths: One or more files.
        options: How.
        format_name: Format of all files; None finds it out for each.
        on_file: Called after each file, for progress.

    Returns:
        The market; pools of traces in the order of their files, then pools of histories by name.

    Raises:
        InputError: A file cannot be used, no pool is left, pools share no span, or a price is missing.
    """
    if options.tick_seconds < 1 or options.unit_capacity < 1 or not paths:
        raise InputError(
            f"{len(paths)} files, tick of {options.tick_seconds} s, unit capacity {options.unit_capacity}; "
            "accepted: at least one file, 1 s, 1 instance"
        )
    for name in ("spot_price", "fill_spot_price", "on_demand_price"):
        price = getattr(options, name)
        if price is not None and not 0 <= price < math.inf:
            raise InputError(
                f"--{name.replace('_', '-')} {price}: negative or not finite; accepted: USD per hour"
            )
    traces: list[CapacityTrace] = []
    histories: list[PriceHistory] = []
    for path in paths:
        for record in read_records(path, format_name):
            if isinstance(record, CapacityTrace):
                traces.append(record)
            else:
                histories.append(record)
        if on_file:
            on_file(path)
    offers = _join(*_selected(traces, histories, options), options)
    if options.drop_incomplete:
        offers = _complete(offers, options)
    clock = _clock(offers, options)
    if clock.ticks * len(offers) > HIGHEST_CELLS:
        raise InputError(
            f"{len(offers)} pools x {clock.ticks} ticks are more than {HIGHEST_CELLS:,}; accepted: "
            "a longer tick, or fewer pools with --instance-type, --zone, --region, --start, --end"
        )
    return Market.build(
        [offer.pool for offer in offers],
        tick_seconds=options.tick_seconds,
        start=clock.start,
        spot_price=np.stack([_spot_price(offer, clock, options) for offer in offers]),
        spot_capacity=_capacity(offers, clock, options),
        on_demand_price=np.stack([_on_demand_price(offer, clock, options) for offer in offers]),
        source=_source(offers, clock, options),
    )


def _selected(
    traces: list[CapacityTrace], histories: list[PriceHistory], options: BuildOptions
) -> tuple[list[CapacityTrace], list[PriceHistory]]:
    def wanted(pool: Pool) -> bool:
        types = options.instance_types
        return (
            (not types or pool.instance_type in types or sold_as(pool) in types)
            and (not options.zones or pool.zone in options.zones)
            and (not options.regions or pool.region in options.regions)
        )

    pools = [trace.pool for trace in traces] + [history.pool for history in histories]
    traces = [trace for trace in traces if wanted(trace.pool)]
    histories = [history for history in histories if wanted(history.pool)]
    if not traces and not histories:
        raise InputError(
            "no pool is left by --instance-type, --zone, --region; the files have types "
            f"{_some({pool.instance_type for pool in pools})}; zones {_some({pool.zone for pool in pools})}"
        )
    return traces, _of_product(histories, options.product)


def _of_product(histories: list[PriceHistory], product: str | None) -> list[PriceHistory]:
    products = {history.product for history in histories if history.product}
    if product is None and len(products) > 1:
        product = DEFAULT_PRODUCT
    if not products or product is None:
        return histories
    if product not in products:
        raise InputError(f"product {product!r} is not in the files; accepted: --product {_some(products)}")
    return [history for history in histories if history.product in ("", product)]


def _join(traces: list[CapacityTrace], histories: list[PriceHistory], options: BuildOptions) -> list[_Offer]:
    by_pool: dict[Pool, list[PriceHistory]] = {}
    for history in histories:
        by_pool.setdefault(history.pool, []).append(history)
    merged = {pool: merge_histories(by_pool[pool]) for pool in sorted(by_pool)}
    seen: dict[Pool, str] = {}
    offers = []
    for trace in traces:
        if trace.pool in seen:
            raise InputError(
                f"{seen[trace.pool]} and {trace.file}: both are traces of pool {trace.pool.name}; "
                "accepted: one trace per pool"
            )
        seen[trace.pool] = trace.file
        as_sold = Pool(trace.pool.provider, trace.pool.region, trace.pool.zone, sold_as(trace.pool))
        price_pool = trace.pool if trace.pool in merged else as_sold
        offers.append(_Offer(trace.pool, trace, merged.pop(price_pool, None)))
    return offers + [_Offer(pool, None, history) for pool, history in merged.items()]


def _clock(offers: list[_Offer], options: BuildOptions) -> Clock:
    traces = [offer.trace for offer in offers if offer.trace]
    undated = [trace for trace in traces if trace.start is None]
    if undated and options.start is None and len(undated) < len(offers):
        raise InputError(
            f"{undated[0].file}: has no times, and other files have; accepted: a folder named like "
            "aws-02-15-2023, or --start with the time of its first sample"
        )
    if not options.common_span and (options.start is None or options.end is None):
        refuse_unequal_traces(traces)
    return common_clock(
        [span for offer in offers for span in _spans(offer, options)],
        tick_seconds=options.tick_seconds,
        start=options.start,
        end=options.end,
        align=not traces,
    )


def _spans(offer: _Offer, options: BuildOptions) -> list[Span]:
    spans = []
    if offer.trace:
        start_ms = _trace_start_ms(offer.trace, options)
        end_ms = start_ms + math.floor(offer.trace.span_seconds * 1000)
        spans.append(Span(f"{offer.trace.file} ({offer.pool.name})", start_ms, end_ms))
    if offer.history and (offer.trace is None or options.spot_price is None):
        start_ms = int(offer.history.times_ms[0])
        spans.append(Span(f"{offer.history.file} ({offer.pool.name})", start_ms, offer.history.end_ms))
    return spans


def _complete(offers: list[_Offer], options: BuildOptions) -> list[_Offer]:
    """The offers with data from `options.start` to `options.end` or the end of the longest."""
    if options.start is None:
        raise InputError("--drop-incomplete needs --start: from when on a pool must have data")
    spans = [_spans(offer, options) for offer in offers]
    start_ms = milliseconds(options.start)
    end_ms = milliseconds(options.end) if options.end else max(s.end_ms for part in spans for s in part)
    kept = [
        offer
        for offer, part in zip(offers, spans, strict=True)
        if all(span.start_ms <= start_ms and span.end_ms >= end_ms for span in part)
    ]
    if not kept:
        raise InputError(
            f"--drop-incomplete leaves no pool: none of {len(offers)} has data from "
            f"{options.start} to the end; accepted: a later --start or an earlier --end"
        )
    return kept


def _trace_start_ms(trace: CapacityTrace, options: BuildOptions) -> int:
    start = trace.start or options.start or datetime.fromtimestamp(0, UTC)
    return milliseconds(start)


def _spot_price(offer: _Offer, clock: Clock, options: BuildOptions) -> NDArray[np.float64]:
    if options.spot_price is not None:
        return np.full(clock.ticks, options.spot_price)
    if offer.trace and offer.trace.spot_price is not None:
        return offer.trace.spot_price[_sample_index(offer.trace, clock, options)]
    if offer.history:
        return step_values(offer.history.times_ms, offer.history.spot_price, clock.moments_ms())
    if options.fill_spot_price is not None:
        return np.full(clock.ticks, options.fill_spot_price)
    raise InputError(
        f"{offer.files}: no spot price for pool {offer.pool.name}; accepted: --spot-price for every pool, "
        "--fill-spot-price for pools without one, or a price history of that zone and type"
    )


def _on_demand_price(offer: _Offer, clock: Clock, options: BuildOptions) -> NDArray[np.float64]:
    if options.on_demand_price is not None:
        return np.full(clock.ticks, options.on_demand_price)
    table = options.on_demand_prices
    listed = table.price(offer.pool) if table else None
    if listed is not None:
        return np.full(clock.ticks, listed)
    if offer.history and offer.history.on_demand_price is not None:
        return step_values(offer.history.times_ms, offer.history.on_demand_price, clock.moments_ms())
    where = f"{offer.files} and {table.file}" if table else offer.files
    raise InputError(
        f"{where}: no on-demand price for pool {offer.pool.name}; accepted: --on-demand-price for every "
        f"pool, or --on-demand-prices FILE with a row for {sold_as(offer.pool)} in {offer.pool.region}"
    )


def _sample_index(trace: CapacityTrace, clock: Clock, options: BuildOptions) -> NDArray[np.int64]:
    offset = Fraction(clock.start_ms - _trace_start_ms(trace, options), 1000)
    return sample_index(clock.ticks, options.tick_seconds, trace.gap_seconds, offset_seconds=offset)


def _capacity(offers: list[_Offer], clock: Clock, options: BuildOptions) -> NDArray[np.int64]:
    capacity = np.full((len(offers), clock.ticks), UNLIMITED_CAPACITY, dtype=np.int64)
    for row, offer in enumerate(offers):
        if offer.trace is None:
            continue
        if options.unit_capacity == UNLIMITED_CAPACITY and offer.trace.capacity.max() > 1:
            raise InputError(
                f"{offer.trace.file}: counts up to {offer.trace.capacity.max()} instances; "
                "accepted with --unit-capacity unlimited: traces of 0 and 1"
            )
        sampled = offer.trace.capacity[_sample_index(offer.trace, clock, options)]
        capacity[row] = np.minimum(sampled * options.unit_capacity, UNLIMITED_CAPACITY)
    if options.bands:
        rows = [row for row, offer in enumerate(offers) if offer.trace is None]
        hazards = [_hazard(offers[row].pool, options.bands, options.tick_seconds) for row in rows]
        outage_ticks = options.outage_hours * 3600 / options.tick_seconds
        if not 1 <= outage_ticks < math.inf:
            raise InputError(f"outage of {options.outage_hours} h; accepted: one tick or longer")
        capacity[rows] = assumed_capacity(hazards, clock.ticks, outage_ticks=outage_ticks, seed=options.seed)
    return capacity


def _hazard(pool: Pool, bands: InterruptionBands, tick_seconds: int) -> float:
    band = bands.band(pool)
    if band is None:
        raise InputError(
            f"{bands.file}: no interruption band for pool {pool.name}; accepted: a file with its zone or "
            "region and type, or leave the pool out with --instance-type, --zone, --region"
        )
    return hazard_per_tick(band, tick_seconds)


def _source(offers: list[_Offer], clock: Clock, options: BuildOptions) -> str:
    traces = [offer.trace for offer in offers if offer.trace]
    parts = []
    if traces:
        folders = sorted({Path(trace.file).absolute().parent.name for trace in traces})
        parts.append(f"{len(traces)} availability traces from {_some(set(folders))}")
        if clock.start_ms == 0 and any(trace.start is None for trace in traces):
            parts.append("times unknown, counted from 1970-01-01")
        if options.unit_capacity == UNLIMITED_CAPACITY:
            parts.append("capacity read as none or unlimited")
        elif options.unit_capacity != 1:
            parts.append(f"capacity counted as {options.unit_capacity} per instance of the trace")
    prices = [offer for offer in offers if offer.history]
    if prices:
        files = {
            Path(name).name for offer in prices if offer.history for name in offer.history.file.split(", ")
        }
        products = {offer.history.product for offer in prices if offer.history and offer.history.product}
        parts.append(f"prices from {_some(files)}" + (f" ({_some(products)})" if products else ""))
    price_only = sum(offer.trace is None for offer in offers)
    if price_only and options.bands:
        parts.append(
            f"ASSUMED interruptions of {price_only} pools without a trace: bands of "
            f"{Path(options.bands.file).name}, outages of {options.outage_hours:g} h on average, "
            f"seed {options.seed}"
        )
    elif price_only:
        parts.append(
            f"capacity of {price_only} pools without a trace is unlimited (only their prices are known)"
        )
    for what, price in (
        ("spot", options.spot_price),
        ("missing spot", options.fill_spot_price),
        ("on-demand", options.on_demand_price),
    ):
        if price is not None:
            parts.append(f"{what} price set to {price:g} USD/h")
    if options.on_demand_prices and options.on_demand_price is None:
        parts.append(f"on-demand prices from {Path(options.on_demand_prices.file).name}")
    return "; ".join(parts)


def _some(names: set[str], most: int = 8) -> str:
    """Up to `most` of the names, in order, for messages."""
    shown = sorted(names)[:most]
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(shown) + more
