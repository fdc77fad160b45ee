"""A throwaway PostgreSQL server for tests: a real one, in a folder of its own, on a free port of 127.0.0.1."""

from __future__ import annotations

import os
import pwd
import re
import secrets
import shutil
import socket
import subprocess
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import quote

import psycopg

USER = "safelight"
PASSWORD = "p@ss/w:ord?%" + secrets.token_hex(4)
"""Every character that a URL must escape, so that each connection tries the escaping too."""


class PostgresServer:
    """Makes a cluster on entering and removes it on leaving.

    PostgreSQL refuses to run as root; started by root it runs as the user ``postgres``, which Debian's package makes.

    Raises:
        RuntimeError: If PostgreSQL is not installed, or does not start.
    """

    def __init__(self) -> None:
        self._bin = find_binaries()
        self._folder = Path()
        self._as: dict[str, Any] = {}
        self.port = 0

    def __enter__(self) -> PostgresServer:
        self._folder = Path(tempfile.mkdtemp(prefix="safelight-pg-"))
        if os.geteuid() == 0:
            owner = _unprivileged()
            os.chown(self._folder, owner.pw_uid, owner.pw_gid)
            self._as = {"user": owner.pw_uid, "group": owner.pw_gid, "extra_groups": ()}
        try:
            self._make()
            self.start()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if (self._data / "postmaster.pid").exists():
            self.stop("immediate")
        shutil.rmtree(self._folder)

    @property
    def _data(self) -> Path:
        return self._folder / "data"

    @property
    def log(self) -> str:
        """What the server has logged."""
        return (self._folder / "log").read_text("utf-8", "replace")

    def url(self, database: str = "postgres", *, password: str = PASSWORD, user: str = USER) -> str:
        """Return how to reach a database."""
        return f"postgresql://{user}:{quote(password, safe='')}@127.0.0.1:{self.port}/{database}"

    def start(self) -> None:
        """Start the server and wait until it takes connections."""
        self._call("pg_ctl", "start", "-w", "-t", "60", "-D", str(self._data), "-l", str(self._folder / "log"))

    def stop(self, mode: str) -> None:
        """Stop it: ``fast`` in good order, ``immediate`` as a crash would."""
        self._call("pg_ctl", "stop", "-w", "-t", "60", "-D", str(self._data), "-m", mode)

    def make_schema(self, **settings: str) -> str:
        """Make an empty schema and return the URL of a session that works in it, with settings of the server's.

        It is as good as a database of its own and costs a fraction of the disk's time.
        """
        name = "t_" + secrets.token_hex(4)
        self.execute(f"CREATE SCHEMA {name}")
        options = " ".join(f"-c {key}={value}" for key, value in {"search_path": name, **settings}.items())
        return self.url() + "?options=" + quote(options, safe="")

    def make_database(self, options: str = "") -> str:
        """Make an empty database and return its URL."""
        name = "t_" + secrets.token_hex(4)
        self.execute(f"CREATE DATABASE {name} {options}")
        return self.url(name)

    def execute(self, statement: str, *, url: str | None = None) -> list[tuple[Any, ...]]:
        """Run SQL as the superuser, past any store, and return what it gives."""
        with psycopg.connect(url or self.url(), autocommit=True) as connection:
            cursor = connection.execute(statement.encode())
            return cursor.fetchall() if cursor.description else []

    def _make(self) -> None:
        secret = self._folder / "password"
        secret.write_text(PASSWORD)
        if self._as:
            os.chown(secret, self._as["user"], self._as["group"])
        self._call(
            "initdb",
            *("-D", str(self._data), "-U", USER, "--pwfile", str(secret), "--auth=scram-sha-256"),
            *("--encoding=UTF8", "--locale=C", "--no-sync", "--wal-segsize=1"),
        )
        self.port = _free_port()
        with (self._data / "postgresql.conf").open("a") as settings:
            settings.write(
                f"\nport = {self.port}\nlisten_addresses = '127.0.0.1'\nunix_socket_directories = ''\n"
                "max_connections = 60\nshared_buffers = '16MB'\njit = off\n"
            )

    def _call(self, program: str, *args: str) -> None:
        # Into a file: a server that pg_ctl starts keeps what it inherits, so a pipe would never end.
        with tempfile.TemporaryFile() as output:
            done = subprocess.run(
                [self._bin / program, *args],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=self._folder,
                env={"PATH": os.defpath, "LC_ALL": "C"},
                **self._as,
            )
            if done.returncode:
                output.seek(0)
                said = output.read().decode("utf-8", "replace")
                log = self.log if (self._folder / "log").exists() else ""
                raise RuntimeError(f"{program} failed with {done.returncode}:\n{said}\n{log[-2000:]}")


def find_binaries(root: Path = Path("/usr/lib/postgresql"), path: str | None = None) -> Path:
    """Return the folder of PostgreSQL's programs: Debian's newest, else the one that PATH finds.

    Raises:
        RuntimeError: If there is none; it says what to install.
    """
    versions = [found.parent for found in root.glob("*/bin/initdb") if re.fullmatch(r"\d+", found.parent.parent.name)]
    if versions:
        return max(versions, key=lambda folder: int(folder.parent.name))
    on_path = shutil.which("initdb", path=path)
    if on_path is None or not (Path(on_path).resolve().parent / "pg_ctl").exists():
        raise RuntimeError("these tests need a PostgreSQL server on this machine: apt-get install postgresql")
    return Path(on_path).resolve().parent


def _unprivileged() -> pwd.struct_passwd:
    for name in ("postgres", "nobody"):
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    raise RuntimeError("PostgreSQL does not run as root, and there is no user 'postgres': apt-get install postgresql")


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port
