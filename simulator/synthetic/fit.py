"""Fit the availability model to market files: `python -m simulator.synthetic.fit MARKET... --out FILE`.

The shipped `v100_2023.json` was made from the six training zones of the 2023 availability traces, never from
the validation zones us-west-2a, us-east-1d and us-east-2b:

    spotwise market build …/aws-02-15-2023/us-{east-1a,east-1c,east-1f,east-2a,west-2b,west-2c}_v100_1.json \
        --format skypilot --tick-seconds 600 --spot-price 0.9731 --on-demand-price 3.06 --out six.npz
    python -m simulator.synthetic.fit six.npz --out simulator/synthetic/v100_2023.json
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from simulator.errors import InputError
from simulator.market.market import Market
from simulator.synthetic.semi_markov import SemiMarkovModel, fit_semi_markov


def fit_markets(markets: Sequence[Market], *, types: int = 6, chunk_ticks: int = 276) -> SemiMarkovModel:
    """Fit one model to every pool of the markets.

    Raises:
        InputError: The markets have different ticks, or too little data for `types`.
    """
    ticks = {market.tick_seconds for market in markets}
    if len(ticks) != 1:
        raise InputError(f"markets with ticks of {sorted(ticks)} s; accepted: one or more of the same tick")
    pools = [pool.name for market in markets for pool in market.pools]
    start = min(market.start for market in markets)
    return fit_semi_markov(
        [row for market in markets for row in market.spot_capacity > 0],
        types=types,
        chunk_ticks=chunk_ticks,
        tick_seconds=ticks.pop(),
        source=f"fitted to {len(pools)} pools from {start:%Y-%m-%d}: {', '.join(pools)}",
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Fit and write; returns the exit code (0, or 2 on bad input)."""
    parser = argparse.ArgumentParser(prog="python -m simulator.synthetic.fit", description=__doc__)
    parser.add_argument("markets", nargs="+", type=Path, help="market files of `spotwise market build`")
    parser.add_argument("--out", required=True, type=Path, help="JSON file to write")
    parser.add_argument("--types", type=int, default=6, help="latent types of zone")
    parser.add_argument("--chunk-ticks", type=int, default=276, help="ticks per chunk")
    options = parser.parse_args(arguments)
    try:
        model = fit_markets(
            [Market.load(path) for path in options.markets],
            types=options.types,
            chunk_ticks=options.chunk_ticks,
        )
        options.out.write_text(model.to_json() + "\n", encoding="utf-8")
    except InputError as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    except OSError as error:
        sys.stderr.write(f"error: {options.out}: cannot be written ({error.strerror})\n")
        return 2
    shares = ", ".join(
        f"{share:.2f} of {up:.2f}" for share, up in zip(model.prior, model.availability(), strict=True)
    )
    sys.stdout.write(f"{options.out}: {model.types} types (share of availability: {shares})\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
