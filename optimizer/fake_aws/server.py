"""HTTP on the loopback interface, and on no other."""

from __future__ import annotations

import ipaddress
import socket
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from optimizer.fake_aws.wire.reply import HttpReply
from optimizer.fake_aws.wire.request import HttpRequest
from simulator.errors import InputError

MOST_BODY_BYTES = 4 << 20
Handle = Callable[[HttpRequest], HttpReply | None]


class Server:
    """Listens in a thread of its own, one thread per connection.

    Attributes:
        url: Where it listens.
    """

    def __init__(self, handle: Handle, host: str, port: int) -> None:
        """Start to listen.

        Raises:
            InputError: The address is not a loopback address, or cannot be had.
        """
        host = "127.0.0.1" if host == "localhost" else host
        try:
            loopback = ipaddress.ip_address(host).is_loopback
        except ValueError:
            loopback = False
        if not loopback:
            raise InputError(
                f"host {host}: the fake listens on this machine only; accepted: 127.0.0.1 or ::1"
            )
        if not 0 <= port <= 65_535:
            raise InputError(f"port {port}; accepted: 0 to 65535, 0 takes a free one")
        kind = _Http6 if ":" in host else _Http
        try:
            self._http = kind((host, port), _Handler)
        except OSError as error:
            raise InputError(
                f"{host} port {port} cannot be had: {error.strerror}; accepted: a free port"
            ) from error
        self._http.handle_call = handle
        shown = f"[{host}]" if ":" in host else host
        self.url = f"http://{shown}:{self._http.server_address[1]}"
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop listening and drop all connections."""
        self._http.shutdown()
        self._thread.join()
        self._http.drop_connections()
        self._http.server_close()


class _Http(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128
    handle_call: Handle

    def __init__(self, address: tuple[str, int], handler: type[BaseHTTPRequestHandler]) -> None:
        self._connections: set[socket.socket] = set()
        self._connections_lock = threading.Lock()
        super().__init__(address, handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        with self._connections_lock:
            self._connections.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        with self._connections_lock:
            self._connections.discard(request)
        super().shutdown_request(request)

    def drop_connections(self) -> None:
        with self._connections_lock:
            for connection in self._connections:
                try:
                    connection.shutdown(socket.SHUT_RDWR)
                except OSError:  # the client was faster
                    continue

    def handle_error(self, request: Any, client_address: Any) -> None:
        import sys

        if not isinstance(sys.exception(), ConnectionError):  # clients may hang up at any time
            super().handle_error(request, client_address)


class _Http6(_Http):
    address_family = socket.AF_INET6


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version, sys_version = "spotwise-fake-aws", ""
    disable_nagle_algorithm = True
    wbufsize = -1  # one packet per reply
    timeout = 600
    server: _Http

    def do_POST(self) -> None:
        length = self.headers.get("Content-Length", "")
        if not length.isascii() or not length.isdigit() or len(length) > 12:
            self._refuse(411)
        elif int(length) > MOST_BODY_BYTES:
            self._refuse(413)
        else:
            self._answer(self.rfile.read(int(length)))

    def do_GET(self) -> None:
        self._answer(b"")

    def _answer(self, body: bytes) -> None:
        headers = {name.lower(): value for name, value in self.headers.items()}
        reply = self.server.handle_call(HttpRequest(self.path, headers, body))
        if reply is None:
            self.close_connection = True
            return
        self.send_response(reply.status)
        for name, value in reply.headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(reply.body)))
        self.end_headers()
        self.wfile.write(reply.body)

    def _refuse(self, status: int) -> None:
        self.send_error(status)
        self.close_connection = True

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - named by http.server
        """Say nothing: calls are in the journal."""
