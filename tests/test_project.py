"""The project around the code: what is packaged, what imports what, what the tools are told."""

import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("simulator", "policies", "envs", "training", "optimizer")
HEAVY = {"torch", "gymnasium", "stable_baselines3", "sb3_contrib", "mlflow", "boto3"}


@pytest.fixture(scope="module")
def pyproject() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())


def _modules_after(statement: str) -> set[str]:
    """Return the top-level modules a fresh interpreter has loaded after `statement`."""
    code = f"{statement}\nimport sys\nprint(*{{name.partition('.')[0] for name in sys.modules}})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    return set(done.stdout.split())


def test_layers_are_checked_one_way(pyproject: dict[str, Any]) -> None:
    (layers,) = (c for c in pyproject["tool"]["importlinter"]["contracts"] if c["type"] == "layers")
    assert layers["layers"] == list(reversed(PACKAGES))


@pytest.mark.parametrize("package", ["simulator", "policies"])
def test_no_module_of_the_numpy_side_loads_anything_heavy(package: str) -> None:
    import_all = (
        f"import importlib, pkgutil, {package} as top\n"
        f"for found in pkgutil.walk_packages(top.__path__, '{package}.'): importlib.import_module(found.name)"
    )
    assert not _modules_after(import_all) & HEAVY


def test_the_command_line_loads_nothing_heavy() -> None:
    assert not _modules_after("import optimizer.cli") & (HEAVY | {"pandas", "numba", "plotly", "scipy"})


@pytest.mark.parametrize("package", PACKAGES)
def test_each_package_is_typed(package: str) -> None:
    assert (ROOT / package / "py.typed").is_file()


def test_the_core_install_needs_no_training_library(pyproject: dict[str, Any]) -> None:
    core = " ".join(pyproject["project"]["dependencies"])
    assert not [name for name in ("torch", "mlflow", "gymnasium", "stable-baselines3") if name in core]


def test_every_direct_dependency_is_pinned(pyproject: dict[str, Any]) -> None:
    pinned = {
        line.partition("==")[0].lower().replace("_", "-")
        for line in (ROOT / "constraints.txt").read_text().splitlines()
        if "==" in line and not line.startswith("#")
    }
    project = pyproject["project"]
    wanted = [
        *project["dependencies"],
        *(r for extra in project["optional-dependencies"].values() for r in extra),
    ]
    names = {requirement.partition(">=")[0].partition("[")[0].lower() for requirement in wanted}
    assert names - pinned == set()
