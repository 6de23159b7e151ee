"""The kernel against 576 recorded runs of the published simulator of "Can't Be Late" (NSDI 2024)."""

import numpy as np
import pandas as pd

from simulator.deadline import DeadlineBatch, DeadlineJob, MarketStack

ACTIONS = {"N": 0, "O": 1, "S": 2}


def test_all_recorded_runs_replay_to_the_same_cost_and_finish(
    golden_deadline_runs: tuple[MarketStack, pd.DataFrame],
) -> None:
    stack, runs = golden_deadline_runs
    replayed = 0
    for (deadline, overhead), group in runs.groupby(["deadline_hours", "restart_overhead_hours"]):
        job = DeadlineJob(48 * 3600.0, float(str(deadline)) * 3600.0, float(str(overhead)) * 3600.0)
        batch = DeadlineBatch.of(stack, job, group["market"], group["start_tick"])
        ticks = int(group["actions"].str.len().max())
        recorded = np.array(
            [[ACTIONS[letter] for letter in row.ljust(ticks, "N")] for row in group["actions"]]
        )
        for tick in range(ticks):
            batch.step(recorded[:, tick])
        assert batch.done.all()
        np.testing.assert_allclose(batch.cost, group["cost_usd"], rtol=0.0, atol=1e-4)
        np.testing.assert_array_equal(batch.tick, group["finish_tick"])
        np.testing.assert_array_equal(batch.missed, group["late_ticks"] > 0)
        replayed += len(group)
    assert replayed == 576
