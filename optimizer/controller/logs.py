"""Structured logs: one JSON object per line."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any, TextIO


class JsonLog:
    """Writes events as lines of JSON: time, level, kind, message, and whatever is bound to all of them."""

    def __init__(self, stream: TextIO, **bound: Any) -> None:
        """Write to a stream."""
        self._stream, self._bound = stream, bound
        self._lost = 0

    def __call__(self, level: str, kind: str, message: str) -> None:
        """Write one event.

        A log that cannot be written (full disk, its reader gone) must not end the controller: the journal has
        the events too, and the next line that can be written says how many were not.
        """
        line = {
            "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
            "level": level,
            "kind": kind,
            "message": message,
            **self._bound,
        }
        if self._lost:
            line["lines_lost"] = self._lost
        try:
            self._stream.write(json.dumps(line, ensure_ascii=False) + "\n")
            self._stream.flush()
        except OSError:
            self._lost += 1
        else:
            self._lost = 0
