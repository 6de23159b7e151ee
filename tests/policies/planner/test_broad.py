"""Types of zone that nobody has seen: what is added to a fitted model, and what it changes."""

import numpy as np
import pytest

from policies.planner.broad import broadened
from policies.planner.fit import SHIPPED
from simulator.errors import InputError
from simulator.synthetic import load_model


def test_the_fitted_types_keep_their_hazards_and_the_rest_of_the_prior() -> None:
    model = load_model(SHIPPED)
    broad = broadened(model, 0.25)
    fitted = len(model.prior)
    np.testing.assert_array_equal(broad.hazard[:fitted], model.hazard)
    np.testing.assert_allclose(broad.prior[:fitted], 0.75 * model.prior)
    assert broad.prior[fitted:].sum() == pytest.approx(0.25)
    assert broad.age_edges == model.age_edges
    assert broadened(model, 0.0) is model


def test_added_types_last_shorter_and_longer_than_any_fitted_one() -> None:
    model = load_model(SHIPPED)
    added = broadened(model, 0.3).hazard[len(model.prior) :]
    for state in range(2):
        chance = added[:, state].mean(axis=1)
        fitted = model.hazard[:, state].mean(axis=1)
        assert chance.min() < fitted.min()
        assert chance.max() > fitted.max()
    availability = broadened(model, 0.3).availability()[len(model.prior) :]
    assert availability.min() < model.availability().min()
    assert availability.max() > model.availability().max()


def test_no_share_beyond_the_whole_prior() -> None:
    with pytest.raises(InputError, match="prior"):
        broadened(load_model(SHIPPED), 1.2)
