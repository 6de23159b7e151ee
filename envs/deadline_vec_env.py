"""N deadline jobs as one batched stable-baselines3 `VecEnv` over the compiled kernel."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from envs.actions import whole_numbers
from envs.batched import BatchedVecEnv, Float32Array
from envs.jobs import DRAWS, JobDistribution, JobSampler
from envs.randomness import streams, uniforms
from envs.reward import CostReward, Reward
from envs.series import EpisodeMarkets
from policies.features import RICH, FeatureSet
from simulator.deadline import DeadlineBatch
from simulator.deadline.batch import INTERRUPTIONS, LAUNCHES
from simulator.deadline.observation import BoolArray, IntArray
from simulator.errors import InputError

State = dict[str, NDArray[np.generic]]


class DeadlineVecEnv(BatchedVecEnv):
    """N jobs; see `BatchedVecEnv`.

    Actions and observations are those of `envs.deadline_env.DeadlineEnv`. Reaching the deadline is
    termination, so `TimeLimit.truncated` is False in every final info. A final info also has
    `terminal_observation`, `episode` (`r`, `l`, `t` as from a `Monitor`), `is_success` (deadline met),
    `cost_usd`, `relative_cost` (to on-demand), `launches` and `interruptions`; all other infos are empty.
    """

    def __init__(
        self,
        markets: EpisodeMarkets,
        num_envs: int,
        *,
        jobs: JobSampler | None = None,
        features: FeatureSet = RICH,
        reward: Reward | None = None,
        seed: int | None = None,
    ) -> None:
        """Make N environments; call `reset` before the first step.

        Args:
            markets: Where episodes take place.
            num_envs: Number of environments N.
            jobs: What episodes are about; by default 48 h of work due in 52 h.
            features: How jobs are described.
            reward: What is paid; by default `CostReward`.
            seed: Seed of the episodes; None draws one.

        Raises:
            InputError: A job does not fit a market.
        """
        if num_envs < 1:
            raise InputError(f"{num_envs} environments; accepted: 1 or more")
        self.markets = markets
        self.jobs: JobSampler = jobs or JobDistribution()
        self.jobs.check(markets)
        self.features = features
        self.reward: Reward = reward or CostReward()
        self.batch = DeadlineBatch(markets.stack, num_envs)
        pools = markets.stack.pools
        super().__init__(
            num_envs,
            spaces.Box(-features.limit, features.limit, (features.size,), np.float32),
            spaces.Discrete(pools + 2),
        )
        self._history = np.zeros((num_envs, pools, features.columns))
        self._legal: BoolArray = np.ones((num_envs, pools + 2), np.bool_)
        self._pool = np.zeros(num_envs, np.int64)
        self._returns = np.zeros(num_envs)
        self._episode = np.zeros(num_envs, np.int64)
        self._actions = np.zeros(num_envs, np.int64)
        self._stream = streams(0, num_envs)
        self.seed(seed)

    def step_async(self, actions: NDArray[Any]) -> None:
        """Note the (N,) actions of the next `step_wait`.

        Raises:
            InputError: They are not N whole numbers.
        """
        self._actions = whole_numbers(actions, self.num_envs)

    def step_wait(self) -> tuple[Float32Array, Float32Array, BoolArray, list[dict[str, Any]]]:
        """Run one tick.

        Returns:
            (N, F) observations, of the next episode where one ended; (N,) rewards; (N,) whether an episode
            ended; and N infos.
        """
        batch = self.batch
        rewards = self.reward.score(batch, batch.step(self._actions))
        self._returns += rewards
        done = batch.done.copy()
        self._clear_infos()
        finished = np.flatnonzero(done)
        if len(finished):
            self._report(finished)
            self._begin(finished)
        return self._look_all(), rewards.astype(np.float32), done, list(self._infos)

    def action_masks(self) -> BoolArray:
        """(N, A) the shield's legal actions now."""
        return self._legal.copy()

    def state(self) -> State:
        """Copies of everything that `restore` needs to continue exactly here."""
        own = {
            "history": self._history.copy(),
            "returns": self._returns.copy(),
            "episode": self._episode.copy(),
            "stream": self._stream.copy(),
        }
        return {**{f"batch.{name}": array for name, array in self.batch.state().items()}, **own}

    def restore(self, state: Mapping[str, NDArray[np.generic]]) -> Float32Array:
        """Continue from a saved state instead of a `reset`.

        Returns:
            (N, F) observations of that moment.

        Raises:
            InputError: The state belongs to other markets, features or another number of environments.
        """
        mine = {
            "history": self._history,
            "returns": self._returns,
            "episode": self._episode,
            "stream": self._stream,
        }
        for name, array in mine.items():
            if name not in state or state[name].shape != array.shape:
                raise InputError(
                    f"state of {self.num_envs} environments: {name} is missing or of another shape"
                )
        self.batch.restore(
            {name.removeprefix("batch."): array for name, array in state.items() if name.startswith("batch.")}
        )
        for name, array in mine.items():
            array[...] = state[name]
        self._reset_seeds()
        self.reward.begin(self.batch, self._rows)
        return self._look(self._rows, fold=False)

    def _restart(self, stream: IntArray) -> None:
        self._stream = stream
        self._episode[:] = 0

    def _begin(self, rows: IntArray) -> None:
        drawn = uniforms(self._stream[rows], self._episode[rows], DRAWS)
        episodes = self.jobs.draw(drawn, self.markets)
        self.batch.assign(
            rows,
            market=episodes.market,
            start=episodes.start,
            work=episodes.work,
            deadline=episodes.deadline,
            restart_overhead=episodes.restart_overhead,
            checkpoint_interval=episodes.checkpoint_interval,
            nodes=episodes.nodes,
            spot_scale=episodes.spot_scale,
        )
        self._episode[rows] += 1
        self._returns[rows] = 0.0
        self._history[rows] = 0.0
        self.reward.begin(self.batch, rows)

    def _look_all(self) -> Float32Array:
        return self._look(self._rows, fold=True)

    def _look(self, rows: IntArray, *, fold: bool) -> Float32Array:
        described = np.empty((self.num_envs, self.features.size), np.float32)
        seen = self.batch.observe(copy=False)
        self.features.kernel(
            rows,
            fold,
            seen.tick_seconds,
            seen.work_left,
            seen.time_left,
            seen.work_total,
            seen.time_total,
            seen.placement,
            seen.pending_overhead,
            seen.unsaved_work,
            seen.restart_overhead,
            seen.checkpoint_interval,
            seen.spot_available,
            seen.spot_price,
            seen.on_demand_price,
            self._history,
            described,
            self._legal,
            self._pool,
        )
        return described

    def _report(self, finished: IntArray) -> None:
        batch = self.batch
        last = self._look(finished, fold=True)
        usd_per_hour = batch.stack.on_demand_price[batch.market[finished], batch.start[finished]]
        on_demand = usd_per_hour * batch.nodes[finished] * batch.work_total[finished] / 3600.0
        told = [
            {
                "is_success": not batch.missed[i],
                "cost_usd": float(batch.cost[i]),
                "relative_cost": float(batch.cost[i]) / float(on_demand[k]),
                "launches": int(batch.counts[i, LAUNCHES]),
                "interruptions": int(batch.counts[i, INTERRUPTIONS]),
            }
            for k, i in enumerate(finished)
        ]
        self._report_all(finished, last, self._returns, batch.tick, truncated=False, told=told)

    def env_method(
        self,
        method_name: str,
        *method_args: Any,
        indices: int | Iterable[int] | None = None,
        **method_kwargs: Any,
    ) -> list[Any]:
        """Call a method per environment; only `action_masks` exists.

        Asked for all environments at once, the masks come as ONE (N, A) array in the list, which is what
        sb3-contrib's `get_action_masks` stacks and reshapes without a loop over N. With `indices`, one
        (A,) array per environment is returned.

        Raises:
            AttributeError: Another method is asked for.
        """
        if method_name != "action_masks":
            return super().env_method(method_name)
        if indices is None:
            return [self._legal.copy()]
        return [self._legal[i].copy() for i in self._get_indices(indices)]
