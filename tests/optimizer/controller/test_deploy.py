"""Unit, image and what they run. The permissions: `test_permissions.py`; the dashboard: `test_modes.py`.

The image itself is built and run by `make image-tests`: `test_image.py`.
"""

from __future__ import annotations

import importlib.util
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
from policies.bundle import Kind
from policies.registry import policy_names
from simulator.market import sample_market

ROOT = Path(__file__).resolve().parents[3]
UNIT = ROOT / "deploy/spotwise-controller.service"
DOCKERFILE = ROOT / "deploy/Dockerfile"
ENTRYPOINT = ROOT / "deploy/entrypoint.sh"


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
    assert float(found[1]) <= 1.1, security.stdout


def test_the_image_runs_commands_that_exist_and_not_as_root() -> None:
    (entry,), (command,) = instructions("ENTRYPOINT"), instructions("CMD")
    assert json.loads(entry) == ["/opt/spotwise/bin/entrypoint"]
    script = ENTRYPOINT.read_text(encoding="utf-8")
    (program,) = re.findall(r'^exec (\S+) "\$@"$', script, re.MULTILINE)
    check_command([program, *json.loads(command)])
    (health,) = instructions("HEALTHCHECK")
    check_command(json.loads(health[health.index("[") :]))
    (user,) = instructions("USER")
    assert user.isdigit()
    assert int(user) > 0
    (base,) = instructions("ARG")
    assert re.fullmatch(r"BASE=\S+:\d[\w.-]*", base), "a tag with a version"
    assert {image.split()[0] for image in instructions("FROM")} == {"${BASE}"}


def test_the_image_is_built_from_what_the_wheel_and_the_build_need_and_nothing_else() -> None:
    lines = (ROOT / "deploy/Dockerfile.dockerignore").read_text(encoding="utf-8").splitlines()
    rules = [line for line in lines if line and not line.startswith("#")]
    assert rules[0] == "*", "everything stays out unless it is named"
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    needed = set(project["tool"]["hatch"]["build"]["targets"]["wheel"]["only-include"])
    needed |= {"pyproject.toml", "constraints.txt", project["project"]["readme"]}
    needed |= set(project["project"]["license-files"])
    needed |= set(re.findall(r"deploy/[\w.]+", " ".join(instructions("RUN"))))
    assert {rule[1:] for rule in rules if rule.startswith("!")} == needed
    for name in needed:
        assert (ROOT / name).exists()


def enter(folder: Path, kernels: Path) -> subprocess.CompletedProcess[str]:
    """Run the entry point as in the image, whose paths are below a folder here."""
    image, script = folder / "opt/spotwise", folder / "entrypoint"
    (image / "kernels/lookahead_1").mkdir(parents=True, exist_ok=True)
    (image / "kernels/lookahead_1/kernel.nbi").write_text("compiled with the image")
    (image / "bin").mkdir(exist_ok=True)
    (image / "bin/spotwise").write_text('#!/bin/sh\necho "run: $@"\n')
    (image / "bin/spotwise").chmod(0o755)
    text = ENTRYPOINT.read_text(encoding="utf-8")
    text = text.replace("/opt/spotwise", str(image)).replace("/state", f"{folder}/state")
    script.write_text(text, encoding="utf-8")
    return subprocess.run(
        ["/bin/sh", str(script), "controller", "run", "--plan", "a b"],
        capture_output=True,
        text=True,
        check=False,
        env={"PATH": "/usr/bin:/bin", "NUMBA_CACHE_DIR": str(kernels)},
    )


def test_the_image_starts_with_its_kernels_and_an_older_image_leaves_it_none(tmp_path: Path) -> None:
    kernels = tmp_path / "kernels"
    for _ in range(2):
        done = enter(tmp_path, kernels)
        assert (done.returncode, done.stdout, done.stderr) == (0, "run: controller run --plan a b\n", "")
        file = kernels / "lookahead_1/kernel.nbi"
        assert file.read_text() == "compiled with the image"
        assert not (kernels / "kernels").exists(), "a second start does not copy into the first one's"
        file.write_text("of an older image")


def test_the_image_starts_without_a_place_for_its_kernels_too(tmp_path: Path) -> None:
    (tmp_path / "a-file").touch()
    of_an_older_image = tmp_path / "state/.cache/numba"
    of_an_older_image.mkdir(parents=True)
    done = enter(tmp_path, tmp_path / "a-file/kernels")
    assert (done.returncode, done.stdout) == (0, "run: controller run --plan a b\n")
    assert not of_an_older_image.exists()
    assert "cannot be written (--tmpfs /tmp)" in done.stderr


def compile_kernels() -> Any:
    """The build step, as a module."""
    spec = importlib.util.spec_from_file_location("compile_kernels", ROOT / "deploy/compile_kernels.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_build_step_makes_a_plan_for_every_policy_and_carries_it_out() -> None:
    step = compile_kernels()
    market = sample_market().select([0, 1])
    kinds: tuple[tuple[Kind, Any], ...] = (("deadline", step.jobs), ("service", step.services))
    for kind, make in kinds:
        plans = [step.sealed(market, step.reference(name, kind), make(market)) for name in policy_names(kind)]
        step.carry_out(market, plans[0], ticks=2)


def test_a_build_step_whose_policy_fails_ends_the_build(monkeypatch: pytest.MonkeyPatch) -> None:
    def act(*_: object) -> None:
        raise ArithmeticError("broken")

    monkeypatch.setattr("policies.baselines.OnDemandOnly.act", act)
    step = compile_kernels()
    market = sample_market().select([0, 1])
    plan = step.sealed(market, step.reference("on-demand", "deadline"), step.jobs(market))
    with pytest.raises(RuntimeError, match=r"on-demand: .*broken"):
        step.carry_out(market, plan, ticks=1)
