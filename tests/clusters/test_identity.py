"""Which code runs elsewhere is asked of real schedulers and workers, with and without ours."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from calib.errors import InputError
from jobs.clusters import client, environment, fingerprint, opened
from jobs.clusters.environment import CODE, MISSING, PACKAGES
from jobs.config.cluster import Cluster

from .conftest import ROOT, end, free_port

LIBRARIES = sysconfig.get_paths()["purelib"]


@contextmanager
def remote(folder: Path, *paths: Path) -> Iterator[str]:
    """A scheduler and a worker that find the libraries and these paths, and nothing else.

    Without ``site`` no file in site-packages leads back to this checkout.
    """
    env = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
    env["PYTHONPATH"] = os.pathsep.join([*map(str, paths), LIBRARIES])
    address = f"tcp://127.0.0.1:{free_port()}"
    common = ["--host", "127.0.0.1", "--dashboard-address", "127.0.0.1:0"]
    modules: dict[str, list[str]] = {
        "dask_scheduler": [*common[:2], "--port", address.rsplit(":", 1)[1], *common[2:]],
        "dask_worker": [address, *common, "--no-nanny", "--nthreads", "1"],
    }
    running = []
    with (folder / "log").open("wb") as log:
        for name, arguments in modules.items():
            words = [sys.executable, "-S", "-m", f"distributed.cli.{name}", *arguments]
            running.append(subprocess.Popen(words, cwd=folder, env=env, stdout=log, stderr=log))
        try:
            yield address
        finally:
            for process in reversed(running):
                end(process)


def cluster(address: str, **keys: object) -> Cluster:
    return Cluster.model_validate({"kind": "address", "address": address, "wait": 120, **keys})


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """The working directory of the scheduler and the worker."""
    (tmp_path / "there").mkdir()
    return tmp_path / "there"


@pytest.fixture
def another(tmp_path: Path) -> Path:
    """This package in another version: one file has a line more."""
    folder = tmp_path / "another"
    ignored = shutil.ignore_patterns("__pycache__")
    for room in fingerprint.ROOMS:
        shutil.copytree(ROOT / room, folder / room, ignore=ignored)
    with (folder / "calib" / "errors.py").open("a", encoding="utf-8") as file:
        file.write("# another version\n")
    return folder


def test_where_the_package_is_lacking_it_is_said_and_sent(place: Path) -> None:
    with remote(place) as address:
        with opened(cluster(address)) as found:
            before = environment.ask(found, (*PACKAGES, CODE))
        assert before.here[CODE] == fingerprint.LOADED
        assert {versions[CODE] for versions in before.places.values()} == {MISSING}
        environment.require_same(before, cluster(address))
        with client(cluster(address)) as found:
            assert found is not None
            after = environment.ask(found, (CODE,))
            assert len(after.workers) == 1
            sent = f"{fingerprint.LOADED} sent"
            assert {versions[CODE] for versions in after.places.values()} == {sent}
            digest = found.submit(environment.versions_here, pure=False).result(timeout=60)
            assert digest[CODE] == sent


def test_another_version_there_is_refused_and_replaced_if_so_asked(
    place: Path, another: Path
) -> None:
    digest = fingerprint.digest(fingerprint.sources(another))
    assert digest != fingerprint.LOADED
    with remote(place, another) as address:
        with (
            pytest.raises(InputError, match=rf"code {digest} \(here {fingerprint.LOADED}\)"),
            client(cluster(address)),
        ):
            pass
        with client(cluster(address, ship="always")) as found:
            assert found is not None
            after = environment.ask(found, (CODE,))
            sent = f"{fingerprint.LOADED} sent"
            assert {versions[CODE] for versions in after.places.values()} == {sent}


def test_the_identity_is_never_none(place: Path, tmp_path: Path) -> None:
    """Not where a package of the same name is somebody else's, or does not load."""
    broken = tmp_path / "broken"
    (broken / "jobs").mkdir(parents=True)
    (broken / "jobs" / "__init__.py").write_text("raise RuntimeError('not yet configured')\n")
    with remote(place, broken) as address, opened(cluster(address)) as found:
        asked = environment.ask(found, (*PACKAGES, CODE))
        said = {versions[CODE] for versions in asked.places.values()}
        assert said == {"not to be read (RuntimeError: not yet configured)"}
        assert len(environment.where_code_differs(asked)) == 2
        with pytest.raises(InputError, match=r"cluster\.ship.*not yet configured"):
            environment.equip(found, cluster(address))


def test_another_version_of_a_package_is_named(place: Path, tmp_path: Path) -> None:
    other = tmp_path / "other" / "uproot-5.0.1.dist-info"
    other.mkdir(parents=True)
    (other / "METADATA").write_text("Metadata-Version: 2.1\nName: uproot\nVersion: 5.0.1\n")
    with remote(place, other.parent) as address, opened(cluster(address)) as found:
        with pytest.raises(InputError, match=r"scheduler and 1 worker.*: uproot 5\.0\.1 \(here"):
            environment.equip(found, cluster(address))


def test_a_function_that_is_sent_by_value_needs_no_module_of_ours(tmp_path: Path) -> None:
    """What arrives is loaded by a Python that has nothing but the libraries."""
    from distributed.protocol.pickle import dumps

    (tmp_path / "function").write_bytes(dumps(environment.by_value(environment.installed)))
    code = (
        "from distributed.protocol.pickle import loads; import pathlib\n"
        "ask = loads(pathlib.Path('function').read_bytes())\n"
        "print(ask(['numpy', 'jobs.clusters.fingerprint', 'no']))"
    )
    env = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
    done = subprocess.run(
        [sys.executable, "-S", "-c", code],
        env=env | {"PYTHONPATH": LIBRARIES},
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    expected = environment.installed(["numpy"]) | {"jobs.clusters.fingerprint": MISSING, "no": None}
    assert done.stdout.strip() == repr(expected)
