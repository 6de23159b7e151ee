"""A PostgreSQL of the tests' own: in a temporary folder, behind a Unix socket, gone when they end."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path
from typing import Any

TOOLS = ("/usr/local/bin", "/usr/bin", "/usr/lib/postgresql/15/bin")
USER = "spotwise"


def tool(name: str) -> str | None:
    """A program of PostgreSQL's server, or None."""
    found = shutil.which(name) or shutil.which(name, path=os.pathsep.join(TOOLS))
    if found is None:
        installed = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"))
        found = str(installed[-1]) if installed else None
    return found


def missing() -> str:
    """Why there can be no server here; empty if there can."""
    absent = [name for name in ("initdb", "postgres") if tool(name) is None]
    if absent:
        return f"no PostgreSQL server here ({', '.join(absent)}); Debian: apt-get install postgresql"
    if os.getuid() == 0 and _other_user() is None:
        return "PostgreSQL does not run as root, and there is no user postgres or nobody"
    return ""


def _other_user() -> pwd.struct_passwd | None:
    for name in ("postgres", "nobody"):
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    return None


class Cluster:
    """A running server. `fsync` is on, as the journal demands; in memory it costs nothing.

    Attributes:
        folder: Holds the socket.
    """

    def __init__(self) -> None:
        """Make and start it."""
        memory = Path("/dev/shm")
        self.folder = Path(
            tempfile.mkdtemp(prefix="spotwise-pg-", dir=memory if os.access(memory, os.W_OK) else None)
        )
        self._as: dict[str, Any] = {}
        if os.getuid() == 0:
            user = _other_user()
            assert user is not None
            os.chown(self.folder, user.pw_uid, user.pw_gid)
            self._as = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
        self.folder.chmod(0o755)
        data = self.folder / "data"
        environment = {"PATH": os.environ["PATH"], "LC_ALL": "C", "TZ": "UTC"}
        subprocess.run(
            [
                str(tool("initdb")),
                "-D",
                str(data),
                "-A",
                "trust",
                "-N",
                "--no-locale",
                "-E",
                "UTF8",
                "-U",
                USER,
            ],
            check=True,
            capture_output=True,
            env=environment,
            **self._as,
        )
        settings = {
            "listen_addresses": "",
            "unix_socket_directories": str(self.folder),
            "shared_buffers": "16MB",
            "max_connections": "40",
            "autovacuum": "off",
            "max_wal_size": "64MB",
        }
        flags = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        with (self.folder / "log").open("w") as log:
            self._server = subprocess.Popen(
                [str(tool("postgres")), "-D", str(data), *flags],
                stdout=log,
                stderr=log,
                env=environment,
                **self._as,
            )
        self._await()

    @property
    def url(self) -> str:
        """For journals."""
        return self.at(self.folder)

    def at(self, folder: Path) -> str:
        """The server's address through another name of its folder."""
        return f"postgresql://{USER}@/postgres?host={folder}"

    def ask(self, statement: str, *values: Any) -> list[tuple[Any, ...]]:
        """Carry out a statement in a session of its own."""
        import psycopg

        with psycopg.connect(self.url, autocommit=True) as session:
            cursor = session.execute(statement, values)
            return list(cursor.fetchall()) if cursor.description else []

    def stop(self) -> None:
        """Stop it at once and remove its folder."""
        self._server.send_signal(signal.SIGQUIT)
        self._server.wait(timeout=30)
        shutil.rmtree(self.folder, ignore_errors=True)

    def _await(self) -> None:
        import time

        import psycopg

        for _ in range(300):
            try:
                psycopg.connect(self.url, connect_timeout=2).close()
                return
            except psycopg.OperationalError:
                if self._server.poll() is not None:
                    break
                time.sleep(0.1)
        text = (self.folder / "log").read_text()
        self.stop()
        raise RuntimeError(f"PostgreSQL did not start: {text[-2000:]}")
