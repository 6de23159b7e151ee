"""What the billing tests share."""

from collections.abc import Callable
from typing import Any

import duckdb
import pytest


@pytest.fixture
def query() -> Callable[..., list[tuple[Any, ...]]]:
    """Return a function that runs one SQL text on an empty DuckDB in UTC and returns its rows."""

    def run(sql: str, parameters: list[Any] | None = None) -> list[tuple[Any, ...]]:
        with duckdb.connect() as connection:
            connection.execute("SET TimeZone = 'UTC'")
            return connection.execute(sql, parameters or []).fetchall()

    return run
