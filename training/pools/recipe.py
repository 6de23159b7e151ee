"""Train the network over pools: PPO from the planner on, paid minus the regret against the optimum."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from envs.hindsight import HindsightReward
from envs.pools_vec_env import PoolsVecEnv
from envs.series import EpisodeMarkets
from policies.guided.pools import ALGORITHM, FEATURE_NAMES, GuidedPools, PoolNetwork, bundle_parts
from policies.planner import SemiMarkovPlanner
from simulator.deadline.observability import Observability
from simulator.synthetic import SemiMarkovModel
from training.advised import GUIDANCE
from training.agent import Arrays
from training.pools.episodes import LONGEST_TICKS, PoolJobs
from training.pools.network import WIDTH, PoolsActorCritic, member_arrays
from training.recipe import CACHE_BYTES, MemberRecipe, train_network, write_members


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolsRecipe(MemberRecipe):
    """Hyper-parameters of one network; the rest is the champion's."""

    steps: int = 1_500_000
    environments: int = 512
    width: int = WIDTH


def train_pools(
    markets: EpisodeMarkets,
    model: SemiMarkovModel,
    recipe: PoolsRecipe,
    seed: int,
    *,
    observability: Observability = "full",
    watch: Callable[[int], None] = lambda steps: None,
) -> Arrays:
    """Train one network; the same arguments give the same weights on the same machine.

    Args:
        markets: Training markets, all of equally many pools.
        model: The planner's.
        recipe: Hyper-parameters.
        seed: Of weights, updates and episodes.
        observability: What jobs know of pools.
        watch: Told the steps done, after every rollout.

    Returns:
        The averaged network, named as in a bundle.
    """
    env = PoolsVecEnv(
        markets,
        recipe.environments,
        SemiMarkovPlanner(model, cache_bytes=CACHE_BYTES),
        jobs=PoolJobs(),
        reward=HindsightReward(LONGEST_TICKS),
        seed=seed,
        observability=observability,
    )
    return member_arrays(train_network(env, PoolsActorCritic, recipe, seed, watch))


def guided_pools(
    name: str, planner: SemiMarkovPlanner, members: Sequence[Arrays], guidance: float = GUIDANCE
) -> GuidedPools:
    """The policy of some members."""
    return GuidedPools(name, planner, guidance, tuple(PoolNetwork.of(member) for member in members))


def write_pools(
    path: Path,
    policy: GuidedPools,
    members: Sequence[Arrays],
    recipe: PoolsRecipe,
    seeds: Sequence[int],
    data_sha256: Mapping[str, str],
) -> str:
    """Write the bundle.

    Returns:
        Its SHA-256.
    """
    return write_members(
        path,
        bundle_parts(policy.planner.model, policy.guidance, members),
        name=policy.name,
        algorithm=ALGORITHM,
        feature_names=FEATURE_NAMES,
        recipe=recipe,
        seeds=seeds,
        data_sha256=data_sha256,
    )
