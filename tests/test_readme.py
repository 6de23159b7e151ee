"""Every command of the README exists as written, and runs in order (slow)."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer

from optimizer.cli import app

ROOT = Path(__file__).resolve().parents[1]


def commands() -> list[list[str]]:
    """Commands of the fenced shell blocks, continued lines joined."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```sh\n(.*?)```", text, flags=re.DOTALL)
    lines = [line for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    return [shlex.split(line) for line in lines if line.strip()]


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


@pytest.mark.slow
def test_all_commands_run_in_order(tmp_path: Path, shared_data: Path) -> None:
    folder = tmp_path / "main"
    folder.mkdir()
    (tmp_path / "shared").symlink_to(shared_data.parent)
    for name in ("configs", "examples"):
        (folder / name).symlink_to(ROOT / name)
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    for words in commands():
        done = subprocess.run(
            ["bash", "-c", " ".join(shlex.quote(word) if "*" not in word else word for word in words)],
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{' '.join(words)}\n{done.stdout}\n{done.stderr}"
