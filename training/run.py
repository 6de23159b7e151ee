"""What training runs of both workloads share: rollouts, evaluation, checkpoints, tracking, the bundle."""

from __future__ import annotations

import signal
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import astuple
from pathlib import Path
from typing import Any, ClassVar, Generic, Protocol, runtime_checkable

import numpy as np
import torch
from numpy.typing import NDArray
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.vec_env import VecEnv

from policies.bundle import BundleManifest, Kind, write_bundle
from simulator.errors import InputError, SpotwiseError
from training.agent import Arrays, KeepsFinished, weights_of
from training.checkpoint import (
    CHECKPOINT,
    Checkpoint,
    load_checkpoint,
    named,
    optimizer_arrays,
    random_state,
    refuse_other_run,
    restore_optimizer,
    restore_random_state,
    save_checkpoint,
)
from training.config import RunSettings
from training.data import Data
from training.interruptions import interruptions
from training.progress import Progress, Result, Trained
from training.tracking import NoTracker, Tracker, TrackingError, flat, git_revision


@runtime_checkable
class Resumable(Protocol):
    """A callback with state of its own, which checkpoints keep."""

    def state(self) -> Mapping[str, NDArray[Any]]:
        """Arrays by name."""
        ...

    def restore(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Continue from `state`."""
        ...


class Run(ABC, Generic[Result]):
    """A run that trains one policy. Workloads say in which environment, what learns, and what is a score."""

    kind: ClassVar[Kind]
    remedy: ClassVar[str]
    """What to do about weights that are no longer finite."""
    score_type: ClassVar[type[Any]]
    config: RunSettings
    env: VecEnv
    agent: KeepsFinished

    def __init__(
        self,
        config: RunSettings,
        data: Data,
        out: Path,
        *,
        seed: int,
        tracker: Tracker | None,
        watch: Callable[[Progress[Result]], None],
        callbacks: Sequence[BaseCallback] = (),
    ) -> None:
        """Note the settings; `_learn` is to be called before `run`.

        Args:
            config: Settings.
            data: Markets.
            out: Folder of the checkpoint and the bundle.
            seed: Seeds weights, updates and environments.
            tracker: Where the run is noted; by default nowhere.
            watch: Called after every rollout.
            callbacks: Of stable-baselines3; those that are `Resumable` are kept in checkpoints.
        """
        torch.set_num_threads(1)
        self.config, self.data, self.out, self.seed = config, data, out, seed
        self.tracker: Tracker = tracker or NoTracker()
        self.watch = watch
        self.callbacks = list(callbacks)
        self.score: Result | None = None
        self.best: Result | None = None
        self.best_weights: Arrays = {}
        self.average: Arrays = {}
        self.rollouts = 0
        self.evaluated_at = 0
        self.run_id = ""
        self._stopped = False

    def _learn(self, env: VecEnv, agent: KeepsFinished) -> None:
        """Say what learns, and in which environment."""
        self.env, self.agent = env, agent
        self.best_weights, self.average = weights_of(agent.policy), weights_of(agent.policy)

    @abstractmethod
    def policy(self, weights: Mapping[str, NDArray[np.float32]] | None = None) -> Any:
        """The present (or the given) network as the policy that production runs."""

    @abstractmethod
    def parts_of_bundle(
        self, weights: Mapping[str, NDArray[np.float32]]
    ) -> tuple[dict[str, Any], Mapping[str, NDArray[Any]]]:
        """What a bundle of these weights says of its algorithm, and the arrays in it."""

    @abstractmethod
    def _measure(self) -> Result:
        """The score of the present policy."""

    @abstractmethod
    def _rollout_metrics(self) -> dict[str, float]:
        """What is tracked of the rollout at hand."""

    def _environment_state(self) -> dict[str, NDArray[Any]]:
        """What checkpoints keep of the environment."""
        return {}

    def _continue_environment(self, found: Checkpoint) -> None:
        """Go on from a checkpoint, or with new episodes."""

    def _out_of_patience(self) -> bool:
        """Whether to stop before the last step."""
        return False

    def stop(self) -> None:
        """End `run` after the rollout at hand as Ctrl-C would: with a checkpoint and `KeyboardInterrupt`."""
        self._stopped = True

    @property
    def checkpoint_path(self) -> Path:
        """Where the checkpoint lies."""
        return self.out / CHECKPOINT

    def run(self, *, resume: bool = False) -> Trained[Result]:
        """Train to the end.

        Args:
            resume: Go on from the checkpoint in `out`.

        Returns:
            The outcome; the bundle lies in `out`.

        Raises:
            InputError: There is no checkpoint, it belongs to another run, an unfinished one would be lost,
                or a file cannot be written.
            SpotwiseError: The weights are no longer finite.
            KeyboardInterrupt: Ctrl-C or SIGTERM, whose number it carries, or `stop`; the rollout at hand was
                finished and a checkpoint written. A second signal interrupts at once and leaves the last
                checkpoint.
        """
        found = self._found(resume)
        total = self.config.ppo.total_steps
        callback = self._prepare(found)
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
                callback.on_training_start({}, {})
                while self.agent.num_timesteps < total and not self._out_of_patience():
                    if not self._rollout(callback):
                        break
                    if (number := interrupted()) or self._stopped:
                        self._save(finished=False)
                        raise KeyboardInterrupt(number or signal.SIGINT)
                callback.on_training_end()
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

    def _found(self, resume: bool) -> Checkpoint | None:
        if resume:
            return load_checkpoint(self.checkpoint_path)
        if self.checkpoint_path.is_file() and not load_checkpoint(self.checkpoint_path).note["finished"]:
            raise InputError(
                f"{self.checkpoint_path}: checkpoint of an unfinished run; add --resume to go on with it, "
                "choose another --out, or delete the file"
            )
        return None

    def _prepare(self, found: Checkpoint | None) -> BaseCallback:
        if found is not None:
            self._restore(found)
        left = max(self.config.ppo.total_steps - self.agent.num_timesteps, 0)
        _, callback = self.agent._setup_learn(left, self.callbacks, reset_num_timesteps=found is None)
        self.agent._total_timesteps = self.config.ppo.total_steps
        return callback

    def _rollout(self, callback: BaseCallback) -> bool:
        agent, settings = self.agent, self.config.ppo
        began = time.perf_counter()
        agent.finished = []
        if not agent.collect_rollouts(self.env, callback, agent.rollout_buffer, agent.n_steps):
            return False
        collected = time.perf_counter()
        agent._update_current_progress_remaining(agent.num_timesteps, settings.total_steps)
        agent.ent_coef = settings.entropy * max(agent._current_progress_remaining, 0.0)
        self._update()
        self.rollouts += 1
        self._fold_average()
        metrics = {name: float(value) for name, value in agent.logger.name_to_value.items()}
        metrics |= self._rollout_metrics()
        if agent.num_timesteps - self.evaluated_at >= self.config.evaluation.every_steps:
            metrics |= self._evaluate()
        seconds = time.perf_counter() - began
        metrics["time/steps_per_second"] = self.env.num_envs * agent.n_steps / seconds
        metrics["time/collecting_share"] = (collected - began) / seconds
        if self.rollouts % self.config.checkpoint_every_rollouts == 0:
            self._save(finished=False)
        self.tracker.metrics(agent.num_timesteps, metrics)
        self.watch(Progress(agent.num_timesteps, settings.total_steps, metrics, self.best))
        return True

    def _update(self) -> None:
        """One update of the network.

        Raises:
            SpotwiseError: The weights are no longer finite; the last checkpoint is from before.
        """
        try:
            self.agent.train()
        except ValueError:
            # torch refuses logits that are not finite: tell that from any other fault
            if self._finite():
                raise
        if not self._finite():
            raise SpotwiseError(
                f"training diverged after {self.agent.num_timesteps:,} steps: weights are not finite; "
                f"{self.remedy}"
            )

    def _finite(self) -> bool:
        return all(bool(torch.isfinite(each).all()) for each in self.agent.policy.parameters())

    def present(self) -> Arrays:
        """The network's weights now, averaged if the configuration says so."""
        return self.average if self.config.ppo.averaging > 0.0 else weights_of(self.agent.policy)

    def _fold_average(self) -> None:
        # early on the average follows closely, so that the random first weights do not linger
        keep = np.float32(min(self.config.ppo.averaging, self.rollouts / (self.rollouts + 10.0)))
        if keep > 0.0:
            for name, now in weights_of(self.agent.policy).items():
                self.average[name] = keep * self.average[name] + (np.float32(1.0) - keep) * now

    def _evaluate(self) -> dict[str, float]:
        self.evaluated_at = self.agent.num_timesteps
        self.score = score = self._measure()
        if score.better_than(self.best):
            self.best = score
            self.best_weights = {name: array.copy() for name, array in self.present().items()}
        return {f"evaluation/{name}": value for name, value in score.metrics().items()}

    def _finish(self) -> Trained[Result]:
        if self.evaluated_at < self.agent.num_timesteps or self.score is None:
            self.tracker.metrics(self.agent.num_timesteps, self._evaluate())
        take_best = self.config.evaluation.select == "best" and self.best is not None
        weights = self.best_weights if take_best else self.present()
        score = self.best if take_best else self.score
        if score is None:
            raise AssertionError("every run ends with an evaluation")
        told, arrays = self.parts_of_bundle(weights)
        manifest = BundleManifest(
            name=self.config.name,
            kind=self.kind,
            **told,
            training_config={**self.config.model_dump(mode="json"), "seed": self.seed},
            data_sha256=dict(self.data.sha256),
            git_revision=git_revision(),
            evaluation=[{"windows": "held out during training", **score.row()}],
        )
        path = self.out / f"{self.config.name}.policy"
        digest = write_bundle(path, manifest, arrays)
        self.tracker.bundle(path, self.config.tracking.registered_model or self.config.name)
        self._save(finished=True)
        return Trained(path, digest, score, self.agent.num_timesteps, self.run_id)

    def _identity(self) -> dict[str, Any]:
        """What a checkpoint must agree on with the run that goes on from it."""
        return {
            "config": self.config.model_dump(mode="json"),
            "seed": self.seed,
            "data_sha256": dict(self.data.sha256),
        }

    def _note(self) -> dict[str, Any]:
        """What a checkpoint says of the run so far."""
        return {
            **self._identity(),
            "run": self.run_id,
            "steps": self.agent.num_timesteps,
            "updates": self.agent._n_updates,
            "rollouts": self.rollouts,
            "evaluated_at": self.evaluated_at,
            "score": astuple(self.score) if self.score else None,
            "best": astuple(self.best) if self.best else None,
        }

    def _save(self, *, finished: bool) -> None:
        arrays = {
            **named("policy", weights_of(self.agent.policy)),
            **named("optimizer", optimizer_arrays(self.agent.policy.optimizer)),
            **named("random", random_state()),
            **named("average", self.average),
            **named("best", self.best_weights),
            **self._environment_state(),
        }
        for k, callback in enumerate(self.callbacks):
            if isinstance(callback, Resumable):
                arrays |= named(f"callback.{k}", callback.state())
        note = {**self._note(), "finished": finished}
        save_checkpoint(self.checkpoint_path, Checkpoint(arrays, note))

    def _restore(self, found: Checkpoint) -> None:
        where, agent, note = self.checkpoint_path, self.agent, found.note
        refuse_other_run(where, note, self._identity())
        try:
            weights = {name: torch.from_numpy(np.array(a)) for name, a in found.part("policy").items()}
            agent.policy.load_state_dict(weights)
            restore_optimizer(agent.policy.optimizer, found.part("optimizer"))
            self._continue_environment(found)
            for k, callback in enumerate(self.callbacks):
                if isinstance(callback, Resumable):
                    callback.restore(found.part(f"callback.{k}"))
            restore_random_state(found.part("random"))
            self._take_note(found)
            self.average, self.best_weights = found.part("average"), found.part("best")
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            raise InputError(f"{where}: not a checkpoint of this run ({error})") from error

    def _take_note(self, found: Checkpoint) -> None:
        """Take over what `_note` said of the run so far."""
        note = found.note
        self.agent.num_timesteps, self.agent._n_updates = int(note["steps"]), int(note["updates"])
        self.rollouts, self.evaluated_at = int(note["rollouts"]), int(note["evaluated_at"])
        self.score = self.score_type(*note["score"]) if note["score"] else None
        self.best = self.score_type(*note["best"]) if note["best"] else None
