"""Generated series follow the model, and zones are as correlated as asked."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulator.errors import InputError
from simulator.market import Market, Pool
from simulator.synthetic import (
    SemiMarkovModel,
    fit_semi_markov,
    load_model,
    mean_correlation,
    simulate_availability,
    synthetic_market,
)

POOLS = [Pool("synthetic", region, f"{region}{letter}", "v100") for region in ("a", "b") for letter in "xyz"]


@pytest.fixture(scope="module")
def model() -> SemiMarkovModel:
    return load_model()


def observed_hazard(up: np.ndarray, model: SemiMarkovModel) -> tuple[np.ndarray, np.ndarray]:
    """Run ends and ticks at risk (2, 6), counted run by run."""
    ends, ticks = np.zeros((2, 6)), np.zeros((2, 6))
    for series in up:
        cuts = np.flatnonzero(np.diff(series)) + 1
        for run in np.split(series, cuts)[1:-1]:
            ages = model.bucket(np.arange(1, run.size + 1))
            np.add.at(ticks[int(run[0])], ages, 1)
            ends[int(run[0]), ages[-1]] += 1
    return ends, ticks


@pytest.mark.parametrize("correlation", [0.0, 0.5])
def test_one_type_series_have_the_hazards_of_the_model(model: SemiMarkovModel, correlation: float) -> None:
    one_type = SemiMarkovModel(model.hazard[4:5], np.ones(1))
    up = simulate_availability(one_type, ["a"] * 6, ticks=60_000, seed=5, correlation=correlation)
    ends, ticks = observed_hazard(up, one_type)
    error = np.sqrt(one_type.hazard[0] * (1 - one_type.hazard[0]) / ticks)
    assert (np.abs(ends / ticks - one_type.hazard[0]) < 4.5 * error).all()
    assert up.mean() == pytest.approx(one_type.availability()[0], abs=0.04)


def test_mean_run_lengths_match_the_model(model: SemiMarkovModel) -> None:
    one_type = SemiMarkovModel(model.hazard[3:4], np.ones(1))
    up = simulate_availability(one_type, ["a", "b", "c", "d"], ticks=100_000, seed=6)
    for state in (0, 1):
        inside = up if state else ~up
        runs = (inside[:, 1:] & ~inside[:, :-1]).sum() + inside[:, 0].sum()
        assert inside.sum() / runs == pytest.approx(one_type.mean_run_ticks()[0, state], rel=0.05)


def test_a_fit_to_generated_series_finds_types_and_persistence(model: SemiMarkovModel) -> None:
    hazard = np.stack([np.full((2, 6), 0.5), np.full((2, 6), 0.5)])
    hazard[0, 0], hazard[1, 1] = 0.05, 0.02
    truth = SemiMarkovModel(hazard, np.array([0.3, 0.7]), persistence=0.6)
    up = simulate_availability(truth, [str(zone) for zone in range(6)], ticks=60_000, seed=8)
    fitted = fit_semi_markov([*up], types=2)
    np.testing.assert_allclose(fitted.prior, truth.prior, atol=0.06)
    np.testing.assert_allclose(fitted.availability(), truth.availability(), atol=0.02)
    assert fitted.persistence == pytest.approx(0.6, abs=0.08)
    # Long runs of the rarer state are seldom seen; the first buckets hold nearly all ticks at risk.
    np.testing.assert_allclose(fitted.hazard[:, :, 0], truth.hazard[:, :, 0], rtol=0.15)


@pytest.mark.parametrize(("within", "across"), [(0.0, 0.0), (0.35, 0.1), (0.6, 0.6), (0.9, 0.3)])
def test_the_requested_correlation_is_got(model: SemiMarkovModel, within: float, across: float) -> None:
    up = simulate_availability(
        model,
        ["a"] * 3 + ["b"] * 3,
        ticks=600_000,
        seed=11,
        correlation=within,
        cross_region_correlation=across,
    )
    assert np.mean([mean_correlation(up[:3]), mean_correlation(up[3:])]) == pytest.approx(within, abs=0.05)
    between = np.mean([np.corrcoef(up[i], up[j])[0, 1] for i in range(3) for j in range(3, 6)])
    assert between == pytest.approx(across, abs=0.05)


def test_full_correlation_makes_zones_equal(model: SemiMarkovModel) -> None:
    up = simulate_availability(model, ["a"] * 3, ticks=5_000, seed=2, correlation=1.0)
    assert (up == up[0]).all()


def test_mean_correlation_of_a_hand_made_case() -> None:
    up = np.array([[1, 1, 0, 0], [1, 1, 0, 0]], dtype=bool)
    assert mean_correlation(up) == pytest.approx(1.0)
    assert mean_correlation(np.array([[1, 1, 0, 0], [0, 0, 1, 1]], dtype=bool)) == pytest.approx(-1.0)
    assert mean_correlation(np.ones((2, 4), dtype=bool)) == 0.0


def test_same_seed_same_market_other_seed_other_market(model: SemiMarkovModel) -> None:
    def draw(seed: int) -> Market:
        return synthetic_market(model, POOLS, ticks=1000, seed=seed, price_variation=0.1)

    one, again, other = draw(1), draw(1), draw(2)
    np.testing.assert_array_equal(one.spot_capacity, again.spot_capacity)
    np.testing.assert_array_equal(one.spot_price, again.spot_price)
    assert (one.spot_capacity != other.spot_capacity).any()
    assert "SYNTHETIC, seed 1" in one.source


def test_prices_vary_as_asked_and_stay_below_on_demand(model: SemiMarkovModel) -> None:
    level = np.linspace(0.5, 1.0, len(POOLS))
    market = synthetic_market(
        model, POOLS, ticks=144 * 400, seed=3, spot_price=level, on_demand_price=3.06, price_variation=0.03
    )
    np.testing.assert_allclose(market.spot_price.mean(axis=1), level, rtol=0.01)
    variation = market.spot_price.std(axis=1) / market.spot_price.mean(axis=1)
    np.testing.assert_allclose(variation, 0.03, rtol=0.25)
    changes = (np.diff(market.spot_price) != 0).sum(axis=1) / 400
    np.testing.assert_allclose(changes, 3.0, rtol=0.1)
    tight = synthetic_market(
        model, POOLS, ticks=5000, seed=3, spot_price=0.95, on_demand_price=1.0, price_variation=0.3
    )
    assert tight.spot_price.max() == 1.0


@settings(max_examples=20)
@given(ticks=st.integers(1, 400), capacity=st.integers(1, 8), zones=st.integers(1, 6))
def test_every_synthetic_market_is_a_whole_market(ticks: int, capacity: int, zones: int) -> None:
    model = load_model()
    market = synthetic_market(model, POOLS[:zones], ticks=ticks, seed=0, capacity=capacity, correlation=0.35)
    assert market.spot_capacity.shape == (zones, ticks)
    assert set(np.unique(market.spot_capacity)) <= {0, capacity}
    assert market.tick_seconds == model.tick_seconds
    assert (market.spot_price == 0.9731).all()


@pytest.mark.parametrize(
    "options",
    [
        {"ticks": 0},
        {"ticks": 10**9},
        {"capacity": 0},
        {"price_variation": -0.1},
        {"correlation": 1.5},
        {"correlation": 0.1, "cross_region_correlation": 0.2},
        {"cross_region_correlation": -0.1},
    ],
)
def test_values_out_of_range_are_refused(model: SemiMarkovModel, options: dict[str, float]) -> None:
    given: dict[str, object] = {"ticks": 10, "seed": 0, **options}
    with pytest.raises(InputError, match="accepted"):
        synthetic_market(model, POOLS, **given)  # type: ignore[arg-type]  # one dictionary for all options


def test_no_pool_is_refused(model: SemiMarkovModel) -> None:
    with pytest.raises(InputError, match="at least one pool"):
        synthetic_market(model, [], ticks=10, seed=0)
