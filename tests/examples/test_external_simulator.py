"""The example gives, tick for tick, what replay gives: also over several pools and when it is overridden."""

import importlib.util
import subprocess
import sys
from enum import Enum
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from policies import DeadlinePolicy, Memory, Shielded, load_policy
from simulator.deadline import FIRST_SPOT, DeadlineBatch, DeadlineJob, DeadlineObservation, MarketStack
from simulator.deadline.observation import IntArray

PATH = Path(__file__).parents[2] / "examples" / "external_simulator.py"
ON_DEMAND_PRICE, SPOT_PRICES = 3.0, (0.9, 1.1, 0.7)
ANSWERS = {0: "NONE", 1: "ON_DEMAND"}


def load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("external_simulator", PATH)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


example = load()


class Forgetful:
    """A policy that is nothing but its memory: on each pool's third tick of availability it moves there."""

    name = "forgetful"

    def reset(self, jobs: int, pools: int = 1) -> Memory:
        return {"age": np.zeros((jobs, pools), np.int64), "ticks": np.zeros(jobs, np.int64)}

    def act(self, observation: DeadlineObservation, memory: Memory) -> tuple[IntArray, Memory]:
        before: Any = memory["age"]
        ticks: Any = memory["ticks"]
        age = np.where(observation.spot_available, before + 1, 0)
        ripe = age % 3 == 2
        stay = np.where(ticks % 4 == 3, 0, observation.placement)
        action = np.where(ripe.any(axis=1), FIRST_SPOT + ripe.argmax(axis=1), stay)
        return action.astype(np.int64), {"age": age, "ticks": ticks + 1}


POLICIES: list[DeadlinePolicy] = [
    *(load_policy(name) for name in ("on-demand", "spot-when-available", "greedy", "uniform-progress")),
    Shielded(Forgetful()),
]


def replay(
    policy: DeadlinePolicy, spot: np.ndarray[Any, Any], job: DeadlineJob, overrides: dict[int, int]
) -> tuple[float, bool, list[str]]:
    """The same job in `DeadlineBatch`."""
    ticks, pools = spot.shape
    stack = MarketStack(
        600,
        np.ascontiguousarray(spot.T[None], np.int32),
        np.repeat(np.array(SPOT_PRICES[:pools])[None, :, None], ticks, axis=2),
        np.full((1, ticks), ON_DEMAND_PRICE),
        np.array([ticks]),
    )
    batch = DeadlineBatch.of(stack, job, 0, 0)
    memory = policy.reset(1, pools)
    history = []
    while not batch.done[0]:
        tick = int(batch.tick[0])
        action, memory = policy.act(batch.observe(), memory)
        batch.step(np.array([overrides.get(tick, int(action[0]))]))
        ran = overrides.get(tick, int(action[0]))
        history.append(ANSWERS.get(ran, f"SPOT{ran - FIRST_SPOT}"))
    return float(batch.cost[0]), not batch.missed[0], history


def driver_for(policy: DeadlinePolicy, job: DeadlineJob, pools: int) -> Any:
    return example.ExternalDriver(
        policy,
        work_seconds=job.work_seconds,
        deadline_seconds=job.deadline_seconds,
        restart_overhead_seconds=job.restart_overhead_seconds,
        tick_seconds=600,
        spot_price=SPOT_PRICES[:pools] if pools > 1 else SPOT_PRICES[0],
        on_demand_price=ON_DEMAND_PRICE,
    )


@given(
    policy=st.sampled_from(POLICIES),
    pools=st.integers(1, 3),
    seed=st.integers(0, 2**32 - 1),
    overhead=st.sampled_from([0.0, 180.0, 720.0, 1500.0]),
    overrides=st.dictionaries(st.integers(0, 40), st.sampled_from([0, 1]), max_size=8),
)
@settings(max_examples=200)
def test_several_jobs_in_a_row_run_as_in_replay_even_when_overridden(
    policy: DeadlinePolicy, pools: int, seed: int, overhead: float, overrides: dict[int, int]
) -> None:
    rng = np.random.default_rng(seed)
    job = DeadlineJob(7200.0 + 60.0 * int(rng.integers(0, 60)), 18_000.0 + 100.0 * int(seed % 5), overhead)
    driver = driver_for(policy, job, pools)
    for _ in range(3):
        spot = (rng.random((40, pools)).cumsum(axis=0) % 2.7) < 1.5
        named = {tick: ANSWERS[action] for tick, action in overrides.items()}
        prices = SPOT_PRICES[:pools]
        cost, in_time, history = example.ToySimulator(spot.tolist(), prices, ON_DEMAND_PRICE, 600, named).run(
            driver
        )
        expected = replay(policy, spot, job, overrides)
        assert history == expected[2]
        assert cost == pytest.approx(expected[0], abs=1e-9)
        assert in_time == expected[1]


def asked(driver: Any, tick: int, **changes: Any) -> str:
    state: dict[str, Any] = {
        "has_spot": True,
        "elapsed_seconds": tick * 600.0,
        "work_done_seconds": 0.0,
        "cluster_type": "NONE",
        "remaining_overhead_seconds": 0.0,
    }
    return str(driver.step(**{**state, **changes}))


JOB = DeadlineJob(7200.0, 36_000.0, 180.0)


def test_a_tick_that_is_asked_twice_is_remembered_once() -> None:
    once, twice = (driver_for(Forgetful(), JOB, 1) for _ in range(2))
    for tick in range(12):
        has_spot = tick % 5 != 4
        asked(twice, tick, has_spot=not has_spot)
        assert asked(once, tick, has_spot=has_spot) == asked(twice, tick, has_spot=has_spot)


def test_an_earlier_time_begins_a_new_job_as_reset_does() -> None:
    fresh, used, cleared = (driver_for(Forgetful(), JOB, 1) for _ in range(3))
    for tick in range(5):
        asked(used, tick)
        asked(cleared, tick)
    cleared.reset()
    assert [asked(fresh, tick) for tick in range(8)] == [asked(used, tick) for tick in range(8)]
    fresh.reset()
    assert [asked(fresh, tick) for tick in range(8)] == [asked(cleared, tick) for tick in range(8)]


def test_the_end_of_a_job_needs_no_policy() -> None:
    driver = driver_for(Forgetful(), JOB, 1)
    assert asked(driver, 9, work_done_seconds=7200.0) == "NONE"
    assert asked(driver, 60, work_done_seconds=7000.0) == "ON_DEMAND"


def test_enum_members_are_cluster_types_and_other_words_are_not() -> None:
    cluster = Enum("cluster", ["NONE", "SPOT", "ON_DEMAND"])
    driver = driver_for(load_policy("uniform-progress"), JOB, 1)
    held = {"work_done_seconds": 3600.0, "remaining_overhead_seconds": 0.0}
    assert asked(driver, 12, cluster_type=cluster["SPOT"], **held) == "SPOT"
    assert asked(driver, 13, cluster_type=cluster["SPOT"], has_spot=False, **held) == "NONE"
    with pytest.raises(ValueError, match="accepted: SPOT, ON_DEMAND, NONE"):
        asked(driver, 14, cluster_type="spot instance")


def test_the_example_runs() -> None:
    printed = subprocess.run(
        [sys.executable, str(PATH)],
        capture_output=True,
        text=True,
        check=True,
        env={"PYTHONPATH": str(PATH.parents[1])},
    ).stdout
    assert [line.split()[0] for line in printed.splitlines()] == [
        "on-demand",
        "spot-when-available",
        "greedy",
        "uniform-progress",
    ]
    assert all(line.endswith("late: 0") for line in printed.splitlines())
