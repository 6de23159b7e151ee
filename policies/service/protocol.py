"""What a policy for services is: a pure, batched function with explicit memory."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from policies.protocol import Memory
from simulator.deadline.observation import IntArray
from simulator.service import ServiceObservation


@runtime_checkable
class ServicePolicy(Protocol):
    """Decides how many instances a service asks for, and where. Keeps no state of its own."""

    @property
    def name(self) -> str:
        """What the policy is called on the command line and in reports."""
        ...

    def reset(self, services: int, pools: int) -> Memory:
        """Memory for `services` episodes that are about to begin, each over `pools` pools."""
        ...

    def act(self, observation: ServiceObservation, memory: Memory) -> tuple[IntArray, Memory]:
        """(N, P + 1) instances asked per pool and then on-demand, and the new memory."""
        ...
