"""NumPy inference: golden numbers worked by hand, batches equal rows, bad weights refused."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.network import Network, masked_argmax
from simulator.errors import InputError

Arrays = dict[str, np.ndarray[Any, Any]]


def small() -> Arrays:
    return {
        "trunk.0.weight": np.array([[1.0, 2.0], [-1.0, 0.5], [0.0, -1.0]], np.float32),
        "trunk.0.bias": np.array([0.0, 1.0, 0.5], np.float32),
        "head.policy.weight": np.array([[1.0, 1.0, 1.0], [2.0, 0.0, -2.0]], np.float32),
        "head.policy.bias": np.array([0.25, -0.25], np.float32),
        "head.value.weight": np.array([[0.5, -1.0, 4.0]], np.float32),
        "head.value.bias": np.array([3.0], np.float32),
    }


def random_network(seed: int, activation: str) -> Network:
    rng = np.random.default_rng(seed)
    sizes = [43, 64, 64]
    arrays: Arrays = {"head.policy.weight": rng.normal(size=(3, 64)), "head.policy.bias": rng.normal(size=3)}
    for i in range(2):
        arrays[f"trunk.{i}.weight"] = rng.normal(size=(sizes[i + 1], sizes[i])) / np.sqrt(sizes[i])
        arrays[f"trunk.{i}.bias"] = rng.normal(size=sizes[i + 1])
    arrays["normalisation.mean"] = rng.normal(size=43)
    arrays["normalisation.std"] = rng.uniform(0.5, 2.0, 43)
    return Network.of(arrays, activation=activation)


@pytest.mark.parametrize(
    ("activation", "policy", "value"),
    [
        # input (1, -0.5) gives (0, -0.25, 1) before the activation
        ("identity", [1.0, -2.25], [7.25]),
        ("relu", [1.25, -2.25], [7.0]),
        ("tanh", [0.25 - 0.24491866 + 0.76159416, -0.25 - 1.52318831], [3.0 + 0.24491866 + 3.04637662]),
    ],
)
def test_outputs_are_the_numbers_worked_by_hand(
    activation: str, policy: list[float], value: list[float]
) -> None:
    network = Network.of(small(), activation=activation, heads=["policy", "value"])
    inputs = np.array([[1.0, -0.5]])
    assert network.inputs == 2
    np.testing.assert_allclose(network.outputs(inputs), [policy], atol=1e-6)
    np.testing.assert_allclose(network.head("value", network.hidden(inputs)), [value], atol=1e-6)


def test_inputs_are_normalised_and_clipped() -> None:
    arrays: Arrays = {
        "head.policy.weight": np.eye(2),
        "head.policy.bias": np.zeros(2),
        "normalisation.mean": np.array([10.0, 0.0]),
        "normalisation.std": np.array([2.0, 0.001]),
    }
    network = Network.of(arrays, activation="relu", clip=5.0)
    inputs = np.array([[13.0, -1.0]])
    np.testing.assert_allclose(network.outputs(inputs), [[1.5, -5.0]])
    assert inputs.tolist() == [[13.0, -1.0]]  # the caller's array is not touched


@given(seed=st.integers(0, 2**32 - 1), activation=st.sampled_from(["tanh", "relu", "identity"]))
def test_a_batch_gives_what_its_rows_give(seed: int, activation: str) -> None:
    network = random_network(seed, activation)
    inputs = np.random.default_rng(seed).normal(size=(17, 43)).astype(np.float32)
    rows = np.concatenate([network.outputs(inputs[i : i + 1]) for i in range(17)])
    np.testing.assert_allclose(network.outputs(inputs), rows, rtol=1e-4, atol=1e-4)


def test_masked_argmax_takes_only_legal_actions() -> None:
    scores = np.array([[3.0, 2.0, 1.0], [3.0, 2.0, 1.0], [1.0, 1.0, 0.0]], np.float32)
    legal = np.array([[True, True, True], [False, True, True], [True, True, True]])
    assert masked_argmax(scores, legal).tolist() == [0, 1, 0]


@given(data=st.data())
def test_masked_argmax_is_legal_whenever_anything_is(data: st.DataObject) -> None:
    scores = data.draw(st.lists(st.floats(width=32, allow_nan=False), min_size=1, max_size=6))
    legal = data.draw(st.lists(st.booleans(), min_size=len(scores), max_size=len(scores)))
    action = int(masked_argmax(np.array([scores], np.float32), np.array([legal]))[0])
    finite = [score for score, may in zip(scores, legal, strict=True) if may and score > -np.inf]
    if finite:
        assert legal[action]
        assert scores[action] == max(finite)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e300])
@pytest.mark.parametrize("name", sorted(small()))
def test_weights_that_are_not_finite_are_refused(name: str, bad: float) -> None:
    arrays = small()
    arrays[name] = arrays[name].astype(np.float64)
    arrays[name].flat[0] = bad
    with pytest.raises(InputError, match=rf"net\.policy: {name} has values that are not finite"):
        Network.of(arrays, activation="tanh", heads=["policy", "value"], where="net.policy")


@pytest.mark.parametrize("name", sorted(small()))
def test_a_missing_or_misshapen_array_is_refused(name: str) -> None:
    without = small()
    del without[name]
    with pytest.raises(InputError, match=r"is missing|belong to no layer|has shape"):
        Network.of(without, activation="tanh", heads=["policy", "value"])
    with pytest.raises(InputError, match=f"{name} has shape"):
        Network.of(small() | {name: np.zeros((7, 5, 3))}, activation="tanh", heads=["policy", "value"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"hook": np.ones(1)}, "arrays that belong to no layer: hook"),
        ({"trunk.0.bias": np.array(["x"])}, "accepted: numbers"),
        ({"normalisation.mean": np.zeros(2)}, r"normalisation\.std is missing"),
        ({"normalisation.mean": np.zeros(2), "normalisation.std": np.zeros(2)}, "more than 0"),
        ({"normalisation.mean": np.zeros(3), "normalisation.std": np.ones(3)}, r"accepted: \(2,\)"),
        ({"head.policy.weight": np.zeros((2, 4))}, r"accepted: \(outputs, 3\)"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(change: Arrays, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Network.of(small() | change, activation="tanh", heads=["policy", "value"])


def test_an_unknown_activation_and_no_head_are_refused() -> None:
    with pytest.raises(InputError, match="accepted: identity, relu, tanh"):
        Network.of(small(), activation="eval")
    with pytest.raises(InputError, match="at least one"):
        Network.of(small(), activation="tanh", heads=[])
