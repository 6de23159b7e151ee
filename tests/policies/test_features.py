"""Features and their memory: pure, row by row, bounded and free of currency."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from policies.features import FEATURE_SETS, RICH, FeatureSet, feature_set, features, reset_memory, update
from policies.shield import legal_actions
from simulator.deadline.observation import DeadlineObservation
from simulator.errors import InputError

SETS = pytest.mark.parametrize("kind", FEATURE_SETS.values(), ids=FEATURE_SETS.keys())


def observed(seed: int, jobs: int = 5, pools: int = 1, tick: float = 600.0) -> DeadlineObservation:
    """Any state a job can be in, the awkward ones included (no work left, no slack, no overhead)."""
    rng = np.random.default_rng(seed)
    time_total = rng.uniform(2.0, 5000.0, jobs) * tick
    time_left = time_total * rng.choice([rng.random(), 1.0, 0.0], jobs)
    work_total = time_total * rng.uniform(0.2, 1.0, jobs)
    work_left = np.minimum(work_total, rng.choice([rng.random(), 1.0, 0.0], jobs) * time_left)
    available = rng.random((jobs, pools)) < 0.5
    placement = rng.integers(0, pools + 2, jobs)
    for i in np.flatnonzero(placement >= 2):
        available[i, placement[i] - 2] = True
    overhead = rng.choice([0.0, 120.0, 3600.0], jobs)
    return DeadlineObservation(
        tick_seconds=tick,
        work_left=work_left,
        time_left=time_left,
        work_total=work_total,
        time_total=time_total,
        placement=placement,
        pending_overhead=overhead * rng.random(jobs),
        unsaved_work=np.zeros(jobs),
        restart_overhead=overhead,
        checkpoint_interval=rng.choice([0.0, 1800.0], jobs),
        spot_available=available,
        spot_price=rng.uniform(0.0, 4.0, (jobs, pools)),
        on_demand_price=rng.uniform(0.5, 4.0, jobs),
    )


def row(seen: DeadlineObservation, i: int) -> DeadlineObservation:
    values = {name: getattr(seen, name)[i : i + 1] for name in seen.__slots__ if name != "tick_seconds"}
    return DeadlineObservation(tick_seconds=seen.tick_seconds, **values)


def with_availability(seen: DeadlineObservation, available: list[bool]) -> DeadlineObservation:
    column = np.array(available)[:, None]
    return replace(seen, spot_available=column, placement=np.zeros(len(available), np.int64))


@SETS
@given(seed=st.integers(0, 2**32), pools=st.integers(1, 3), tick=st.sampled_from([60.0, 300.0, 3600.0]))
@settings(max_examples=60)
def test_features_are_finite_and_within_their_limit(
    kind: FeatureSet, seed: int, pools: int, tick: float
) -> None:
    memory = kind.reset(5, pools)
    for step in range(3):
        look, memory = kind.look(observed(seed + step, pools=pools, tick=tick), memory)
        assert look.features.dtype == np.float32
        assert np.isfinite(look.features).all()
        assert (np.abs(look.features) <= kind.limit).all()


@SETS
@given(seed=st.integers(0, 2**32), pools=st.integers(1, 3))
@settings(max_examples=40)
def test_the_mask_is_the_shields(kind: FeatureSet, seed: int, pools: int) -> None:
    seen = observed(seed, pools=pools)
    look, _ = kind.look(seen, kind.reset(5, pools))
    np.testing.assert_array_equal(look.legal, legal_actions(seen))


@SETS
def test_a_job_is_described_alone_as_in_a_batch(kind: FeatureSet) -> None:
    together = kind.reset(5, 2)
    alone = [kind.reset(1, 2) for _ in range(5)]
    for step in range(20):
        seen = observed(step, pools=2)
        look, together = kind.look(seen, together)
        for i in range(5):
            single, alone[i] = kind.look(row(seen, i), alone[i])
            np.testing.assert_array_equal(single.features[0], look.features[i])
            assert single.pool[0] == look.pool[i]


@SETS
def test_a_look_changes_neither_the_memory_nor_the_observation(kind: FeatureSet) -> None:
    memory = kind.reset(5)
    _, memory = kind.look(observed(1), memory)
    before = np.array(memory["history"])
    seen, untouched = observed(2), observed(2)
    kind.look(seen, memory)
    np.testing.assert_array_equal(memory["history"], before)
    np.testing.assert_array_equal(seen.work_left, untouched.work_left)


@SETS
def test_currency_does_not_matter(kind: FeatureSet) -> None:
    seen = observed(3)
    dear = replace(seen, spot_price=seen.spot_price * 8.0, on_demand_price=seen.on_demand_price * 8.0)
    np.testing.assert_array_equal(
        kind.look(seen, kind.reset(5))[0].features, kind.look(dear, kind.reset(5))[0].features
    )


def test_update_then_features_is_one_look() -> None:
    memory = reset_memory(5)
    for step in range(4):
        seen = observed(step)
        look, looked = RICH.look(seen, memory)
        memory = update(memory, seen)
        np.testing.assert_array_equal(memory["history"], looked["history"])
        np.testing.assert_array_equal(features(seen, memory), look.features)


def test_ages_of_this_and_the_two_previous_runs() -> None:
    memory = reset_memory(1)
    for up in [True, True, False, True, True, True, False, False]:
        seen = with_availability(observed(0, jobs=1), [up])
        look, memory = RICH.look(seen, memory)
    column = {name: float(value) for name, value in zip(RICH.names, look.features[0], strict=True)}
    for name, ticks in (("age", 2), ("previous_age", 3), ("before_previous_age", 1)):
        assert column[f"{name}_ticks"] == pytest.approx(np.log1p(ticks) / 3.0, abs=1e-6)
        assert column[f"{name}_hours"] == pytest.approx(np.log1p(ticks / 6.0) / 2.0, abs=1e-6)
    assert column["transitions"] == pytest.approx(np.log1p(3) / 2.0, abs=1e-6)


def test_flapping_raises_the_hazard_and_calm_lowers_it() -> None:
    memory = reset_memory(2)
    for step in range(60):
        seen = with_availability(observed(0, jobs=2), [step % 2 == 0, True])
        look, memory = RICH.look(seen, memory)
    factor = look.features[:, RICH.names.index("up_hazard_factor")]
    assert factor[0] > 0.5
    assert factor[1] < -0.2


def test_averages_follow_hours_not_ticks() -> None:
    """Two hours of spot look alike whether they were seen in ticks of ten or of sixty minutes."""
    described = []
    for tick, ticks in ((600.0, 12), (3600.0, 2)):
        memory = reset_memory(1)
        for _ in range(ticks):
            seen = with_availability(observed(0, jobs=1, tick=tick), [True])
            look, memory = RICH.look(seen, memory)
        first = RICH.names.index("availability_1h")
        described.append(look.features[0, first : first + 4])
    np.testing.assert_allclose(described[0], described[1], rtol=1e-5)


def test_the_pool_meant_by_spot_is_the_held_one_then_the_cheapest_available() -> None:
    seen = replace(
        observed(0, jobs=3, pools=3),
        placement=np.array([4, 0, 0]),
        spot_available=np.array([[True, True, True], [False, True, True], [False, False, False]]),
        spot_price=np.array([[1.0, 2.0, 3.0]] * 3),
    )
    assert RICH.look(seen, RICH.reset(3, 3))[0].pool.tolist() == [2, 1, 0]


def test_an_unknown_feature_set_is_refused_with_the_known_names() -> None:
    with pytest.raises(InputError, match="deadline-rich"):
        feature_set("deadline-poor")
