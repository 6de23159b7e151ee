"""Train the champion: fit the planner, train guided networks from several seeds, write one bundle."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import numpy as np

from envs.guided_vec_env import GuidedVecEnv
from envs.hindsight import HindsightReward
from policies.guided import ALGORITHM, GuidedPolicy
from policies.guided.policy import FEATURE_NAMES, bundle_parts
from policies.network import Network
from policies.planner import SemiMarkovPlanner
from policies.planner.fit import TICK_SECONDS, fit_planner_model
from simulator.deadline import DeadlineBatch
from simulator.deadline.observation import FloatArray
from simulator.market import Market
from simulator.synthetic import SemiMarkovModel
from training.advised import GUIDANCE, correction_arrays
from training.agent import Arrays
from training.champion.jobs import LONGEST_TICKS, ChampionJobs, trained_range
from training.champion.network import WIDTH, GuidedActorCritic
from training.champion.series import champion_series
from training.recipe import CACHE_BYTES, MemberRecipe, train_network, write_members


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe(MemberRecipe):
    """Hyper-parameters of one member; the defaults are the shipped champion's.

    Attributes:
        typical_share: Share of jobs near the benchmark's settings.
        augmented: Whether series are also shifted, reversed and made up.
        potential: Whether the reward is the regret against the clairvoyant optimum, or plainly the cost.
    """

    steps: int = 16_000_000
    environments: int = 1024
    width: int = WIDTH
    typical_share: float = 0.4
    augmented: bool = True
    potential: bool = True


class PlainReward(HindsightReward):
    """Minus the cost of each tick, in the unit of `HindsightReward`: its ablation."""

    def score(self, batch: DeadlineBatch, cost: FloatArray) -> FloatArray:
        """Rewards of the tick just run."""
        missed = self.miss_penalty * (batch.done & batch.missed)
        return np.asarray(-self.scale * cost / self._usd_per_tick - missed)


def train_member(
    markets: Sequence[Market],
    model: SemiMarkovModel,
    recipe: Recipe,
    seed: int,
    watch: Callable[[int], None] = lambda steps: None,
) -> Arrays:
    """Train one network; the same arguments give the same weights on the same machine.

    Args:
        markets: Training markets.
        model: The planner's.
        recipe: Hyper-parameters.
        seed: Of weights, updates, episodes and synthetic series.
        watch: Told the steps done, after every rollout.

    Returns:
        The averaged correction network, named as in a bundle.
    """
    env = GuidedVecEnv(
        champion_series(markets, model, seed, augmented=recipe.augmented),
        recipe.environments,
        SemiMarkovPlanner(model, cache_bytes=CACHE_BYTES),
        jobs=ChampionJobs(recipe.typical_share),
        reward=HindsightReward(LONGEST_TICKS) if recipe.potential else PlainReward(LONGEST_TICKS),
        seed=seed,
    )
    return correction_arrays(train_network(env, GuidedActorCritic, recipe, seed, watch))


def train_champion(
    markets: Sequence[Market],
    recipe: Recipe,
    seeds: Sequence[int],
    *,
    name: str = "deadline-champion",
    processes: int = 2,
    source: str = "",
    watch: Callable[[int], None] = lambda seed: None,
) -> tuple[GuidedPolicy, list[Arrays]]:
    """Fit the planner and train one member per seed.

    Args:
        markets: Training markets, each at its trace's own tick of at most ten minutes.
        recipe: Hyper-parameters.
        seeds: One per member.
        name: Name of the policy.
        processes: Members trained at the same time.
        source: What the markets are; kept in the model.
        watch: Called with the seed of each finished member.

    Returns:
        The policy and its members in the order of the seeds.
    """
    model = fit_planner_model(markets, source)
    members: dict[int, Arrays] = {}
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        jobs = {pool.submit(train_member, markets, model, recipe, seed): seed for seed in seeds}
        for job in as_completed(jobs):
            members[jobs[job]] = job.result()
            watch(jobs[job])
    ordered = [members[seed] for seed in seeds]
    return guided(name, SemiMarkovPlanner(model), ordered, recipe.guidance), ordered


def guided(
    name: str, planner: SemiMarkovPlanner, members: Sequence[Arrays], guidance: float = GUIDANCE
) -> GuidedPolicy:
    """The policy of some members, trained with this weight of the planner's costs."""
    networks = [Network.of(member, activation="tanh") for member in members]
    return GuidedPolicy.stack(name, planner, guidance, trained_range(TICK_SECONDS), networks)


def write_champion(
    path: Path,
    policy: GuidedPolicy,
    members: Sequence[Arrays],
    recipe: Recipe,
    seeds: Sequence[int],
    data_sha256: Mapping[str, str],
    evaluation: Sequence[Mapping[str, float | int | str]] = (),
) -> str:
    """Write the bundle.

    Returns:
        Its SHA-256.
    """
    return write_members(
        path,
        bundle_parts(policy.planner, policy.guidance, policy.trained, members),
        name=policy.name,
        algorithm=ALGORITHM,
        feature_names=FEATURE_NAMES,
        recipe=recipe,
        seeds=seeds,
        data_sha256=data_sha256,
        evaluation=evaluation,
    )
