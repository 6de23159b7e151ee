"""The survival curve and what it says about a run whose age is known in part."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from policies.service import Survival
from policies.service.lookahead.fit import fit_survival, load_survival
from policies.service.lookahead.survival import UNKNOWN, hazard
from simulator.errors import InputError
from simulator.market import Market, Pool


def test_constant_rate_is_the_hazard_whatever_is_known() -> None:
    curve = Survival.of([0, 600, 3600], [1e-3] * 3).curve
    for held, refused in ((0, UNKNOWN), (0, 5000.0), (900, 1800.0), (10_000, UNKNOWN), (700, 700.0)):
        assert hazard(curve, float(held), refused) == pytest.approx(1e-3)


@given(st.floats(0, 50_000), st.floats(1.0, 50_000))
@settings(max_examples=100)
def test_hazard_is_the_share_that_ends_among_runs_begun_evenly_over_the_span(
    held: float, more: float
) -> None:
    survival = Survival.of([0, 1000, 8000], [1e-3, 2e-4, 3e-5])
    rates, edges = survival.rates, survival.edges
    ages = np.linspace(held, held + more, 4001)
    bucket = np.searchsorted(edges, ages, side="right") - 1
    alive = np.exp(
        -(
            np.concatenate([[0], np.cumsum(np.diff(edges) * rates[:-1])])[bucket]
            + rates[bucket] * (ages - edges[bucket])
        )
    )
    expected = np.trapezoid(alive * rates[bucket], ages) / np.trapezoid(alive, ages)
    assert hazard(survival.curve, held, held + more) == pytest.approx(expected, rel=0.02)


def test_a_run_of_unknown_beginning_is_safer_than_a_fresh_one() -> None:
    curve = load_survival().curve
    assert hazard(curve, 0.0, UNKNOWN) < hazard(curve, 0.0, 60.0) / 3
    assert hazard(curve, 86_400.0, UNKNOWN) < hazard(curve, 0.0, UNKNOWN)


def test_fit_recovers_a_curve_from_runs_drawn_with_it() -> None:
    rng = np.random.default_rng(5)
    true = Survival.of([0, 1200], [1 / 1200, 1 / 9000])
    rows = []
    for _ in range(8):
        row: list[int] = []
        while len(row) < 20_000:
            life = rng.exponential(1200)
            if life > 1200:
                life = 1200 + rng.exponential(9000)
            row += [1] * max(int(life / 30), 1) + [0] * 20
        rows.append(row[:20_000])
    market = Market.build(
        [Pool("aws", "r", f"z{p}", "t") for p in range(8)], tick_seconds=30,
        start=datetime(2023, 1, 1, tzinfo=UTC), spot_price=1.0, spot_capacity=np.array(rows),
        on_demand_price=3.0,
    )  # fmt: skip
    fitted = fit_survival([market], [0, 1200])
    np.testing.assert_allclose(fitted.rates, true.rates, rtol=0.12)


@pytest.mark.parametrize(
    ("edges", "rates"),
    [
        ([0, 10], [1.0]),
        ([5, 10], [1.0, 1.0]),
        ([0, 0], [1.0, 1.0]),
        ([0, 10], [1.0, 0.0]),
        ([0, 10], [1.0, np.nan]),
        ([0, np.nan], [1.0, 1.0]),
        ([0, np.inf], [1.0, 1.0]),
        ([], []),
    ],
)
def test_what_is_no_curve_is_refused(edges: list[float], rates: list[float]) -> None:
    with pytest.raises(InputError, match="survival"):
        Survival.of(edges, rates)


def test_a_market_without_an_end_cannot_be_fitted() -> None:
    market = Market.build(
        [Pool("aws", "r", "z", "t")], tick_seconds=30, start=datetime(2023, 1, 1, tzinfo=UTC),
        spot_price=1.0, spot_capacity=np.ones((1, 50), int), on_demand_price=3.0,
    )  # fmt: skip
    with pytest.raises(InputError, match="no run"):
        fit_survival([market])
