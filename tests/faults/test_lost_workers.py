"""Workers that are killed, stopped or filled up: the result is the undisturbed one, to the bit."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import mean_mass
import numpy as np
import pytest

from calib.errors import CalibError
from calib.events import histograms
from calib.results import Pass
from jobs.clusters import Workers
from jobs.event_loop import collection
from jobs.event_loop.executor import ChunkError
from jobs.run.run import Run

from .conftest import CHUNK, LONG, N_EVENTS, Make

LOCAL = {"kind": "local", "workers": 2}
FILES = ("histograms/main.data.npz", "accounting.json")


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, events: Path) -> Path:

    from .conftest import configuration

    folder = tmp_path_factory.mktemp("undisturbed")
    work = Run.prepare(configuration(folder, events), folder / "out")
    work.adopt()
    work.collect()
    return folder / "out"


@pytest.fixture
def patience(make: Make) -> float:
    """Seconds after which a worker of this machine, as busy as it is, can be said to hang.

    Three times those in which new workers do everything.
    """
    work = make("undisturbed", cluster=LOCAL)
    inspection = work.inspect()
    with Workers(work.config.cluster) as workers:
        workers.client()
        start = time.monotonic()
        collection.collect(work, inspection, Pass(), workers, lambda *_: None)
        return 3 * (time.monotonic() - start)


def same(work: Run, undisturbed: Path) -> bool:
    return all((work.directory / n).read_bytes() == (undisturbed / n).read_bytes() for n in FILES)


def collect(work: Run, disturb: Callable[[Any, int], None] | None = None) -> None:
    """Collect; ``disturb(client, events done)`` is called after each chunk."""
    inspection = work.inspect()
    with Workers(work.config.cluster) as workers:

        def progress(text: str, done: int, total: int) -> None:
            if disturb is not None and 0 < done < total:
                disturb(workers.client(), done)

        collection.collect(work, inspection, Pass(), workers, progress)


def pids(client: Any) -> list[int]:
    return sorted(client.run(os.getpid, on_error="ignore").values())


class Once:
    """Call a function with the client once so many events are done, for each of some numbers."""

    def __init__(self, *at: int, call: Callable[[Any], None]) -> None:
        self.at, self.call, self.calls = list(at), call, 0

    def __call__(self, client: Any, done: int) -> None:
        if self.at and done >= self.at[0]:
            self.at.pop(0)
            self.calls += 1
            self.call(client)


def kill_one(client: Any) -> None:
    os.kill(pids(client)[0], signal.SIGKILL)


def kill_all(client: Any) -> None:
    for pid in pids(client):
        os.kill(pid, signal.SIGKILL)


def stop_one(client: Any) -> None:
    os.kill(pids(client)[0], signal.SIGSTOP)


def accounting(work: Run) -> Any:
    return json.loads((work.directory / "accounting.json").read_text())


def test_workers_killed_in_the_middle(make: Make, undisturbed: Path) -> None:
    kills, all_kills = Once(1_000, 3_000, call=kill_one), Once(6_000, call=kill_all)

    def disturb(client: Any, done: int) -> None:
        kills(client, done)
        all_kills(client, done)

    work = make(cluster=LOCAL)
    collect(work, disturb)
    assert (kills.calls, all_kills.calls) == (2, 1) and same(work, undisturbed)


def test_the_last_worker_killed(make: Make, undisturbed: Path) -> None:
    work, kills = make(cluster=LOCAL | {"workers": 1}), Once(3_000, 7_000, call=kill_one)
    collect(work, kills)
    assert kills.calls == 2 and same(work, undisturbed)


def test_a_worker_that_hangs_is_started_again(
    make: Make, undisturbed: Path, patience: float
) -> None:
    work, stops = make(cluster=LOCAL | {"chunk_timeout": patience}), Once(3_000, call=stop_one)
    collect(work, stops)
    assert stops.calls == 1 and same(work, undisturbed)


def test_a_worker_over_its_memory_limit(make: Make, undisturbed: Path, tmp_path: Path) -> None:
    settings = {"eat": 4_500, "marks": str(tmp_path), "times": 1}
    work = make(cluster=LOCAL | {"memory_limit": "900 MB"}, settings=settings)
    collect(work)
    assert len(list(tmp_path.glob("eat.*"))) == 1 and same(work, undisturbed)


# a chunk that takes every worker with it ---------------------------------------------------------
WORST = [
    ("kill", {}, "its worker was lost"),
    pytest.param(
        "eat",
        {"memory_limit": "900 MB"},
        "its worker was lost",
        marks=pytest.mark.skipif(not LONG, reason="a minute: only with DIMUCAL_LONG=1"),
    ),
    ("hang", {}, "longer than {patience:g} s"),
]


def test_a_chunk_that_kills_is_named_and_the_rest_is_done(make: Make, tmp_path: Path) -> None:
    work = make(cluster=LOCAL, settings={"kill": 4_500, "marks": str(tmp_path)})
    with pytest.raises(ChunkError, match=r"z_0\.parquet: entries 4000 to 5000 .*worker was lost"):
        collect(work)
    chunks = list((work.directory / "histograms/main/chunks").glob("*.npz"))
    assert len(chunks) == N_EVENTS // CHUNK - 1
    assert [b["start"] for b in accounting(work)["bad_files"]] == [4_000]


@pytest.mark.parametrize(("what", "cluster", "said"), WORST)
def test_a_chunk_that_kills_is_set_aside(
    make: Make,
    undisturbed: Path,
    tmp_path: Path,
    request: pytest.FixtureRequest,
    what: str,
    cluster: dict[str, Any],
    said: str,
) -> None:
    settings = {what: 4_500, "marks": str(tmp_path)}
    if what == "hang":
        patience = round(request.getfixturevalue("patience"), 1)
        cluster, said = {"chunk_timeout": patience}, said.format(patience=patience)
    work = make(cluster=LOCAL | cluster, settings=settings, bad_files={"skip_up_to": 0.1})
    collect(work)
    found = accounting(work)
    [bad] = found["bad_files"]
    assert (bad["start"], bad["stop"], bad["events"]) == (4_000, 5_000, CHUNK)
    assert bad["path"].endswith("z_0.parquet") and said in bad["error"]
    totals = found["samples"]["data"]["totals"]
    assert totals["events"] == N_EVENTS and totals["bad"] == CHUNK
    assert totals["selected"] + sum(totals["rejected"].values()) + totals["bad"] == N_EVENTS
    mine, all_of_them = (
        histograms.read(p / "histograms/main.data.npz")["mass/counts"].sum()
        for p in (work.directory.path, undisturbed)
    )
    assert mine == totals["selected"] and 0 < all_of_them - mine <= CHUNK


# without a cluster -------------------------------------------------------------------------------
def test_a_chunk_that_kills_the_command_itself(
    make: Make, undisturbed: Path, tmp_path: Path, command: Callable[..., subprocess.Popen[str]]
) -> None:
    """Nobody survives to tell: the third command knows it from what the first two wrote down."""
    settings = {"kill": 4_500, "marks": str(tmp_path), "times": 3}
    work = make(settings=settings, bad_files={"skip_up_to": 0.1})
    for _ in range(2):
        process = command("collect", work.directory.path)
        process.communicate()
        assert process.returncode == -signal.SIGKILL
    work.collect()  # in this process, which lives on
    [bad] = accounting(work)["bad_files"]
    assert bad["start"] == 4_000 and "ended without a word in the middle of it" in bad["error"]
    assert accounting(work)["samples"]["data"]["totals"]["bad"] == CHUNK
    # what is not allowed any more is tried again; it kills a third time, and then no more
    again = make(settings=settings)
    process = command("collect", again.directory.path)
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    again.collect()
    assert same(again, undisturbed)


def test_a_chunk_that_takes_long_is_named(
    make: Make, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = "entries 0 to 6000 of sample data: takes longer than 0.02 s"

    def until_said(limit_s: float) -> None:
        deadline = time.monotonic() + limit_s
        while said not in caplog.text and time.monotonic() < deadline:
            time.sleep(0.01)

    monkeypatch.setattr(mean_mass, "time", SimpleNamespace(sleep=until_said))
    work = make(
        settings={"sleep_s": 60.0},
        cluster={"kind": "inline", "chunk_timeout": 0.02},
        chunk_size=6_000,
    )
    work.collect()
    assert said in caplog.text


# the scheduler -----------------------------------------------------------------------------------
def dask(*arguments: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "distributed.cli.dask_" + arguments[0], *arguments[1:]],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def test_connection_to_the_scheduler_lost(
    make: Make, undisturbed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    where = tmp_path / "scheduler.json"
    scheduler = dask(
        "scheduler",
        "--host",
        "127.0.0.1",
        "--port",
        "0",
        "--no-dashboard",
        "--scheduler-file",
        str(where),
    )
    worker = dask(
        "worker",
        "--scheduler-file",
        str(where),
        "--nthreads",
        "1",
        "--no-dashboard",
        "--host",
        "127.0.0.1",
        "--death-timeout",
        "300",
    )
    try:
        deadline = time.monotonic() + 300
        while not where.is_file() and time.monotonic() < deadline:
            time.sleep(0.1)
        address = json.loads(where.read_text())["address"]
        work = make(cluster={"kind": "address", "address": address})
        lost = Once(2_000, call=lambda client: scheduler.kill())
        with pytest.raises(CalibError, match="connection to the scheduler .* was lost.*go on"):
            collect(work, lost)
    finally:
        for process in (worker, scheduler):
            process.kill()
            process.wait()
    done = len(list((work.directory / "histograms/main/chunks").glob("*.npz")))
    assert 2 <= done < N_EVENTS // CHUNK
    again = make(cluster={"kind": "inline"})
    again.collect()
    assert same(again, undisturbed)


def test_counts_are_those_of_the_events(undisturbed: Path) -> None:
    total = histograms.read(undisturbed / "histograms/main.data.npz")["mass/counts"].sum()
    selected = json.loads((undisturbed / "accounting.json").read_text())["samples"]["data"]
    assert total == selected["totals"]["selected"] > 0.9 * N_EVENTS
    assert np.issubdtype(type(total), np.integer)
