"""What the parts of the champion's recipe are worth: `python -m training.champion.ablations ...`.

The recipe is trained with one part left out at a time, all with the same seeds and number of steps, and
judged as `training.champion.figures` judges the champion. The default number of steps is a quarter of the
champion's: rows compare with each other, not with the champion.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from policies.planner import SemiMarkovPlanner
from policies.planner.fit import fit_planner_model
from policies.protocol import DeadlinePolicy
from simulator.errors import InputError
from simulator.market import Market
from training.champion.figures import PLANNER, figures, table
from training.champion.recipe import Recipe, train_champion
from training.gate import GateSettings


def recipes(whole: Recipe) -> dict[str, Recipe]:
    """The recipe and its ablations, by the name of their row."""
    return {
        "whole recipe": whole,
        "without the potential": replace(whole, potential=False),
        "without the planner's costs in the scores": replace(whole, guidance=0.0),
        "without augmentation": replace(whole, augmented=False),
        "layers of 16": replace(whole, width=16),
        "layers of 256": replace(whole, width=256),
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Train, judge and print the table; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m training.champion.ablations", description=__doc__)
    parser.add_argument("training", type=Path, help="market of the training zones at their trace's own tick")
    parser.add_argument("held_out", type=Path, help="market of other zones at ticks of ten minutes")
    parser.add_argument("--steps", type=int, default=Recipe().steps // 4, help="of each network")
    parser.add_argument("--seeds", type=int, default=2, help="networks of each row")
    parser.add_argument("--processes", type=int, default=2, help="networks trained at the same time")
    given = parser.parse_args(arguments)
    try:
        training, held_out = Market.load(given.training), Market.load(given.held_out)
        rows: dict[str, DeadlinePolicy] = {PLANNER: SemiMarkovPlanner(fit_planner_model([training]))}
        for name, recipe in recipes(Recipe(steps=given.steps)).items():
            sys.stderr.write(f"{name}\n")
            rows[name], _ = train_champion(
                [training], recipe, range(given.seeds), name=name, processes=given.processes
            )
        variants = GateSettings().variants
        sys.stdout.write(table(figures(held_out, rows, variants), variants))
    except InputError as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
