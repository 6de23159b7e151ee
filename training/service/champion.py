"""Fit the look-ahead planner and write it as a bundle: `python -m training.service.champion MARKET`."""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path

from policies.bundle import BundleManifest, write_bundle
from policies.service import LookAheadSettings
from policies.service.lookahead.fit import fit_survival
from policies.service.names import LOOK_AHEAD
from simulator.market import Market
from training.tracking import git_revision, sha256_of


def main() -> None:
    """Fit to the market files on the command line and write the bundle."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("market", type=Path, nargs="+")
    parser.add_argument("--first-share", type=float, default=1.0, help="use only the first share of each")
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    markets = [Market.load(path) for path in arguments.market]
    curve = fit_survival([market.window(0, int(market.ticks * arguments.first_share)) for market in markets])
    settings = {
        name: list(value) if isinstance(value, tuple) else value
        for name, value in dataclasses.asdict(LookAheadSettings()).items()
    }
    manifest = BundleManifest(
        name="look-ahead",
        kind="service",
        algorithm=LOOK_AHEAD,
        parameters=settings,
        training_config={"first_share": arguments.first_share},
        data_sha256={path.name: sha256_of(path) for path in arguments.market},
        git_revision=git_revision(),
    )
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    write_bundle(arguments.out, manifest, {"edges": curve.edges, "rates": curve.rates})


if __name__ == "__main__":
    main()
