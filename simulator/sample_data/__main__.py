"""Write the sample markets again: `python -m simulator.sample_data`."""

import sys

from simulator.sample_data import SAMPLES, make_sample, sample_path

for name in SAMPLES:
    market = make_sample(name)
    market.save(sample_path(name))
    up = ", ".join(f"{share:.2f}" for share in (market.spot_capacity > 0).mean(axis=1))
    sys.stdout.write(f"{sample_path(name)}: {market.ticks} ticks, availability {up}\n")
