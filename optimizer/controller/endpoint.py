"""The loopback endpoint: status, metrics, health, a small live page, and commands that need a token."""

from __future__ import annotations

import hmac
import ipaddress
import json
import os
import secrets
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.resources import files
from pathlib import Path
from typing import Any, ClassVar, Protocol

from optimizer.controller.config import EndpointSettings
from simulator.errors import InputError, SpotwiseError

COMMANDS = ("pause", "resume", "stop", "kill", "unkill")


class NotLeading(SpotwiseError):  # noqa: N818 -- reads as what it says in `except NotLeading`
    """This controller stands by; the command is the leader's."""


class Served(Protocol):
    """What the endpoint shows and whom it tells."""

    def status(self) -> dict[str, Any]:
        """A snapshot."""
        ...

    def metrics(self) -> str:
        """Prometheus text."""
        ...

    def healthy(self) -> bool:
        """Whether the loop is alive."""
        ...

    def ready(self) -> bool:
        """Whether it can act."""
        ...

    def command(self, name: str, who: str) -> None:
        """Carry out one of `COMMANDS`.

        Raises:
            NotLeading: Another controller is to be told.
        """
        ...


class Endpoint:
    """An HTTP server in a thread. Its address is in `endpoint.json`, the token in `token` (mode 0600)."""

    def __init__(self, served: Served, settings: EndpointSettings, state_dir: Path) -> None:
        """Bind the port and write both files.

        Raises:
            InputError: The port cannot be bound.
        """
        self._file, self._token_file = state_dir / "endpoint.json", state_dir / "token"
        self.token = secrets.token_urlsafe(32)
        try:
            handler = type("Handler", (_Handler,), {"served": served, "token": self.token})
            self._server = ThreadingHTTPServer((settings.host, settings.port), handler)
        except OSError as error:
            raise InputError(
                f"endpoint {settings.host}:{settings.port} cannot be bound ({error.strerror}); "
                "accepted: a free "
                "port, or 0"
            ) from error
        self._server.daemon_threads = True
        self.port = int(self._server.server_address[1])
        self.url = f"http://{settings.host}:{self.port}"
        state_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        _write_private(self._token_file, self.token)
        _write_private(self._file, json.dumps({"url": self.url, "pid": os.getpid()}))
        self._thread = threading.Thread(target=self._server.serve_forever, name="endpoint", daemon=True)

    def start(self) -> None:
        """Serve."""
        self._thread.start()

    def stop(self) -> None:
        """Stop serving and remove the files."""
        if self._thread.is_alive():
            self._server.shutdown()
            self._thread.join()
        self._server.server_close()
        for path in (self._file, self._token_file):
            path.unlink(missing_ok=True)


def _write_private(path: Path, text: str) -> None:
    path.unlink(missing_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)


class _Handler(BaseHTTPRequestHandler):
    """Answers requests; `served` and `token` are set by a subclass per endpoint."""

    served: ClassVar[Served]
    token: ClassVar[str]
    server_version = "spotwise"
    sys_version = ""
    timeout = 10

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        if not self._known_host():
            self._answer(421, "text/plain", "unknown host\n")
        elif path == "/healthz":
            self._judge(self.served.healthy())
        elif path == "/readyz":
            self._judge(self.served.ready())
        elif path == "/metrics":
            self._answer(200, "text/plain; version=0.0.4; charset=utf-8", self.served.metrics())
        elif path == "/status":
            self._answer(200, "application/json", json.dumps(self.served.status()))
        elif path == "/":
            page = files("optimizer.controller").joinpath("page.html").read_text(encoding="utf-8")
            self._answer(200, "text/html; charset=utf-8", page)
        else:
            self._answer(404, "text/plain", "not here\n")

    def do_POST(self) -> None:
        name = self.path.strip("/")
        given = self.headers.get("Authorization", "")
        if not self._known_host():
            self._answer(421, "text/plain", "unknown host\n")
        elif name not in COMMANDS:
            self._answer(404, "text/plain", f"accepted: {', '.join(COMMANDS)}\n")
        elif not hmac.compare_digest(given.encode(), f"Bearer {self.token}".encode()):
            self._answer(401, "text/plain", "the token is in the state_dir's file `token`\n")
        else:
            try:
                self.served.command(name, self.headers.get("X-Spotwise-Who", "endpoint")[:100])
            except NotLeading as error:
                self._answer(409, "text/plain", f"{error}\n")
                return
            self._answer(200, "application/json", json.dumps(self.served.status()))

    def _known_host(self) -> bool:
        """A page of another site must not reach this one by a name of its own (DNS rebinding)."""
        host = self.headers.get("Host", "").rsplit(":", 1)[0].strip("[]")
        if host == "localhost":
            return True
        try:
            ipaddress.ip_address(host)
        except ValueError:
            return False
        return True

    def _judge(self, good: bool) -> None:
        self._answer(200 if good else 503, "text/plain", "ok\n" if good else "no\n")

    def _answer(self, code: int, content_type: str, text: str) -> None:
        body = text.encode()
        self.send_response(code)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        self.send_header("X-Content-Type-Options", "nosniff")
        if content_type.startswith("text/html"):
            self.send_header(
                "Content-Security-Policy",
                "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; "
                "connect-src 'self'; "
                "frame-ancestors 'none'",
            )
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 -- the base class's name
        """Requests are not logged: /metrics alone would fill the log."""
