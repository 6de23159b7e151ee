"""Learned policies run in NumPy: features, a small network, the best legal action."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from policies.bundle import Bundle
from policies.features import FeatureSet, feature_set
from policies.network import Network, masked_argmax
from policies.protocol import Memory
from simulator.deadline.observation import FIRST_SPOT, DeadlineObservation, IntArray
from simulator.errors import InputError

ALGORITHM = "deadline-network"
"""What bundles of this policy call their algorithm."""
CHOICES = 3
"""Outputs of the network: idle, on-demand, and spot in the pool that the features describe."""


@dataclass(frozen=True, eq=False)
class NetworkPolicy:
    """Decides by the highest output of one network, or of the mean of several, among the legal actions.

    The network knows one pool at a time: the one a job holds, otherwise the cheapest available one.

    Attributes:
        name: What the policy is called.
        features: How jobs are described to the networks.
        networks: At least one; each has `CHOICES` outputs.
    """

    name: str
    features: FeatureSet
    networks: tuple[Network, ...]

    @classmethod
    def of(cls, bundle: Bundle) -> NetworkPolicy:
        """The policy in a bundle.

        `parameters` of the manifest: `features` (name of the feature set), `activation`, and `members`
        (number of networks, 1 if absent). With several members, arrays begin with `member.K.`.

        Raises:
            InputError: The bundle was trained on other features, or its arrays do not fit.
        """
        manifest, parameters = bundle.manifest, bundle.manifest.parameters
        features = feature_set(str(parameters.get("features")))
        if tuple(manifest.feature_names) != features.names:
            raise InputError(
                f"bundle {manifest.name}: its features differ from this release's {features.name}; "
                "train it again with this release"
            )
        members = parameters.get("members", 1)
        if type(members) is not int or not 1 <= members <= 64:
            raise InputError(f"bundle {manifest.name}: {members!r} members; accepted: 1 to 64")
        networks = []
        for k in range(members):
            prefix = f"member.{k}." if members > 1 else ""
            arrays = {
                name.removeprefix(prefix): array
                for name, array in bundle.weights.items()
                if name.startswith(prefix)
            }
            activation = str(parameters.get("activation"))
            networks.append(Network.of(arrays, activation=activation, where=f"bundle {manifest.name}"))
        for network in networks:
            outputs = network.heads["policy"][1].size
            if network.inputs != features.size or outputs != CHOICES:
                raise InputError(
                    f"bundle {manifest.name}: a network of {network.inputs} inputs and {outputs} outputs; "
                    f"accepted: {features.size} and {CHOICES}"
                )
        return cls(manifest.name, features, tuple(networks))

    def renamed(self, name: str) -> NetworkPolicy:
        """The same policy under another name."""
        return replace(self, name=name)

    def reset(self, jobs: int, pools: int = 1) -> Memory:
        """Memory for jobs that are about to begin."""
        return self.features.reset(jobs, pools)

    def act(self, observation: DeadlineObservation, memory: Memory) -> tuple[IntArray, Memory]:
        """Decide one tick."""
        look, memory = self.features.look(observation, memory)
        scores = self.scores(look.features)
        rows = np.arange(observation.jobs)
        legal = np.empty((observation.jobs, CHOICES), np.bool_)
        legal[:, :FIRST_SPOT] = look.legal[:, :FIRST_SPOT]
        legal[:, FIRST_SPOT] = look.legal[rows, FIRST_SPOT + look.pool]
        action = masked_argmax(scores, legal)
        return np.where(action == FIRST_SPOT, FIRST_SPOT + look.pool, action), memory

    def scores(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        """(N, CHOICES) mean output of the networks for (N, F) features."""
        scores = self.networks[0].outputs(features)
        for network in self.networks[1:]:
            scores += network.outputs(features)
        return scores / np.float32(len(self.networks))


def network_arrays(
    layers: Sequence[tuple[NDArray[np.float32], NDArray[np.float32]]],
) -> dict[str, NDArray[np.float32]]:
    """Name the layers of one network as bundles do: the last is the policy head, those before the trunk.

    Args:
        layers: (weight (outputs, inputs), bias (outputs,)) from the first to the last.
    """
    arrays = {}
    for k, (weight, bias) in enumerate(layers):
        name = "head.policy" if k == len(layers) - 1 else f"trunk.{k}"
        arrays[f"{name}.weight"], arrays[f"{name}.bias"] = weight, bias
    return arrays
