"""One deadline job as a Gymnasium environment: a batch of one over the compiled kernel."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from envs.actions import whole_numbers
from envs.jobs import DRAWS, Episodes, JobDistribution, JobRange, JobSampler
from envs.randomness import streams, uniforms
from envs.reward import CostReward, Reward
from envs.series import EpisodeMarkets
from policies.features import RICH, FeatureSet
from simulator.deadline import DeadlineBatch, DeadlineJob
from simulator.errors import InputError
from simulator.market import Market, sample_market, ticks_for

Float32Array = NDArray[np.float32]
Source = Market | EpisodeMarkets | str | Path


class RenderModeError(InputError, TypeError):
    """Nothing is drawn. A `TypeError` too: stable-baselines3 takes that as "make it without"."""


class DeadlineEnv(gym.Env[Float32Array, np.int64]):
    """Finish a fixed amount of work by a deadline, on spot or on-demand capacity, as cheaply as possible.

    ## Action space
    `Discrete(P + 2)` for P pools; one pool by default.

    | action | meaning |
    |---|---|
    | 0 | idle: nothing runs, nothing is paid |
    | 1 | run on on-demand capacity |
    | 2 + p | run on spot capacity of pool p; without capacity the launch fails and the job idles |

    Anything but idle that differs from the present placement is a launch, which costs the restart
    overhead. `action_masks()` tells which actions are safe: under them no deadline that can be kept is
    missed. Actions outside the mask are accepted and may miss the deadline.

    ## Observation space
    `Box(-3, 3, (F,), float32)`, by default the 46 features of `deadline-rich`; d = restart overhead, g =
    tick, slack = time left - work left, ln1(x) = ln(1 + x). All are clipped to the range.

    | columns | name | unit or formula |
    |---|---|---|
    | 0-5 | slack_* | ln1(ticks) / 3; shares of near ticks, of work left, of time left, of the first slack; \
ln1(slack / (d + g)) / 2 |
    | 6-11 | hold_, launch_, idle_margin_*, launches_left | ticks to the shield's limits, close up and / 8 |
    | 12-17 | work_left_*, time_left_*, ahead_of_uniform_progress, elapsed_ticks | ln1(ticks) / 3, shares |
    | 18-20 | overhead_* | ln1(d / g), shares of slack and of work left |
    | 21-23 | price_ratio, price_ratio_log, launch_pays_after_ticks | spot price / on-demand price |
    | 24-28 | idle_now, on_demand_now, spot_now, pending_* | 0 or 1; ln1(ticks), share of d |
    | 29 | spot_available | -1 or 1 |
    | 30-35 | age_*, previous_age_*, before_previous_age_* | ln1(ticks) / 3 and ln1(hours) / 2 of three runs |
    | 36-39 | availability_1h, _4h, _12h, _50h | exponentially weighted, -1 to 1 |
    | 40-43 | up_, down_hazard_factor, hazard_now, transitions | logarithms |
    | 44-45 | idle_legal, spot_legal | 0 or 1, from the mask |

    ## Rewards
    By default `envs.reward.CostReward`: minus the cost of the tick over the cost of all work on on-demand
    capacity; 2 is taken off when the deadline passes. A run on on-demand capacity returns about -1.

    ## Episodes
    Each begins at a random tick of a random market. Finishing the work and missing the deadline are both
    *termination*; nothing is ever truncated. `reset(options=...)` accepts `market` (index), `start` (tick)
    and `job` (a `DeadlineJob`) in place of what would be drawn.

    ## Info
    `cost_usd`, `work_left_hours`, `time_left_hours`, `placement`, `missed`.
    """

    metadata: dict[str, Any] = {"render_modes": []}  # noqa: RUF012 -- Gymnasium declares it so

    def __init__(
        self,
        market: Source | Sequence[Market] | None = None,
        *,
        jobs: JobSampler | None = None,
        features: FeatureSet = RICH,
        reward: Reward | None = None,
        render_mode: str | None = None,
    ) -> None:
        """Make the environment.

        Args:
            market: One or several markets, a market file, or prepared `EpisodeMarkets`; each pool is a market
                of its own unless prepared otherwise. By default the sample market that ships with Spotwise.
            jobs: What episodes are about; by default 48 h of work due in 52 h.
            features: How jobs are described.
            reward: What is paid; by default `CostReward`.
            render_mode: Only None is supported.

        Raises:
            InputError: The market cannot be read, or a job does not fit it.
            RenderModeError: A render mode is asked for.
        """
        if render_mode is not None:
            raise RenderModeError(
                f"render mode {render_mode}; this environment draws nothing, accepted: None"
            )
        self.render_mode = None
        self.markets = _episode_markets(market)
        self.jobs: JobSampler = jobs or JobDistribution()
        self.jobs.check(self.markets)
        self.features = features
        self.reward: Reward = reward or CostReward()
        self.batch = DeadlineBatch(self.markets.stack, 1)
        self.action_space = spaces.Discrete(self.markets.stack.pools + 2)
        self.observation_space = spaces.Box(-features.limit, features.limit, (features.size,), np.float32)
        self._memory = features.reset(1, self.markets.stack.pools)
        self._legal = np.ones(self.markets.stack.pools + 2, np.bool_)
        self._stream = streams(int(np.random.SeedSequence().generate_state(1)[0]), 1)
        self._episode = np.zeros(1, np.int64)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Float32Array, dict[str, Any]]:
        """Begin an episode; a seed begins the sequence of environment 0 of a `DeadlineVecEnv`.

        Raises:
            InputError: An option is unknown or does not fit the market.
        """
        super().reset(seed=seed)
        if seed is not None:
            self._stream = streams(seed, 1)
            self._episode[:] = 0
        drawn = self._draw(dict(options or {}))
        job = (options or {}).get("job")
        self._episode += 1
        self.batch.assign(
            np.arange(1),
            market=drawn.market,
            start=drawn.start,
            work=drawn.work,
            deadline=drawn.deadline,
            restart_overhead=drawn.restart_overhead,
            checkpoint_interval=drawn.checkpoint_interval,
            nodes=drawn.nodes,
            spot_scale=drawn.spot_scale,
            committed=job.committed if job else 0,
            due=job.due_or_deadline_seconds if job else None,
            lateness_price=job.lateness_usd_per_hour if job else 0.0,
        )
        self.reward.begin(self.batch, np.arange(1))
        self._memory = self.features.reset(1, self.markets.stack.pools)
        return self._look(), self._info()

    def step(self, action: np.int64 | int) -> tuple[Float32Array, float, bool, bool, dict[str, Any]]:
        """Run one tick.

        Raises:
            InputError: The action is not one of the P + 2, or not one whole number.
            gymnasium.error.ResetNeeded: The episode is over.
        """
        if self.batch.done[0]:
            raise gym.error.ResetNeeded("the episode is over; call reset()")
        cost = self.batch.step(whole_numbers(action, 1))
        reward = float(self.reward.score(self.batch, cost)[0])
        return self._look(), reward, bool(self.batch.done[0]), False, self._info()

    def action_masks(self) -> NDArray[np.bool_]:
        """(P + 2,) the shield's legal actions now."""
        return self._legal.copy()

    def _draw(self, options: dict[str, Any]) -> Episodes:
        job = options.pop("job", None)
        sampler = self.jobs
        if job is not None:
            if not isinstance(job, DeadlineJob):
                raise InputError(f"option job is a {type(job).__name__}; accepted: a DeadlineJob")
            sampler = JobDistribution([JobRange.of(job)])
            sampler.check(self.markets)
        drawn = sampler.draw(uniforms(self._stream, self._episode, DRAWS), self.markets)
        if job is not None:
            self._take(job, drawn)
        for name, column in (("market", drawn.market), ("start", drawn.start)):
            if name in options:
                column[:] = options.pop(name)
        if options:
            raise InputError(f"reset options {', '.join(options)}; accepted: market, start, job")
        if not 0 <= drawn.market[0] < len(self.markets.names):
            raise InputError(f"market {drawn.market[0]}; accepted: 0 to {len(self.markets.names) - 1}")
        return drawn

    def _take(self, job: DeadlineJob, drawn: Episodes) -> None:
        """Put a job as it was given in place of the drawn one, whose times are whole seconds."""
        drawn.work[:] = job.work_seconds
        drawn.deadline[:] = job.deadline_seconds
        drawn.restart_overhead[:] = job.restart_overhead_seconds
        drawn.checkpoint_interval[:] = job.checkpoint_interval_seconds
        needed = ticks_for(job.deadline_seconds, self.markets.stack.tick_seconds)
        np.minimum(drawn.start, self.markets.stack.ticks[drawn.market] - needed, out=drawn.start)

    def _look(self) -> Float32Array:
        look, self._memory = self.features.look(self.batch.observe(), self._memory)
        self._legal = look.legal[0]
        described: Float32Array = look.features[0]
        return described

    def _info(self) -> dict[str, Any]:
        batch = self.batch
        left = float(batch.deadline[0] - batch.tick[0] * batch.stack.tick_seconds)
        return {
            "cost_usd": float(batch.cost[0]),
            "work_left_hours": float(batch.work_left[0]) / 3600.0,
            "time_left_hours": left / 3600.0,
            "placement": int(batch.placement[0]),
            "missed": bool(batch.missed[0]),
        }


def _episode_markets(source: Source | Sequence[Market] | None) -> EpisodeMarkets:
    if isinstance(source, EpisodeMarkets):
        return source
    if source is None:
        return EpisodeMarkets.of([sample_market()])
    if isinstance(source, Market):
        return EpisodeMarkets.of([source])
    if isinstance(source, str | Path):
        return EpisodeMarkets.of([Market.load(Path(source))])
    return EpisodeMarkets.of(source)
