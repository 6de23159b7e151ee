"""What guided policies share: when the planner decides alone, and bundles of its model and the networks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from policies.bundle import Bundle
from simulator.errors import InputError
from simulator.synthetic.semi_markov import SemiMarkovModel

DOUBT = 0.5
"""On-demand ticks by which the planner's second choice must be worse for it to decide alone."""
MOST_MEMBERS = 64
Arrays = Mapping[str, NDArray[np.generic]]


@dataclass(frozen=True, eq=False)
class GuidedParts:
    """A bundle taken apart.

    Attributes:
        model: Of the planner.
        planner: The planner's settings, those of the model among them.
        guidance: Weight of the planner's costs.
        members: Arrays of each network, by the names that they were written with.
    """

    model: SemiMarkovModel
    planner: Mapping[str, object]
    guidance: float
    members: tuple[Arrays, ...]

    @classmethod
    def of(cls, bundle: Bundle, feature_names: Sequence[str]) -> GuidedParts:
        """Take a bundle apart that `join` made the parts of.

        Raises:
            InputError: Features, parameters or arrays are not what this release knows.
        """
        where, weights = f"bundle {bundle.manifest.name}", dict(bundle.weights)
        if tuple(bundle.manifest.feature_names) != tuple(feature_names):
            raise InputError(
                f"{where}: its features differ from this release's; train it again with this release"
            )
        parameters = bundle.manifest.parameters
        try:
            planner, members, guidance = (
                parameters["planner"],
                parameters["members"],
                parameters["guidance"],
            )
            if not isinstance(planner, dict) or not isinstance(edges := planner["age_edges"], list):
                raise TypeError("planner must be an object with a list of age_edges")
            if type(members) is not int or not 1 <= members <= MOST_MEMBERS:
                raise TypeError(f"members must be 1 to {MOST_MEMBERS}")
            if not isinstance(guidance, int | float):
                raise TypeError("guidance must be a number")
            model = SemiMarkovModel(
                weights.pop("planner.hazard"),
                weights.pop("planner.prior"),
                tuple(int(str(edge)) for edge in edges),
                int(str(planner["tick_seconds"])),
                int(str(planner["chunk_ticks"])),
                float(str(planner["persistence"])),
                str(planner["source"]),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise unfit(bundle, error) from error
        own: list[dict[str, NDArray[np.generic]]] = []
        for k in range(members):
            prefix = f"member.{k}."
            names = [name for name in weights if name.startswith(prefix)]
            own.append({name.removeprefix(prefix): weights.pop(name) for name in names})
        if weights:
            raise InputError(f"{where}: it has arrays that belong to none of its {members} members")
        return cls(model, planner, float(guidance), tuple(own))


def unfit(bundle: Bundle, error: Exception) -> InputError:
    """The error to raise for parameters that do not fit."""
    return InputError(f"bundle {bundle.manifest.name}: parameters do not fit a guided policy ({error!r})")


def join(
    model: SemiMarkovModel, guidance: float, members: Sequence[Arrays], **more: object
) -> tuple[dict[str, object], dict[str, NDArray[np.generic]]]:
    """Parameters and weights of a bundle; `more` are settings of the planner beside those of its model."""
    planner = {
        "age_edges": list(model.age_edges),
        "tick_seconds": model.tick_seconds,
        "chunk_ticks": model.chunk_ticks,
        "persistence": model.persistence,
        "source": model.source,
        **more,
    }
    weights: dict[str, NDArray[np.generic]] = {"planner.hazard": model.hazard, "planner.prior": model.prior}
    for k, member in enumerate(members):
        weights |= {f"member.{k}.{name}": array for name, array in member.items()}
    return {"planner": planner, "guidance": guidance, "members": len(members)}, weights
