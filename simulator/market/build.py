"""From files to a market: read, select, put on one clock, resample, price."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from simulator.errors import InputError
from simulator.market.assumed import assumed_capacity
from simulator.market.clock import Clock, common_clock, refuse_unequal_traces
from simulator.market.market import HIGHEST_CELLS, UNLIMITED_CAPACITY, Market, Pool
from simulator.market.offers import Offer, complete, join, selected, some, spans_of, trace_start_ms
from simulator.market.options import BuildOptions
from simulator.market.readers import CapacityTrace, PriceHistory, read_records
from simulator.market.readers.advisor import InterruptionBands, hazard_per_tick
from simulator.market.readers.records import HIGHEST_PRICE
from simulator.market.readers.zones import sold_as
from simulator.market.resample import sample_index, step_values

__all__ = ["BuildOptions", "build_market"]


def build_market(
    paths: Sequence[Path],
    options: BuildOptions,
    *,
    format_name: str | None = None,
    on_file: Callable[[Path], None] | None = None,
    on_warning: Callable[[str], None] | None = None,
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
        on_warning: Called with what is cut from each trace that is longer than the shortest.

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
        if price is not None and not 0 <= price <= HIGHEST_PRICE:
            raise InputError(
                f"--{name.replace('_', '-')} {price}: negative or not finite; accepted: USD per hour, "
                f"at most {HIGHEST_PRICE:,.0f}"
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
    offers = join(*selected(traces, histories, options))
    if options.drop_incomplete:
        offers = complete(offers, options)
    clock = _clock(offers, options)
    if on_warning:
        for cut in _cuts(offers, clock):
            on_warning(cut)
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


def _clock(offers: list[Offer], options: BuildOptions) -> Clock:
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
        [span for offer in offers for span in spans_of(offer, options)],
        tick_seconds=options.tick_seconds,
        start=options.start,
        end=options.end,
        align=not traces,
    )


def _spot_price(offer: Offer, clock: Clock, options: BuildOptions) -> NDArray[np.float64]:
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


def _on_demand_price(offer: Offer, clock: Clock, options: BuildOptions) -> NDArray[np.float64]:
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
    offset = Fraction(clock.start_ms - trace_start_ms(trace, options), 1000)
    return sample_index(clock.ticks, options.tick_seconds, trace.gap_seconds, offset_seconds=offset)


def _capacity(offers: list[Offer], clock: Clock, options: BuildOptions) -> NDArray[np.int64]:
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


def _seconds(trace: CapacityTrace) -> Fraction:
    return trace.gap_seconds * int(trace.capacity.size)


def _cuts(offers: list[Offer], clock: Clock) -> list[str]:
    """What the common span leaves out of each trace that is longer than the shortest."""
    traces = [offer.trace for offer in offers if offer.trace]
    if not traces:
        return []
    least = min(_seconds(trace) for trace in traces)
    kept = clock.ticks * clock.tick_seconds
    return [
        f"{trace.file}: {kept / 3600:.2f} h of {float(_seconds(trace)) / 3600:.2f} h used; "
        "the rest lies outside the span of the market"
        for trace in traces
        if _seconds(trace) > least
    ]


def _source(offers: list[Offer], clock: Clock, options: BuildOptions) -> str:
    traces = [offer.trace for offer in offers if offer.trace]
    parts = []
    if traces:
        folders = sorted({Path(trace.file).absolute().parent.name for trace in traces})
        parts.append(f"{len(traces)} availability traces from {some(set(folders))}")
        if clock.start_ms == 0 and any(trace.start is None for trace in traces):
            parts.append("times unknown, counted from 1970-01-01")
        shortest = min(traces, key=_seconds)
        if any(_seconds(trace) > _seconds(shortest) for trace in traces):
            parts.append(f"cut to the span they share ({Path(shortest.file).name} ends first)")
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
        parts.append(f"prices from {some(files)}" + (f" ({some(products)})" if products else ""))
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
