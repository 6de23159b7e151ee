"""Targets of an EC2 Fleet of type maintain whose total somebody else sets.

A fleet launches and terminates by itself whatever its two targets say. So the mix is changed by targets
alone: the new kind is asked for a few at a time, and what it replaces is given up as it becomes ready. At no
moment are the targets such that the fleet would go below what is needed.
"""

from __future__ import annotations

import math

SHARE_AT_ONCE = 0.1
"""Of the demand that is converted at a time, at least one instance; what is missing comes on top."""


def next_targets(
    demand: int, base: int, on_demand: tuple[int, int], spot: tuple[int, int]
) -> tuple[int, int]:
    """Targets of on-demand and spot capacity to set now.

    Args:
        demand: Instances needed.
        base: Of them on-demand, in the end; at most `demand`.
        on_demand: Held, and of them ready.
        spot: Held, and of them ready.

    Returns:
        Both targets; together at least `demand`.
    """
    short = max(demand - on_demand[0] - spot[0], 0)
    step = max(math.ceil(SHARE_AT_ONCE * demand), 1) + short
    return (
        _towards(base, on_demand[0], demand - spot[1], step),
        _towards(demand - base, spot[0], demand - on_demand[1], step),
    )


def _towards(wanted: int, held: int, needed: int, step: int) -> int:
    """Up by a step; down only as far as the other kind is ready, and never launching for that."""
    if held <= wanted:
        return min(wanted, held + step)
    return max(wanted, min(held, needed))
