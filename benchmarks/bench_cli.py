"""Wall seconds of `spotwise --help`, median of seven fresh processes."""

import statistics
import subprocess
import sys
import time


def run() -> dict[str, object]:
    seconds = []
    for _ in range(7):
        began = time.perf_counter()
        subprocess.run([sys.executable, "-m", "optimizer.cli", "--help"], check=True, capture_output=True)
        seconds.append(time.perf_counter() - began)
    return {"help_seconds": round(statistics.median(seconds), 3)}
