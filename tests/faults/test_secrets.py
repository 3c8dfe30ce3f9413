"""Secrets come from the environment or from files, and are in nothing that a run writes or says."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from .conftest import configuration

pytest.importorskip("aiohttp", reason="no aiohttp to read over http")

TOKEN = "hunter2-7f3a9c"
ENVIRONMENT = {
    "FSSPEC_HTTP": json.dumps({"headers": {"Authorization": f"Bearer {TOKEN}"}}),
    "BEARER_TOKEN": TOKEN,
    "AWS_SECRET_ACCESS_KEY": TOKEN,
    "DASK_GATEWAY__AUTH__KWARGS__PASSWORD": TOKEN,
}


class Guarded(BaseHTTPRequestHandler):
    """Files of a folder, in parts, for who brings the token."""

    folder: Path

    def do_HEAD(self) -> None:
        self._answer(False)

    def do_GET(self) -> None:
        self._answer(True)

    def _answer(self, with_content: bool) -> None:
        if self.headers.get("Authorization") != f"Bearer {TOKEN}":
            self.send_error(401)
            return
        content = (self.folder / Path(self.path).name).read_bytes()
        size, asked = len(content), re.match(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if asked:
            first, last = int(asked[1]), min(int(asked[2] or size - 1), size - 1)
            content = content[first : last + 1]
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {first}-{last}/{size}")
        else:
            self.send_response(200)
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if with_content:
            self.wfile.write(content)

    def log_message(self, *arguments: object) -> None:
        """Say nothing."""


@pytest.fixture
def address(events: Path) -> Iterator[str]:
    """A server on loopback."""
    handler = type("Handler", (Guarded,), {"folder": events})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def run(config: Path, out: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "jobs.cli", "run", str(config), "--out", str(out), "-vv"],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **environment},
    )


def found_in(out: Path) -> list[Path]:
    files = [path for path in out.rglob("*") if path.is_file()]
    assert len(files) > 15
    return [path for path in files if TOKEN.encode() in path.read_bytes()]


def test_a_token_from_the_environment_opens_files_and_is_written_nowhere(
    tmp_path: Path, events: Path, address: str
) -> None:
    sample = {
        "name": "data",
        "resonance": "z",
        "format": "stage1",
        "files": [f"{address}/z_0.parquet", f"{address}/z_1.parquet"],
    }
    config = configuration(tmp_path, events, calibration="mean_mass:MeanMass", samples=[sample])
    refused = run(config, tmp_path / "refused")
    assert refused.returncode == 2 and "z_0.parquet: cannot be opened" in refused.stderr
    done = run(config, tmp_path / "out", **ENVIRONMENT)
    assert done.returncode == 0, done.stderr
    accounting = json.loads((tmp_path / "out" / "accounting.json").read_text())
    assert accounting["samples"]["data"]["totals"]["read"] == 12_000
    assert "debug:" in done.stderr and TOKEN not in done.stderr + done.stdout
    assert not found_in(tmp_path / "out")
    # nor where it goes wrong in the middle
    broken = configuration(
        tmp_path,
        events,
        "broken.yaml",
        calibration="mean_mass:MeanMass",
        samples=[sample],
        settings={"break_event": 7_000},
    )
    failed = run(broken, tmp_path / "failed", **ENVIRONMENT)
    assert failed.returncode == 1 and "Traceback" in failed.stderr
    assert TOKEN not in failed.stderr + failed.stdout and not found_in(tmp_path / "failed")
