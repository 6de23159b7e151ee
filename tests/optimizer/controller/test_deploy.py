"""Unit, image and what they run. The permissions: `test_permissions.py`; the dashboard: `test_modes.py`."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
import typer

from optimizer.cli import app

ROOT = Path(__file__).resolve().parents[3]
UNIT = ROOT / "deploy/spotwise-controller.service"
DOCKERFILE = ROOT / "deploy/Dockerfile"


def check_command(words: list[str]) -> None:
    """A command of spotwise with options that it has."""
    assert words[0] == "/opt/spotwise/bin/spotwise"
    command: Any = typer.main.get_command(app)
    rest = words[1:]
    while hasattr(command, "commands"):
        command, rest = command.commands[rest[0]], rest[1:]
    known = {name for parameter in command.params for name in parameter.opts}
    assert {word for word in rest if word.startswith("--")} <= known


def instructions(name: str) -> list[str]:
    """Arguments of every such instruction of the Dockerfile."""
    text = DOCKERFILE.read_text(encoding="utf-8").replace("\\\n", " ")
    return re.findall(rf"^{name} +(.*)$", text, re.MULTILINE)


def test_the_unit_runs_a_command_that_exists() -> None:
    (line,) = re.findall(r"^ExecStart=(.*)$", UNIT.read_text(encoding="utf-8"), re.MULTILINE)
    check_command(shlex.split(line))


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not installed")
def test_systemd_accepts_the_unit_and_finds_it_little_exposed(tmp_path: Path) -> None:
    unit = tmp_path / UNIT.name
    unit.write_text(UNIT.read_text(encoding="utf-8").replace("/opt/spotwise/bin/spotwise", "/bin/true"))
    verified = subprocess.run(
        ["systemd-analyze", "verify", str(unit)], capture_output=True, text=True, check=False
    )
    assert (verified.returncode, verified.stderr) == (0, "")
    security = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", "--no-pager", str(unit)],
        capture_output=True,
        text=True,
        check=False,
    )
    found = re.search(r"exposure level for \S+: ([0-9.]+)", security.stdout)
    assert found, security.stderr
    assert float(found[1]) <= 1.5, security.stdout


def test_the_image_runs_commands_that_exist_and_not_as_root() -> None:
    (entry,), (command,) = instructions("ENTRYPOINT"), instructions("CMD")
    check_command([*json.loads(entry), *json.loads(command)])
    (health,) = instructions("HEALTHCHECK")
    check_command(json.loads(health[health.index("[") :]))
    (user,) = instructions("USER")
    assert user.isdigit()
    assert int(user) > 0
    for image in instructions("FROM"):
        assert re.match(r"\S+:\d[\w.-]*", image), "a tag with a version"


def test_the_image_is_built_from_what_the_wheel_needs_and_nothing_else() -> None:
    lines = (ROOT / "deploy/Dockerfile.dockerignore").read_text(encoding="utf-8").splitlines()
    rules = [line for line in lines if line and not line.startswith("#")]
    assert rules[0] == "*", "everything stays out unless it is named"
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    needed = set(project["tool"]["hatch"]["build"]["targets"]["wheel"]["only-include"])
    needed |= {"pyproject.toml", "constraints.txt", project["project"]["readme"]}
    needed |= set(project["project"]["license-files"])
    assert {rule[1:] for rule in rules if rule.startswith("!")} == needed
    for name in needed:
        assert (ROOT / name).exists()
