"""One training run for services: a network on top of the planner, rewarded and judged against it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from envs.service_planner_vec_env import ServicePlannerVecEnv
from envs.service_series import service_markets
from policies.network import Network
from policies.registry import load_policy
from policies.service import LookAhead
from policies.service.names import RESIDUAL
from policies.service.residual import FEATURE_NAMES, OPTIONS, Advice, ResidualPlanner
from simulator.errors import InputError
from simulator.market import Market
from training.advised import correction_arrays
from training.checkpoint import Checkpoint
from training.data import Data
from training.held_out import split
from training.progress import Progress, Trained
from training.run import Run
from training.service.train_config import ServiceTrainingConfig
from training.service.train_network import ResidualPPO, make_residual_agent
from training.tracking import Tracker

HELD_OUT_SEED = 1_000_003
"""Seeds the episodes of the evaluation, whatever the seed of the run."""


@dataclass(frozen=True, slots=True)
class ServiceScore:
    """How a network did against the planner on held-out episodes.

    Attributes:
        gain: Mean reward per tick above the planner's; see `ServicePlannerVecEnv`.
        error: Standard error of `gain` over episodes, which overlap in the held-out part: it is too small.
        episodes: Number of episodes.
        corrected: Share of review periods in which the network chose otherwise than the planner.
    """

    gain: float
    error: float
    episodes: int
    corrected: float

    def better_than(self, other: ServiceScore | None) -> bool:
        """Whether the gain is higher."""
        return other is None or self.gain > other.gain

    def metrics(self) -> dict[str, float]:
        """What is tracked of it."""
        return {name: float(value) for name, value in asdict(self).items()}

    def row(self) -> dict[str, float | int]:
        """What a bundle says of it."""
        return asdict(self)


ServiceProgress = Progress[ServiceScore]
ServiceTrained = Trained[ServiceScore]


class ServiceTrainer(Run[ServiceScore]):
    """Trains a network on top of the look-ahead planner; a step is a review period of the planner.

    A run that goes on from a checkpoint begins new episodes: its result is not to the bit that of a run
    without the interruption.
    """

    kind = "service"
    remedy = "lower ppo.learning_rate"
    score_type = ServiceScore
    config: ServiceTrainingConfig
    env: ServicePlannerVecEnv
    agent: ResidualPPO

    def __init__(
        self,
        config: ServiceTrainingConfig,
        data: Data,
        out: Path,
        *,
        seed: int = 0,
        tracker: Tracker | None = None,
        watch: Callable[[ServiceProgress], None] = lambda progress: None,
    ) -> None:
        """Set up a run; nothing is written before `run`.

        Args:
            config: Settings.
            data: Markets, equal in tick and number of pools.
            out: Folder of the checkpoint and the bundle.
            seed: Seeds weights, updates and environments.
            tracker: Where the run is noted; by default nowhere.
            watch: Called after every rollout.

        Raises:
            InputError: The planner is none, or episodes do not fit the markets.
        """
        super().__init__(config, data, out, seed=seed, tracker=tracker, watch=watch)
        planner = load_policy(config.planner, "service")
        if not isinstance(planner, LookAhead):
            raise InputError(f"planner {config.planner}: {planner.name}; accepted: a look-ahead planner")
        self.planner: LookAhead = planner
        if data.evaluation is None:
            training, held_out = split(data.markets, config.evaluation.holdout_share)
        else:
            training, held_out = list(data.markets), list(data.evaluation)
        env = self._environments(training, config.ppo.environments, seed)
        self._held_out = self._environments(held_out, config.evaluation.episodes, HELD_OUT_SEED)
        self._learn(env, make_residual_agent(env, config.ppo, seed))

    def policy(self, weights: Mapping[str, NDArray[np.float32]] | None = None) -> ResidualPlanner:
        """The present (or the given) network as the policy that production runs."""
        settings = self.config.ppo
        network = Network.of(correction_arrays(weights or self.present()), activation=settings.activation)
        return ResidualPlanner(
            self.planner, network, Advice(settings.bonus, settings.guidance), self.config.name
        )

    def parts_of_bundle(
        self, weights: Mapping[str, NDArray[np.float32]]
    ) -> tuple[dict[str, Any], Mapping[str, NDArray[Any]]]:
        """What a bundle of these weights says of its algorithm, and the arrays in it."""
        ppo, curve = self.config.ppo, self.planner.survival
        settings = {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in asdict(self.planner.settings).items()
        }
        parameters = {
            "planner": settings,
            "bonus": ppo.bonus,
            "guidance": ppo.guidance,
            "activation": ppo.activation,
        }
        told = {"algorithm": RESIDUAL, "feature_names": list(FEATURE_NAMES), "parameters": parameters}
        return told, {"edges": curve.edges, "rates": curve.rates, **correction_arrays(weights)}

    def _environments(self, markets: Sequence[Market], size: int, seed: int) -> ServicePlannerVecEnv:
        made = service_markets(markets, **self.config.markets.model_dump())
        return ServicePlannerVecEnv(
            made,
            size,
            self.planner,
            services=self.config.episodes.services(),
            against_planner=True,
            seed=seed,
        )

    def _measure(self) -> ServiceScore:
        """Play one episode in every held-out environment, always the same."""
        env, policy = self._held_out, self.policy()
        env.seed(HELD_OUT_SEED)
        seen, steps, corrected = env.reset(), 0, 0.0
        total, done = np.zeros(env.num_envs), False
        while not done:
            options = policy.choices(seen)
            corrected += float((options != seen[:, :OPTIONS].argmin(axis=1)).mean())
            env.step_async(options)
            seen, rewards, ended, _ = env.step_wait()
            total += rewards
            done, steps = bool(ended.all()), steps + 1
        gains = total / steps
        error = float(gains.std(ddof=1) / np.sqrt(len(gains)))
        return ServiceScore(float(gains.mean()), error, len(gains), corrected / steps)

    def _rollout_metrics(self) -> dict[str, float]:
        finished = self.agent.finished
        gain = float(self.agent.rollout_buffer.rewards.mean())
        metrics = {"rollout/gain": gain, "rollout/episodes": float(len(finished))}
        if finished:
            availability = [info["availability"] for info in finished]
            metrics["rollout/availability_mean"] = float(np.mean(availability))
        return metrics

    def _continue_environment(self, found: Checkpoint) -> None:
        words = np.random.SeedSequence([self.seed, int(found.note["rollouts"])]).generate_state(1)
        self.env.seed(int(words[0]))

    def _identity(self) -> dict[str, Any]:
        return {"kind": "service", **super()._identity()}
