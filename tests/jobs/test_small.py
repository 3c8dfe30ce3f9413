"""Small inputs without workers, and a word where functions are compiled."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numba
import pytest
import yaml
from typer.testing import CliRunner

from jobs import clusters, compiling
from jobs.cli import app
from jobs.clusters import Workers
from jobs.clusters.local import at_local
from jobs.config.cluster import Cluster


def sums(config: Path, out: Path) -> bytes:
    found = CliRunner().invoke(app, ["collect", str(config), "--out", str(out), "-v"])
    assert found.exit_code == 0, found.output
    return (out / "histograms" / "main.data.npz").read_bytes()


def test_small_inputs_are_read_without_workers_to_the_same_bits(
    write: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = write()
    values: dict[str, Any] = yaml.safe_load(config.read_text(encoding="utf-8"))
    del values["cluster"]
    config.write_text(yaml.safe_dump(values), encoding="utf-8")
    started = []
    monkeypatch.setattr(clusters, "opened", lambda c: started.append(c.kind) or at_local(c))
    here = sums(config, tmp_path / "here")
    assert started == []
    config.write_text(yaml.safe_dump(values | {"cluster": {"kind": "local"}}), encoding="utf-8")
    assert sums(config, tmp_path / "workers") == here and started == ["local"]


def test_workers_that_nobody_asked_for_start_for_many_events() -> None:
    with Workers(Cluster.model_validate({"workers": 1})) as workers:
        assert workers.client_for(clusters.WORTH_WORKERS - 1) is None
        client = workers.client_for(clusters.WORTH_WORKERS)
        assert client is not None and len(client.nthreads()) == 1
        assert workers.client_for(1) is client
        # a worker that compiles is heard here
        heard: list[None] = []
        with compiling.told_by_workers(client, lambda: heard.append(None)):
            client.submit(compile_slowly, pure=False).result(timeout=120)
            deadline = time.monotonic() + 60
            while not heard and time.monotonic() < deadline:
                time.sleep(0.05)
        assert heard == [None]


def compile_slowly() -> None:
    """Compile for longer than is worth no word."""
    from numba.core import event

    with event.trigger_event("numba:compile"):
        time.sleep(1.5 * compiling.LONG_S)


def test_what_is_compiled_here_is_heard_once() -> None:
    heard: list[None] = []
    with compiling.told(lambda: heard.append(None), long_s=0.0):
        numba.njit(lambda x: x + 1)(1.0)
        time.sleep(0.1)
    assert heard
    heard.clear()
    with compiling.told(lambda: heard.append(None), long_s=60.0):
        numba.njit(lambda x: x + 2)(1.0)
    assert heard == []
