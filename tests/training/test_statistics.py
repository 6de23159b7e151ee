"""Interquartile mean and bootstrap intervals against figures worked out by hand or by scipy."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from simulator.errors import InputError
from training.statistics import StratifiedBootstrap, interquartile_mean


def test_interquartile_mean_cuts_a_quarter_off_either_end() -> None:
    assert interquartile_mean([100.0, 1.0, 2.0, -50.0]) == pytest.approx(1.5)
    # six values: 1.5 are cut at either end, so the second and fifth count half
    assert interquartile_mean([0.0, 1.0, 2.0, 3.0, 4.0, 99.0]) == pytest.approx((0.5 + 2 + 3 + 2) / 3)


@given(st.lists(st.floats(-1e6, 1e6), min_size=4, max_size=40).filter(lambda v: len(v) % 4 == 0))
def test_interquartile_mean_is_scipys_trimmed_mean(values: list[float]) -> None:
    assert interquartile_mean(values) == pytest.approx(stats.trim_mean(values, 0.25), rel=1e-9, abs=1e-6)


def test_interval_of_a_mean_has_the_known_width() -> None:
    values = np.random.default_rng(0).normal(10.0, 2.0, 400)
    low, high = StratifiedBootstrap(np.zeros(400, np.int64)).mean_interval(values)
    half = 1.96 * values.std() / 20
    assert low == pytest.approx(values.mean() - half, abs=0.03)
    assert high == pytest.approx(values.mean() + half, abs=0.03)


def test_strata_keep_their_weight() -> None:
    # Differences between strata do not widen the interval: within each stratum nothing varies.
    stratum = np.repeat([0, 1], 50)
    assert StratifiedBootstrap(stratum).mean_interval(np.where(stratum, 5.0, 1.0)) == pytest.approx(
        (3.0, 3.0)
    )


def test_paired_differences_share_resamples_and_seeds_repeat() -> None:
    rng = np.random.default_rng(1)
    cost = rng.gamma(4.0, 20.0, 200)
    bootstrap = StratifiedBootstrap(np.zeros(200, np.int64), seed=3)
    low, high = bootstrap.interval(lambda r: cost[r].mean(axis=1) - (cost - 1.0)[r].mean(axis=1))
    assert (low, high) == pytest.approx((1.0, 1.0))
    assert bootstrap.mean_interval(cost) == StratifiedBootstrap(bootstrap.stratum, 3).mean_interval(cost)
    assert bootstrap.mean_interval(cost) != StratifiedBootstrap(bootstrap.stratum, 4).mean_interval(cost)


def test_no_episodes_are_refused() -> None:
    with pytest.raises(InputError, match="no episode"):
        StratifiedBootstrap(np.zeros(0, np.int64)).mean_interval([])
