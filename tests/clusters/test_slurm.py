"""A real SLURM of one node, where Debian's packages slurmctld, slurmd and munge are installed."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from calib.errors import CalibError
from jobs.clusters import Workers

from .conftest import ROOT, finished, free_port, until
from .whole import reduced

NEEDED = ("munged", "slurmctld", "slurmd", "sbatch", "squeue")
CONFIGURATION = """
ClusterName=one
SlurmctldHost={host}(127.0.0.1)
SlurmUser={user}
SlurmdUser={user}
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
AuthType=auth/munge
AuthInfo=socket={folder}/munge/socket
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
ReturnToService=2
KillWait=5
NodeName={host} NodeAddr=127.0.0.1 CPUs={cores} RealMemory=3000 State=UNKNOWN
PartitionName=main Nodes={host} Default=YES MaxTime=INFINITE State=UP
"""


def missing() -> str:
    absent = [name for name in NEEDED if shutil.which(name, path=PATH) is None]
    if absent:
        return f"no SLURM here ({', '.join(absent)} missing)"
    return "" if os.geteuid() == 0 else "slurmd and munged want root"


PATH = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin"])


@pytest.fixture(scope="module")
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with slurm.conf of a controller and a node that are up."""
    if missing():
        pytest.skip(missing())
    folder = tmp_path_factory.mktemp("slurm")
    (folder / "munge").mkdir(mode=0o700)
    (folder / "munge" / "key").write_bytes(os.urandom(1024))
    (folder / "munge" / "key").chmod(0o400)
    for name in ("state", "spool"):
        (folder / name).mkdir()
    host = socket.gethostname().split(".")[0]
    configuration = folder / "slurm.conf"
    configuration.write_text(
        CONFIGURATION.format(
            host=host,
            user="root",
            folder=folder,
            ports=(free_port(), free_port()),
            cores=os.cpu_count(),
        )
    )
    munge = {name: f"{folder}/munge/{name}" for name in ("key", "socket", "pid", "log", "seed")}
    start = (
        [
            "munged",
            "--force",
            f"--key-file={munge['key']}",
            f"--socket={munge['socket']}",
            f"--pid-file={munge['pid']}",
            f"--log-file={munge['log']}",
            f"--seed-file={munge['seed']}",
        ],
        ["slurmctld", "-i", "-f", str(configuration)],
        ["slurmd", "-f", str(configuration)],
    )
    before = os.environ.get("SLURM_CONF")
    os.environ["SLURM_CONF"] = str(configuration)
    try:
        for line in start:
            done = subprocess.run(
                line, capture_output=True, text=True, env={**os.environ, "PATH": PATH}
            )
            if done.returncode:
                pytest.skip(f"SLURM does not start here: {line[0]}: {done.stderr.strip()[:200]}")
        until(lambda: "idle" in told("sinfo", "-h", "-o", "%T"), "the node is idle")
        yield folder
    finally:
        for name in ("slurmd.pid", "slurmctld.pid", "munge/pid"):
            stop(folder / name)
        os.environ.pop("SLURM_CONF") if before is None else os.environ.update(SLURM_CONF=before)


def stop(file: Path) -> None:
    if file.is_file() and file.read_text().strip():
        number = int(file.read_text())
        os.kill(number, signal.SIGTERM)
        until(lambda: not Path(f"/proc/{number}").exists(), f"{file.name} ends")


def told(*line: str) -> str:
    return subprocess.run(line, capture_output=True, text=True, check=False).stdout


def cluster(folder: Path, **job: Any) -> dict[str, Any]:
    own = {
        "queue": "main",
        "memory": "1 GB",
        "walltime": "00:10:00",
        "scheduler_host": "127.0.0.1",
        "log_directory": str(folder / "logs"),
        "local_directory": str(folder),
        "prologue": [f"export PYTHONPATH={ROOT}"],
    }
    return {"kind": "slurm", "workers": 1, "wait": 120, "job": own | job}


def test_jobs_give_the_numbers_of_an_inline_run(slurm: Path, write: Any, tmp_path: Path) -> None:
    found = reduced(write("mass_resolution", cluster(slurm)), tmp_path / "slurm")
    assert found == reduced(write("mass_resolution", {"kind": "inline"}), tmp_path / "inline")
    until(lambda: told("squeue", "-h") == "", "the jobs end")


def test_a_job_that_is_refused_is_said_at_once(slurm: Path, write: Any) -> None:
    from jobs.config.schema import load

    config = load(write("mass_resolution", cluster(slurm, queue="nowhere")))
    with (
        Workers(config.cluster) as workers,
        pytest.raises(CalibError, match=r"cluster\.job.*invalid partition specified: nowhere"),
    ):
        workers.client()


def test_jobs_that_wait_are_taken_back(slurm: Path, write: Any, command: Any) -> None:
    config = write("mass_resolution", cluster(slurm, directives=["--hold"]) | {"wait": 4})
    code, out, errors = finished(command("cluster", "check", config))
    assert code == 1 and "no worker after 4 s" in out and "Traceback" not in errors
    until(lambda: told("squeue", "-h") == "", "the jobs are taken back")
