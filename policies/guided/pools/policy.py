"""Decides among several pools by the planner's expected costs plus what a network learnt to add to them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from policies.bundle import Bundle
from policies.guided.bundled import DOUBT, Arrays, GuidedParts, join
from policies.guided.pools.describe import JOB_NAMES, POOL_NAMES, Advice, describe
from policies.guided.pools.network import PoolNetwork
from policies.planner import SemiMarkovPlanner
from policies.planner.tables import TickModel
from policies.protocol import Memory
from policies.shield import legal_actions
from simulator.deadline.observation import DeadlineObservation, IntArray
from simulator.synthetic.semi_markov import SemiMarkovModel

ALGORITHM = "deadline-guided-pools"
"""What bundles of this policy call their algorithm."""
FEATURE_NAMES = (*(f"job.{name}" for name in JOB_NAMES), *(f"pool.{name}" for name in POOL_NAMES))


@lru_cache(maxsize=32)
def _tick_model(model: SemiMarkovModel, tick_seconds: float) -> TickModel:
    """What the beliefs about several pools are over; the planner believes more of one pool alone."""
    return TickModel.of(model, tick_seconds)


def advise(
    planner: SemiMarkovPlanner, observation: DeadlineObservation, memory: Memory, *, fold: bool = True
) -> tuple[Advice, Memory]:
    """What the planner says of the jobs, and its memory after it; without `fold` it has seen this already.

    One pool is like any other number of them: the planner's belief about it is over the state that was seen.
    """
    if observation.pools > 1:
        memory = planner.several.update(observation, memory) if fold else memory
        costs = planner.several.expected_costs(observation, memory)
        belief = np.asarray(memory["belief"], np.float32)
        model = _tick_model(planner.several.model, observation.tick_seconds)
    else:
        memory = planner.update(observation, memory) if fold else memory
        costs, _ = planner.expected_costs(observation, memory)
        one = np.asarray(memory["belief"])
        model = planner.tick_model(observation.tick_seconds)
        belief = np.zeros((observation.jobs, 1, 2, *one.shape[1:]), np.float32)
        belief[np.arange(observation.jobs), 0, np.asarray(memory["last"], np.int64)] = one
    return Advice(legal_actions(observation), costs, belief, model), memory


@dataclass(frozen=True, eq=False)
class GuidedPools:
    """Chooses the legal action with the highest  -guidance x (cost above the best) + correction.

    With a correction of zero this is the planner, which decides alone where its second choice is worse by
    `DOUBT` or more. The same weights decide over 1 pool and over 32.

    Attributes:
        name: What the policy is called.
        planner: The planner.
        guidance: Weight of the planner's costs.
        networks: Their corrections are averaged.
    """

    name: str
    planner: SemiMarkovPlanner
    guidance: float
    networks: tuple[PoolNetwork, ...]

    def reset(self, jobs: int, pools: int = 1) -> Memory:
        """The planner's memory of jobs about to begin."""
        return self.planner.reset(jobs, pools)

    def act(self, observation: DeadlineObservation, memory: Memory) -> tuple[IntArray, Memory]:
        """Decide one tick; always a legal action.

        The planner decides alone over jobs of a kind that the networks were not trained on: pools that differ
        in more than their prices, costs of lateness, checkpoints.
        """
        unusual = observation.lateness_price.any() or observation.checkpoint_interval.any()
        if observation.varied or unusual:
            return self.planner.act(observation, memory)
        advice, memory = advise(self.planner, observation, memory)
        costs = np.where(advice.legal, advice.costs, np.inf)
        choice = costs.argmin(axis=1)
        close = costs < costs.min(axis=1, keepdims=True) + DOUBT
        rows = np.flatnonzero(close.sum(axis=1) > 1)
        if len(rows):
            seen = describe(observation, advice, rows)
            scores = -np.float32(self.guidance) * seen.gaps
            for network in self.networks:
                scores += network.corrections(seen) / np.float32(len(self.networks))
            choice[rows] = np.where(advice.legal[rows], scores, -np.inf).argmax(axis=1)
        return choice, memory

    @classmethod
    def of(cls, bundle: Bundle) -> GuidedPools:
        """The policy in a bundle that `bundle_parts` describes.

        Raises:
            InputError: Features, parameters or arrays are not what this release knows.
        """
        name = bundle.manifest.name
        parts = GuidedParts.of(bundle, FEATURE_NAMES)
        networks = tuple(
            PoolNetwork.of(member, f"bundle {name}, member {k}") for k, member in enumerate(parts.members)
        )
        return cls(name, SemiMarkovPlanner(parts.model), parts.guidance, networks)


def bundle_parts(
    model: SemiMarkovModel, guidance: float, members: Sequence[Arrays]
) -> tuple[dict[str, object], dict[str, NDArray[np.generic]]]:
    """Parameters and weights of a bundle; each member's arrays are named as in `PoolNetwork`."""
    return join(model, guidance, members)
