"""A real dask-gateway on loopback, with a password; small events for both calibrations."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from calib.toys.generation import generate
from jobs.events.toys import write_stage1

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
PASSWORD = "correct horse battery"
LIMIT_S = 300.0

SERVER = """
from dask_gateway_server.options import Bool, Integer, Options, Select

PATHS = {paths!r}


def environment(options):
    return {{
        "environment": {{"PYTHONPATH": PATHS[options.environment], "OMP_NUM_THREADS": "1"}},
        "worker_cores": options.worker_cores,
    }}


c.DaskGateway.backend_class = "dask_gateway_server.backends.local.UnsafeLocalBackend"
c.DaskGateway.authenticator_class = "dask_gateway_server.auth.SimpleAuthenticator"
c.SimpleAuthenticator.password = {password!r}
c.DaskGateway.address = "127.0.0.1:0"
c.Proxy.address = "127.0.0.1:{port}"
c.Backend.cluster_options = Options(
    Select("environment", ["whole", "bare", "other"], default="whole"),
    Integer("worker_cores", 1, min=1, max=2),
    handler=environment,
)
c.UnsafeLocalBackend.clusters_directory = {folder!r}
c.ClusterConfig.scheduler_cmd = [{python!r}, "-m", "distributed.cli.dask_scheduler"]
c.ClusterConfig.worker_cmd = [{python!r}, "-m", "distributed.cli.dask_worker"]
c.ClusterConfig.worker_memory = "2 G"
c.ClusterConfig.cluster_max_workers = 2
c.ClusterConfig.idle_timeout = 300
c.ClusterConfig.adaptive_period = 0.5
"""

BARE = '''
"""As on a cluster of others: this package is found only where it has been sent."""
import sys
from importlib.machinery import PathFinder


class Hidden:
    @staticmethod
    def find_spec(name, path=None, target=None):
        if name not in ("calib", "processors", "jobs"):
            return None
        found = PathFinder.find_spec(name, [p for p in sys.path if p.endswith(".zip")])
        if found is None:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return found


sys.meta_path.insert(0, Hidden)
'''

OTHER = "Metadata-Version: 2.1\nName: uproot\nVersion: 5.0.1\n"
"""An environment with another version of a package, found before the one that is there."""


@dataclass(frozen=True)
class Server:
    """A running gateway."""

    address: str
    folder: Path

    def cluster(self, **changes: Any) -> dict[str, Any]:
        """Return the key ``cluster`` for it, the password in a file."""
        auth = {"kind": "basic", "user": "physicist", "password_file": str(self.folder / "secret")}
        kind = {"kind": "gateway", "address": self.address, "auth": auth, "workers": 1}
        return kind | changes

    def processes(self) -> list[int]:
        """Return the schedulers and workers that run, of all clusters."""
        found = []
        for path in Path("/proc").glob("[0-9]*/cwd"):
            try:
                if (self.folder / "clusters") in path.resolve(strict=True).parents:
                    found.append(int(path.parent.name))
            except OSError:
                continue
        return found


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def until(condition: Callable[[], Any], what: str, limit_s: float = LIMIT_S) -> Any:
    """Return the first true value of a condition."""
    deadline = time.monotonic() + limit_s
    while not (found := condition()):
        assert time.monotonic() < deadline, f"{what}: not within {limit_s} s"
        time.sleep(0.05)
    return found


def end(process: subprocess.Popen[Any]) -> None:
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(120)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait(120)


@pytest.fixture(scope="session")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A gateway that asks for a password, and gives two workers at most."""
    pytest.importorskip("dask_gateway_server", reason="dask-gateway-server is not installed")
    folder = tmp_path_factory.mktemp("gateway")
    environments = {"bare/sitecustomize.py": BARE, "other/uproot-5.0.1.dist-info/METADATA": OTHER}
    for path, text in environments.items():
        (folder / path).parent.mkdir(parents=True)
        (folder / path).write_text(text)
    (folder / "clusters").mkdir()
    (folder / "secret").write_text(PASSWORD)
    (folder / "secret").chmod(0o600)
    paths = {
        "whole": str(ROOT),
        "bare": str(folder / "bare"),
        "other": os.pathsep.join([str(folder / "other"), str(ROOT)]),
    }
    port = free_port()
    (folder / "config.py").write_text(
        SERVER.format(
            paths=paths,
            password=PASSWORD,
            port=port,
            python=sys.executable,
            folder=str(folder / "clusters"),
        )
    )
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "dask_gateway_server", "-f", str(folder / "config.py")],
            cwd=folder,
            env=environment,
            stdout=log,
            stderr=log,
        )
    found = Server(f"http://127.0.0.1:{port}", folder)
    try:
        until(lambda: answers(port) and process.poll() is None, "the gateway answers")
        yield found
    finally:
        end(process)
        until(lambda: not found.processes(), "the clusters of the gateway end")


def answers(port: int) -> bool:
    import urllib.error
    import urllib.request

    try:
        urllib.request.urlopen(f"http://127.0.0.1:{port}/api/version", timeout=5).close()
    except urllib.error.HTTPError:
        return False
    except OSError:
        return False
    return True


# events ------------------------------------------------------------------------------------------
@pytest.fixture(scope="session")
def events(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Z and J/psi, of data and simulation, as stage1."""
    folder = tmp_path_factory.mktemp("events")
    for seed, (name, resonance, n, simulation) in enumerate(
        (
            ("z", "z", 20_000, False),
            ("jpsi", "jpsi", 20_000, False),
            ("jpsi_mc", "jpsi", 20_000, True),
        )
    ):
        made = generate(resonance, n, seed=seed + 1, simulation=simulation)
        write_stage1(folder / f"{name}.parquet", made.pairs, simulation=simulation)
    return folder


Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path, events: Path) -> Write:
    """Write a configuration: ``write("mass_resolution", cluster)``."""

    def make(calibration: str, cluster: dict[str, Any], **changes: Any) -> Path:
        samples = [sample("data", "z", events / "z.parquet")]
        settings: dict[str, Any] = {}
        if calibration == "momentum_scale":
            samples = [
                sample("jpsi", "jpsi", events / "jpsi.parquet"),
                sample("mc", "jpsi", events / "jpsi_mc.parquet", simulation=True),
            ]
            settings = {"held_out": [], "eta": [-2.4, -0.8, 0.8, 2.4], "max_passes": 2}
        values = {
            "name": "test",
            "calibration": calibration,
            "samples": samples,
            "settings": settings,
            "cluster": cluster,
            "chunk_size": 5000,
        }
        path = tmp_path / f"{calibration}-{cluster['kind']}.yaml"
        path.write_text(yaml.safe_dump(values | changes), encoding="utf-8")
        return path

    return make


def sample(name: str, resonance: str, path: Path, simulation: bool = False) -> dict[str, Any]:
    return {
        "name": name,
        "resonance": resonance,
        "format": "stage1",
        "files": [str(path)],
        "simulation": simulation,
    }


@pytest.fixture(scope="session")
def command() -> Callable[..., subprocess.Popen[str]]:
    """Start ``calib`` as a process of its own."""

    def start(*arguments: str | Path, **environment: str) -> subprocess.Popen[str]:
        path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
        return subprocess.Popen(
            [sys.executable, "-m", "jobs.cli", *map(str, arguments)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": path, **environment},
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )

    return start


def finished(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    out, errors = process.communicate(timeout=300)
    return process.returncode, out, errors
