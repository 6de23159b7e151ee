"""The planner: its programme, its belief and its decisions against independent computations."""

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from policies.planner import PlannerTables, SemiMarkovPlanner, TickModel
from policies.planner.fit import SHIPPED, fit_planner_model
from policies.planner.grid import WIDE, slack_grid, time_levels
from policies.shield import legal_actions
from simulator.deadline import DeadlineBatch, DeadlineJob, DeadlineObservation
from simulator.deadline.replay import Windows, replay
from simulator.market import Market, sample_market
from simulator.market.build import BuildOptions, build_market
from simulator.synthetic.semi_markov import SemiMarkovModel, load_model

ZONES = ("us-east-1a", "us-east-1c", "us-east-1f", "us-east-2a", "us-west-2b", "us-west-2c")
TRACES = "traces/skypilot_spot_traces/availability/1-node/aws-02-15-2023"


@pytest.fixture(scope="module")
def planner() -> SemiMarkovPlanner:
    return SemiMarkovPlanner(load_model(SHIPPED))


def tiny_model() -> SemiMarkovModel:
    hazard = np.array([[[0.3, 0.1], [0.2, 0.05]], [[0.5, 0.4], [0.1, 0.02]]])
    return SemiMarkovModel(hazard, np.array([0.4, 0.6]), (1, 3), 600, 100, 0.5)


def brute_force(
    hazard: np.ndarray, advance: np.ndarray, tick: float, d: float, ratio: float
) -> Callable[..., float]:
    """Expected cost-to-go by plain recursion, on exact slack."""

    @cache
    def go(left: int, slack: float, place: int, up: int, bucket: int) -> float:
        if left * tick - slack <= 1e-9:
            return 0.0
        choices = []
        if slack >= d + tick:
            choices.append(after(left - 1, slack - tick, 0, up, bucket))
        rest = slack if place == 1 else slack - d
        choices.append(1.0 + after(left - 1, rest, 1, up, bucket))
        if up and place == 2 and slack >= d + tick:
            choices.append(ratio + after(left - 1, slack, 2, up, bucket))
        elif up and place != 2 and slack >= 2 * d + tick:
            choices.append(ratio + after(left - 1, slack - d, 2, up, bucket))
        return min(choices)

    def after(left: int, slack: float, place: int, up: int, bucket: int) -> float:
        h = hazard[up, bucket]
        older = min(bucket + 1, len(advance) - 1)
        same = (1 - advance[bucket]) * go(left, slack, place, up, bucket)
        same += advance[bucket] * go(left, slack, place, up, older)
        return float((1 - h) * same + h * go(left, slack, 0 if place == 2 else place, 1 - up, 0))

    return after


@pytest.mark.parametrize("overhead", [2.0, 10.0])
def test_tables_are_the_exact_programme(overhead: float) -> None:
    # All reachable slacks (multiples of 2 minutes below an hour) lie on the grid: no interpolation.
    model = TickModel.of(tiny_model(), 600)
    tables = PlannerTables.solve(
        model, tick_minutes=10, overhead_minutes=overhead, ratio=0.3, horizon_ticks=7, most_slack_minutes=50
    )
    buckets = len(model.advance)
    for k in range(2):
        exact = brute_force(model.hazard[k], model.advance, 10.0, overhead, 0.3)
        for level, left in enumerate(tables.levels[:7]):
            for i, slack in enumerate(tables.slack_minutes[:25]):
                if slack < overhead:
                    continue
                for block, (up, place) in enumerate(((0, 0), (0, 1), (1, 0), (1, 1), (1, 2))):
                    for b in range(buckets):
                        expected = exact(int(left), float(round(slack, 6)), place, up, b)
                        assert tables.after[level, i, block * buckets + b, k] == pytest.approx(
                            expected, abs=1e-4
                        )


def test_belief_is_the_forward_filter(planner: SemiMarkovPlanner) -> None:
    model = planner.tick_model(600.0)
    series = sample_market("v100").spot_capacity[0, :200] > 0
    market = sample_market("v100").select([0])
    windows = Windows.each_pool(market, DeadlineJob(3600, 40 * 3600, 0), 10_000)
    batch = DeadlineBatch.of(windows.stack, DeadlineJob(3600, 40 * 3600, 0), [0], [0])
    memory = planner.reset(1)
    types, _, buckets = model.hazard.shape
    weight = np.array(
        [
            [model.prior[k] * model.stationary[k, int(series[0]), b] for b in range(buckets)]
            for k in range(types)
        ]
    )
    weight /= weight.sum()
    age, known = 1, False
    for t in range(200):
        seen = batch.observe()
        seen.spot_available = np.array([[series[t]]])
        memory = planner.update(seen, memory)
        if t:
            before, now = int(series[t - 1]), int(series[t])
            new = np.zeros_like(weight)
            age, known = (age + 1, known) if before == now else (1, True)
            exact = sum(age >= edge for edge in model.first_age) - 1
            for k in range(types):
                for b in range(buckets):
                    h = model.hazard[k, before, b]
                    if before != now:
                        new[k, 0] += weight[k, b] * h
                    elif known:
                        new[k, exact] += weight[k, b] * (1 - h)
                    else:
                        move = model.advance[b]
                        new[k, b] += weight[k, b] * (1 - h) * (1 - move)
                        new[k, min(b + 1, buckets - 1)] += weight[k, b] * (1 - h) * move
            weight = new / new.sum()
        weight = (1 - model.drift) * weight + model.drift * np.outer(model.prior, weight.sum(axis=0))
        np.testing.assert_allclose(memory["belief"][0], weight, atol=1e-6)
        assert weight.sum() == pytest.approx(1.0)


@st.composite
def observations(draw: st.DrawFn) -> DeadlineObservation:
    jobs, pools = draw(st.integers(1, 4)), draw(st.integers(1, 3))
    tick = draw(st.sampled_from([60.0, 600.0, 3600.0]))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    overhead = rng.choice([0.0, 60.0, 173.0, 720.0, 3600.0], jobs)
    work = rng.uniform(tick, 40 * tick, jobs)
    slack = overhead + rng.uniform(0.0, 60 * tick, jobs)
    available = rng.random((jobs, pools)) < 0.5
    placement = rng.integers(0, 2, jobs)
    for i in range(jobs):
        if available[i].any() and rng.random() < 0.4:
            placement[i] = 2 + int(np.flatnonzero(available[i])[0])
    return DeadlineObservation(
        tick, work, work + slack, work * 1.5, work * 1.5 + slack, placement, rng.choice([0.0, 50.0], jobs),
        np.zeros(jobs), overhead, np.zeros(jobs), available, rng.uniform(0.05, 1.2, (jobs, pools)),
        np.ones(jobs),
    )  # fmt: skip


@settings(max_examples=60)
@given(observations())
def test_decisions_are_legal_pure_and_the_same_alone_as_in_a_batch(seen: DeadlineObservation) -> None:
    planner = SemiMarkovPlanner(tiny_model())
    memory = planner.reset(seen.jobs, seen.pools)
    before = {name: np.array(array) for name, array in memory.items()}
    action, _ = planner.act(seen, memory)
    assert legal_actions(seen)[np.arange(seen.jobs), action].all()
    for name, array in before.items():
        np.testing.assert_array_equal(memory[name], array)
    again, _ = planner.act(seen, memory)
    np.testing.assert_array_equal(action, again)
    fresh = SemiMarkovPlanner(tiny_model())
    for i in range(seen.jobs):
        fields = {
            name: getattr(seen, name)[i : i + 1]
            for name in DeadlineObservation.__slots__
            if name != "tick_seconds"
        }
        one = DeadlineObservation(tick_seconds=seen.tick_seconds, **fields)
        alone, _ = fresh.act(one, fresh.reset(1, seen.pools))
        assert alone[0] == action[i]


def test_tables_of_different_extent_agree_where_they_overlap() -> None:
    model = TickModel.of(tiny_model(), 600)
    settings_ = {"tick_minutes": 10.0, "overhead_minutes": 7.0, "ratio": 0.4}
    small = PlannerTables.solve(model, **settings_, horizon_ticks=60, most_slack_minutes=120)
    large = PlannerTables.solve(model, **settings_, horizon_ticks=300, most_slack_minutes=2000)
    levels, slacks = len(small.levels), len(small.slack_minutes)
    np.testing.assert_array_equal(small.levels, large.levels[:levels])
    np.testing.assert_array_equal(small.slack_minutes, large.slack_minutes[:slacks])
    np.testing.assert_array_equal(small.after, large.after[:levels, :slacks])


@given(st.sampled_from([1.0, 10.0, 60.0]), st.floats(0, 60), st.floats(0, 40_000))
def test_slack_grid_reaches_far_enough_in_few_increasing_steps(
    tick: float, overhead: float, most: float
) -> None:
    grid = slack_grid(tick, overhead, most)
    assert grid[0] == 0.0
    assert grid[-1] >= most
    assert (np.diff(grid) > 0).all()
    assert len(grid) < 400


@pytest.mark.parametrize(
    ("tick_seconds", "hours", "overhead"),
    [(600, 72, 3), (600, 720, 60), (60, 720, 3), (60, 720, 60), (3600, 720, 60)],
)
def test_a_configuration_takes_at_most_twenty_megabytes(
    planner: SemiMarkovPlanner, tick_seconds: int, hours: int, overhead: int
) -> None:
    types, _, buckets = planner.believed.hazard.shape
    levels = time_levels(hours * 3600 // tick_seconds, WIDE)
    grid = slack_grid(tick_seconds / 60, overhead, hours * 60, WIDE)
    assert len(levels) * types * len(grid) * 5 * buckets * 4 <= 20_000_000


def test_model_in_other_ticks_keeps_run_lengths() -> None:
    model = tiny_model()
    fine, own = TickModel.of(model, 60.0), TickModel.of(model, 600.0)
    np.testing.assert_allclose((1 - fine.hazard) ** 10, 1 - own.hazard)
    np.testing.assert_allclose(own.hazard, model.hazard)
    assert fine.stationary.sum(axis=(1, 2)) == pytest.approx(np.ones(2))
    np.testing.assert_allclose(fine.stationary[:, 1].sum(axis=1), own.stationary[:, 1].sum(axis=1), atol=0.03)


def real_market(shared_data: Path, zones: tuple[str, ...], tick: int) -> Market:
    files = [shared_data / TRACES / f"{zone}_v100_1.json" for zone in zones]
    return build_market(files, BuildOptions(tick_seconds=tick, spot_price=0.9731, on_demand_price=3.06))


def test_shipped_model_is_the_fit_to_the_training_zones(shared_data: Path) -> None:
    fitted = fit_planner_model([real_market(shared_data, ZONES, 195)])
    shipped = load_model(SHIPPED)
    np.testing.assert_allclose(fitted.hazard, shipped.hazard, rtol=1e-6)
    np.testing.assert_allclose(fitted.prior, shipped.prior, rtol=1e-6)


def test_validation_protocol(shared_data: Path, shared_reference: Path, planner: SemiMarkovPlanner) -> None:
    """Measured with `spotwise evaluate`: 0.896, 0.630, 0.898 and 0.725 of the gap closed."""
    market = real_market(shared_data, ("us-west-2a", "us-east-1d", "us-east-2b"), 600)
    rows = (shared_reference / "deadline_validation.csv").read_text().splitlines()
    lines = [dict(zip(rows[0].split(","), row.split(","), strict=True)) for row in rows[1:]]
    for line, least in zip(lines, (0.88, 0.61, 0.87, 0.69), strict=True):
        hours = float(line["deadline_hours"])
        job = DeadlineJob(48 * 3600, hours * 3600, 60 * float(line["restart_overhead_minutes"]))
        table = replay([planner], Windows.each_pool(market, job, round(hours * 6) + 2), job)
        optimum, baseline = float(line["clairvoyant_optimum_usd"]), float(line["uniform_progress_usd"])
        assert table["optimum_usd"].mean() == pytest.approx(optimum, abs=1e-3)
        assert not table["missed"].any()
        assert (baseline - table["cost_usd"].mean()) / (baseline - optimum) >= least


def test_shipped_model_says_where_it_comes_from() -> None:
    assert all(zone in json.loads(SHIPPED.read_text())["source"] for zone in ZONES)
