"""Output that cannot be written ends a command with one line and exit code 1."""

import subprocess
import sys
from pathlib import Path

import pytest

from simulator.sample_data import sample_path

ROOT = Path(__file__).resolve().parents[3]
FULL = Path("/dev/full")


@pytest.mark.skipif(not FULL.exists(), reason="this system has no /dev/full")
@pytest.mark.parametrize("words", [["--help"], ["market", "show", str(sample_path("v100"))]])
def test_a_full_disk_behind_standard_output_is_told_without_a_traceback(words: list[str]) -> None:
    with FULL.open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "optimizer.cli", *words],
            cwd=ROOT, stdout=full, stderr=subprocess.PIPE, text=True, check=False,
        )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr.splitlines() == ["error: output cannot be written (No space left on device)"]
