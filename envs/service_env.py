"""One service as a Gymnasium environment: a batch of one over the compiled kernel."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from envs.actions import whole_numbers
from envs.deadline_env import RenderModeError
from envs.series import EpisodeMarkets
from envs.service_episodes import ServiceRange
from envs.service_series import service_markets
from envs.service_world import LIMIT, SPARES, ServiceWorld
from simulator.deadline.observation import IntArray
from simulator.errors import InputError
from simulator.market import Market, sample_market
from simulator.service import Service

Float32Array = NDArray[np.float32]
Source = Market | EpisodeMarkets | str | Path

DEFAULT_SERVICES = ServiceRange(
    ticks=144, demand=(3.0, 3.0), swing=(0.0, 0.0), cold_start_ticks=(1.0, 1.0), on_demand_ratio=None
)
"""Three instances for a day of the sample market's ten-minute ticks."""


class ServiceEnv(gym.Env[Float32Array, IntArray]):
    """Keep enough instances ready at every tick, on spot and on-demand capacity, as cheaply as possible.

    ## Action space
    `MultiDiscrete([C + 1] * (P + 1))`: instances asked of each of the P pools, and last of on-demand, up to
    the highest demand and 3 more. A pool grants what it has; on-demand grants all. An instance is ready after
    it was held for the whole cold start. Asking for fewer than are held gives the youngest back.

    ## Observation space
    `Box(-3, 3, (7 + 6 P,), float32)`; ln1(x) = ln(1 + x). All are clipped to the range.

    | columns | name | unit or formula |
    |---|---|---|
    | 0 | demand | ln1(instances) / 2 |
    | 1 | ready_surplus | (ready last tick - demand) / demand |
    | 2 | cold_start | ticks / 10 |
    | 3 | on_demand_ratio | ln(on-demand price / mean spot price of the cheapest pool) |
    | 4 | weight | ln(weight of unavailability / 20) / 2 |
    | 5 | on_demand_held | instances / demand |
    | 6 | held_surplus | (held everywhere - demand) / demand |
    | 7 + 6 p | held | instances in pool p / demand |
    | 8 + 6 p | refused | 1 if the pool granted less than was asked last tick |
    | 9, 10, 11 + 6 p | since_refusal, since_loss, held_for | ln1(ticks) / 5 |
    | 12 + 6 p | price | ln(spot price / on-demand price) / 2 |

    ## Rewards
    -(cost / demand + w x unavailable) / (1 + w / 20) per tick, with the cost in ticks of an instance of the
    cheapest pool at its mean price, and w the weight of unavailability of the episode. The cold start at the
    begin is neither billed nor counted.

    ## Episodes
    Each is a window of a random market from a random tick on; its end is *truncation*. `reset(options=...)`
    accepts `market` (index), `start` (tick), `service` (a `Service`) and `weight` in place of what would be
    drawn.

    ## Info
    `cost_usd`, `availability`, `served_fraction`, `weight`, `launches`, `interruptions`, `failed_launches`.
    """

    metadata: dict[str, Any] = {"render_modes": []}  # noqa: RUF012 -- Gymnasium declares it so

    def __init__(
        self,
        market: Source | Sequence[Market] | None = None,
        *,
        services: ServiceRange = DEFAULT_SERVICES,
        render_mode: str | None = None,
    ) -> None:
        """Make the environment.

        Args:
            market: One or several markets, a market file, or prepared markets (`service_markets`). By default
                the sample market that ships with Spotwise.
            services: What episodes are about; by default 3 instances for a day of ten-minute ticks.
            render_mode: Only None is supported.

        Raises:
            InputError: The market cannot be read or is too short.
            RenderModeError: A render mode is asked for.
        """
        if render_mode is not None:
            raise RenderModeError(
                f"render mode {render_mode}; this environment draws nothing, accepted: None"
            )
        self.render_mode = None
        self.world = ServiceWorld(episode_markets(market), 1, services)
        pools = self.world.markets.stack.pools
        self._counts = pools + 1
        self.action_space = spaces.MultiDiscrete([services.most_instances + SPARES + 1] * (pools + 1))
        self.observation_space = spaces.Box(-LIMIT, LIMIT, (self.world.features,), np.float32)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Float32Array, dict[str, Any]]:
        """Begin an episode; a seed begins the sequence of environment 0 of a `ServiceVecEnv`.

        Raises:
            InputError: An option is unknown or does not fit.
        """
        super().reset(seed=seed)
        if seed is not None:
            self.world.seed(seed)
        rows, chosen = np.arange(1), dict(options or {})
        drawn = self.world.draw(rows)
        for name, column in (("market", drawn.market), ("start", drawn.start), ("weight", drawn.weight)):
            if name in chosen:
                column[:] = chosen.pop(name)
        if "service" in chosen:
            service = chosen.pop("service")
            if not isinstance(service, Service):
                raise InputError(f"option service is a {type(service).__name__}; accepted: a Service")
            drawn = replace(drawn, services=[service])
        if chosen:
            raise InputError(f"reset options {', '.join(chosen)}; accepted: market, start, service, weight")
        if not (0 <= drawn.market[0] < len(self.world.markets.names) and drawn.weight[0] > 0.0):
            raise InputError(
                f"market {drawn.market[0]}, weight {drawn.weight[0]}; accepted: 0 to "
                f"{len(self.world.markets.names) - 1}, more than 0"
            )
        self.world.begin(rows, drawn)
        return self.world.look(self.world.batch.observe())[0], self.world.report(0)

    def step(self, action: IntArray) -> tuple[Float32Array, float, bool, bool, dict[str, Any]]:
        """Run one tick.

        Raises:
            InputError: The action is not P + 1 counts of 0 or more.
            gymnasium.error.ResetNeeded: The episode is over.
        """
        world = self.world
        if world.batch.done[0]:
            raise gym.error.ResetNeeded("the episode is over; call reset()")
        counts = whole_numbers(action, self._counts)
        reward = float(world.step(world.asked_from_counts(counts[None]))[0])
        seen = world.look(world.batch.observe())[0]
        return seen, reward, False, bool(world.batch.done[0]), world.report(0)


def episode_markets(source: Source | Sequence[Market] | None) -> EpisodeMarkets:
    """Markets from whatever a caller has; see `ServiceEnv`."""
    if isinstance(source, EpisodeMarkets):
        return source
    if source is None:
        return service_markets([sample_market()])
    if isinstance(source, Market):
        return service_markets([source])
    if isinstance(source, str | Path):
        return service_markets([Market.load(Path(source))])
    return service_markets(source)
