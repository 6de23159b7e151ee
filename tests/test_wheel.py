"""What `pip install spotwise` brings: built with the installed backend, so without the network."""

import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[zipfile.ZipFile]:
    out = tmp_path_factory.mktemp("dist")
    subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(out), str(ROOT)],
        check=True,
        capture_output=True,
    )
    (path,) = out.glob("spotwise-*.whl")
    with zipfile.ZipFile(path) as archive:
        yield archive


def _tracked(pattern: str) -> set[str]:
    """Return the files git tracks below `pattern`, as paths from the root."""
    done = subprocess.run(
        ["git", "ls-files", "-z", "--", pattern], cwd=ROOT, check=True, capture_output=True, text=True
    )
    return {name for name in done.stdout.split("\0") if name}


@pytest.mark.parametrize("package", ["simulator", "policies", "envs", "training", "optimizer"])
def test_every_tracked_file_of_a_package_ships(wheel: zipfile.ZipFile, package: str) -> None:
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    assert _tracked(package) - set(wheel.namelist()) == set()


def test_presets_ship_beside_their_reader(wheel: zipfile.ZipFile) -> None:
    presets = {f"optimizer/{path.relative_to(ROOT)}" for path in (ROOT / "configs").iterdir()}
    assert presets
    assert presets <= set(wheel.namelist())


def test_nothing_but_the_packages_ships(wheel: zipfile.ZipFile) -> None:
    tops = {name.partition("/")[0] for name in wheel.namelist()}
    assert tops == {"simulator", "policies", "envs", "training", "optimizer", "spotwise-0.1.0.dist-info"}
    assert not [name for name in wheel.namelist() if "__pycache__" in name]


def test_the_command_is_declared(wheel: zipfile.ZipFile) -> None:
    entry_points = wheel.read("spotwise-0.1.0.dist-info/entry_points.txt").decode()
    assert "spotwise = optimizer.cli:main" in entry_points
