"""Options of `spotwise evaluate` that say how pools differ beside their prices: `PoolTerms` from text."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from simulator.errors import InputError

if TYPE_CHECKING:
    from simulator.deadline.terms import Move, PoolTerms

ON_DEMAND = "on-demand"
_MOVE = re.compile(r"^([^:=]+):([^:=]+)=([^,]+),(.+)$")


def pool_terms(
    throughput: Sequence[str],
    moves: Sequence[str],
    move_minutes: float,
    move_usd: float,
    data_gb: float,
    egress_usd_per_gb: float,
    copy_mb_per_second: float,
    data_region: str | None,
) -> PoolTerms | None:
    """Terms as the options say, None if they say nothing.

    Args:
        throughput: `NAME=FACTOR` each: a pool, an instance type or `on-demand`.
        moves: `FROM:TO=MINUTES,USD` each, two regions.
        move_minutes: Of a move between any two other regions, beside the copy of `data_gb`.
        move_usd: The same.
        data_gb: Data that are copied in each of those moves.
        egress_usd_per_gb: Their price.
        copy_mb_per_second: Their speed.
        data_region: Where the data are at the begin.

    Raises:
        InputError: A text is not of that form, or see `PoolTerms`.
    """
    from simulator.deadline.terms import PoolTerms

    factors = [_factor(text) for text in throughput]
    on_demand = [factor for name, factor in factors if name == ON_DEMAND]
    if len(on_demand) > 1:
        raise InputError("--throughput on-demand is given twice; give it once")
    copies = PoolTerms.for_data(
        data_gb, usd_per_gigabyte=egress_usd_per_gb, megabytes_per_second=copy_mb_per_second
    )
    terms = PoolTerms(
        throughput=tuple((name, factor) for name, factor in factors if name != ON_DEMAND),
        on_demand_throughput=on_demand[0] if on_demand else 1.0,
        move_seconds=60.0 * move_minutes + copies.move_seconds,
        move_usd=move_usd + copies.move_usd,
        moves=tuple(_move(text) for text in moves),
        data_region=data_region,
    )
    if data_region is not None and not terms.moves_cost:
        raise InputError(
            f"--data-region {data_region}: moves take nothing; give --data-gb, --move-minutes, --move-usd or "
            "--move too"
        )
    return None if terms == PoolTerms() else terms


def _factor(text: str) -> tuple[str, float]:
    name, _, value = text.rpartition("=")
    try:
        if not name:
            raise ValueError
        return name, float(value)
    except ValueError:
        raise InputError(
            f"--throughput {text!r}; accepted: NAME=FACTOR with a pool, an instance type or {ON_DEMAND}"
        ) from None


def _move(text: str) -> Move:
    from simulator.deadline.terms import Move

    found = _MOVE.match(text)
    try:
        if found is None:
            raise ValueError
        return Move(found[1], found[2], 60.0 * float(found[3]), float(found[4]))
    except ValueError:
        raise InputError(f"--move {text!r}; accepted: FROM:TO=MINUTES,USD with two regions") from None
