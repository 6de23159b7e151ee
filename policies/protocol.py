"""What a policy is: a pure, batched function with explicit memory."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from simulator.deadline.observation import DeadlineObservation, IntArray

Memory = Mapping[str, NDArray[np.generic]]
"""Named arrays whose first axis is the job: rows are independent, plain and serialisable.

A row may be replaced by a row of a fresh `reset`, which is how one job of a batch starts anew.
"""


@runtime_checkable
class DeadlinePolicy(Protocol):
    """Decides placements of deadline jobs. Implementations keep no state of their own."""

    @property
    def name(self) -> str:
        """What the policy is called on the command line and in reports."""
        ...

    def reset(self, jobs: int, pools: int = 1) -> Memory:
        """Memory for `jobs` jobs that are about to begin, each over `pools` pools."""
        ...

    def act(self, observation: DeadlineObservation, memory: Memory) -> tuple[IntArray, Memory]:
        """Decide one tick.

        Args:
            observation: N jobs over P pools.
            memory: What the previous call returned; it is not changed.

        Returns:
            (N,) actions (`IDLE`, `ON_DEMAND` or `FIRST_SPOT + p`) and the new memory.
        """
        ...


@runtime_checkable
class BeginsVaried(Protocol):
    """A policy whose memory has another form where pools differ in throughput or in moves of data."""

    def reset_varied(self, jobs: int, pools: int) -> Memory:
        """As `reset`, for jobs whose observations are `varied`."""
        ...


def fresh_memory(policy: DeadlinePolicy, jobs: int, pools: int, *, varied: bool) -> Memory:
    """Memory of jobs about to begin, in the form that `act` returns it in.

    Args:
        policy: Which.
        jobs: N.
        pools: P of each.
        varied: Whether their observations are `varied`.
    """
    if varied and isinstance(policy, BeginsVaried):
        return policy.reset_varied(jobs, pools)
    return policy.reset(jobs, pools)
