"""The promise of tests/conftest.py: absent shared data is a skip at home and a failure in CI."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

USES_SHARED_DATA = "def test_real(shared_data):\n    assert shared_data.is_dir()\n"


def _run_pytest(folder: Path, **env: str) -> tuple[int, str]:
    shutil.copy(Path(__file__).with_name("conftest.py"), folder)
    (folder / "test_real.py").write_text(USES_SHARED_DATA)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(folder)],
        env={k: v for k, v in os.environ.items() if k != "CI"} | env,
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout


def test_absent_shared_data_skips_at_home(tmp_path: Path) -> None:
    code, output = _run_pytest(tmp_path, SPOTWISE_SHARED_DATA=str(tmp_path / "nowhere"))
    assert code == 0
    assert "1 skipped" in output


def test_absent_shared_data_fails_in_ci(tmp_path: Path) -> None:
    code, output = _run_pytest(tmp_path, SPOTWISE_SHARED_DATA=str(tmp_path / "nowhere"), CI="true")
    assert code == 1
    assert "In CI the shared data must be there" in output


@pytest.mark.parametrize("ci", ["", "true"])
def test_present_shared_data_is_used(tmp_path: Path, ci: str) -> None:
    code, output = _run_pytest(tmp_path, SPOTWISE_SHARED_DATA=str(tmp_path), CI=ci)
    assert code == 0
    assert "1 passed" in output
