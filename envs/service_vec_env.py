"""N services as one batched stable-baselines3 `VecEnv` over the compiled kernel."""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from envs.batched import BatchedVecEnv, Float32Array
from envs.series import EpisodeMarkets
from envs.service_episodes import ServiceRange
from envs.service_world import LIMIT, SPARES, ServiceWorld
from simulator.deadline.observation import BoolArray, FloatArray, IntArray


class ServiceVecEnv(BatchedVecEnv):
    """N services; see `BatchedVecEnv`.

    Actions, observations and rewards are those of `envs.service_env.ServiceEnv`. The end of a window is
    truncation: a final info has `TimeLimit.truncated` True, `terminal_observation`, `episode` (`r`, `l`, `t`
    as from a `Monitor`) and what `ServiceEnv` puts in its info; all other infos are empty.
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
        super().__init__(num_envs, *self._spaces())
        self._actions: NDArray[Any] = np.zeros(0)
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

    def _look_all(self) -> Float32Array:
        """(N, F) observations; takes in what was granted."""
        return self.world.look(self.world.batch.observe())

    def _begin(self, rows: IntArray) -> None:
        self.world.begin(rows, self.world.draw(rows))

    def _restart(self, stream: IntArray) -> None:
        self.world.stream = stream
        self.world.episode[:] = 0

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
        seen = self._look_all()
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
        world = self.world
        told = [world.report(int(i)) for i in finished]
        self._report_all(finished, seen, world.returns, world.batch.tick, truncated=True, told=told)
