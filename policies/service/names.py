"""Names of service policies, and how a bundle becomes one."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from policies.bundle import Bundle, Weights
from policies.service.protocol import ServicePolicy
from simulator.errors import InputError

if TYPE_CHECKING:
    from policies.service.lookahead import LookAhead

LOOK_AHEAD = "service-look-ahead"
"""Algorithm of bundles that hold a survival curve and the planner's settings."""
RESIDUAL = "service-residual"
"""Algorithm of bundles that hold a network on top of it too."""
_SPOTHEDGE = re.compile(r"spothedge-(\d)")
_STATIC_MIX = re.compile(r"static-mix-(?:(\d{1,6})\+)?(\d{1,3})(-lowest-price)?")

SERVICE_NAMES = (
    "on-demand",
    "spot-only",
    "even-spread",
    "round-robin",
    "static-mix-50",
    "spothedge-0",
    "spothedge-1",
    "spothedge-2",
    "look-ahead",
    "service-champion",
)
"""Built-in names; `static-mix-BASE+PERCENT[-lowest-price]` and `spothedge-SPARES` take other numbers too."""


def service_policy(name: str) -> ServicePolicy | None:
    """The built-in policy of a name but `service-champion`, which is a bundle; None if there is none.

    Raises:
        InputError: A number in the name is out of range.
    """
    from policies.service.fixed import EvenSpread, OnDemandOnly
    from policies.service.spothedge import SpotHedge
    from policies.service.static_mix import RoundRobin, StaticMix

    plain: Mapping[str, Callable[[], ServicePolicy]] = {
        "on-demand": OnDemandOnly,
        "spot-only": lambda: StaticMix(0),
        "even-spread": EvenSpread,
        "round-robin": RoundRobin,
        "look-ahead": _look_ahead,
    }
    if name in plain:
        return plain[name]()
    if hedge := _SPOTHEDGE.fullmatch(name):
        return SpotHedge(int(hedge[1]))
    if mix := _STATIC_MIX.fullmatch(name):
        strategy: Literal["lowest-price", "price-capacity-optimized"] = (
            "lowest-price" if mix[3] else "price-capacity-optimized"
        )
        return StaticMix(int(mix[2]), int(mix[1] or 0), strategy)
    return None


def look_ahead_of(bundle: Bundle) -> ServicePolicy:
    """The planner that a bundle describes.

    Raises:
        InputError: Weights or settings are missing, unknown or out of range.
    """
    return planner_of(bundle.weights, bundle.manifest.parameters, bundle.manifest.name)


def residual_of(bundle: Bundle) -> ServicePolicy:
    """The planner with a network on top that a bundle describes.

    Raises:
        InputError: As for `ResidualPlanner.of`.
    """
    from policies.service.residual import ResidualPlanner

    return ResidualPlanner.of(bundle)


def planner_of(weights: Weights, parameters: Mapping[str, Any], name: str) -> LookAhead:
    """The planner of a survival curve and settings as bundles hold them.

    Raises:
        InputError: Weights or settings are missing, unknown or out of range.
    """
    from policies.service.lookahead import LookAhead, LookAheadSettings, Survival

    if set(weights) != {"edges", "rates"}:
        raise InputError(f"weights {', '.join(sorted(weights))}; accepted: edges, rates")
    settings: dict[str, Any] = {
        field: tuple(value) if isinstance(value, list) else value for field, value in parameters.items()
    }
    numbers = [number for value in settings.values() for number in np.atleast_1d(np.asarray(value, object))]
    if not all(isinstance(number, int | float) and not isinstance(number, bool) for number in numbers):
        raise InputError(f"a parameter of {LOOK_AHEAD} is not a number")
    try:
        made = LookAheadSettings(**settings)
    except TypeError as error:
        raise InputError(f"parameters of {LOOK_AHEAD}: {error}") from error
    for field, value in dataclasses.asdict(LookAheadSettings()).items():
        if np.shape(settings.get(field, value)) != np.shape(value):
            raise InputError(f"parameter {field} of {LOOK_AHEAD}: accepted: as in {value}")
    return LookAhead(Survival.of(weights["edges"], weights["rates"]), made, name=name)


def _look_ahead() -> LookAhead:
    from policies.service.lookahead import LookAhead
    from policies.service.lookahead.fit import load_survival

    return LookAhead(load_survival())
