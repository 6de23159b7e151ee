"""Terms of jobs that the simulator knows and neither report nor controller does: refused with the reason."""

from __future__ import annotations

from typing import Any

NOT_PLACED_BY = (
    "terms",
    "throughput",
    "on_demand_throughput",
    "move_seconds",
    "move_usd",
    "moves",
    "data_region",
)
"""Fields of `simulator.deadline.terms.PoolTerms`."""


def refuse_pool_terms(data: Any) -> Any:
    """The data of a job, if it has no such terms; for pydantic, before anything else is checked.

    Raises:
        ValueError: It has.
    """
    given = [name for name in NOT_PLACED_BY if isinstance(data, dict) and name in data]
    if given:
        raise ValueError(
            f"{', '.join(given)}: the report and the controller do not place by throughput or data location "
            "yet; leave it out, and give only pools that are alike"
        )
    return data
