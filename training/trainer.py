"""One training run for jobs: the batched environment, MaskablePPO, evaluation on held-out windows."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sb3_contrib.common.maskable.policies import MaskableActorCriticPolicy
from stable_baselines3.common.callbacks import BaseCallback

from envs.deadline_vec_env import DeadlineVecEnv
from envs.reward import CostReward, Reward
from envs.series import EpisodeMarkets
from policies.features import feature_set
from policies.learned import ALGORITHM, NetworkPolicy
from policies.network import Network
from policies.protocol import DeadlinePolicy
from simulator.market import Market
from training.agent import DeadlinePPO, actor_arrays, make_agent
from training.checkpoint import Checkpoint, named
from training.config import TrainingConfig
from training.data import Data
from training.held_out import Score
from training.progress import Progress
from training.run import Run
from training.tracking import Tracker


class Trainer(Run[Score]):
    """Trains one policy. Recipes inject reward, learner, network and callbacks; see the arguments.

    A run that goes on from a checkpoint ends as without the interruption, to the bit.

    A subclass may train another kind of network, in another environment: `together`, `environment`,
    `policy` and `parts_of_bundle`.
    """

    kind = "deadline"
    remedy = "lower ppo.learning_rate, or choose a ppo.batch_size that leaves no minibatch of one"
    score_type = Score
    config: TrainingConfig
    env: DeadlineVecEnv
    agent: DeadlinePPO
    together = False
    """Whether a job may use all pools of a market, instead of one of them."""

    def __init__(
        self,
        config: TrainingConfig,
        data: Data,
        out: Path,
        *,
        seed: int = 0,
        tracker: Tracker | None = None,
        watch: Callable[[Progress[Score]], None] = lambda progress: None,
        reward: Reward | None = None,
        agent_class: type[DeadlinePPO] = DeadlinePPO,
        policy_class: type[MaskableActorCriticPolicy] = MaskableActorCriticPolicy,
        callbacks: Sequence[BaseCallback] = (),
    ) -> None:
        """Set up a run; nothing is written before `run`.

        Args:
            config: Settings.
            data: Markets.
            out: Folder of the checkpoint and the bundle.
            seed: Seeds weights, updates and environments.
            tracker: Where the run is noted; by default nowhere.
            watch: Called after every rollout.
            reward: What is paid; by default `CostReward`.
            agent_class: Learner; a subclass may change the update.
            policy_class: Network; its actor must be a stack of dense layers.
            callbacks: Of stable-baselines3; those that are `Resumable` are kept in checkpoints.

        Raises:
            InputError: Jobs do not fit the markets.
        """
        super().__init__(config, data, out, seed=seed, tracker=tracker, watch=watch, callbacks=callbacks)
        training, self.held_out = data.parts(config.evaluation, self.together)

        def episodes(markets: Sequence[Market]) -> EpisodeMarkets:
            made = EpisodeMarkets.of(markets, each_pool=not self.together, **config.markets.model_dump())
            config.distribution().check(made)
            return made

        env = self.environment(data.blaming(episodes, training), reward)
        self._learn(env, make_agent(env, config.ppo, seed, agent_class, policy_class))
        self.without_gain = 0

    def environment(self, markets: EpisodeMarkets, reward: Reward | None) -> DeadlineVecEnv:
        """What is trained in."""
        return DeadlineVecEnv(
            markets,
            self.config.ppo.environments,
            jobs=self.config.distribution(),
            features=feature_set(self.config.features),
            reward=reward or CostReward(self.config.miss_penalty),
            seed=self.seed,
        )

    def policy(self, weights: Mapping[str, NDArray[np.float32]] | None = None) -> DeadlinePolicy:
        """The present (or the given) network as the policy that production runs."""
        arrays = actor_arrays(weights or self.present())
        network = Network.of(arrays, activation=self.config.ppo.activation)
        return NetworkPolicy(self.config.name, feature_set(self.config.features), (network,))

    def parts_of_bundle(
        self, weights: Mapping[str, NDArray[np.float32]]
    ) -> tuple[dict[str, Any], Mapping[str, NDArray[Any]]]:
        """What a bundle of these weights says of its algorithm, and the arrays in it."""
        features = feature_set(self.config.features)
        parameters = {"features": features.name, "activation": self.config.ppo.activation}
        told = {"algorithm": ALGORITHM, "feature_names": list(features.names), "parameters": parameters}
        return told, actor_arrays(weights)

    def _measure(self) -> Score:
        return self.held_out.score(self.policy())

    def _evaluate(self) -> dict[str, float]:
        before = self.best
        metrics = super()._evaluate()
        self.without_gain = self.without_gain + 1 if self.best is before else 0
        return metrics

    def _out_of_patience(self) -> bool:
        patience = self.config.evaluation.patience
        return patience is not None and self.without_gain >= patience

    def _rollout_metrics(self) -> dict[str, float]:
        finished = self.agent.finished
        if not finished:
            return {}
        return {
            "rollout/episodes": len(finished),
            "rollout/return_mean": float(np.mean([info["episode"]["r"] for info in finished])),
            "rollout/relative_cost_mean": float(np.mean([info["relative_cost"] for info in finished])),
            "rollout/missed": sum(not info["is_success"] for info in finished),
        }

    def _environment_state(self) -> dict[str, NDArray[Any]]:
        if self.agent._last_episode_starts is None:
            raise AssertionError("a checkpoint is written after a rollout")
        starts = np.asarray(self.agent._last_episode_starts)
        return {**named("environment", self.env.state()), "episode_starts": starts}

    def _continue_environment(self, found: Checkpoint) -> None:
        self.agent._last_obs = self.env.restore(found.part("environment"))
        self.agent._last_episode_starts = np.array(found.arrays["episode_starts"])

    def _note(self) -> dict[str, Any]:
        return {**super()._note(), "without_gain": self.without_gain}

    def _take_note(self, found: Checkpoint) -> None:
        super()._take_note(found)
        self.without_gain = int(found.note["without_gain"])
