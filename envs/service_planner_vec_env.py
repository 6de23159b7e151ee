"""N services whose look-ahead planner is told how many spares and how much on-demand reserve to have."""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from envs.batched import EpisodeMemory, Float32Array
from envs.series import EpisodeMarkets
from envs.service_episodes import ServiceRange
from envs.service_vec_env import ServiceVecEnv
from envs.service_world import ServiceWorld
from policies.service.lookahead import LookAhead
from policies.service.residual import FEATURE_NAMES, OPTIONS, describe, option_of
from policies.service.residual.features import LIMIT
from simulator.deadline.observation import FloatArray, IntArray
from simulator.errors import InputError


class ServicePlannerVecEnv(ServiceVecEnv):
    """A step is one review period of the planner; the option limits the layouts it chooses from at its begin.

    The planner chooses pools and moves as usual. When something happens within the period, such as a loss, it
    chooses anew and freely. So the option that the planner likes best leaves it as it is.

    ## Action space
    `Discrete(20)`: option = 5 x spares (0 to 3) + quarters of the demand kept on on-demand capacity (0 to 4).

    ## Observation space
    `policies.service.residual.FEATURE_NAMES`: first, per option, how much worse the planner thinks it is in
    spot instances per instance of demand (so `argmin` of the first 20 is the planner), then the state.

    ## Rewards
    Mean over the ticks of those of `ServiceEnv`. With `against_planner`, minus those that the planner alone
    earns in the same ticks of the same episode. The market does not react, so this takes most of the luck
    out and leaves the same best policy; the planner's own return is then 0.
    """

    def __init__(
        self,
        markets: EpisodeMarkets,
        num_envs: int,
        planner: LookAhead,
        *,
        services: ServiceRange | None = None,
        against_planner: bool = False,
        seed: int | None = None,
    ) -> None:
        """Make N environments; call `reset` before the first step.

        Args:
            markets: Where episodes take place.
            num_envs: Number of environments N.
            planner: The planner.
            services: What episodes are about; by default 24 h of ticks of 30 s.
            against_planner: See the class.
            seed: Seed of the episodes; None draws one.

        Raises:
            InputError: A market is too short, or an episode is not a whole number of review periods.
        """
        services = services or ServiceRange()
        self.planner = planner
        self.held_ticks = max(int(planner.settings.review_seconds / markets.stack.tick_seconds), 1)
        if services.ticks % self.held_ticks:
            raise InputError(
                f"episodes of {services.ticks} ticks; accepted: a multiple of {self.held_ticks}, the "
                "planner's review period"
            )
        pools = markets.stack.pools
        self._memory = EpisodeMemory(planner.reset(num_envs, pools), planner.reset(1, pools))
        self._due: NDArray[np.bool_] = np.ones(num_envs, np.bool_)
        self._rival: ServiceWorld | None = None
        if against_planner:
            self._rival = ServiceWorld(markets, num_envs, services, 0)
            self._rival_memory = EpisodeMemory(planner.reset(num_envs, pools), planner.reset(1, pools))
        super().__init__(markets, num_envs, services=services, seed=seed)

    def _spaces(self) -> tuple[spaces.Space[Any], spaces.Space[Any]]:
        return (
            spaces.Box(-LIMIT, LIMIT, (len(FEATURE_NAMES),), np.float32),
            spaces.Discrete(OPTIONS),
        )

    def _begin(self, rows: IntArray) -> None:
        episodes = self.world.draw(rows)
        self.world.begin(rows, episodes)
        self._memory.begin(rows)
        if self._rival is not None:
            self._rival.begin(rows, episodes)
            self._rival_memory.begin(rows)

    def _advance(self, actions: NDArray[Any]) -> FloatArray:
        only = option_of(actions.reshape(self.num_envs))
        total = np.zeros(self.num_envs)
        for tick in range(self.held_ticks):
            seen = self.world.batch.observe()
            if tick:
                self._due = self.planner.perceive(seen, self._memory.now)
                only[self._due] = -1
            asked = self.planner.ask(seen, self._memory.now, self._due, self.world.weight, only)
            total += self.world.step(asked)
            if self._rival is not None:
                seen = self._rival.batch.observe()
                due = self.planner.perceive(seen, self._rival_memory.now)
                asked = self.planner.ask(seen, self._rival_memory.now, due, self._rival.weight)
                total -= self._rival.step(asked)
        return total / self.held_ticks

    def _look_all(self) -> Float32Array:
        seen = self.world.batch.observe()
        self._due = self.planner.perceive(seen, self._memory.now)
        return describe(self.planner, seen, self._memory.now, self.world.weight)

    def _look_again(self, rows: IntArray, seen: Float32Array) -> Float32Array:
        # Rows that just began have a blank memory and nothing granted, which `perceive` leaves as they are.
        observation = self.world.batch.observe()
        self._due[rows] = True
        seen[rows] = describe(self.planner, observation, self._memory.now, self.world.weight)[rows]
        return seen
