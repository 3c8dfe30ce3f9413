"""Local Dask workers: the same files as without, and an end that keeps what was done."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from coffea.processor.executor import WorkItem
from distributed import Client

from calib.errors import InputError
from jobs.clusters import Workers, client
from jobs.config.schema import Cluster
from jobs.event_loop.executor import ChunkError, ChunkExecutor

NUMBERS = (
    "fits.csv",
    "means.csv",
    "closure.csv",
    "payload.json",
    "verdict.json",
    "accounting.json",
    "histograms/main.data.npz",
    "histograms/closure.data.npz",
    "curves.npz",
)


def environment() -> dict[str, str | None]:
    names = ("MALLOC_TRIM_THRESHOLD_", "OMP_NUM_THREADS", "NUMBA_NUM_THREADS")
    return {name: os.environ.get(name) for name in names}


@pytest.fixture(scope="module")
def two() -> Iterator[Client]:
    with client(Cluster(workers=2)) as found:
        assert found is not None
        yield found


def test_workers_have_the_settings_that_make_them_fast(two: Client) -> None:
    found = two.run(environment)
    assert len(found) == 2 and set(two.nthreads().values()) == {1}
    for variables in found.values():
        assert variables["MALLOC_TRIM_THRESHOLD_"] is None
        assert variables["OMP_NUM_THREADS"] == variables["NUMBA_NUM_THREADS"] == "1"


def test_cluster_at_an_address(two: Client) -> None:
    where = Cluster(kind="address", address=two.scheduler.address)
    with client(where) as found:
        assert found is not None and found.submit(sum, [1, 2]).result() == 3


def test_no_scheduler_at_the_address() -> None:
    with (
        pytest.raises(InputError, match="127.0.0.1:9"),
        client(Cluster(kind="address", address="tcp://127.0.0.1:9", wait=1)),
    ):
        pass


def test_cluster_starts_only_when_it_is_asked_for() -> None:
    with Workers(Cluster(kind="address")) as workers:
        with pytest.raises(InputError, match=r"cluster\.address"):
            workers.client()
    with Workers(Cluster(kind="address")):
        pass


# the executor ------------------------------------------------------------------------------------
def items(n: int) -> list[WorkItem]:
    return [WorkItem("data", "file", "Events", i, i + 1, b"") for i in range(n)]


def double(item: WorkItem) -> Any:
    return {"out": 2 * item.entrystart}


def fails_always(item: WorkItem) -> Any:
    if item.entrystart == 3:
        raise RuntimeError("outer") from ValueError("the cause")
    return {"out": 0}


class FailsOnce:
    """Fail each third chunk the first time, wherever it runs."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __call__(self, item: WorkItem) -> Any:
        seen = self.folder / str(item.entrystart)
        if item.entrystart % 3 == 0 and not seen.exists():
            seen.touch()
            raise ValueError("the first time")
        return {"out": 2 * item.entrystart}


def bad_input(item: WorkItem) -> Any:
    raise RuntimeError("wrapped") from InputError("file: column x, drop it")


def executed(function: Any, n: int, found: Client | None) -> dict[int, Any]:
    kept: dict[int, Any] = {}

    def store(item: WorkItem, result: Any, cpu_s: float) -> None:
        assert item.entrystart not in kept and cpu_s >= 0
        kept[item.entrystart] = result

    ChunkExecutor(status=False, store=store, client=found)(items(n), function, None)
    return kept


@pytest.mark.parametrize("where", ["here", "there"])
def test_each_chunk_is_stored_once(where: str, two: Client) -> None:
    found = two if where == "there" else None
    assert executed(double, 40, found) == {i: 2 * i for i in range(40)}


@pytest.mark.parametrize("where", ["here", "there"])
def test_a_chunk_that_failed_is_tried_once_more(where: str, two: Client, tmp_path: Path) -> None:
    found = two if where == "there" else None
    assert executed(FailsOnce(tmp_path), 10, found) == {i: 2 * i for i in range(10)}
    assert sorted(int(p.name) for p in tmp_path.iterdir()) == [0, 3, 6, 9]


@pytest.mark.parametrize("where", ["here", "there"])
def test_a_chunk_that_fails_twice_is_named(where: str, two: Client) -> None:
    found = two if where == "there" else None
    with pytest.raises(ChunkError, match=r"file: entries 3 to 4 .*ValueError: the cause"):
        executed(fails_always, 10, found)


@pytest.mark.parametrize("where", ["here", "there"])
def test_bad_input_is_not_tried_again(where: str, two: Client) -> None:
    found = two if where == "there" else None
    with pytest.raises(InputError, match="^file: column x, drop it$"):
        executed(bad_input, 4, found)


# whole runs --------------------------------------------------------------------------------------
def finish(process: Any) -> tuple[int, str]:
    _, errors = process.communicate(timeout=300)
    return process.returncode, errors


def test_workers_give_the_files_of_an_inline_run(write: Any, command: Any, tmp_path: Path) -> None:
    for name, cluster in (("inline", {"kind": "inline"}), ("local", {"kind": "local"})):
        config = write(f"{name}.yaml", cluster=cluster)
        code, errors = finish(command("run", config, "--out", tmp_path / name))
        assert (code, errors) == (0, "")
    for name in NUMBERS:
        one, other = ((tmp_path / d / name).read_bytes() for d in ("inline", "local"))
        assert one == other, name
    assert not (tmp_path / "dask-worker-space").exists()


@pytest.mark.parametrize(
    ("kind", "number", "everyone"),
    [
        ("inline", signal.SIGINT, False),
        ("local", signal.SIGINT, True),
        ("local", signal.SIGTERM, False),
    ],
)
def test_interrupted_run_goes_on(
    write: Any, command: Any, tmp_path: Path, kind: str, number: int, everyone: bool
) -> None:
    out = tmp_path / "out"
    gate = tmp_path / "gate"
    gate.touch()
    config = write(settings={"sleep_s": 0.4, "gate": str(gate)}, cluster={"kind": kind})
    process = command("run", config, "--out", out)
    chunks = out / "histograms" / "main" / "chunks"
    deadline = time.monotonic() + 300
    while not list(chunks.glob("*.npz")) and time.monotonic() < deadline:
        time.sleep(0.05)
    # Ctrl-C on a terminal reaches all processes of the group
    (os.killpg if everyone else os.kill)(process.pid, number)
    gate.unlink()
    code, errors = finish(process)
    assert code == 130 and "Traceback" not in errors and "interrupted" in errors
    kept = {p: p.stat().st_mtime_ns for p in chunks.glob("*.npz")}
    assert 0 < len(kept) < 8 and not list(out.rglob("*.part"))
    code, errors = finish(command("run", out))
    assert code == 0, errors
    assert {p: p.stat().st_mtime_ns for p in kept} == kept
