"""What the batched environments share: seeds, infos of finished episodes, the rest of `VecEnv`."""

from __future__ import annotations

import time
from abc import abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray
from stable_baselines3.common.vec_env import VecEnv

from envs.randomness import streams
from policies.protocol import Memory
from simulator.deadline.observation import IntArray

Float32Array = NDArray[np.float32]


class BatchedVecEnv(VecEnv):
    """N environments in lock-step; a finished one begins its next episode at once.

    Infos are empty but for those of finished episodes. Environment i begins the same episodes whatever N is;
    see `envs.randomness`.
    """

    def __init__(
        self, num_envs: int, observation_space: spaces.Space[Any], action_space: spaces.Space[Any]
    ) -> None:
        """Set up N environments; `seed` is to be called before `reset`."""
        self.render_mode = None
        super().__init__(num_envs, observation_space, action_space)
        self._rows = np.arange(num_envs)
        self._infos: list[dict[str, Any]] = [{} for _ in range(num_envs)]
        self._finished: IntArray = self._rows[:0]
        self._began = time.perf_counter()

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
            self._restart(np.array(self._seeds, np.int64))
        self._reset_seeds()
        self._reset_options()
        self._clear_infos()
        self._begin(self._rows)
        return self._look_all()

    @abstractmethod
    def _restart(self, stream: IntArray) -> None:
        """Take these (N,) streams of random numbers, from their first episodes on."""

    @abstractmethod
    def _begin(self, rows: IntArray) -> None:
        """Begin the next episode in the environments `rows`."""

    @abstractmethod
    def _look_all(self) -> Float32Array:
        """(N, F) observations after a tick or a reset."""

    def _report_all(
        self,
        finished: IntArray,
        last: Float32Array,
        total: NDArray[np.float64],
        ticks: IntArray,
        *,
        truncated: bool,
        told: Sequence[Mapping[str, Any]],
    ) -> None:
        """Write the infos of environments `finished` and remember to clear them.

        Args:
            finished: Environments whose episode just ended.
            last: (N, F) what they saw last.
            total: (N,) rewards of the episodes.
            ticks: (N,) their lengths.
            truncated: Whether episodes end by truncation.
            told: For each of `finished`, what else its info says.
        """
        elapsed = round(time.perf_counter() - self._began, 6)
        for i, rest in zip(finished, told, strict=True):
            self._infos[i] = {
                "terminal_observation": last[i].copy(),  # a view would keep all N rows alive
                "TimeLimit.truncated": truncated,
                "episode": {"r": float(total[i]), "l": int(ticks[i]), "t": elapsed},
                **rest,
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


class EpisodeMemory:
    """A planner's memory of N environments; that of one begins anew with each episode, as in production.

    Attributes:
        now: The memory.
    """

    def __init__(self, first: Memory, blank: Memory) -> None:
        """Begin with a copy of `first`; `blank` is the memory of one job about to begin."""
        self.now = {name: np.array(array) for name, array in first.items()}
        self._blank = blank

    def begin(self, rows: IntArray) -> None:
        """Forget what the environments `rows` remember."""
        for name, array in self.now.items():
            array[rows] = self._blank[name][0]

    def keep(self, after: Memory) -> None:
        """Remember what the planner returned."""
        self.now = {name: np.asarray(array) for name, array in after.items()}
