"""From a name or a `.policy` file to a policy behind the shield."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from policies.bundle import KINDS, Bundle, Kind, read_bundle
from policies.protocol import DeadlinePolicy
from policies.shield import Shielded
from simulator.errors import InputError

CHAMPIONS = Path(__file__).with_name("champions")
"""Bundles that ship with Spotwise."""


def load_policy(name_or_path: str | Path, kind: Kind = "deadline") -> Shielded:
    """Load a policy.

    Args:
        name_or_path: A built-in name (see `policy_names`), otherwise the path of a `.policy` file.
        kind: The workload that it is to decide for.

    Returns:
        The policy behind the shield.

    Raises:
        InputError: There is no such name or file, or the bundle cannot be used; the message lists the names.
    """
    if kind not in KINDS:
        raise InputError(f"workload kind {kind!r}; accepted: {', '.join(KINDS)}")
    if str(name_or_path) in _BUILT_IN[kind]:
        return Shielded(_BUILT_IN[kind][str(name_or_path)]())
    path = Path(name_or_path)
    if not path.is_file():
        names = ", ".join(policy_names(kind)) or "no name"
        raise InputError(
            f"no {kind} policy {str(name_or_path)!r}; accepted: {names}, or the path of a .policy file"
        )
    try:
        return Shielded(policy_of(read_bundle(path, kind), str(path)))
    except InputError as error:
        raise InputError(f"{path}: {str(error).removeprefix(f'{path}: ')}") from error


def policy_names(kind: Kind = "deadline") -> tuple[str, ...]:
    """The built-in names for one kind of workload."""
    return tuple(_BUILT_IN[kind])


def policy_of(bundle: Bundle, where: str = "bundle") -> DeadlinePolicy:
    """The policy that a bundle describes, without the shield.

    Args:
        bundle: The bundle.
        where: What to call it in an error.

    Raises:
        InputError: This release does not know the bundle's algorithm, or the weights do not fit it.
    """
    known = ALGORITHMS[bundle.manifest.kind]
    if bundle.manifest.algorithm not in known:
        raise InputError(
            f"{where}: {bundle.manifest.kind} policy with the algorithm {bundle.manifest.algorithm!r}; "
            f"this release knows {', '.join(known) or 'none'}"
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


_BUILT_IN: Mapping[Kind, Mapping[str, Callable[[], DeadlinePolicy]]] = {
    "deadline": {
        "on-demand": _on_demand,
        "spot-when-available": _spot_when_available,
        "greedy": _greedy,
        "uniform-progress": _uniform_progress,
        "round-robin-uniform-progress": _round_robin_uniform_progress,
        "cheapest-first": _cheapest_first,
        "planner": _planner,
        "deadline-champion": _deadline_champion,
    },
    "service": {},
}


def _deadline_network(bundle: Bundle) -> DeadlinePolicy:
    from policies.learned import NetworkPolicy

    return NetworkPolicy.of(bundle)


def _deadline_guided(bundle: Bundle) -> DeadlinePolicy:
    from policies.guided import GuidedPolicy

    return GuidedPolicy.of(bundle)


ALGORITHMS: dict[Kind, dict[str, Callable[[Bundle], DeadlinePolicy]]] = {
    "deadline": {"deadline-network": _deadline_network, "deadline-guided": _deadline_guided},
    "service": {},
}
"""What `algorithm` in a bundle's manifest may be, and how the policy is made from the bundle."""
