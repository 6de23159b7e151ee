"""The guided policy: the planner's expected costs plus what networks learnt to add to them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from functools import cached_property

import numpy as np
from numba import njit
from numpy.typing import NDArray

from policies.bundle import Bundle
from policies.features import RICH, update
from policies.guided.advice import ADVICE_NAMES, COST_GAPS, write_advice
from policies.guided.bundled import DOUBT, GuidedParts, join, unfit
from policies.network import Network
from policies.planner import SemiMarkovPlanner
from policies.planner.several import is_unseen
from policies.protocol import Memory
from simulator.deadline.observation import BoolArray, DeadlineObservation, FloatArray, IntArray
from simulator.errors import InputError

ALGORITHM = "deadline-guided"
"""What bundles of this policy call their algorithm."""
FEATURE_NAMES = (*RICH.names, *ADVICE_NAMES)
"""Inputs of the networks."""
HISTORY = "history"
"""Where the memory of the features lies; the rest of the memory is the planner's."""


@dataclass(frozen=True, slots=True)
class TrainedRange:
    """Jobs that the networks were trained on; outside it the planner decides alone.

    Attributes:
        tick_seconds: The tick.
        most_hours: Longest deadline, hours.
        most_overhead_minutes: Longest restart overhead.
        least_ratio: Lowest spot price over on-demand price.
        most_ratio: Highest.
    """

    tick_seconds: float
    most_hours: float
    most_overhead_minutes: float
    least_ratio: float
    most_ratio: float

    def covers(self, observation: DeadlineObservation, pool: IntArray) -> BoolArray:
        """(N,) whether each job is one the networks know."""
        known = np.zeros(len(pool), np.bool_)
        if abs(observation.tick_seconds - self.tick_seconds) < 1e-6:
            _cover(
                3600.0 * self.most_hours + 1e-6,
                60.0 * self.most_overhead_minutes + 1e-6,
                self.least_ratio,
                self.most_ratio,
                np.ascontiguousarray(observation.time_total, np.float64),
                np.ascontiguousarray(observation.restart_overhead, np.float64),
                np.ascontiguousarray(observation.checkpoint_interval, np.float64),
                np.ascontiguousarray(observation.lateness_price, np.float64),
                np.ascontiguousarray(observation.spot_price, np.float64),
                np.ascontiguousarray(observation.on_demand_price, np.float64),
                pool,
                known,
            )
        return known


@dataclass(frozen=True, slots=True, eq=False)
class Advised:
    """Jobs as the networks see them.

    Attributes:
        inputs: (N, F) float32, columns `FEATURE_NAMES`.
        legal: (N, P + 2) the shield's legal actions.
        pool: (N,) the pool that "spot" means.
    """

    inputs: NDArray[np.float32]
    legal: BoolArray
    pool: IntArray


@dataclass(frozen=True, eq=False)
class GuidedPolicy:
    """Chooses the legal action with the highest  -guidance x (cost above the best) + correction.

    Costs are the planner's, in on-demand ticks; the correction is the mean output of the networks on
    features and advice. With a correction of zero this is the planner. The planner decides alone where its
    second choice is worse by `DOUBT` or more, and for jobs outside `trained`.

    Attributes:
        name: What the policy is called.
        planner: The planner.
        guidance: Weight of the planner's costs.
        trained: Where the networks may speak.
        layers: Stacked layers of the M networks, (M, inputs, outputs) and (M, 1, outputs); tanh between.
    """

    name: str
    planner: SemiMarkovPlanner
    guidance: float
    trained: TrainedRange
    layers: tuple[tuple[NDArray[np.float32], NDArray[np.float32]], ...]

    @classmethod
    def stack(
        cls,
        name: str,
        planner: SemiMarkovPlanner,
        guidance: float,
        trained: TrainedRange,
        networks: Sequence[Network],
    ) -> GuidedPolicy:
        """Make a policy from networks of one shape.

        Raises:
            InputError: There is none, or they do not fit each other or the features.
        """
        parts = [[*network.trunk, network.heads["policy"]] for network in networks]
        shapes = {tuple(weight.shape for weight, _ in part) for part in parts}
        if len(shapes) != 1 or any(n.activation != "tanh" or n.normalisation for n in networks):
            raise InputError(
                f"{name}: networks of different shapes; accepted: equal tanh networks, at least one"
            )
        shape = shapes.pop()
        if shape[0][0] != len(FEATURE_NAMES) or shape[-1][1] != COST_GAPS:
            raise InputError(
                f"{name}: networks of {shape[0][0]} inputs and {shape[-1][1]} outputs; "
                f"accepted: {len(FEATURE_NAMES)} and {COST_GAPS}"
            )
        layers = tuple(
            (np.stack([part[k][0] for part in parts]), np.stack([part[k][1] for part in parts])[:, None, :])
            for k in range(len(shape))
        )
        return cls(name, planner, guidance, trained, layers)

    @classmethod
    def of(cls, bundle: Bundle) -> GuidedPolicy:
        """The policy in a bundle that `bundle_parts` describes.

        Raises:
            InputError: Features, parameters or arrays are not what this release knows.
        """
        name = bundle.manifest.name
        parts = GuidedParts.of(bundle, FEATURE_NAMES)
        try:
            settings = bundle.manifest.parameters["trained"]
            if not isinstance(settings, dict):
                raise TypeError("trained must be an object")
            trained = TrainedRange(
                **{field.name: float(str(settings[field.name])) for field in fields(TrainedRange)}
            )
            unlike = float(str(parts.planner.get("unlike", 0.0)))
            if not 0.0 <= unlike < 1.0:
                raise ValueError("unlike must be at least 0 and less than 1")
        except (KeyError, TypeError, ValueError) as error:
            raise unfit(bundle, error) from error
        networks = [
            Network.of(member, activation="tanh", where=f"bundle {name}, member {k}")
            for k, member in enumerate(parts.members)
        ]
        planner = SemiMarkovPlanner(parts.model, unlike=unlike)
        return cls.stack(name, planner, parts.guidance, trained, networks)

    @cached_property
    def availability(self) -> FloatArray:
        """(K,) long-run availability of each type."""
        return self.planner.believed.availability()

    def reset(self, jobs: int, pools: int = 1) -> Memory:
        """Memory for jobs about to begin: the planner's, and `history` of the features of one pool."""
        if pools > 1:
            return self.planner.reset(jobs, pools)
        return {**self.planner.reset(jobs, pools), HISTORY: RICH.reset(jobs, pools)[HISTORY]}

    def describe(self, observation: DeadlineObservation, memory: Memory) -> tuple[Advised, Memory]:
        """What the networks are shown, and the memory after it; the same as in training."""
        memory = self._update(observation, memory)
        costs, pool = self.planner.expected_costs(observation, memory)
        return self._show(observation, memory, costs, pool), memory

    def _update(self, observation: DeadlineObservation, memory: Memory) -> dict[str, NDArray[np.generic]]:
        history = update({HISTORY: memory[HISTORY]}, observation)
        return {**self.planner.update(observation, memory), **history}

    def _show(
        self, observation: DeadlineObservation, memory: Memory, costs: FloatArray, pool: IntArray
    ) -> Advised:
        inputs = np.empty((observation.jobs, len(FEATURE_NAMES)), np.float32)
        legal = RICH.describe(observation, memory, inputs).legal
        write_advice(
            np.arange(observation.jobs),
            costs,
            legal,
            pool,
            np.ascontiguousarray(memory["belief"], np.float32),
            np.ascontiguousarray(memory["last"], np.int8),
            self.planner.tick_model(observation.tick_seconds).hazard,
            observation.tick_seconds / 3600.0,
            self.availability,
            inputs,
        )
        return Advised(inputs, legal, pool)

    def reset_varied(self, jobs: int, pools: int) -> Memory:
        """As the planner, which decides alone over pools that differ in more than price."""
        return self.planner.reset_varied(jobs, pools)

    def weighs_lateness(self, pools: int) -> bool:
        """As the planner, which decides alone over a job that may be late."""
        return self.planner.weighs_lateness(pools)

    def act(self, observation: DeadlineObservation, memory: Memory) -> tuple[IntArray, Memory]:
        """Decide one tick; always a legal action. The planner decides alone over several or unseen pools."""
        if observation.pools > 1 or is_unseen(observation) or observation.varied:
            return self.planner.act(observation, memory)
        memory = self._update(observation, memory)
        costs, pool = self.planner.expected_costs(observation, memory)
        choice, doubtful, count = self.planner.choose(observation, costs, pool, DOUBT)
        if count:  # only those are described: the networks do not change the others
            doubtful &= self.trained.covers(observation, pool)
            rows = doubtful.nonzero()[0]
            if len(rows):
                choice[rows] = self._corrected(observation, memory, costs, pool, rows)
        return choice, memory

    def _corrected(
        self,
        observation: DeadlineObservation,
        memory: Memory,
        costs: FloatArray,
        pool: IntArray,
        rows: IntArray,
    ) -> IntArray:
        """Actions of the jobs `rows`, over which the networks have a say."""
        if len(rows) < observation.jobs:
            observation = observation.only(rows)
            memory = {name: memory[name][rows] for name in ("belief", "last", HISTORY)}
            costs, pool = costs[rows], pool[rows]
        advised = self._show(observation, memory, costs, pool)
        scores = self.corrections(advised.inputs)
        choice = np.empty(len(rows), np.int64)
        _choose_best(
            scores, np.float32(self.guidance), advised.inputs, RICH.size, advised.legal, pool, choice
        )
        return choice

    def corrections(self, inputs: NDArray[np.float32]) -> NDArray[np.float32]:
        """(N, 3) mean output of the networks on (N, F) features and advice."""
        x = inputs
        for k, (weight, bias) in enumerate(self.layers):
            x = np.matmul(x, weight)
            x += bias
            if k + 1 < len(self.layers):
                np.tanh(x, out=x)
        mean: NDArray[np.float32] = np.add.reduce(x, axis=0)
        mean /= np.float32(len(x))
        return mean


@njit(cache=True, nogil=True, error_model="numpy")
def _cover(
    most_seconds: float,
    most_overhead: float,
    least_ratio: float,
    most_ratio: float,
    time_total: FloatArray,
    restart_overhead: FloatArray,
    checkpoint_interval: FloatArray,
    lateness_price: FloatArray,
    spot_price: FloatArray,  # (N, P)
    on_demand_price: FloatArray,
    pool: IntArray,
    known: BoolArray,
) -> None:
    for i in range(known.shape[0]):
        ratio = spot_price[i, pool[i]] / on_demand_price[i]
        known[i] = (
            time_total[i] <= most_seconds
            and restart_overhead[i] <= most_overhead
            and least_ratio <= ratio <= most_ratio
            and checkpoint_interval[i] == 0.0
            and lateness_price[i] == 0.0
        )


@njit(cache=True, nogil=True)
def _choose_best(
    correction: NDArray[np.float32],
    guidance: np.float32,
    inputs: NDArray[np.float32],
    first: int,  # column of the first cost gap
    legal: BoolArray,
    pool: IntArray,
    choice: IntArray,
) -> None:
    for i in range(choice.shape[0]):
        best = np.float32(-np.inf)
        for action in range(3):
            place = action if action < 2 else pool[i] + 2
            score = correction[i, action] - guidance * inputs[i, first + action]
            if legal[i, place] and score > best:
                best = score
                choice[i] = place


def bundle_parts(
    planner: SemiMarkovPlanner,
    guidance: float,
    trained: TrainedRange,
    members: Sequence[Mapping[str, NDArray[np.float32]]],
) -> tuple[dict[str, object], dict[str, NDArray[np.generic]]]:
    """Parameters and weights of a bundle; each member's arrays are named as `policies.network` names them."""
    parameters, weights = join(planner.model, guidance, members, unlike=planner.unlike)
    return {**parameters, "trained": asdict(trained)}, weights
