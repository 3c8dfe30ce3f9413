"""The page in a real browser: a real process, Chromium without a window, pictures of the pages."""

from __future__ import annotations

import json
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from matplotlib.image import imread

from jobs.store import Store

CHROMIUM = (
    shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
)
needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here")

OPTIONS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
    "--enable-logging=stderr",
    "--window-size=1300,1600",
)

Look = Callable[..., tuple[str, str]]


@pytest.fixture(scope="module")
def address(large: Store, small: Store) -> Iterator[Callable[[Store], str]]:
    """Start `calib serve` for a store; return its address."""
    running: dict[str, tuple[subprocess.Popen[str], str]] = {}

    def start(store: Store) -> str:
        if store.address not in running:
            process = subprocess.Popen(
                [sys.executable, "-m", "jobs.cli", "serve", store.address, "--port", "0", "--json"],
                stdout=subprocess.PIPE,
                text=True,
            )
            assert process.stdout is not None
            line = process.stdout.readline()
            running[store.address] = process, str(json.loads(line)["address"])
        return running[store.address][1].rstrip("/")

    yield start
    for process, _ in running.values():
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=60)
        assert process.returncode == 0


@pytest.fixture
def look(tmp_path: Path) -> Look:
    """Return what a page looks like to the browser: its DOM, and what the browser complains of."""

    def at(url: str, picture: Path | None = None) -> tuple[str, str]:
        assert CHROMIUM is not None
        what = ["--dump-dom"] if picture is None else [f"--screenshot={picture}"]
        found = subprocess.run(
            [CHROMIUM, *OPTIONS, f"--user-data-dir={tmp_path / 'profile'}", *what, url],
            capture_output=True,
            text=True,
            timeout=120,
            check=True,
        )
        said = [line for line in found.stderr.splitlines() if "CONSOLE" in line]
        return found.stdout, "\n".join(said)

    return at


@needs_chromium
def test_the_pages_in_a_browser(
    address: Callable[[Store], str], large: Store, look: Look, tmp_path: Path
) -> None:
    here = address(large)
    dom, said = look(f"{here}/calibration/scale?bin=eta%200.00%20to%200.10")
    assert said == "" and dom.count('<svg class="history"') == 5 and "page 1 of 10" in dom
    picture = tmp_path / "page.png"
    look(f"{here}/calibration/scale", picture)
    pixels = imread(picture)[..., :3]
    assert pixels.shape == (1600, 1300, 3)
    blue = (pixels[..., 2] - pixels[..., 0] > 0.2).any(axis=0)
    assert blue[120:1250].mean() > 0.9  # the lines go from the left end to the right one
    assert np.ptp(pixels) > 0.5


@needs_chromium
def test_a_report_works_where_it_can_reach_nothing(
    address: Callable[[Store], str], small: Store, look: Look
) -> None:
    dom, said = look(f"{address(small)}/revision/1/files/report.html")
    assert said == ""
    assert re.search(r'id="fit-text"[^>]*>[^<]+events', dom)  # written by its script


def test_a_place_that_is_taken(tmp_path: Path, small: Store) -> None:
    from typer.testing import CliRunner

    from jobs.cli import app

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        found = CliRunner().invoke(app, ["serve", small.address, "--port", port])
    assert found.exit_code == 2 and "cannot be listened to" in found.output
    found = CliRunner().invoke(app, ["serve", str(tmp_path / "none")])
    assert found.exit_code == 2 and "there is no store" in found.output
