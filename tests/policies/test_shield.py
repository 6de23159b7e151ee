"""Behind the shield no avoidable deadline is missed, whatever the policy says and the market does.

Jobs are feasible at their start (slack >= one restart overhead), so every miss would be avoidable. The market
is an adversary that is told the action before it writes the availability of the next tick.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from policies.baselines import Greedy, OnDemandOnly, SpotWhenAvailable, UniformProgress
from policies.protocol import DeadlinePolicy, Memory
from policies.shield import Shielded, apply_shield, legal_actions
from simulator.deadline import DeadlineBatch, DeadlineJob, DeadlineObservation, MarketStack
from simulator.deadline.observation import FIRST_SPOT, IDLE, ON_DEMAND, IntArray
from simulator.deadline.terms import NOWHERE, PoolTerms, StackTerms
from simulator.errors import InputError

Actions = NDArray[np.float64]
TICKS = 64
"""Longest job. Every job has a market of its own, so that the adversary plays against it alone."""


def feasible_jobs(rng: np.random.Generator, size: int, tick: float) -> dict[str, NDArray[np.float64]]:
    """Jobs of every awkward kind: fractions of ticks, overheads of many ticks, no slack to spare."""
    whole = rng.random(size) < 0.3  # whole minutes: thresholds are met exactly
    overhead = rng.choice([0.0, 0.3, 1.0, 1.2, 2.0, 3.7], size) * tick
    overhead = np.where(rng.random(size) < 0.5, overhead, rng.uniform(0, 4, size) * tick)
    to_spare = rng.choice([0.0, 1e-7, 0.5, 1.0, 2.0], size) * tick
    to_spare += rng.choice([0.0, 1.0, 2.0], size) * overhead
    to_spare = np.where(rng.random(size) < 0.6, to_spare, rng.uniform(0, 20, size) * tick)
    hair = 1e-6 * rng.choice([0.09, 0.1, 0.9, 1.0, 1.0 - 1e-6], size)  # as much as is forgiven
    to_spare = np.where(rng.random(size) < 0.2, np.maximum(to_spare - hair, 0.0), to_spare)
    work = rng.uniform(0.05, 24, size) * tick
    checkpoint = np.where(rng.random(size) < 0.5, 0.0, rng.uniform(0.05, 6, size) * tick)
    overhead, to_spare, work, checkpoint = (
        np.where(whole, np.ceil(x / 60) * 60, x) for x in (overhead, to_spare, work, checkpoint)
    )
    deadline = work + overhead + to_spare
    deadline = np.where(deadline - work < overhead, np.nextafter(deadline, np.inf), deadline)
    deadline = np.where(deadline - work < overhead, deadline + 1e-9 * tick, deadline)
    too_long = deadline > (TICKS - 1) * tick
    overhead[too_long], work[too_long], deadline[too_long] = tick, 10.5 * tick, 13.25 * tick
    return {
        "work": work,
        "deadline": deadline,
        "restart_overhead": overhead,
        "checkpoint_interval": checkpoint,
    }


def hostile_terms(rng: np.random.Generator, size: int, pools: int, tick: int) -> StackTerms:
    """Pools that are useless or fast, regions that take many ticks to reach."""
    locations = int(rng.integers(1, 4))
    seconds = rng.choice([0.0, 0.4, 1.0, 2.3, 9.0], (size, locations, locations)) * tick
    seconds[:, np.arange(locations), np.arange(locations)] = 0.0
    return StackTerms(
        PoolTerms(),
        rng.choice([0.01, 0.5, 0.99, 1.0, 1.7, 9.0], (size, pools)),
        rng.integers(0, locations, (size, pools)),
        seconds,
        np.where(seconds > 0.0, 1.0, 0.0),
        rng.uniform(1.0, 3.0, (size, locations, TICKS + 1)),
        rng.integers(NOWHERE, locations, size),
    )


def arena(
    rng: np.random.Generator, size: int, pools: int, tick: int, *, varied: bool = False
) -> DeadlineBatch:
    stack = MarketStack(
        tick,
        rng.integers(0, 4, (size, pools, TICKS + 1), dtype=np.int32),
        rng.uniform(0.1, 3.5, (size, pools, TICKS + 1)),
        np.full((size, TICKS + 1), 3.0),
        np.full(size, TICKS + 1),
        terms=hostile_terms(rng, size, pools, tick) if varied else None,
    )
    batch = DeadlineBatch(stack, size)
    batch.assign(
        np.arange(size),
        market=np.arange(size),
        start=0,
        nodes=rng.integers(1, 4, size),
        **feasible_jobs(rng, size, tick),
    )
    return batch


def adversary(rng: np.random.Generator, batch: DeadlineBatch, action: IntArray) -> None:
    """Write the capacity of the next tick, knowing what is done in this one; one tactic per job."""
    rows = np.arange(batch.size)
    soon = batch.tick + 1
    now = batch.stack.capacity[rows, :, batch.tick]
    tick, pools = float(batch.stack.tick_seconds), batch.stack.pools
    slack = batch.deadline - batch.tick * tick - batch.work_left
    on_spot = action >= FIRST_SPOT
    launched = on_spot & (action != batch.placement)
    tight = slack < 2 * batch.restart_overhead + 3 * tick
    unsaved = np.where(batch.checkpoint_interval > 0, batch.unsaved + tick, 0.0)
    full = unsaved >= 0.8 * batch.checkpoint_interval
    ready = (batch.pending <= tick) & ~launched
    take = np.select(
        [rows % 8 == tactic for tactic in range(7)],
        [
            launched,  # as soon as it was paid for
            ready,  # when it begins to be useful
            tight,  # when there is no time left
            full & ready,  # just before the checkpoint
            np.ones(batch.size, bool),  # always
            np.zeros(batch.size, bool),  # never
            now.max(axis=1) > 0,  # flapping: all pools on, all off
        ],
        rng.random(batch.size) < 0.3,
    )
    held = np.zeros((batch.size, pools), bool)
    held[on_spot, action[on_spot] - FIRST_SPOT] = True
    everywhere = (rows % 8 == 6) | (rows % 16 == 2)
    gone = take[:, None] & (held | everywhere[:, None])
    batch.stack.capacity[rows, :, soon] = np.where(gone, 0, 3)


def hostile_actions(rng: np.random.Generator, batch: DeadlineBatch, turn: int) -> Actions:
    """What the policies say: random, constant, garbage, flapping, and the ones that hurt most."""
    size, pools = batch.size, batch.stack.pools
    kind = (np.arange(size) // 8) % 9
    any_spot = rng.integers(FIRST_SPOT, pools + 2, size)
    held = np.where(batch.placement >= FIRST_SPOT, batch.placement, any_spot)
    other = FIRST_SPOT + (held - FIRST_SPOT + 1) % pools
    flip = turn % 2 == 0
    said = np.select(
        [kind == k for k in range(8)],
        [
            rng.integers(0, pools + 2, size),
            np.full(size, IDLE),
            held,  # spot for ever
            other,  # another pool every tick
            np.full(size, ON_DEMAND if flip else IDLE),
            np.where(flip, any_spot, IDLE),
            np.where(flip, any_spot, ON_DEMAND),
            rng.integers(-5, pools + 9, size),  # often not an action
        ],
    ).astype(np.float64)
    garbage = rng.choice([np.nan, np.inf, -np.inf, 1.5, -0.5, 1e300, 2.0], size)
    return np.where(kind == 8, garbage, said)


@dataclass(frozen=True)
class Tally:
    episodes: int
    missed: int
    spot_ticks: int
    interruptions: int


def fight(
    seed: int, size: int, pools: int, tick: int, policy: DeadlinePolicy | None = None, *, varied: bool = False
) -> Tally:
    """Episodes of hostile actions (or of `policy`) behind the shield, against the adversary."""
    rng = np.random.default_rng(seed)
    batch = arena(rng, size, pools, tick, varied=varied)
    memory: Memory = policy.reset(size, pools) if policy else {}
    turn = 0
    while not batch.done.all():
        observation = batch.observe()
        if policy is None:
            action = apply_shield(observation, hostile_actions(rng, batch, turn))
        else:
            action, memory = Shielded(policy).act(observation, memory)
        adversary(rng, batch, action)
        batch.step(action)
        turn += 1
    return Tally(size, int(batch.missed.sum()), int(batch.counts[:, 5].sum()), int(batch.counts[:, 1].sum()))


@given(seed=st.integers(0, 2**32 - 1), pools=st.integers(1, 3), varied=st.booleans())
@settings(max_examples=100)
def test_what_the_shield_says_is_the_asked_action_where_the_mask_has_it(
    seed: int, pools: int, varied: bool
) -> None:
    rng = np.random.default_rng(seed)
    batch = arena(rng, 72, pools, 600, varied=varied)
    for turn in range(6):
        seen = batch.observe()
        asked = hostile_actions(rng, batch, turn)
        legal, action = legal_actions(seen), apply_shield(seen, asked)
        for i, wish in enumerate(asked):
            if wish not in range(pools + 2):
                assert action[i] == ON_DEMAND
            elif legal[i, int(wish)]:
                assert action[i] == wish
            elif wish >= FIRST_SPOT and not seen.spot_available[i, int(wish) - FIRST_SPOT] and legal[i, IDLE]:
                assert action[i] == IDLE
            else:
                assert action[i] == ON_DEMAND
        whole = np.where(np.isfinite(asked) & (np.abs(asked) < 1e6), asked, -1.0).astype(np.int64)
        np.testing.assert_array_equal(apply_shield(seen, whole), apply_shield(seen, whole.astype(np.float64)))
        adversary(rng, batch, action)
        batch.step(action)


SETTINGS = [(1, 600), (2, 60), (3, 3600), (4, 7), (5, 1000)]
"""Pools and seconds per tick."""


def assert_no_avoidable_miss(tallies: Iterator[Tally], episodes: int) -> None:
    done = 0
    for tally in tallies:
        assert tally.missed == 0
        # the fight was one: spot ran, and was taken away
        assert tally.spot_ticks > tally.episodes
        assert tally.interruptions > tally.episodes / 10
        done += tally.episodes
    assert done == episodes


def test_no_avoidable_miss_in_100_000_hostile_episodes() -> None:
    assert_no_avoidable_miss(
        (fight(seed, 20_000, pools, tick) for seed, (pools, tick) in enumerate(SETTINGS)), 100_000
    )


def test_no_avoidable_miss_where_pools_are_slow_and_regions_far_apart() -> None:
    assert_no_avoidable_miss(
        (fight(seed, 10_000, pools, tick, varied=True) for seed, (pools, tick) in enumerate(SETTINGS * 2)),
        100_000,
    )


@pytest.mark.slow
def test_no_avoidable_miss_in_a_million_hostile_episodes() -> None:
    assert_no_avoidable_miss(
        (fight(1000 + seed, 20_000, *SETTINGS[seed % len(SETTINGS)]) for seed in range(50)),
        1_000_000,
    )


@pytest.mark.parametrize("policy", [SpotWhenAvailable(), Greedy(), UniformProgress()], ids=lambda p: p.name)
def test_no_avoidable_miss_by_a_baseline_whose_market_knows_it(policy: DeadlinePolicy) -> None:
    for seed, (pools, tick) in enumerate(SETTINGS):
        assert fight(seed, 2_000, pools, tick, policy).missed == 0
        assert fight(seed, 2_000, pools, tick, policy, varied=True).missed == 0


def test_the_adversary_beats_policies_without_the_shield() -> None:
    """The fights above prove something: unshielded, the same market makes jobs late."""
    rng = np.random.default_rng(0)
    batch = arena(rng, 2_000, 2, 600)
    policy = SpotWhenAvailable()
    while not batch.done.all():
        action, _ = policy.act(batch.observe(), {})
        adversary(rng, batch, action)
        batch.step(action)
    assert batch.missed.mean() > 0.1


seconds = st.floats(0.0, 5000.0)


@st.composite
def extreme_terms(draw: st.DrawFn, pools: int, ticks: int) -> StackTerms:
    """Two locations with on-demand capacity at any throughput, moves between them of any length."""
    source = PoolTerms(on_demand_throughput=draw(st.sampled_from([1.0, 0.01, 0.7, 100.0])))
    throughput = st.floats(0.01, 100.0)
    moves = np.zeros((1, 2, 2))
    moves[0, 0, 1], moves[0, 1, 0] = draw(seconds), draw(seconds)
    return StackTerms(
        source,
        np.array([draw(st.lists(throughput, min_size=pools, max_size=pools))]) / source.on_demand_throughput,
        np.array([draw(st.lists(st.integers(0, 1), min_size=pools, max_size=pools))]),
        moves,
        moves,
        np.full((1, 2, ticks), 3.0),
        np.array([draw(st.integers(NOWHERE, 1))]),
    )


@given(
    work=st.floats(1.0, 20_000.0),
    overhead=seconds,
    to_spare=seconds,
    checkpoint=st.one_of(st.just(0.0), seconds),
    nodes=st.integers(1, 3),
    tick=st.integers(1, 3600),
    data=st.data(),
)
@settings(max_examples=150)
def test_no_avoidable_miss_against_a_market_and_a_policy_that_hypothesis_plays(
    work: float,
    overhead: float,
    to_spare: float,
    checkpoint: float,
    nodes: int,
    tick: int,
    data: st.DataObject,
) -> None:
    tick = max(tick, int((work + overhead + to_spare) / 40) + 1)
    pools, ticks = 2, 43
    terms = data.draw(st.none() | extreme_terms(pools, ticks), label="terms")
    pace = terms.source.on_demand_throughput if terms else 1.0
    source = terms.source if terms else None
    deadline = work + overhead + to_spare
    try:
        job = DeadlineJob(work * pace, deadline, overhead, checkpoint * pace, nodes, terms=source)
    except InputError:  # rounding left a hair less slack than the overhead: refused, as it should be
        assert deadline - work * pace / pace < overhead
        return
    capacity = data.draw(
        st.lists(st.integers(0, 3), min_size=pools * ticks, max_size=pools * ticks), label="capacity"
    )
    stack = MarketStack(
        tick,
        np.array(capacity, np.int32).reshape(1, pools, ticks),
        np.ones((1, pools, ticks)),
        np.full((1, ticks), 3.0),
        np.array([ticks]),
        terms=terms,
    )
    batch = DeadlineBatch.of(stack, job, 0, 0)
    wishes = data.draw(
        st.lists(
            st.one_of(st.integers(-1, pools + 2), st.just(float("nan"))), min_size=ticks, max_size=ticks
        ),
        label="wishes",
    )
    while not batch.done.all():
        observation = batch.observe()
        batch.step(apply_shield(observation, [wishes[int(batch.tick[0])]]))
    assert not batch.missed[0]


def observation_of(slack: float, overhead: float = 720.0, available: bool = True) -> DeadlineObservation:
    return DeadlineObservation(
        tick_seconds=600.0,
        work_left=np.array([7200.0]),
        time_left=np.array([7200.0 + slack]),
        work_total=np.array([9000.0]),
        time_total=np.array([90000.0]),
        placement=np.zeros(1, np.int64),
        pending_overhead=np.zeros(1),
        unsaved_work=np.zeros(1),
        restart_overhead=np.array([overhead]),
        checkpoint_interval=np.zeros(1),
        spot_available=np.array([[available]]),
        spot_price=np.ones((1, 1)),
        on_demand_price=np.ones(1),
    )


@pytest.mark.parametrize(
    "garbage", [np.nan, np.inf, -1, 3, 2**62, 0.5, 2.0000001, "2", None, 2 + 0j, b"\x02", 1e300]
)
def test_what_is_not_an_action_becomes_on_demand(garbage: object) -> None:
    assert apply_shield(observation_of(1e5), np.array([garbage])).tolist() == [ON_DEMAND]


@pytest.mark.parametrize("dtype", [np.int8, np.uint64, np.float32, np.bool_])
def test_whole_numbers_of_any_type_are_actions(dtype: type) -> None:
    decision = apply_shield(observation_of(1e5), np.zeros(1, dtype))
    assert decision.tolist() == [IDLE]
    assert decision.dtype == np.int64


@pytest.mark.parametrize("shape", [(), (2,), (1, 1), (0,)])
def test_decisions_of_the_wrong_shape_are_an_error(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="one per job"):
        apply_shield(observation_of(1e5), np.zeros(shape, np.int64))


def test_spot_without_capacity_becomes_idle_only_where_idle_is_legal() -> None:
    assert apply_shield(observation_of(1320.0, available=False), [FIRST_SPOT]).tolist() == [IDLE]
    assert apply_shield(observation_of(1319.0, available=False), [FIRST_SPOT]).tolist() == [ON_DEMAND]


def test_an_observation_that_is_not_a_number_leaves_only_on_demand() -> None:
    assert legal_actions(observation_of(float("nan"))).tolist() == [[False, True, False]]


def test_the_shield_keeps_name_and_memory_of_its_policy() -> None:
    policy = Shielded(OnDemandOnly())
    assert policy.name == "on-demand"
    assert policy.reset(3, 2) == {}


def test_a_launch_away_from_the_data_needs_slack_for_the_move() -> None:
    def launches(slack: float, placement: int = IDLE) -> list[bool]:
        seen = replace(
            observation_of(slack),
            placement=np.array([placement]),
            spot_available=np.ones((1, 2), bool),
            spot_price=np.ones((1, 2)),
            throughput=np.array([[1.0, 0.2]]),
            location=np.array([[0, 1]]),
            home=np.zeros(1, np.int64),
            move_seconds=np.array([[[0.0, 900.0], [0.0, 0.0]]]),
            move_usd=np.zeros((1, 2, 2)),
            local_on_demand_price=np.ones((1, 2)),
        )
        legal: list[bool] = legal_actions(seen)[0, FIRST_SPOT:].tolist()
        for pool in range(2):
            assert (apply_shield(seen, [FIRST_SPOT + pool])[0] == FIRST_SPOT + pool) == legal[pool]
        return legal

    assert launches(2 * 720.0 + 600.0 + 900.0) == [True, True]
    assert launches(2 * 720.0 + 600.0 + 899.0) == [True, False]
    assert launches(720.0 + 600.0, placement=FIRST_SPOT + 1) == [False, True]  # it may still be copying
