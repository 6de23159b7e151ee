"""Two controller processes, killed, stopped and cut off at their calls: one leads, nothing is doubled."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.optimizer.controller.crashes.leader import KINDS
from tests.optimizer.controller.crashes.schedule import STRIKES
from tests.optimizer.controller.postgres import missing

ROOT = Path(__file__).resolve().parents[3]
BLOCKS, SEEDS = 40, 50
"""The marked suite: 2,000 schedules. Each kind of lease meets each strike at each of the first 16 calls."""


def run(first: int, last: int, timeout: int) -> list[dict[str, Any]]:
    """Verdicts of schedules; a runner of their own has no threads when it forks."""
    if reason := missing():
        pytest.skip(reason)
    command = [sys.executable, "-m", "tests.optimizer.controller.crashes.runner", str(first), str(last)]
    done = subprocess.run(
        command,
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
    verdicts = [json.loads(line) for line in done.stdout.splitlines()]
    assert [one["seed"] for one in verdicts] == list(range(first, last)), done.stderr[-4000:]
    assert not [one for one in verdicts if one["problems"]], done.stderr[-4000:]
    return verdicts


def test_two_leaders_through_each_strike() -> None:
    """Each strike at the first call, under each kind of lease and journal."""
    verdicts = run(0, len(KINDS) * len(STRIKES), timeout=280)
    assert {(one["kind"], strike) for one in verdicts for strike in one["strikes"]} == {
        (kind, strike) for kind in KINDS for strike in STRIKES
    }
    assert sum(one["takeovers"] for one in verdicts) > len(verdicts)


def test_the_end_of_what_an_unfinished_tick_launched_is_not_the_end_of_the_run_before() -> None:
    """Schedules that found it: a job given up 600 s of work too early, and one late for too little credit."""
    run(139, 140, timeout=140)
    run(628, 629, timeout=140)


def test_a_restart_that_went_on_while_nobody_knew_counts() -> None:
    """A gang that a crashed tick launched was given a second restart, and its deadline up."""
    [verdict] = run(1632, 1633, timeout=140)
    assert not verdict["missed"]


def test_a_job_that_nobody_led_for_long_is_done_all_the_same() -> None:
    """Forty minutes without a leader make a gang late by twenty: it ends after the usual ticks."""
    [verdict] = run(561, 562, timeout=140)
    assert verdict["missed"] == ["gang"]
    assert verdict["leaderless_seconds"] >= 1800.0


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("block", range(BLOCKS))
def test_two_thousand_schedules_of_two_leaders(block: int) -> None:
    verdicts = run(SEEDS * block, SEEDS * (block + 1), timeout=3500)
    strikes: Counter[str] = Counter()
    for one in verdicts:
        strikes.update(one["strikes"])
    assert set(strikes) == set(STRIKES)
