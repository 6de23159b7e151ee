"""Train the champion: fit the planner, train guided networks from several seeds, write one bundle."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from sb3_contrib import MaskablePPO
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import Logger

from envs.guided_vec_env import GuidedVecEnv
from envs.hindsight import HindsightReward
from policies.bundle import BundleManifest, write_bundle
from policies.guided import ALGORITHM, GuidedPolicy
from policies.guided.policy import FEATURE_NAMES, bundle_parts
from policies.network import Network
from policies.planner import SemiMarkovPlanner
from policies.planner.fit import TICK_SECONDS, fit_planner_model
from simulator.deadline import DeadlineBatch
from simulator.deadline.observation import FloatArray
from simulator.market import Market
from simulator.synthetic import SemiMarkovModel
from training.champion.jobs import LONGEST_TICKS, ChampionJobs, trained_range
from training.champion.network import GUIDANCE, WIDTH, GuidedActorCritic, WeightAverage, correction_arrays
from training.champion.series import champion_series
from training.tracking import git_revision

Member = dict[str, NDArray[np.float32]]


@dataclass(frozen=True, slots=True)
class Recipe:
    """Hyper-parameters of one member; the defaults are the shipped champion's.

    Attributes:
        steps: Environment steps.
        environments: Environments in lock-step.
        rollout_steps: Steps of each between two updates.
        batch_size: Minibatch of an update.
        epochs: Passes over a rollout.
        learning_rate: At the start; falls linearly to 0.
        gae_lambda: Of the advantage estimate; the discount is 1.
        clip_range: Of PPO.
        entropy: Weight of the entropy bonus.
        typical_share: Share of jobs near the benchmark's settings.
        width: Of the two hidden layers.
        guidance: Weight of the planner's costs in the scores.
        augmented: Whether series are also shifted, reversed and made up.
        potential: Whether the reward is the regret against the clairvoyant optimum, or plainly the cost.
    """

    steps: int = 16_000_000
    environments: int = 1024
    rollout_steps: int = 64
    batch_size: int = 8192
    epochs: int = 3
    learning_rate: float = 3e-4
    gae_lambda: float = 0.95
    clip_range: float = 0.2
    entropy: float = 0.001
    typical_share: float = 0.4
    width: int = WIDTH
    guidance: float = GUIDANCE
    augmented: bool = True
    potential: bool = True


class PlainReward(HindsightReward):
    """Minus the cost of each tick, in the unit of `HindsightReward`: its ablation."""

    def score(self, batch: DeadlineBatch, cost: FloatArray) -> FloatArray:
        """Rewards of the tick just run."""
        missed = self.miss_penalty * (batch.done & batch.missed)
        return np.asarray(-self.scale * cost / self._usd_per_tick - missed)


class _Watched(BaseCallback):
    """Tells somebody how many steps are done."""

    def __init__(self, watch: Callable[[int], None]) -> None:
        super().__init__()
        self.watch = watch

    def _on_step(self) -> bool:
        return True

    def _on_rollout_end(self) -> None:
        self.watch(self.num_timesteps)


def train_member(
    markets: Sequence[Market],
    model: SemiMarkovModel,
    recipe: Recipe,
    seed: int,
    watch: Callable[[int], None] = lambda steps: None,
) -> Member:
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
    torch.set_num_threads(1)
    env = GuidedVecEnv(
        champion_series(markets, model, seed, augmented=recipe.augmented),
        recipe.environments,
        SemiMarkovPlanner(model, cache_bytes=3_000_000_000),
        jobs=ChampionJobs(recipe.typical_share),
        reward=HindsightReward(LONGEST_TICKS) if recipe.potential else PlainReward(LONGEST_TICKS),
        seed=seed,
    )
    agent = MaskablePPO(
        GuidedActorCritic,
        env,
        learning_rate=lambda remaining: recipe.learning_rate * max(remaining, 0.0),
        n_steps=recipe.rollout_steps,
        batch_size=recipe.batch_size,
        n_epochs=recipe.epochs,
        gamma=1.0,
        gae_lambda=recipe.gae_lambda,
        clip_range=recipe.clip_range,
        ent_coef=recipe.entropy,
        seed=seed,
        device="cpu",
        policy_kwargs={"width": recipe.width, "guidance": recipe.guidance},
    )
    agent.set_logger(Logger(None, []))
    average = WeightAverage()
    agent.learn(recipe.steps, callback=[average, _Watched(watch)])
    return correction_arrays(average.average or agent.policy.state_dict())


def train_champion(
    markets: Sequence[Market],
    recipe: Recipe,
    seeds: Sequence[int],
    *,
    name: str = "deadline-champion",
    processes: int = 2,
    source: str = "",
    watch: Callable[[int], None] = lambda seed: None,
) -> tuple[GuidedPolicy, list[Member]]:
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
    members: dict[int, Member] = {}
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        jobs = {pool.submit(train_member, markets, model, recipe, seed): seed for seed in seeds}
        for job in as_completed(jobs):
            members[jobs[job]] = job.result()
            watch(jobs[job])
    ordered = [members[seed] for seed in seeds]
    return guided(name, SemiMarkovPlanner(model), ordered, recipe.guidance), ordered


def guided(
    name: str, planner: SemiMarkovPlanner, members: Sequence[Member], guidance: float = GUIDANCE
) -> GuidedPolicy:
    """The policy of some members, trained with this weight of the planner's costs."""
    networks = [Network.of(member, activation="tanh") for member in members]
    return GuidedPolicy.stack(name, planner, guidance, trained_range(TICK_SECONDS), networks)


def write_champion(
    path: Path,
    policy: GuidedPolicy,
    members: Sequence[Member],
    recipe: Recipe,
    seeds: Sequence[int],
    data_sha256: Mapping[str, str],
    evaluation: Sequence[Mapping[str, float | int | str]] = (),
) -> str:
    """Write the bundle.

    Returns:
        Its SHA-256.
    """
    parameters, weights = bundle_parts(policy.planner, policy.guidance, policy.trained, members)
    manifest = BundleManifest.model_validate(
        {
            "name": policy.name,
            "kind": "deadline",
            "algorithm": ALGORITHM,
            "feature_names": list(FEATURE_NAMES),
            "parameters": parameters,
            "training_config": {**asdict(recipe), "seeds": list(seeds)},
            "data_sha256": dict(data_sha256),
            "git_revision": git_revision(),
            "evaluation": [dict(row) for row in evaluation],
        }
    )
    return write_bundle(path, manifest, weights)
