"""Dask is open to nobody else: loopback where we start it, TLS at the address of others."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from calib.errors import InputError
from jobs.clusters import client
from jobs.config.schema import Cluster, Security

from .conftest import Make


def listening() -> set[str]:
    """Return the addresses on which this process and its children listen."""
    me = psutil.Process()
    found = set()
    for process in (me, *me.children(recursive=True)):
        for connection in process.net_connections(kind="inet"):
            if connection.status == psutil.CONN_LISTEN:
                found.add(connection.laddr.ip)
    return found


def test_a_local_cluster_listens_on_loopback_only() -> None:
    before = listening()
    with client(Cluster(workers=1)) as found:
        assert found is not None and found.submit(sum, [1, 2]).result() == 3
        assert listening() - before <= {"127.0.0.1"} and "127.0.0.1" in listening()


# TLS --------------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a certificate of our own, cert.pem, and its key.pem."""
    if shutil.which("openssl") is None:
        pytest.skip("no openssl to make a certificate")
    folder = tmp_path_factory.mktemp("tls")
    subprocess.run(
        [
            "openssl",
            "req",
            "-x509",
            "-newkey",
            "rsa:2048",
            "-nodes",
            "-days",
            "2",
            "-subj",
            "/CN=localhost",
            "-keyout",
            "key.pem",
            "-out",
            "cert.pem",
        ],
        cwd=folder,
        check=True,
        capture_output=True,
    )
    return folder


@pytest.fixture(scope="module")
def address(certificate: Path) -> Iterator[str]:
    """A scheduler with a worker that speak TLS."""
    where = certificate / "scheduler.json"
    tls = [
        "--tls-ca-file",
        "cert.pem",
        "--tls-cert",
        "cert.pem",
        "--tls-key",
        "key.pem",
        "--protocol",
        "tls",
        "--host",
        "127.0.0.1",
        "--no-dashboard",
    ]

    def dask(what: str, *more: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [sys.executable, "-m", f"distributed.cli.dask_{what}", *tls, *more],
            cwd=certificate,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    scheduler = dask("scheduler", "--port", "0", "--scheduler-file", str(where))
    worker = dask("worker", "--nthreads", "1", "--scheduler-file", str(where))
    try:
        deadline = time.monotonic() + 300
        while not where.is_file() and time.monotonic() < deadline:
            time.sleep(0.1)
        yield json.loads(where.read_text())["address"]
    finally:
        for process in (worker, scheduler):
            process.terminate()
            process.wait(300)


def test_tls_with_files_that_are_named(make: Make, certificate: Path, address: str) -> None:
    assert address.startswith("tls://")
    names = {
        "ca": certificate / "cert.pem",
        "cert": certificate / "cert.pem",
        "key": certificate / "key.pem",
    }
    files = {key: str(name) for key, name in names.items()}
    work = make(cluster={"kind": "address", "address": address, "security": files})
    found = work.collect()
    assert found["samples"]["data"]["totals"]["read"] == 12_000
    secret = (certificate / "key.pem").read_text().splitlines()[3]
    for path in work.directory.path.rglob("*"):
        assert path.is_dir() or secret.encode() not in path.read_bytes()


def test_tls_without_a_certificate_is_refused(address: str) -> None:
    with (
        pytest.raises(InputError, match="'cluster.security': tls://.* no certificates are named"),
        client(Cluster(kind="address", address=address)),
    ):
        pass


def test_a_key_that_cannot_be_read(tmp_path: Path) -> None:
    where = Cluster(
        kind="address", address="tls://127.0.0.1:9", security=Security(key=str(tmp_path / "no.pem"))
    )
    with pytest.raises(InputError, match=r"cluster\.security\.key.*no\.pem"), client(where):
        pass
    assert not os.path.exists(tmp_path / "no.pem")
