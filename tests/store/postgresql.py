"""A real PostgreSQL server in a temporary folder, with a password, as a user without rights."""

from __future__ import annotations

import os
import pwd
import secrets
import shutil
import socket
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

import sqlalchemy as sa


@dataclass
class Server:
    """A server that runs: ``postgresql://calib@127.0.0.1:PORT/NAME``."""

    folder: Path
    binaries: Path
    port: int
    made: int = 0

    def database(self) -> str:
        """Return the address of a new, empty database."""
        self.made += 1
        name = f"constants{self.made}"
        engine = sa.create_engine(
            f"postgresql+psycopg://calib@127.0.0.1:{self.port}/postgres",
            isolation_level="AUTOCOMMIT",
            poolclass=sa.NullPool,
        )
        with engine.connect() as connection:
            connection.execute(sa.text(f"CREATE DATABASE {name}"))
        return f"postgresql://calib@127.0.0.1:{self.port}/{name}"

    def stop(self) -> None:
        """End the server and remove its folder."""
        command = [self.binaries / "pg_ctl", "-D", self.folder / "data", "-m", "immediate", "stop"]
        _as_user(command, self.folder)
        shutil.rmtree(self.folder, ignore_errors=True)


def started() -> Server:
    """Start a server on a free port of the loopback address; its password is in PGPASSWORD.

    Raises
    ------
    FileNotFoundError
        If there is no PostgreSQL here.
    subprocess.SubprocessError
        If it does not start.
    """
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    initdb = str(found[-1]) if found else shutil.which("initdb")
    if initdb is None:
        raise FileNotFoundError("initdb is not installed")
    folder = Path(tempfile.mkdtemp(prefix="pg"))
    folder.chmod(0o755)
    os.environ["PGPASSWORD"] = secrets.token_hex(16)
    (folder / "password").write_text(os.environ["PGPASSWORD"], encoding="utf-8")
    if os.getuid() == 0:
        os.chown(folder, *_user()[1:])
        os.chown(folder / "password", *_user()[1:])
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = Server(folder, Path(initdb).parent, port)
    _as_user(
        [
            initdb,
            "-D",
            folder / "data",
            "-U",
            "calib",
            "--no-sync",
            "-A",
            "scram-sha-256",
            f"--pwfile={folder / 'password'}",
        ],
        folder,
    )
    options = f"-c listen_addresses=127.0.0.1 -p {port} -k {folder} -c fsync=off"
    _as_user(
        [
            server.binaries / "pg_ctl",
            "-D",
            folder / "data",
            "-o",
            options,
            "-w",
            "-t",
            "60",
            "-l",
            folder / "log",
            "start",
        ],
        folder,
    )
    return server


def _user() -> tuple[str, int, int]:
    """Return a user without rights: PostgreSQL refuses to run as root."""
    for name in ("postgres", "nobody"):
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return name, entry.pw_uid, entry.pw_gid
    raise FileNotFoundError("no user to run PostgreSQL as")


def _as_user(command: list[str | Path], folder: Path) -> None:
    words = [str(word) for word in command]
    if os.getuid() == 0:
        words = ["runuser", "-u", _user()[0], "--", *words]
    subprocess.run(
        words,
        check=True,
        cwd=folder,
        timeout=120,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
