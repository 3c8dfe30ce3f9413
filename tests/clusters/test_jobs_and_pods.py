"""What batch systems and Kubernetes are handed: scripts and manifests, as they accept them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from calib.errors import InputError
from jobs.cli import app
from jobs.clusters import client
from jobs.clusters.jobqueue import job_script
from jobs.config.cluster import Cluster

JOB = {
    "queue": "long",
    "memory": "3 GB",
    "walltime": "02:00",
    "prologue": ["module load python"],
    "scheduler_host": "login.example.org",
    "log_directory": "logs",
}
HEADER = {
    "slurm": (
        "#SBATCH -p long",
        "#SBATCH -A us",
        "#SBATCH --mem=3G",
        "#SBATCH -t 02:00",
        "#SBATCH --nice=5",
    ),
    "pbs": ("#PBS -q long", "#PBS -A us", "#PBS -l walltime=02:00", "#PBS --nice=5"),
    "sge": ("#$ -q long", "#$ -P us", "#$ -l h_rt=02:00", "#$ --nice=5"),
    "lsf": ("#BSUB -q long", '#BSUB -P "us"', "#BSUB -W 02:00", "#BSUB --nice=5"),
}


def script(kind: Any, **job: Any) -> str:
    pytest.importorskip("dask_jobqueue")
    return job_script(Cluster(kind=kind, wait=120, job=JOB | job))  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", HEADER)
def test_script_of_a_job(kind: str, tmp_path: Path) -> None:
    found = script(kind, account="us", directives=["--nice=5"])
    for line in (*HEADER[kind], "module load python"):
        assert line in found.splitlines(), found
    assert "tcp://login.example.org" in found and "--nthreads 1" in found
    (tmp_path / "job").write_text(found)
    subprocess.run(["bash", "-n", tmp_path / "job"], check=True)


def test_the_environment_of_a_job_is_what_dask_reads(tmp_path: Path) -> None:
    """The allocator's setting is taken away, which no variable of its own can do."""
    lines = [line for line in script("slurm").splitlines() if line.startswith("export DASK")]
    program = (
        "import distributed, dask, json;"
        "print(json.dumps(dask.config.get('distributed.nanny.pre-spawn-environ')))"
    )
    text = "\n".join([*lines, f'{sys.executable} -c "{program}"'])
    done = subprocess.run(["bash", "-c", text], capture_output=True, text=True, check=True)
    found = yaml.safe_load(done.stdout)
    assert found["MALLOC_TRIM_THRESHOLD_"] is None and found["OMP_NUM_THREADS"] == 1


def test_submit_file_of_htcondor() -> None:
    found = script("htcondor", directives=['+JobFlavour = "longlunch"'], disk="5 GB")
    assert '+JobFlavour = "longlunch"' in found.splitlines()
    assert "MY.DaskWorkerDisk = 5000000000" in found and found.rstrip().endswith("Queue")
    with pytest.raises(InputError, match=r"job\.directives.*'nonsense'.*key = value"):
        script("htcondor", directives=["nonsense"])


def test_no_such_batch_system_here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(InputError, match="needs the command sbatch"), client(Cluster(kind="slurm")):
        pass


# Kubernetes --------------------------------------------------------------------------------------
def pods(**pod: Any) -> dict[str, Any]:
    pytest.importorskip("dask_kubernetes")
    from jobs.clusters.kubernetes import manifest

    return manifest(Cluster(kind="kubernetes", workers=4, pod=pod), "run")  # type: ignore[arg-type]


def test_manifest() -> None:
    volumes = {"volumes": [{"name": "data", "persistentVolumeClaim": {"claimName": "data"}}]}
    found = pods(
        image="r/d:1",
        memory="3Gi",
        namespace="us",
        environment={"X509": "/x"},
        spec=volumes,
        environment_from=["tokens"],
        mounts=[{"name": "data", "mountPath": "/data"}],
        service_account="me",
        pull_secrets=["registry"],
    )
    assert found["kind"] == "DaskCluster" and found["metadata"]["namespace"] == "us"
    assert found["spec"]["worker"]["replicas"] == 4 and found["spec"]["idleTimeout"] == 3600
    for part in ("worker", "scheduler"):
        spec = found["spec"][part]["spec"]
        container = spec["containers"][0]
        assert container["image"] == "r/d:1" and container["resources"]["limits"]["memory"] == "3Gi"
        assert {"name": "X509", "value": "/x"} in container["env"]
        assert container["envFrom"] == [{"secretRef": {"name": "tokens"}}]
        assert container["volumeMounts"] == [{"name": "data", "mountPath": "/data"}]
        assert spec["volumes"] == volumes["volumes"] and spec["serviceAccountName"] == "me"
        assert spec["imagePullSecrets"] == [{"name": "registry"}]


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ({"nodeSelektor": {"a": "b"}}, "nodeSelektor"),
        ({"volumes": {"a": "b"}}, "volumes"),
        ({"tolerations": [{"kay": "x"}]}, "kay"),
    ],
)
def test_what_the_operator_does_not_accept(spec: Any, words: str) -> None:
    with pytest.raises(InputError, match=rf"cluster\.pod.*{words}"):
        pods(spec=spec)


def test_a_secret_is_no_value() -> None:
    with pytest.raises(ValueError, match="GITHUB_TOKEN"):
        Cluster(kind="kubernetes", pod={"environment": {"GITHUB_TOKEN": "x"}})  # type: ignore[arg-type]


def test_no_kubernetes_answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("dask_kubernetes")
    place = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "c",
        "users": [{"name": "u"}],
        "clusters": [{"name": "k", "cluster": {"server": "https://127.0.0.1:9"}}],
        "contexts": [{"name": "c", "context": {"cluster": "k", "user": "u"}}],
    }
    (tmp_path / "config").write_text(yaml.safe_dump(place))
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "config"))
    with (
        pytest.raises(InputError, match="no Kubernetes answers within 3 s"),
        client(Cluster(kind="kubernetes", wait=3)),
    ):
        pass


# commands ----------------------------------------------------------------------------------------
def test_commands_print_what_can_be_handed_in(write: Any) -> None:
    pytest.importorskip("dask_jobqueue")
    pytest.importorskip("dask_kubernetes")
    config = write("mass_resolution", {"kind": "slurm", "job": {"queue": "long"}})
    found = CliRunner().invoke(app, ["cluster", "script", str(config)])
    assert found.exit_code == 0 and "#SBATCH -p long" in found.stdout.splitlines()
    pod = write("mass_resolution", {"kind": "kubernetes", "pod": {"image": "r/d:2"}})
    found = CliRunner().invoke(app, ["cluster", "manifest", str(pod)])
    assert found.exit_code == 0 and yaml.safe_load(found.stdout)["metadata"]["name"] == "test"
    found = CliRunner().invoke(app, ["cluster", "script", str(pod)])
    assert found.exit_code == 2 and "a script belongs to slurm" in found.stderr


@pytest.mark.parametrize("name", ["check", "script", "manifest"])
def test_help_has_an_example(name: str) -> None:
    found = CliRunner().invoke(app, ["cluster", name, "--help"], env={"COLUMNS": "200"})
    assert found.exit_code == 0 and f"Example: calib cluster {name}" in found.stdout
