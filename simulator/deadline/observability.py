"""What jobs know of the availability of pools."""

from __future__ import annotations

from typing import Literal, cast, get_args

from simulator.errors import InputError

Observability = Literal["full", "occupied", "probed"]
"""What jobs know of the availability of pools: all of it; that of the pool they occupy or ask; or that and at
each tick one pool more, the one of which they have known nothing for longest.

Of one pool, `probed` is `full`, and with `occupied` asking is the only way to look while it is not occupied.

Who sees all pools asks none in vain: a launch that fails leaves the job idle for the tick. Who does not asks
before it lets go of what it has: a launch that fails leaves the job where it is."""


def check_observability(observability: str) -> Observability:
    """The observability, if it is one.

    Raises:
        InputError: It is unknown.
    """
    if observability not in get_args(Observability):
        raise InputError(f"observability {observability!r}; accepted: {', '.join(get_args(Observability))}")
    return cast("Observability", observability)
