"""The semi-Markov model: its invariants, its JSON, and a fit that finds what a series was made with."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from simulator.errors import InputError
from simulator.synthetic import SemiMarkovModel, fit_semi_markov


def geometric(p_end_up: float, p_end_down: float, ticks: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    up = np.empty(ticks, dtype=np.int64)
    state = 1
    for tick, draw in enumerate(rng.random(ticks)):
        up[tick] = state
        if draw < (p_end_up if state else p_end_down):
            state = 1 - state
    return up


def test_one_type_fit_finds_the_hazard_of_a_memoryless_series() -> None:
    model = fit_semi_markov([geometric(0.1, 0.3, 60_000, 0)], types=1, iterations=1)
    np.testing.assert_allclose(model.hazard[0, 1, :5], 0.1, atol=0.015)  # few runs reach 60 ticks
    np.testing.assert_allclose(model.hazard[0, 0, :4], 0.3, atol=0.03)
    assert model.availability()[0] == pytest.approx(0.75, abs=0.01)
    assert model.persistence == 0.0


def test_two_kinds_of_zone_become_two_types_that_persist() -> None:
    zones = [geometric(0.4, 0.05, 6000, 1), geometric(0.02, 0.4, 6000, 2)]
    model = fit_semi_markov(zones, types=2)
    np.testing.assert_allclose(model.prior, 0.5, atol=0.02)
    np.testing.assert_allclose(model.availability(), [0.05 / 0.45, 0.4 / 0.42], atol=0.03)
    assert model.persistence > 0.95


def test_hand_counted_hazards_with_smoothing() -> None:
    # Up runs of 2 and 1 ticks, down runs of 1 and 3 ticks; the last tick shows no end.
    model = fit_semi_markov(
        [np.array([1, 1, 0, 1, 0, 0, 0, 1])], types=1, chunk_ticks=276, smoothing_ticks=20
    )
    # At age 1, up and down: 2 ticks, 1 end; smoothing towards the same pool changes nothing.
    assert model.hazard[0, 1, 0] == pytest.approx(0.5)
    assert model.hazard[0, 0, 0] == pytest.approx(0.5)
    # Up at age 2: 1 tick, 1 end: the pooled hazard is 1 and is clipped.
    assert model.hazard[0, 1, 1] == pytest.approx(0.95)
    # Down at ages 2 and 3 (one bucket): 2 ticks, 1 end.
    assert model.hazard[0, 0, 1] == pytest.approx(0.5)


def test_mean_run_length_agrees_with_the_survival_sum() -> None:
    model = fit_semi_markov([geometric(0.1, 0.3, 3000, 3)], types=1)
    for state in (0, 1):
        survival, total = 1.0, 0.0
        for age in range(1, 20_000):
            total += survival
            survival *= 1 - model.hazard[0, state, model.bucket(age)]
        assert model.mean_run_ticks()[0, state] == pytest.approx(total, rel=1e-9)


def test_bucket_edges() -> None:
    model = fit_semi_markov([np.array([0, 1, 0, 1])], types=1)
    ages = [1, 2, 3, 4, 7, 8, 19, 20, 59, 60, 10_000]
    assert model.bucket(ages).tolist() == [0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5]


@given(
    series=st.lists(
        hnp.arrays(np.int64, st.integers(2, 300), elements=st.integers(0, 3)), min_size=1, max_size=4
    ),
    types=st.integers(1, 3),
)
def test_every_fit_is_a_valid_model_and_survives_json(series: list[np.ndarray], types: int) -> None:
    chunks = sum(-(-(len(values) - 1) // 50) for values in series)
    model = fit_semi_markov(series, types=min(types, chunks), chunk_ticks=50, iterations=5)
    assert ((model.hazard >= 1e-4) & (model.hazard <= 0.95)).all()
    assert (np.diff(model.availability()) >= 0).all()
    again = SemiMarkovModel.from_json(model.to_json())
    np.testing.assert_array_equal(again.hazard, model.hazard)
    np.testing.assert_array_equal(again.prior, model.prior)
    assert again.to_json() == model.to_json()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": "other"}, "not a semi-Markov model"),
        ({"version": 99}, "version 99"),
        ({"hazard": [[[0.5]]]}, "shape"),
        ({"hazard": "x"}, "damaged"),
        ({"prior": [2.0]}, "sum to 1"),
        ({"persistence": 2}, "persistence"),
        ({"age_edges": [2, 3, 4, 5, 6, 7]}, "the first 1"),
        ({"tick_seconds": None}, "damaged"),
    ],
)
def test_damaged_json_is_refused(change: dict[str, object], message: str) -> None:
    content = json.loads(fit_semi_markov([np.array([0, 1, 0, 1])], types=1).to_json())
    with pytest.raises(InputError, match=message):
        SemiMarkovModel.from_json(json.dumps(content | change))


@pytest.mark.parametrize("text", ["", "[]", "{", "[" * 100_000, "null"])
def test_hostile_json_is_refused(text: str) -> None:
    with pytest.raises(InputError):
        SemiMarkovModel.from_json(text)


@pytest.mark.parametrize(
    "series", [[], [np.zeros((2, 2))], [np.array([1])], [np.array([0.0, np.nan])]], ids=str
)
def test_series_that_cannot_be_fitted_are_refused(series: list[np.ndarray]) -> None:
    with pytest.raises(InputError, match="series"):
        fit_semi_markov(series, types=1)


def test_more_types_than_chunks_are_refused() -> None:
    with pytest.raises(InputError, match="accepted: 1 to 1"):
        fit_semi_markov([np.array([0, 1, 0, 1])], types=2)


def test_arrays_are_frozen() -> None:
    model = fit_semi_markov([np.array([0, 1, 0, 1])], types=1)
    with pytest.raises(ValueError, match="read-only"):
        model.hazard[0, 0, 0] = 0.5
