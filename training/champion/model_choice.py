"""Leave-pairs-out comparison of planner models: `python -m training.champion.model_choice MARKET`.

The market holds the six training zones at their trace's own tick. For each model, three pairs of zones are
left out in turn, the model is fitted to the other four, and the planner is replayed on the pair: windows
every 61 ticks, 48 h of work, four settings of deadline and overhead. Printed is the mean cost above the
clairvoyant optimum, in per cent.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np

from policies.planner import SemiMarkovPlanner
from policies.planner.fit import AGE_EDGES, TICK_SECONDS, availability_series
from policies.shield import Shielded
from simulator.deadline import DeadlineJob
from simulator.deadline.optimum import clairvoyant_optimum
from simulator.deadline.replay import Windows, run
from simulator.market import Market
from simulator.synthetic import fit_semi_markov

PAIRS = ((0, 3), (1, 4), (2, 5))
SETTINGS = tuple((deadline, overhead) for deadline in (52, 70) for overhead in (3, 12))
STRIDE = 61
COARSE_EDGES = (1, 2, 4, 8, 20, 60)
MODELS = (
    (1, 276, COARSE_EDGES),
    (6, 276, COARSE_EDGES),
    (6, 420, COARSE_EDGES),
    (3, 840, AGE_EDGES),
    (4, 840, AGE_EDGES),
    (6, 840, AGE_EDGES),
)
"""Types, chunk in ticks, first ages of the buckets."""


def cost_above_optimum(market: Market, types: int, chunk: int, edges: tuple[int, ...]) -> float:
    """Mean over pairs and settings of the planner's cost above the optimum, per cent."""
    series = availability_series(market)
    above = []
    for deadline, overhead in SETTINGS:
        job = DeadlineJob(48 * 3600, deadline * 3600, overhead * 60)
        cost, optimum = 0.0, 0.0
        for pair in PAIRS:
            fitted = fit_semi_markov(
                [each for zone, each in enumerate(series) if zone not in pair],
                types=types,
                chunk_ticks=chunk,
                age_edges=edges,
            )
            left_out = Market.build(
                [market.pools[zone] for zone in pair],
                tick_seconds=TICK_SECONDS,
                start=market.start,
                spot_price=market.spot_price[list(pair), :1],
                on_demand_price=market.on_demand_price[list(pair), :1],
                spot_capacity=np.stack([series[zone] for zone in pair]).astype(np.int32),
            )
            windows = Windows.each_pool(left_out, job, STRIDE)
            cost += float(run(Shielded(SemiMarkovPlanner(fitted, unlike=0.0)), windows, job).cost.mean())
            optimum += float(clairvoyant_optimum(windows.stack, job, windows.market, windows.start).mean())
        above.append(100.0 * (cost / optimum - 1.0))
    return float(np.mean(above))


def main() -> None:
    """Print one line per model."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("market", type=Path)
    market = Market.load(parser.parse_args().market)
    for types, chunk, edges in MODELS:
        above = cost_above_optimum(market, types, chunk, edges)
        hours = chunk * TICK_SECONDS / 3600
        sys.stdout.write(f"{types} types, chunks of {hours:g} h, {len(edges)} age buckets: {above:.2f} %\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
