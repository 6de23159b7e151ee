"""N services as one batched stable-baselines3 `VecEnv` over the compiled kernel."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray
from stable_baselines3.common.vec_env import VecEnv

from envs.randomness import streams
from envs.series import EpisodeMarkets
from envs.service_episodes import ServiceRange
from envs.service_world import LIMIT, SPARES, ServiceWorld
from simulator.deadline.observation import BoolArray, FloatArray, IntArray

Float32Array = NDArray[np.float32]


class ServiceVecEnv(VecEnv):
    """N environments in lock-step; a finished one begins its next episode at once.

    Actions, observations and rewards are those of `envs.service_env.ServiceEnv`. The end of a window is
    truncation: a final info has `TimeLimit.truncated` True, `terminal_observation`, `episode` (`r`, `l`, `t`
    as from a `Monitor`) and what `ServiceEnv` puts in its info; all other infos are empty.

    Environment i begins the same episodes whatever N is; see `envs.randomness`.
    """

    def __init__(
        self,
        markets: EpisodeMarkets,
        num_envs: int,
        *,
        services: ServiceRange | None = None,
        seed: int | None = None,
    ) -> None:
        """Make N environments; call `reset` before the first step.

        Args:
            markets: Where episodes take place.
            num_envs: Number of environments N.
            services: What episodes are about; by default 24 h of ticks of 30 s.
            seed: Seed of the episodes; None draws one.

        Raises:
            InputError: A market is too short.
        """
        self.world = ServiceWorld(markets, num_envs, services or ServiceRange(), seed)
        self.render_mode = None
        super().__init__(num_envs, *self._spaces())
        self._rows = np.arange(num_envs)
        self._infos: list[dict[str, Any]] = [{} for _ in range(num_envs)]
        self._finished: IntArray = self._rows[:0]
        self._actions: NDArray[Any] = np.zeros(0)
        self._began = time.perf_counter()
        self.seed(seed)

    def _spaces(self) -> tuple[spaces.Space[Any], spaces.Space[Any]]:
        """Observation and action space."""
        world = self.world
        highest = world.services.most_instances + SPARES
        return (
            spaces.Box(-LIMIT, LIMIT, (world.features,), np.float32),
            spaces.MultiDiscrete([highest + 1] * (world.markets.stack.pools + 1)),
        )

    def _advance(self, actions: NDArray[Any]) -> FloatArray:
        """Act; (N,) rewards."""
        return self.world.step(self.world.asked_from_counts(actions))

    def _look(self) -> Float32Array:
        """(N, F) observations after a tick or a reset; takes in what was granted."""
        return self.world.look(self.world.batch.observe())

    def _begin(self, rows: IntArray) -> None:
        self.world.begin(rows, self.world.draw(rows))

    def seed(self, seed: int | None = None) -> list[int]:
        """Choose the episodes from the next `reset` on.

        Returns:
            N numbers, each environment's own; runs with neighbouring seeds share none of them.
        """
        root = int(np.random.SeedSequence().generate_state(1)[0]) if seed is None else seed
        self._seeds = [int(each) for each in streams(root, self.num_envs)]
        return self._seeds  # type: ignore[return-value] # the base class allows None among them

    def reset(self) -> Float32Array:
        """Begin a new episode in every environment."""
        if self._seeds[0] is not None:
            self.world.stream = np.array(self._seeds, np.int64)
            self.world.episode[:] = 0
        self._reset_seeds()
        self._reset_options()
        self._clear_infos()
        self._begin(self._rows)
        return self._look()

    def step_async(self, actions: NDArray[Any]) -> None:
        """Note the actions of the next `step_wait`."""
        self._actions = actions

    def step_wait(self) -> tuple[Float32Array, Float32Array, BoolArray, list[dict[str, Any]]]:
        """Run one tick.

        Returns:
            (N, F) observations, of the next episode where one ended; (N,) rewards; (N,) whether an episode
            ended; and N infos.
        """
        rewards = self._advance(self._actions)
        done = self.world.batch.done.copy()
        seen = self._look()
        self._clear_infos()
        finished = np.flatnonzero(done)
        if len(finished):
            self._report(finished, seen)
            self._begin(finished)
            seen = self._look_again(finished, seen)
        return seen, rewards.astype(np.float32), done, list(self._infos)

    def _look_again(self, rows: IntArray, seen: Float32Array) -> Float32Array:
        """`seen` with what `rows`, which just began, see now."""
        seen[rows] = self.world.look(self.world.batch.observe(), fold=False)[rows]
        return seen

    def _report(self, finished: IntArray, seen: Float32Array) -> None:
        elapsed = round(time.perf_counter() - self._began, 6)
        for i in finished:
            self._infos[i] = {
                "terminal_observation": seen[i].copy(),  # a view would keep all N rows alive
                "TimeLimit.truncated": True,
                "episode": {
                    "r": float(self.world.returns[i]),
                    "l": int(self.world.batch.tick[i]),
                    "t": elapsed,
                },
                **self.world.report(int(i)),
            }
        self._finished = finished

    def _clear_infos(self) -> None:
        for i in self._finished:
            self._infos[i] = {}
        self._finished = self._rows[:0]

    def close(self) -> None:
        """Nothing is held that needs closing."""

    def env_method(
        self,
        method_name: str,
        *method_args: Any,
        indices: int | Iterable[int] | None = None,
        **method_kwargs: Any,
    ) -> list[Any]:
        """No method exists per environment.

        Raises:
            AttributeError: Always.
        """
        raise AttributeError(f"a batched environment has no method {method_name} per environment")

    def get_attr(self, attr_name: str, indices: int | Iterable[int] | None = None) -> list[Any]:
        """The attribute, which all environments share, once per environment."""
        value = getattr(self, attr_name)
        return [value for _ in self._get_indices(indices)]

    def set_attr(self, attr_name: str, value: Any, indices: int | Iterable[int] | None = None) -> None:
        """Set an attribute of all environments at once.

        Raises:
            ValueError: Only some environments are named: they share their attributes.
        """
        if indices is not None and len(list(self._get_indices(indices))) != self.num_envs:
            raise ValueError("environments of one batch share their attributes; set them for all")
        setattr(self, attr_name, value)

    def env_is_wrapped(
        self, wrapper_class: type[gym.Wrapper[Any, Any, Any, Any]], indices: int | Iterable[int] | None = None
    ) -> list[bool]:
        """False for each: there are no single environments to wrap."""
        del wrapper_class
        return [False for _ in self._get_indices(indices)]

    def get_images(self) -> Sequence[None]:
        """Nothing is drawn."""
        return [None] * self.num_envs
