"""Rows of the page's sortable tables."""

from __future__ import annotations

from typing import Any


def table_row(cells: list[tuple[Any, str]], kind: str = "") -> dict[str, object]:
    """One row.

    Args:
        cells: What to sort by and what to show, by column.
        kind: CSS class; "" for none.
    """
    return {"kind": kind, "cells": [{"value": value, "text": text} for value, text in cells]}
