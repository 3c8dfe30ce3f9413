"""A real dask-gateway: the numbers of an inline run, and nothing left behind."""

from __future__ import annotations

import importlib
import json
import logging
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from dask_gateway import Gateway

from calib import calibrations
from calib.errors import CalibError, InputError
from jobs.clusters import client, environment, fingerprint
from jobs.clusters.authentication import authentication
from jobs.clusters.gateway import reached
from jobs.config.cluster import Cluster
from jobs.config.schema import load

from .conftest import LIMIT_S, PASSWORD, ROOT, Server, finished, until
from .whole import reduced

BARE = {"environment": "bare"}


def running(gateway: Server) -> list[str]:
    cluster = Cluster(**gateway.cluster())
    with reached(cluster) as found:
        return [report.name for report in found.list_clusters()]


@pytest.fixture(scope="module")
def named(gateway: Server) -> Iterator[Any]:
    """A cluster that somebody else has started, without workers yet, and without our package."""
    cluster = Cluster(**gateway.cluster())
    found = Gateway(gateway.address, auth=authentication(cluster.auth))
    there = found.new_cluster(**BARE)
    yield there
    there.close()
    found.close()
    del found._loop_runner, there.gateway._loop_runner


# runs --------------------------------------------------------------------------------------------
def test_a_new_cluster_gives_the_numbers_of_an_inline_run(
    gateway: Server, write: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    elsewhere = write("mass_resolution", gateway.cluster(adaptive={"minimum": 1, "maximum": 2}))
    here = write("mass_resolution", {"kind": "inline"})
    with caplog.at_level(logging.DEBUG, logger="jobs"):
        found = reduced(elsewhere, tmp_path / "gateway")
    assert "new cluster" in caplog.text
    assert found == reduced(here, tmp_path / "inline") and len(found) == 4
    assert running(gateway) == []
    for path in (tmp_path / "gateway").rglob("*"):
        assert path.is_dir() or PASSWORD.encode() not in path.read_bytes()
    assert PASSWORD not in caplog.text


def test_a_cluster_without_workers_is_not_waited_for(gateway: Server, named: Any) -> None:
    cluster = Cluster(**gateway.cluster(name=named.name, wait=5))
    start = time.monotonic()
    with pytest.raises(CalibError, match=r"cluster\.wait.*no worker after 5 s"), client(cluster):
        pass
    assert time.monotonic() - start < LIMIT_S
    assert named.name in running(gateway)


def test_a_named_cluster_is_used_and_left_as_it_was(
    gateway: Server, named: Any, write: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Its workers lack this package, which is sent to them."""
    named.scale(1)
    config = write("momentum_scale", gateway.cluster(name=named.name))
    with caplog.at_level(logging.INFO, logger="jobs"):
        found = reduced(config, tmp_path / "gateway")
    assert "this package was sent to the scheduler and 1 workers" in caplog.text
    assert found == reduced(write("momentum_scale", {"kind": "inline"}), tmp_path / "inline")
    assert {"parameters.csv", "payload.json"} <= set(found)
    assert running(gateway) == [named.name]


def test_workers_that_come_later_have_the_code_and_the_plug_in(
    gateway: Server, named: Any, write: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    named.scale(1)
    monkeypatch.syspath_prepend(str(ROOT / "tests" / "jobs"))
    config = load(write("mean_mass:MeanMass", gateway.cluster(name=named.name)))
    built = calibrations.build(config)
    with client(config.cluster, built) as found:
        assert found is not None
        named.scale(2)
        until(lambda: len(found.nthreads()) == 2, "a second worker")
        answer = environment.ask(found, (environment.CODE,)).workers
        codes = {versions[environment.CODE] for versions in answer.values()}
        assert codes == {f"{fingerprint.LOADED} sent"} and len(answer) == 2
        for worker in found.nthreads():
            module = found.submit(
                importlib.import_module, type(built).__module__, workers=[worker], pure=False
            )
            assert ".zip" in found.submit(str, module).result(timeout=60)
    assert running(gateway) == [named.name]


@pytest.mark.parametrize("when", ["starting", "running"])
def test_interrupted_leaves_no_cluster(
    gateway: Server, write: Any, command: Any, tmp_path: Path, when: str
) -> None:
    before = set(gateway.processes())
    config = write("mass_resolution", gateway.cluster(), chunk_size=200)
    process = command("run", config, "--out", tmp_path / "out")
    chunks = tmp_path / "out" / "histograms" / "main" / "chunks"
    begun = {
        "starting": lambda: set(gateway.processes()) - before,
        "running": lambda: any(chunks.glob("*.npz")),
    }[when]
    until(lambda: begun() or process.poll() is not None, f"the run is {when}")
    process.send_signal(signal.SIGINT)
    code, _, errors = finished(process)
    assert code == 130 and "Traceback" not in errors and "interrupted" in errors
    until(lambda: not set(gateway.processes()) - before, "its processes end")


# refusals ----------------------------------------------------------------------------------------
def test_a_wrong_password(gateway: Server, write: Any, command: Any, tmp_path: Path) -> None:
    auth = {"user": "physicist", "password_env": "SOME_PASSWORD"}
    config = write("mass_resolution", gateway.cluster(auth=auth))
    wrong = command("run", config, "--out", tmp_path / "out", SOME_PASSWORD="hunter2")
    code, _, errors = finished(wrong)
    assert (
        code == 2 and "key 'cluster.auth'" in errors and "refuses user 'physicist' (401" in errors
    )
    assert "$SOME_PASSWORD" in errors and "hunter2" not in errors and "Traceback" not in errors
    missing = Cluster(**gateway.cluster(auth={"password_env": "NOT_SET_ANYWHERE"}))
    with pytest.raises(InputError, match="NOT_SET_ANYWHERE is not set"), client(missing):
        pass


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"name": "not-there"}, r"cluster\.name.*'not-there'"),
        ({"options": {"worker_core": 1}}, r"no option 'worker_core'; did you mean 'worker_cores'"),
        ({"options": {"worker_cores": 9}}, r"cluster\.options\.worker_cores.*9"),
        ({"address": "127.0.0.1:9"}, r"cluster\.address.*http://"),
        ({"address": "http://127.0.0.1:9", "wait": 5}, r"no dask-gateway answers at .*:9"),
    ],
)
def test_what_the_gateway_does_not_have(gateway: Server, changes: Any, words: str) -> None:
    with pytest.raises(InputError, match=words), client(Cluster(**gateway.cluster(**changes))):
        pass


def test_a_server_that_says_nothing(gateway: Server) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"http://127.0.0.1:{silent.getsockname()[1]}"
        start = time.monotonic()
        with (
            pytest.raises(InputError, match="does not answer within 1 s"),
            client(Cluster(**gateway.cluster(address=address, wait=1))),
        ):
            pass
        assert time.monotonic() - start < LIMIT_S


def test_other_versions_and_too_many_workers(
    gateway: Server, caplog: pytest.LogCaptureFixture
) -> None:
    cluster = Cluster(**gateway.cluster(options={"environment": "other"}, workers=5))
    with (
        caplog.at_level(logging.WARNING, logger="jobs"),
        pytest.raises(InputError, match=r"uproot 5\.0\.1 \(here .*cluster\.versions: warn"),
        client(cluster),
    ):
        pass
    assert "cluster.workers" in caplog.text and "2" in caplog.text


def test_check_says_what_works(
    gateway: Server, named: Any, write: Any, command: Any, tmp_path: Path
) -> None:
    named.scale(1)
    config = write("mass_resolution", gateway.cluster(name=named.name))
    code, out, errors = finished(command("cluster", "check", config, "--json"))
    steps = {step["name"]: step for step in json.loads(out)["steps"]}
    assert code == 0, errors
    assert {step["state"] for step in steps.values()} == {"ok"}
    assert "dask-gateway" in steps["reached"]["text"] and named.name in steps["reached"]["text"]
    assert "20000 events, read by a worker" in steps["file of data"]["text"]
    broken = write("mass_resolution", gateway.cluster(address="http://127.0.0.1:9", wait=2))
    code, out, errors = finished(command("cluster", "check", broken))
    assert code == 2 and "failed" in out and "not tried" in out and "Traceback" not in errors
