"""One training run for services: rollouts against the planner, evaluation, checkpoints, the bundle."""

from __future__ import annotations

import dataclasses
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from envs.service_planner_vec_env import ServicePlannerVecEnv
from envs.service_series import service_markets
from policies.bundle import BundleManifest, write_bundle
from policies.network import Network
from policies.registry import load_policy
from policies.service import LookAhead
from policies.service.names import RESIDUAL
from policies.service.residual import FEATURE_NAMES, OPTIONS, Advice, ResidualPlanner
from simulator.errors import InputError, SpotwiseError
from simulator.market import Market
from training.advised import correction_arrays
from training.agent import Arrays
from training.checkpoint import (
    Checkpoint,
    load_checkpoint,
    named,
    optimizer_arrays,
    random_state,
    restore_optimizer,
    restore_random_state,
    save_checkpoint,
)
from training.held_out import split
from training.service.train_config import ServiceTrainingConfig
from training.service.train_network import make_residual_agent
from training.tracking import NoTracker, Tracker, TrackingError, flat, git_revision
from training.trainer import CHECKPOINT, Data, interruptions

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


@dataclass(frozen=True, slots=True)
class ServiceProgress:
    """State of a run after a rollout, for whoever watches; as `training.trainer.Progress`."""

    steps: int
    total_steps: int
    metrics: Mapping[str, float]
    best: ServiceScore | None


@dataclass(frozen=True, slots=True)
class ServiceTrained:
    """The outcome of a run.

    Attributes:
        bundle: The policy bundle.
        sha256: Its hash.
        score: Of the policy on the held-out episodes.
        steps: Environment steps, each a review period of the planner.
        run: Id of the tracked run; empty if it was not tracked.
    """

    bundle: Path
    sha256: str
    score: ServiceScore
    steps: int
    run: str


class ServiceTrainer:
    """Trains a network on top of the look-ahead planner."""

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
        torch.set_num_threads(1)
        planner = load_policy(config.planner, "service")
        if not isinstance(planner, LookAhead):
            raise InputError(f"planner {config.planner}: {planner.name}; accepted: a look-ahead planner")
        self.planner: LookAhead = planner
        self.config, self.data, self.out, self.seed = config, data, out, seed
        self.tracker: Tracker = tracker or NoTracker()
        self.watch = watch
        if data.evaluation is None:
            training, held_out = split(data.markets, config.evaluation.holdout_share)
        else:
            training, held_out = list(data.markets), list(data.evaluation)
        self.env = self._environments(training, config.ppo.environments, seed)
        self._held_out = self._environments(held_out, config.evaluation.episodes, HELD_OUT_SEED)
        self.agent = make_residual_agent(self.env, config.ppo, seed)
        self.average: Arrays = self._weights()
        self.best_weights: Arrays = self._weights()
        self.score: ServiceScore | None = None
        self.best: ServiceScore | None = None
        self.rollouts = 0
        self.evaluated_at = 0
        self.run_id = ""

    @property
    def checkpoint_path(self) -> Path:
        """Where the checkpoint lies."""
        return self.out / CHECKPOINT

    def run(self, *, resume: bool = False) -> ServiceTrained:
        """Train to the end.

        Args:
            resume: Go on from the checkpoint in `out`; the environments begin new episodes, so the result
                is not to the bit that of a run without the interruption.

        Returns:
            The outcome; the bundle lies in `out`.

        Raises:
            InputError: There is no checkpoint, it belongs to another run, an unfinished one would be lost,
                or a file cannot be written.
            SpotwiseError: The weights are no longer finite.
            KeyboardInterrupt: Ctrl-C or SIGTERM, whose number it carries; the rollout at hand was finished
                and a checkpoint written.
        """
        found = self._found(resume)
        total = self.config.ppo.total_steps
        if found is not None:
            self._restore(found)
        self.run_id = self.tracker.begin(
            f"{self.config.name}-seed{self.seed}",
            {**flat(self.config.model_dump(mode="json")), "seed": self.seed},
            {
                "git_revision": git_revision(),
                **{f"data_sha256.{name}": digest for name, digest in self.data.sha256.items()},
            },
            str(found.note["run"]) if found else None,
        )
        try:
            with interruptions() as interrupted:
                steps = self.agent.num_timesteps
                _, callback = self.agent._setup_learn(total, None, reset_num_timesteps=found is None)
                self.agent.num_timesteps = steps
                self.agent._total_timesteps = total
                while self.agent.num_timesteps < total:
                    self._rollout(callback)
                    if number := interrupted():
                        self._save(finished=False)
                        raise KeyboardInterrupt(number or signal.SIGINT)
                trained = self._finish()
        except KeyboardInterrupt:
            self.tracker.end("KILLED")
            raise
        except TrackingError:
            self._save(finished=False)
            self.tracker.end("FAILED")
            raise
        except BaseException:
            self.tracker.end("FAILED")
            raise
        self.tracker.end("FINISHED")
        return trained

    def policy(self, weights: Arrays | None = None) -> ResidualPlanner:
        """The present (or the given) network as the policy that production runs."""
        settings = self.config.ppo
        network = Network.of(correction_arrays(weights or self._present()), activation=settings.activation)
        return ResidualPlanner(
            self.planner, network, Advice(settings.bonus, settings.guidance), self.config.name
        )

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

    def _rollout(self, callback: Any) -> None:
        agent, settings = self.agent, self.config.ppo
        began = time.perf_counter()
        agent.finished = []
        agent.collect_rollouts(self.env, callback, agent.rollout_buffer, agent.n_steps)
        collected = time.perf_counter()
        gain = float(agent.rollout_buffer.rewards.mean())
        agent._update_current_progress_remaining(agent.num_timesteps, settings.total_steps)
        agent.ent_coef = settings.entropy * max(agent._current_progress_remaining, 0.0)
        self._update()
        self.rollouts += 1
        keep = np.float32(min(settings.averaging, self.rollouts / (self.rollouts + 10.0)))
        for name, now in self._weights().items():
            self.average[name] = keep * self.average[name] + (np.float32(1.0) - keep) * now
        metrics = {name: float(value) for name, value in agent.logger.name_to_value.items()}
        metrics |= {"rollout/gain": gain, "rollout/episodes": float(len(agent.finished))}
        if agent.finished:
            availability = [info["availability"] for info in agent.finished]
            metrics["rollout/availability_mean"] = float(np.mean(availability))
        if agent.num_timesteps - self.evaluated_at >= self.config.evaluation.every_steps:
            metrics |= self._evaluate()
        seconds = time.perf_counter() - began
        metrics["time/steps_per_second"] = self.env.num_envs * agent.n_steps / seconds
        metrics["time/collecting_share"] = (collected - began) / seconds
        if self.rollouts % self.config.checkpoint_every_rollouts == 0:
            self._save(finished=False)
        self.tracker.metrics(agent.num_timesteps, metrics)
        self.watch(ServiceProgress(agent.num_timesteps, settings.total_steps, metrics, self.best))

    def _update(self) -> None:
        try:
            self.agent.train()
        except ValueError:
            # torch refuses logits that are not finite: tell that from any other fault
            if self._finite():
                raise
        if not self._finite():
            raise SpotwiseError(
                f"training diverged after {self.agent.num_timesteps:,} steps: weights are not finite; lower "
                "ppo.learning_rate"
            )

    def _finite(self) -> bool:
        return all(bool(torch.isfinite(each).all()) for each in self.agent.policy.parameters())

    def _weights(self) -> Arrays:
        return {name: np.array(tensor.numpy()) for name, tensor in self.agent.policy.state_dict().items()}

    def _present(self) -> Arrays:
        return self.average if self.config.ppo.averaging > 0.0 else self._weights()

    def _evaluate(self) -> dict[str, float]:
        """Play one episode in every held-out environment, always the same."""
        self.evaluated_at = self.agent.num_timesteps
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
        self.score = ServiceScore(float(gains.mean()), error, len(gains), corrected / steps)
        if self.best is None or self.score.gain > self.best.gain:
            self.best = self.score
            self.best_weights = {name: array.copy() for name, array in self._present().items()}
        return {f"evaluation/{name}": float(value) for name, value in dataclasses.asdict(self.score).items()}

    def _finish(self) -> ServiceTrained:
        if self.evaluated_at < self.agent.num_timesteps or self.score is None:
            self.tracker.metrics(self.agent.num_timesteps, self._evaluate())
        take_best = self.config.evaluation.select == "best"
        score = self.best if take_best else self.score
        if score is None:
            raise AssertionError("every run ends with an evaluation")
        ppo, curve = self.config.ppo, self.planner.survival
        settings = {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in dataclasses.asdict(self.planner.settings).items()
        }
        manifest = BundleManifest(
            name=self.config.name,
            kind="service",
            algorithm=RESIDUAL,
            feature_names=list(FEATURE_NAMES),
            parameters={
                "planner": settings,
                "bonus": ppo.bonus,
                "guidance": ppo.guidance,
                "activation": ppo.activation,
            },
            training_config={**self.config.model_dump(mode="json"), "seed": self.seed},
            data_sha256=dict(self.data.sha256),
            git_revision=git_revision(),
            evaluation=[{"windows": "held out during training", **dataclasses.asdict(score)}],
        )
        layers = correction_arrays(self.best_weights if take_best else self._present())
        path = self.out / f"{self.config.name}.policy"
        digest = write_bundle(path, manifest, {"edges": curve.edges, "rates": curve.rates, **layers})
        self.tracker.bundle(path, self.config.tracking.registered_model or self.config.name)
        self._save(finished=True)
        return ServiceTrained(path, digest, score, self.agent.num_timesteps, self.run_id)

    def _found(self, resume: bool) -> Checkpoint | None:
        if resume:
            return load_checkpoint(self.checkpoint_path)
        if self.checkpoint_path.is_file() and not load_checkpoint(self.checkpoint_path).note["finished"]:
            raise InputError(
                f"{self.checkpoint_path}: checkpoint of an unfinished run; add --resume to go on with it, "
                "choose another --out, or delete the file"
            )
        return None

    def _identity(self) -> dict[str, Any]:
        return {
            "kind": "service",
            "config": self.config.model_dump(mode="json"),
            "seed": self.seed,
            "data_sha256": dict(self.data.sha256),
        }

    def _save(self, *, finished: bool) -> None:
        agent = self.agent
        arrays = {
            **named("policy", self._weights()),
            **named("optimizer", optimizer_arrays(agent.policy.optimizer)),
            **named("random", random_state()),
            **named("average", self.average),
            **named("best", self.best_weights),
        }
        note = {
            **self._identity(),
            "finished": finished,
            "run": self.run_id,
            "steps": agent.num_timesteps,
            "updates": agent._n_updates,
            "rollouts": self.rollouts,
            "evaluated_at": self.evaluated_at,
            "score": dataclasses.astuple(self.score) if self.score else None,
            "best": dataclasses.astuple(self.best) if self.best else None,
        }
        save_checkpoint(self.checkpoint_path, Checkpoint(arrays, note))

    def _restore(self, found: Checkpoint) -> None:
        where, agent, note = self.checkpoint_path, self.agent, found.note
        mine = flat(self._identity())
        theirs = flat({name: note.get(name) for name in self._identity()})
        different = sorted(name for name in mine.keys() | theirs.keys() if mine.get(name) != theirs.get(name))
        if different:
            raise InputError(
                f"{where}: checkpoint of a run with other settings or data ({', '.join(different[:5])}); "
                "accepted: the same configuration, seed and market files"
            )
        if note["finished"]:
            raise InputError(f"{where}: the run is finished; there is nothing to resume")
        try:
            weights = {name: torch.from_numpy(np.array(a)) for name, a in found.part("policy").items()}
            agent.policy.load_state_dict(weights)
            restore_optimizer(agent.policy.optimizer, found.part("optimizer"))
            restore_random_state(found.part("random"))
            self.average, self.best_weights = found.part("average"), found.part("best")
            agent.num_timesteps, agent._n_updates = int(note["steps"]), int(note["updates"])
            self.rollouts, self.evaluated_at = int(note["rollouts"]), int(note["evaluated_at"])
            self.score = ServiceScore(*note["score"]) if note["score"] else None
            self.best = ServiceScore(*note["best"]) if note["best"] else None
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            raise InputError(f"{where}: not a checkpoint of this run ({error})") from error
        self.env.seed(int(np.random.SeedSequence([self.seed, self.rollouts]).generate_state(1)[0]))
