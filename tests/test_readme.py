"""Every command of the README exists as written, and runs in order (slow)."""

import json
import os
import re
import shlex
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import typer

from optimizer.cli import app

ROOT = Path(__file__).resolve().parents[1]


SHELL = ("export", "curl", "sleep", "wait", "kill")

LEAVE_NOTHING = "trap 'jobs -p | xargs -r kill 2> /dev/null || true' EXIT"
"""Before a block of a test: a command that fails must not leave others in the background."""


def blocks() -> list[str]:
    """The fenced shell blocks, as they are."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    return re.findall(r"```sh\n(.*?)```", text, flags=re.DOTALL)


def commands() -> list[list[str]]:
    """Commands of the blocks, continued lines joined; without redirections and what only the shell does."""
    lines = [line for block in blocks() for line in block.replace("\\\n", " ").splitlines()]
    words = [shlex.split(re.sub(r"\s(2?> \S+|&)", " ", line)) for line in lines if line.strip()]
    return [each for each in words if each[0] not in SHELL]


def without_settings(words: list[str]) -> list[str]:
    """The command without `NAME=value` before it."""
    return words[next(k for k, word in enumerate(words) if not re.match(r"[A-Z_]+=", word)) :]


def test_readme_shows_the_main_job() -> None:
    shown = [" ".join(words[:3]) for words in commands() if words[0] == "spotwise"]
    for needed in ("spotwise market build", "spotwise market show", "spotwise train", "spotwise evaluate"):
        assert any(each.startswith(needed) for each in shown)


@pytest.mark.parametrize("words", commands(), ids=lambda words: " ".join(words[:3]))
def test_commands_and_options_exist(words: list[str]) -> None:
    words = without_settings(words)
    if words[0] == "python":
        assert (ROOT / words[1]).is_file()
        return
    assert words[0] == "spotwise"
    command: Any = typer.main.get_command(app)
    rest = words[1:]
    while hasattr(command, "commands"):
        assert rest[0] in command.commands, f"no command {rest[0]}"
        command, rest = command.commands[rest[0]], rest[1:]
    known = {name for parameter in command.params for name in parameter.opts}
    for word in rest:
        if word.startswith("--"):
            assert word in known, f"{' '.join(words[:3])} has no option {word}"


def run_blocks(chosen: list[str], folder: Path) -> dict[str, float]:
    """Run shell blocks as they are typed, one after the other; returns the seconds that each took."""
    folder.mkdir()
    for name in ("configs", "examples"):
        (folder / name).symlink_to(ROOT / name)
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    taken = {}
    for block in chosen:
        began = time.monotonic()
        # -m: jobs in the background have numbers, as in a terminal; what they print must not hold up the test
        with (folder.parent / "output").open("w+") as output:
            done = subprocess.run(
                ["bash", "-emc", f"{LEAVE_NOTHING}\n{block}"],
                cwd=folder,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                timeout=1800,
                check=False,
            )
            output.seek(0)
            assert done.returncode == 0, f"{block}\n{output.read()}"
        taken[block] = time.monotonic() - began
    return taken


def from_the_bill(block: str) -> bool:
    """Blocks that need nothing but the sample bill."""
    return any(word in block for word in ("spotwise ledger", "spotwise recommend", "spotwise controller"))


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_from_a_bill_to_a_controller_on_the_fake_aws(tmp_path: Path) -> None:
    folder = tmp_path / "clone"
    taken = run_blocks([block for block in blocks() if from_the_bill(block)], folder)
    (walk,) = (block for block in taken if "fake-aws" in block)
    assert taken[walk] < 60.0, "seconds, not minutes"
    log = [json.loads(line) for line in (folder / "controller.log").read_text().splitlines()]
    ticks = [one["message"] for one in log if one["kind"] == "tick"]
    assert any(re.search(r": [2-9] launched, 0 terminated, 2 lost", message) for message in ticks), ticks
    assert "instances were launched" in (folder / "fake-aws.log").read_text()


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_all_other_commands_run_in_order(tmp_path: Path, shared_data: Path) -> None:
    (tmp_path / "shared").symlink_to(shared_data.parent)
    run_blocks([block for block in blocks() if not from_the_bill(block)], tmp_path / "main")
