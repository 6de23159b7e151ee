"""What is known of each pool: records selected, joined across files, and when each has data."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import UTC, datetime

from simulator.errors import InputError
from simulator.market.clock import Span, milliseconds
from simulator.market.market import Pool
from simulator.market.options import BuildOptions
from simulator.market.readers import CapacityTrace, PriceHistory, merge_histories
from simulator.market.readers.zones import sold_as

DEFAULT_PRODUCT = "Linux/UNIX"


@dataclass(frozen=True)
class Offer:
    """What is known of one pool.

    Attributes:
        pool: The pool.
        trace: Its capacity, None where only prices are known.
        history: Its prices, None where the trace has them or nobody does.
    """

    pool: Pool
    trace: CapacityTrace | None
    history: PriceHistory | None

    @property
    def files(self) -> str:
        """The files it was read from, for messages."""
        return ", ".join(part.file for part in (self.trace, self.history) if part is not None)


def selected(
    traces: list[CapacityTrace], histories: list[PriceHistory], options: BuildOptions
) -> tuple[list[CapacityTrace], list[PriceHistory]]:
    """The records of the pools and the product that the options ask for.

    Raises:
        InputError: Nothing is left.
    """

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
            f"{some({pool.instance_type for pool in pools})}; zones {some({pool.zone for pool in pools})}"
        )
    return traces, _of_product(histories, options.product)


def _of_product(histories: list[PriceHistory], product: str | None) -> list[PriceHistory]:
    products = {history.product for history in histories if history.product}
    if product is None and len(products) > 1:
        product = DEFAULT_PRODUCT
    if not products or product is None:
        return histories
    if product not in products:
        raise InputError(f"product {product!r} is not in the files; accepted: --product {some(products)}")
    return [history for history in histories if history.product in ("", product)]


def join(traces: list[CapacityTrace], histories: list[PriceHistory]) -> list[Offer]:
    """One offer per pool; a trace takes the history of its pool, by the name it is sold under if need be.

    Raises:
        InputError: Two traces are of one pool, or two files contradict each other.
    """
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
        offers.append(Offer(trace.pool, trace, merged.pop(price_pool, None)))
    return offers + [Offer(pool, None, history) for pool, history in merged.items()]


def spans_of(offer: Offer, options: BuildOptions) -> list[Span]:
    """When there is data for the pool: the span of its trace, and of its history where that is used."""
    spans = []
    if offer.trace:
        start_ms = trace_start_ms(offer.trace, options)
        end_ms = start_ms + math.floor(offer.trace.span_seconds * 1000)
        spans.append(Span(f"{offer.trace.file} ({offer.pool.name})", start_ms, end_ms))
    if offer.history and (offer.trace is None or _prices_needed(offer.trace, offer.history, options)):
        start_ms = int(offer.history.times_ms[0])
        spans.append(Span(f"{offer.history.file} ({offer.pool.name})", start_ms, offer.history.end_ms))
    return spans


def _prices_needed(trace: CapacityTrace, history: PriceHistory, options: BuildOptions) -> bool:
    """Whether the prices of a pool with a trace come from its history."""
    spot = options.spot_price is None and trace.spot_price is None
    listed = options.on_demand_prices is not None and options.on_demand_prices.price(trace.pool) is not None
    on_demand = options.on_demand_price is None and not listed and history.on_demand_price is not None
    return spot or on_demand


def complete(offers: list[Offer], options: BuildOptions) -> list[Offer]:
    """The offers with data from `options.start` to `options.end` or the end of the longest.

    Raises:
        InputError: `options.start` is not given, or no offer is left.
    """
    if options.start is None:
        raise InputError("--drop-incomplete needs --start: from when on a pool must have data")
    spans = [spans_of(offer, options) for offer in offers]
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


def trace_start_ms(trace: CapacityTrace, options: BuildOptions) -> int:
    """When the first sample was taken; 1970 where neither the file nor the options say."""
    start = trace.start or options.start or datetime.fromtimestamp(0, UTC)
    return milliseconds(start)


def some(names: set[str], most: int = 8) -> str:
    """Up to `most` of the names, in order, for messages."""
    shown = sorted(names)[:most]
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(shown) + more
