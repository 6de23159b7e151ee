"""From a name or a `.policy` file to a policy behind the shield."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Literal, TypeVar, overload

from policies.bundle import KINDS, Bundle, Kind, read_bundle
from policies.protocol import DeadlinePolicy
from policies.service.names import (
    LOOK_AHEAD,
    RESIDUAL,
    SERVICE_NAMES,
    look_ahead_of,
    residual_of,
    service_policy,
)
from policies.service.protocol import ServicePolicy
from policies.shield import Shielded
from simulator.errors import InputError

CHAMPIONS = Path(__file__).with_name("champions")
"""Bundles that ship with Spotwise."""
SERVICE_CHAMPION = "service-champion"
_Policy = TypeVar("_Policy")


@overload
def load_policy(name_or_path: str | Path, kind: Literal["deadline"] = "deadline") -> Shielded: ...


@overload
def load_policy(name_or_path: str | Path, kind: Literal["service"]) -> ServicePolicy: ...


def load_policy(name_or_path: str | Path, kind: Kind = "deadline") -> Shielded | ServicePolicy:
    """Load a policy.

    Args:
        name_or_path: A built-in name (see `policy_names`), otherwise the path of a `.policy` file.
        kind: The workload that it is to decide for.

    Returns:
        The policy; one for deadline jobs comes behind the shield.

    Raises:
        InputError: There is no such name or file, or the bundle cannot be used; the message lists the names.
    """
    if kind not in KINDS:
        raise InputError(f"workload kind {kind!r}; accepted: {', '.join(KINDS)}")
    if kind == "deadline" and str(name_or_path) in _BUILT_IN:
        return Shielded(_BUILT_IN[str(name_or_path)]())
    if kind == "service" and (service := service_policy(str(name_or_path))) is not None:
        return service
    path = Path(name_or_path)
    if kind == "service" and str(name_or_path) == SERVICE_CHAMPION:
        path = CHAMPIONS / f"{SERVICE_CHAMPION}.policy"
    try:
        found = path.is_file()
    except OSError:  # a name too long to be a path
        found = False
    if not found:
        names = ", ".join(policy_names(kind)) or "no name"
        raise InputError(
            f"no {kind} policy {str(name_or_path)[:80]!r}; accepted: {names}, or the path of a .policy file"
        )
    try:
        if kind == "service":
            return service_policy_of(read_bundle(path, kind), str(path))
        return Shielded(policy_of(read_bundle(path, kind), str(path)))
    except InputError as error:
        raise InputError(f"{path}: {str(error).removeprefix(f'{path}: ')}") from error


def policy_names(kind: Kind = "deadline") -> tuple[str, ...]:
    """The built-in names for one kind of workload."""
    return tuple(_BUILT_IN) if kind == "deadline" else SERVICE_NAMES


def policy_of(bundle: Bundle, where: str = "bundle") -> DeadlinePolicy:
    """The policy for deadline jobs that a bundle describes, without the shield.

    Args:
        bundle: The bundle.
        where: What to call it in an error.

    Raises:
        InputError: This release does not know the bundle's algorithm, or the weights do not fit it.
    """
    return _made(bundle, "deadline", DEADLINE_ALGORITHMS, where)


def service_policy_of(bundle: Bundle, where: str = "bundle") -> ServicePolicy:
    """The policy for services that a bundle describes.

    Raises:
        InputError: As for `policy_of`.
    """
    return _made(bundle, "service", SERVICE_ALGORITHMS, where)


def _made(
    bundle: Bundle, kind: Kind, known: Mapping[str, Callable[[Bundle], _Policy]], where: str
) -> _Policy:
    if bundle.manifest.kind != kind or bundle.manifest.algorithm not in known:
        raise InputError(
            f"{where}: {bundle.manifest.kind} policy with the algorithm {bundle.manifest.algorithm!r}; "
            f"this release knows {', '.join(known) or 'none'} for {kind} workloads"
        )
    return known[bundle.manifest.algorithm](bundle)


# Imports are late in this module: a command that asks for one policy does not pay for the others.


def _on_demand() -> DeadlinePolicy:
    from policies.baselines import OnDemandOnly

    return OnDemandOnly()


def _spot_when_available() -> DeadlinePolicy:
    from policies.baselines import SpotWhenAvailable

    return SpotWhenAvailable()


def _greedy() -> DeadlinePolicy:
    from policies.baselines import Greedy

    return Greedy()


def _uniform_progress() -> DeadlinePolicy:
    from policies.baselines import UniformProgress

    return UniformProgress()


def _round_robin_uniform_progress() -> DeadlinePolicy:
    from policies.baselines import RoundRobinUniformProgress

    return RoundRobinUniformProgress()


def _cheapest_first() -> DeadlinePolicy:
    from policies.baselines import CheapestFirst

    return CheapestFirst()


def _planner() -> DeadlinePolicy:
    from policies.planner import SemiMarkovPlanner
    from policies.planner.fit import SHIPPED
    from simulator.synthetic.semi_markov import load_model

    return SemiMarkovPlanner(load_model(SHIPPED))


def _deadline_champion() -> DeadlinePolicy:
    return policy_of(read_bundle(CHAMPIONS / "deadline-champion.policy", "deadline"), "deadline-champion")


_BUILT_IN: Mapping[str, Callable[[], DeadlinePolicy]] = {
    "on-demand": _on_demand,
    "spot-when-available": _spot_when_available,
    "greedy": _greedy,
    "uniform-progress": _uniform_progress,
    "round-robin-uniform-progress": _round_robin_uniform_progress,
    "cheapest-first": _cheapest_first,
    "planner": _planner,
    "deadline-champion": _deadline_champion,
}


def _deadline_network(bundle: Bundle) -> DeadlinePolicy:
    from policies.learned import NetworkPolicy

    return NetworkPolicy.of(bundle)


def _deadline_guided(bundle: Bundle) -> DeadlinePolicy:
    from policies.guided import GuidedPolicy

    return GuidedPolicy.of(bundle)


def _deadline_guided_pools(bundle: Bundle) -> DeadlinePolicy:
    from policies.guided.pools import GuidedPools

    return GuidedPools.of(bundle)


DEADLINE_ALGORITHMS: dict[str, Callable[[Bundle], DeadlinePolicy]] = {
    "deadline-network": _deadline_network,
    "deadline-guided": _deadline_guided,
    "deadline-guided-pools": _deadline_guided_pools,
}
"""What `algorithm` in a bundle's manifest may be, and how the policy is made from the bundle."""
SERVICE_ALGORITHMS: dict[str, Callable[[Bundle], ServicePolicy]] = {
    LOOK_AHEAD: look_ahead_of,
    RESIDUAL: residual_of,
}
"""The same for services."""
