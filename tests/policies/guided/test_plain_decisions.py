"""Decisions over one pool are, to the bit, those of the rule spelled out in plain NumPy for every job.

The rule here looks at every job in full: age buckets one by one, features and networks for all, the choice
last. What is compiled, left out where it cannot matter, or done for many jobs at once must not show.
"""

import numpy as np
import pytest

from policies.features import RICH
from policies.guided import GuidedPolicy
from policies.guided.bundled import DOUBT
from policies.guided.policy import HISTORY
from policies.planner import SemiMarkovPlanner
from policies.planner.policy import Settings
from policies.protocol import Memory
from policies.registry import load_policy
from policies.shield import legal_actions
from simulator.deadline import DeadlineBatch, DeadlineObservation, MarketStack
from simulator.market import sample_market

Arrays = dict[str, np.ndarray]
JOBS, TICKS = 60, 80
OVERHEADS = (180.0, 720.0, 1800.0)
TIE = 1e-4
"""Scores of the networks that are closer than this may turn with the order of a sum, which BLAS chooses."""


def plain_fold(planner: SemiMarkovPlanner, seen: DeadlineObservation, memory: Memory) -> Arrays:
    """The belief after one more look, job by job."""
    model = planner.tick_model(seen.tick_seconds)
    after = {name: np.array(array) for name, array in memory.items() if name != HISTORY}
    buckets = model.hazard.shape[2]

    def bucket(age: int) -> int:
        return max(int(np.searchsorted(model.first_age, age, side="right")) - 1, 0)

    for i in range(seen.jobs):
        now, before, belief = int(seen.spot_available[i, 0]), int(after["last"][i]), after["belief"][i]
        if before < 0:
            belief[:] = model.prior[:, None] * model.stationary[:, now]
            after["age"][i] = 1
        else:
            hazard, changed, was = model.hazard[:, before], now != before, belief.astype(np.float64)
            held = bucket(after["age"][i])
            after["age"][i] = 1 if changed else after["age"][i] + 1
            moved = np.zeros(was.shape)
            if after["known"][i]:
                ends = hazard[:, held]
                moved[:, bucket(after["age"][i])] = was[:, held] * (ends if changed else 1.0 - ends)
            elif changed:
                for b in range(buckets):
                    moved[:, 0] += was[:, b] * hazard[:, b]
            else:
                stay = was * (1.0 - hazard)
                for b in range(buckets):
                    moved[:, b] += stay[:, b] * (1.0 - model.advance[b])
                    moved[:, min(b + 1, buckets - 1)] += stay[:, b] * model.advance[b]
            after["known"][i] |= changed
            belief[:] = moved
        after["last"][i] = now
        wide = belief.astype(np.float64)
        total = np.add.accumulate(wide.ravel())[-1]
        in_bucket = np.add.accumulate(wide, axis=0)[-1]
        belief[:] = ((1.0 - model.drift) * wide + model.drift * model.prior[:, None] * in_bucket) / total
    return after


def plain_costs(planner: SemiMarkovPlanner, seen: DeadlineObservation, memory: Memory) -> np.ndarray:
    """(N, 3) expected costs, every bucket and type one after the other."""
    tick = seen.tick_seconds / 60.0
    costs = np.empty((seen.jobs, 3))
    for i in range(seen.jobs):
        ratio = seen.spot_price[i, 0] / seen.on_demand_price[i]
        rate = seen.lateness_price[i] / seen.on_demand_price[i] / tick
        late = (seen.time_left[i] - seen.due_left[i]) / 60.0 if rate > 0.0 else 0.0
        rounded = min(max(np.rint(ratio / 0.005), 1.0) * 0.005, 1.5)
        settings = Settings(seen.tick_seconds, float(seen.restart_overhead[i]), rounded, late, rate)
        # what the policy solved for all jobs of this kind reaches as far as any of them needs
        tables = planner.tables(settings, float(seen.time_left.max()), float(seen.slack.max()))
        grid, levels, after = tables.slack_minutes, tables.levels, tables.after
        belief = np.asarray(memory["belief"])[i].astype(np.float64)
        slack, overhead = seen.slack[i] / 60.0, seen.restart_overhead[i] / 60.0
        left = max(seen.time_left[i] / 60.0 / tick - 1.0, 0.0)
        level = np.clip(np.searchsorted(levels, left, side="right") - 1, 0, len(levels) - 2)
        later = np.clip((left - levels[level]) / (levels[level + 1] - levels[level]), 0.0, 1.0)
        up = int(np.asarray(memory["last"])[i])
        for action in range(3):
            running = min(seen.placement[i], 2) == action
            spent = tick if action == 0 else seen.pending_overhead[i] / 60.0 if running else overhead
            block = (2 * up, 2 * up + 1, 4)[action]
            rest = np.clip(slack - spent, 0.0, grid[-1])
            at = np.clip(np.searchsorted(grid, rest, side="right") - 1, 0, len(grid) - 2)
            upper = (rest - grid[at]) / (grid[at + 1] - grid[at])
            columns = slice(block * belief.shape[1], (block + 1) * belief.shape[1])
            near = after[level : level + 2, at, columns].astype(np.float64)
            far = after[level : level + 2, at + 1, columns].astype(np.float64)
            soon, late_on = (1.0 - upper) * near + upper * far
            terms = belief.T * ((1.0 - later) * soon + later * late_on)
            total = np.add.accumulate(terms.ravel())[-1]
            costs[i, action] = (0.0, 1.0, ratio)[action] + total
    return costs


def drawn(size: int, seed: int, late: bool) -> DeadlineBatch:
    rng = np.random.default_rng(seed)
    market = sample_market("v100-unseen")
    batch = DeadlineBatch(MarketStack.of([market.select([pool]) for pool in range(len(market.pools))]), size)
    work, slack = 3600.0 * rng.choice([2, 8, 24], size), rng.choice([0.6, 1, 3, 9], size) * 3600.0
    price = np.where(np.arange(size) % 3 == 0, 2.0, 0.0) if late else 0.0
    batch.assign(
        np.arange(size),
        market=rng.integers(0, len(market.pools), size),
        start=rng.integers(0, 5000, size),
        work=work,
        deadline=work + slack,
        restart_overhead=rng.choice(OVERHEADS, size),
        spot_scale=rng.choice([1.0, 1.0, 2.7], size),
        due=work + 0.5 * slack,
        lateness_price=price,
        checkpoint_interval=rng.choice([0.0, 0.0, 1800.0], size),
    )
    return batch


def cheapest(costs: np.ndarray, legal: np.ndarray) -> np.ndarray:
    best: np.ndarray = np.where(legal, costs, np.inf).argmin(axis=1)
    return best


@pytest.mark.parametrize("late", [False, True])
def test_planner_decides_as_the_plain_rule(late: bool) -> None:
    planner = load_policy("planner").policy
    assert isinstance(planner, SemiMarkovPlanner)
    size = 6 if late else JOBS  # each cost of lateness needs tables of its own
    batch, memory = drawn(size, 1, late), planner.reset(size)
    rng = np.random.default_rng(2)
    decided = 0
    for _ in range(TICKS):
        seen = batch.observe()
        plain = plain_fold(planner, seen, memory)
        action, memory = planner.act(seen, memory)
        for name, array in plain.items():
            np.testing.assert_array_equal(memory[name], array, strict=True)
        costs, legal = plain_costs(planner, seen, plain), legal_actions(seen)
        np.testing.assert_array_equal(planner.expected_costs(seen, memory)[0], costs)
        np.testing.assert_array_equal(action, cheapest(costs, legal))
        decided += int((~batch.done).sum())
        elsewhere = np.where(legal, rng.random(legal.shape), -1.0).argmax(axis=1)
        batch.step(np.where(rng.random(size) < 0.3, elsewhere, action))
    assert decided > 20 * size


def test_champion_decides_as_the_plain_rule_on_every_job() -> None:
    champion = load_policy("deadline-champion").policy
    assert isinstance(champion, GuidedPolicy)
    batch, memory = drawn(JOBS, 3, False), champion.reset(JOBS)
    rng = np.random.default_rng(4)
    corrected = ties = 0
    for _ in range(TICKS):
        seen = batch.observe()
        action, after = champion.act(seen, memory)
        costs, legal = plain_costs(champion.planner, seen, after), legal_actions(seen)
        planned = cheapest(costs, legal)
        gaps = np.where(legal, costs, np.inf)
        second = np.sort(gaps - gaps.min(axis=1, keepdims=True), axis=1)[:, 1].astype(np.float32)
        advised, described = champion.describe(seen, memory)
        known = champion.trained.covers(seen, advised.pool)
        scores = champion.corrections(advised.inputs)
        scores -= np.float32(champion.guidance) * advised.inputs[:, RICH.size : RICH.size + 3]
        ranked = np.where(legal, scores, -np.inf)
        by_networks = known & (second < DOUBT)
        plain = np.where(by_networks, ranked.argmax(axis=1), planned)
        top = np.sort(ranked, axis=1)
        near = by_networks & (top[:, -1] - top[:, -2] < TIE)
        np.testing.assert_array_equal(action[~near], plain[~near])
        for name, array in described.items():
            np.testing.assert_array_equal(after[name], array, strict=True)
        corrected += int((by_networks & (action != planned))[~batch.done].sum())
        ties += int(near.sum())
        memory = after
        elsewhere = np.where(legal, rng.random(legal.shape), -1.0).argmax(axis=1)
        batch.step(np.where(rng.random(JOBS) < 0.3, elsewhere, action))
    assert corrected > 20
    assert ties < 5


def test_a_few_jobs_of_a_batch_are_seen_as_they_are() -> None:
    batch = drawn(JOBS, 5, True)
    seen = batch.observe()
    rows = np.array([4, 7, 31])
    few = seen.only(rows)
    assert (few.jobs, few.tick_seconds) == (3, seen.tick_seconds)
    np.testing.assert_array_equal(few.slack, seen.slack[rows])
    np.testing.assert_array_equal(few.lateness_price, seen.lateness_price[rows])
    assert not few.varied
