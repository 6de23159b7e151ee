"""Run every benchmark and print one JSON object: machine facts and, per benchmark, its figures.

Each `benchmarks/bench_NAME.py` has `run() -> dict[str, object]`. Nothing else reaches standard output: what a
benchmark prints goes to standard error. Arguments choose benchmarks by name: `benchmarks/run.py kernel`.
"""

import contextlib
import importlib.metadata
import importlib.util
import json
import os
import platform
import sys
import time
from pathlib import Path

PACKAGES = ("numpy", "numba", "torch", "stable-baselines3")


def machine() -> dict[str, object]:
    """Return what the figures depend on besides the code."""
    versions: dict[str, str] = {}
    for package in PACKAGES:
        # torch and stable-baselines3 are only there with spotwise[train]
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[package] = importlib.metadata.version(package)
    return {
        "cpu": _cpu_model(),
        "cores": os.cpu_count(),
        "load_average_1min": round(os.getloadavg()[0], 2),
        "platform": platform.platform(),
        "python": platform.python_version(),
        "packages": versions,
    }


def _cpu_model() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def run_file(path: Path) -> dict[str, object]:
    """Import one `bench_*.py` by its path and return its figures, with the seconds it took."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} cannot be imported")
    module = importlib.util.module_from_spec(spec)
    began = time.perf_counter()
    spec.loader.exec_module(module)
    figures: dict[str, object] = module.run()
    return {**figures, "benchmark_seconds": round(time.perf_counter() - began, 2)}


def main(folder: Path, wanted: list[str]) -> int:
    """Run the benchmarks of `folder` and print the result; returns the exit code."""
    found = {path.stem.removeprefix("bench_"): path for path in sorted(folder.glob("bench_*.py"))}
    unknown = sorted(set(wanted) - set(found))
    if unknown:
        print(f"no benchmark {', '.join(unknown)}; there are: {', '.join(found)}", file=sys.stderr)
        return 2
    result: dict[str, object] = {"machine": machine()}
    with contextlib.redirect_stdout(sys.stderr):
        for name in wanted or found:
            print(f"running {name} …", file=sys.stderr)
            result[name] = run_file(found[name])
    print(json.dumps(result, indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(__file__).parent, sys.argv[1:]))
