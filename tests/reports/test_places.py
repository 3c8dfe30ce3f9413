"""Places where nothing can be written, where memory is too small, and where nobody answers."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from calib import compiled_cache
from calib.errors import CalibError, InputError
from calib.schema import validated
from calib.toys.generation import generate
from jobs.clusters import client
from jobs.clusters.address import at_address
from jobs.config.schema import Cluster
from jobs.events.toys import write_toys

CONFIG = """name: z
calibration: mass_resolution
samples:
  - {name: data, resonance: z, format: stage1, files: [data]}
"""


# read-only, without a home --------------------------------------------------------------------
@pytest.fixture
def nowhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """No home, and a package beside which nothing can be kept."""
    for name in (compiled_cache.VARIABLE, "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", "/dev/null/none")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    (tmp_path / "__pycache__").touch()
    monkeypatch.setattr(compiled_cache, "__file__", str(tmp_path / "compiled_cache.py"))
    return tmp_path


def test_a_folder_of_ours_where_nothing_can_be_kept(nowhere: Path) -> None:
    compiled_cache.provide()
    found = Path(os.environ.pop(compiled_cache.VARIABLE))
    assert found.parent == nowhere and stat.S_IMODE(found.stat().st_mode) == 0o700
    compiled_cache.provide()
    assert os.environ.pop(compiled_cache.VARIABLE) == str(found)  # compiled once
    found.chmod(0o777)  # others may have put something there
    compiled_cache.provide()
    other = Path(os.environ.pop(compiled_cache.VARIABLE))
    assert other != found and stat.S_IMODE(other.stat().st_mode) == 0o700


def test_numba_is_left_alone_where_it_finds_a_place(
    nowhere: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(nowhere / "cache"))
    compiled_cache.provide()
    assert compiled_cache.VARIABLE not in os.environ
    monkeypatch.delenv("XDG_CACHE_HOME")
    (nowhere / "__pycache__").unlink()
    compiled_cache.provide()
    assert compiled_cache.VARIABLE not in os.environ


# memory ---------------------------------------------------------------------------------------
AMOUNTS = [
    ({"memory_limit": "4GBB"}, "memory_limit'.*4 GB"),
    ({"memory_limit": 4}, "memory_limit'.*4 bytes"),
    ({"memory_limit": "100 kB"}, "memory_limit"),
    ({"kind": "slurm", "job": {"memory": "3 G B"}}, "job.memory"),
    ({"kind": "htcondor", "job": {"disk": "1"}}, "job.disk"),
    ({"kind": "kubernetes", "pod": {"memory": "4GB"}}, "pod.memory'.*4Gi"),
    ({"kind": "kubernetes", "pod": {"cpu": "one"}}, "pod.cpu'.*500m"),
]


@pytest.mark.parametrize(("values", "said"), AMOUNTS)
def test_amounts_that_are_none(values: dict[str, object], said: str) -> None:
    with pytest.raises(InputError, match=said):
        validated(Cluster, values, "c")


def test_amounts() -> None:
    for amount in ("auto", "0", "0.5", 0.25, "4 GB", "4GiB", "1.5g", "2e9"):
        assert validated(Cluster, {"memory_limit": amount}, "c").memory_limit == str(amount)


def test_memory_below_what_a_worker_needs() -> None:
    began = time.monotonic()
    tiny = Cluster(workers=1, memory_limit="60 MB", wait=5)
    with pytest.raises(CalibError, match=r"cluster.wait.*cluster.memory_limit': 60 MB"):
        with client(tiny):
            pass
    assert time.monotonic() - began < 120  # a machine may be busy; without the wait it is for ever


def test_sigterm_while_workers_cannot_start(tmp_path: Path) -> None:
    write_toys(tmp_path / "data", generate("z", 50, seed=1), "stage1")
    (tmp_path / "z.yaml").write_text(
        CONFIG + "cluster: {kind: local, workers: 1, memory_limit: 60 MB, wait: 3000}\n"
    )
    command = "from jobs.cli import main; main()"
    made = subprocess.Popen(
        [sys.executable, "-c", command, "collect", "z.yaml", "--out", "run"],
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(Path.cwd()), *sys.path])},
    )
    while not list(tmp_path.glob("run/.calib/**/*")):  # it is under way
        assert made.poll() is None
        time.sleep(0.2)
    time.sleep(5)
    made.send_signal(signal.SIGTERM)
    said = made.communicate(timeout=120)[1]
    assert made.returncode == 130 and "Traceback" not in said


# addresses --------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "address", ["127.0.0.1", "tcp://host", "http://host:8787", "tcp://host:99999", "gateway://x"]
)
def test_addresses_of_no_scheduler(address: str) -> None:
    with pytest.raises(InputError, match=r"key 'cluster.address'.*tcp://host:8786"):
        validated(Cluster, {"kind": "address", "address": address}, "c", "cluster")
    assert Cluster(kind="address", address="tcp://[::1]:8786").address


def test_tls_without_certificates() -> None:
    began = time.monotonic()
    with pytest.raises(InputError, match=r"cluster.security.*no certificates"):
        with at_address(Cluster(kind="address", address="tls://127.0.0.1:9", wait=600)):
            pass
    assert time.monotonic() - began < 60
