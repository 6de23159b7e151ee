"""The journal that the settings name."""

from __future__ import annotations

from optimizer.controller.config import ControllerSettings
from optimizer.controller.journal.journal import Journal
from simulator.errors import InputError


def open_journal(settings: ControllerSettings, *, begin: bool = True) -> Journal:
    """Open it, and begin it where there is none.

    Args:
        settings: Kind, place and the controllers' name.
        begin: False refuses where there is none.

    Raises:
        InputError: It is damaged, of another format, not there, or psycopg is not installed.
        JournalLost: Its database does not answer.
    """
    if settings.journal.kind == "sqlite":
        path = settings.state_dir / "journal.sqlite"
        if not begin and not path.exists():
            raise InputError(f"{path}: there is no journal yet; `spotwise controller run` begins one")
        return Journal(path)
    try:
        from optimizer.controller.journal.postgresql import PostgresStore
    except ImportError as error:
        raise InputError(
            f"journal.kind postgresql needs psycopg ({error}); accepted: pip install 'spotwise[postgresql]'"
        ) from error
    return Journal(
        PostgresStore(
            settings.journal.url or "",
            settings.name,
            answer_seconds=settings.journal.answer_seconds,
            begin=begin,
        )
    )
