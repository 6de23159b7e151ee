"""The look-ahead planner with a network that corrects how many spares and how much reserve it holds."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from policies.bundle import Bundle
from policies.network import Network
from policies.protocol import Memory
from policies.service.lookahead import LookAhead
from policies.service.lookahead.kernel import Beliefs
from policies.service.names import RESIDUAL, planner_of
from policies.service.residual.features import FEATURE_NAMES, OPTIONS, describe, option_of
from simulator.deadline.observation import FloatArray, IntArray
from simulator.errors import InputError
from simulator.service import ServiceObservation

PLANNER_ARRAYS = ("edges", "rates")
"""Arrays of a bundle that are the planner's survival curve; all others are the network's."""
_DESCRIBED = tuple(dict.fromkeys((*Beliefs._fields, "refused", "since_loss", "expected")))
_PER_SERVICE = tuple(
    field.name for field in dataclasses.fields(ServiceObservation) if field.name != "tick_seconds"
)


@dataclass(frozen=True)
class Advice:
    """What the planner's own view adds to the network's outputs.

    Attributes:
        bonus: Added to the option that the planner likes best.
        guidance: Taken off every option, times how much worse than the best the planner thinks it is.

    Raises:
        InputError: A value is negative or not finite.
    """

    bonus: float = 3.0
    guidance: float = 10.0

    def __post_init__(self) -> None:
        """Check both."""
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0.0 <= value <= 1e6:
                raise InputError(f"advice {field.name} = {value!r}; accepted: a number from 0 to 1e6")

    def scores(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        """(N, OPTIONS) for (N, F) features, `FEATURE_NAMES`."""
        gaps = features[:, :OPTIONS]
        scores = np.float32(-self.guidance) * gaps
        scores[np.arange(len(gaps)), gaps.argmin(axis=1)] += np.float32(self.bonus)
        return scores


@dataclass(frozen=True, eq=False)
class ResidualPlanner:
    """At the begin of each review period the network limits the layouts that the planner chooses from.

    Everything else is the planner's: pools, moves, the dial, and what it does when something happens
    within a period. A network whose outputs are all 0 leaves the planner's choice as it is. The memory is
    the planner's own.

    Attributes:
        planner: The planner.
        network: From `FEATURE_NAMES` to one output per option.
        advice: See `Advice`.
        name: What the policy is called.

    Raises:
        InputError: The network has other inputs or outputs.
    """

    planner: LookAhead
    network: Network
    advice: Advice = Advice()
    name: str = RESIDUAL

    def __post_init__(self) -> None:
        """Check the network's shape."""
        outputs = self.network.heads["policy"][1].size
        if self.network.inputs != len(FEATURE_NAMES) or outputs != OPTIONS:
            raise InputError(
                f"{self.name}: a network of {self.network.inputs} inputs and {outputs} outputs; accepted: "
                f"{len(FEATURE_NAMES)} and {OPTIONS}"
            )

    @classmethod
    def of(cls, bundle: Bundle) -> ResidualPlanner:
        """The policy in a bundle.

        `parameters` of the manifest: `planner` (its settings), `bonus`, `guidance`, `activation`. Weights:
        `edges` and `rates` of the survival curve, and the network's layers; see `Network.of`.

        Raises:
            InputError: The bundle was trained on other features, or something in it is missing, unknown,
                of the wrong shape or out of range.
        """
        manifest, parameters = bundle.manifest, dict(bundle.manifest.parameters)
        where = f"bundle {manifest.name}"
        if tuple(manifest.feature_names) != FEATURE_NAMES:
            raise InputError(f"{where}: its features differ from this release's; train it again")
        if set(parameters) != {"planner", "bonus", "guidance", "activation"}:
            raise InputError(
                f"{where}: parameters {', '.join(sorted(parameters)) or 'none'}; accepted: planner, bonus, "
                "guidance, activation"
            )
        settings = parameters["planner"]
        if not isinstance(settings, dict):
            raise InputError(f"{where}: parameter planner is not a mapping of settings")
        curve = {name: array for name, array in bundle.weights.items() if name in PLANNER_ARRAYS}
        layers = {name: array for name, array in bundle.weights.items() if name not in PLANNER_ARRAYS}
        advice: dict[str, Any] = {name: parameters[name] for name in ("bonus", "guidance")}
        return cls(
            planner_of(curve, settings, manifest.name),
            Network.of(layers, activation=str(parameters["activation"]), where=where),
            Advice(**advice),
            manifest.name,
        )

    def reset(self, services: int, pools: int) -> Memory:
        """The planner's memory of services that are about to begin."""
        return self.planner.reset(services, pools)

    def act(self, observation: ServiceObservation, memory: Memory) -> tuple[IntArray, Memory]:
        """Decide one tick."""
        after: dict[str, Any] = {name: np.array(values) for name, values in memory.items()}
        due = self.planner.perceive(observation, after)
        weight = self.planner.dial(observation, after)
        only = np.full((len(observation.demand), 2), -1)
        period = max(int(self.planner.settings.review_seconds / observation.tick_seconds), 1)
        rows = np.flatnonzero(observation.ticks_elapsed % period == 0)
        if len(rows):
            only[rows] = self._limits(observation, after, weight, rows)
        return self.planner.ask(observation, after, due, weight, only), after

    def choices(self, features: NDArray[np.float32]) -> NDArray[np.int64]:
        """(N,) options for (N, F) features; of equals the first."""
        scores = self.network.outputs(features)
        scores += self.advice.scores(features)
        chosen: NDArray[np.int64] = scores.argmax(axis=1)
        return chosen

    def _limits(
        self, observation: ServiceObservation, memory: dict[str, Any], weight: FloatArray, rows: IntArray
    ) -> IntArray:
        """(len(rows), 2) spares and quarters of reserve; `memory` stays as it is."""
        part = dataclasses.replace(
            observation, **{name: getattr(observation, name)[rows] for name in _PER_SERVICE}
        )
        seen = {name: memory[name][rows] for name in _DESCRIBED}
        return option_of(self.choices(describe(self.planner, part, seen, weight[rows])))
