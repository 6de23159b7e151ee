"""The `spotwise` command. Each module here is one command or command group; heavy imports are late."""

from __future__ import annotations

import errno
import importlib
import os
import sys
from typing import Annotated

import typer

COMMANDS: tuple[str, ...] = (
    "demo",
    "market",
    "ledger",
    "workloads",
    "tags",
    "train",
    "tune",
    "evaluate",
    "promote",
    "recommend",
    "controller",
    "fake_aws",
)
"""Modules of this package with an `app` (a `typer.Typer`), in the order of the help page.

An `app` with one callback-less command named like its module, with hyphens for underscores, becomes a plain
command.
"""

app = typer.Typer(
    name="spotwise",
    help="Lower the compute bill: place workloads on spot or on-demand capacity and keep every deadline.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import (
            version,
        )  # late: reading metadata costs start-up time

        typer.echo(f"spotwise {version('spotwise')}")
        raise typer.Exit


@app.callback()
def _root(
    debug: Annotated[bool, typer.Option(help="Show the traceback of an error.")] = False,
    version: Annotated[
        bool,
        typer.Option(
            "--version",
            callback=_print_version,
            is_eager=True,
            help="Print the version.",
        ),
    ] = False,
) -> None:
    del debug, version  # read from the command line by `main` and by the callback


def _attach() -> None:
    for name in COMMANDS:
        group: typer.Typer = importlib.import_module(f"optimizer.cli.{name}").app
        commands = group.registered_commands
        if len(commands) == 1 and not group.registered_groups and commands[0].name == name.replace("_", "-"):
            app.registered_commands.append(commands[0])
        else:
            app.add_typer(group, name=name)


_attach()


def main() -> None:
    """Run the command line; exit code 0 = done, 1 = failed, 2 = bad input, 130 = interrupted."""
    debug = "--debug" in sys.argv[1:]
    sys.argv = [
        sys.argv[0],
        *(["--debug"] if debug else []),
        *(a for a in sys.argv[1:] if a != "--debug"),
    ]
    try:
        app()
    except KeyboardInterrupt:
        typer.secho("interrupted", err=True)
        sys.exit(130)
    except Exception as error:
        from simulator.errors import (
            InputError,
            SpotwiseError,
        )  # late: only needed when something failed

        if not debug and isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            # what is left in the buffer would fail again when Python ends
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            typer.secho(f"error: output cannot be written ({error.strerror})", err=True, fg=typer.colors.RED)
            sys.exit(1)
        if debug or not isinstance(error, SpotwiseError):
            raise
        typer.secho(f"error: {error}", err=True, fg=typer.colors.RED)
        sys.exit(2 if isinstance(error, InputError) else 1)
