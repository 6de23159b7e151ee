"""Replay of services that want the same pools: what one gets, another does not."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np

from optimizer.recommend.services import ROWS_AT_ONCE, Case, Outcome, World, run_batch, split_outcome
from policies.protocol import Memory
from policies.registry import load_policy
from policies.service import ServicePolicy
from simulator.deadline.observation import IntArray
from simulator.service import ServiceObservation


@dataclass(frozen=True, eq=False)
class Several:
    """Policies side by side: each decides for its own rows of a batch.

    Attributes:
        policies: K policies.
        rows: (N,) which of them decides for each row.
    """

    policies: tuple[ServicePolicy, ...]
    rows: IntArray
    name: str = "several"

    def reset(self, services: int, pools: int) -> Memory:
        """The memories of all, under their numbers."""
        return {
            f"{number}:{name}": array
            for number, policy in enumerate(self.policies)
            for name, array in policy.reset(int((self.rows == number).sum()), pools).items()
        }

    def act(self, observation: ServiceObservation, memory: Memory) -> tuple[IntArray, Memory]:
        """Ask every policy for its rows."""
        asked = np.zeros_like(observation.asked)
        after: dict[str, Any] = {}
        for number, policy in enumerate(self.policies):
            rows, prefix = np.flatnonzero(self.rows == number), f"{number}:"
            own = {name[len(prefix) :]: a for name, a in memory.items() if name.startswith(prefix)}
            seen = {
                field.name: getattr(observation, field.name)[rows]
                for field in fields(observation)
                if field.name != "tick_seconds"
            }
            asked[rows], own_after = policy.act(replace(observation, **seen), own)
            after |= {prefix + name: array for name, array in own_after.items()}
        return asked, after


def replay_together(
    cases: Sequence[Case],
    policies: Sequence[str],
    taken: tuple[int, ...],
    *,
    run: Callable[[Sequence[Callable[[], None]]], None],
) -> list[Outcome]:
    """Replay services that share the capacity of their pools, window by window.

    How a pool is divided when it does not suffice is said in `simulator.service.sharing`.

    Args:
        cases: Services with the same markets and the same windows.
        policies: Name of each one's policy.
        taken: Instances of each pool that somebody else has.
        run: Runs the batches, maybe several at a time.

    Returns:
        One outcome per case.
    """
    windows = cases[0].windows
    step = max(ROWS_AT_ONCE // len(cases), 1)
    spans = [np.arange(first, min(first + step, windows)) for first in range(0, windows, step)]
    found: list[list[Outcome]] = [[] for _ in spans]
    run([_Together(cases, policies, taken, rows, own) for rows, own in zip(spans, found, strict=True)])
    return [Outcome.join([parts[k] for parts in found]) for k in range(len(cases))]


@dataclass(frozen=True, eq=False)
class _Together:
    cases: Sequence[Case]
    policies: Sequence[str]
    taken: tuple[int, ...]
    rows: IntArray
    found: list[Outcome]

    def __call__(self) -> None:
        markets = self.cases[0].markets
        parts = [replace(case.part(self.rows), markets=markets) for case in self.cases]
        names = sorted(set(self.policies))
        rows = np.repeat([names.index(name) for name in self.policies], len(self.rows))
        several = Several(tuple(load_policy(name, "service") for name in names), rows)
        group = np.tile(np.arange(len(self.rows)), len(parts))
        world = World(taken=self.taken)
        self.found.extend(split_outcome(run_batch(parts, [world] * len(parts), several, group), parts))
