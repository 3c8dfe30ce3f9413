"""Sites: found by path or name, overridden key by key, checked like a configuration."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from calib.errors import InputError
from jobs.config.cluster import Cluster
from jobs.config.schema import Config, load
from jobs.config.sites import read
from jobs.run.run import Run

ROOT = Path(__file__).parents[2]
EXAMPLES = sorted((ROOT / "jobs" / "sites").glob("*.yaml"))


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder of sites, and no others."""
    monkeypatch.setenv("DIMUCAL_SITES", str(tmp_path / "sites"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    (tmp_path / "sites").mkdir()
    return tmp_path


def configuration(folder: Path, cluster: Any, calibration: str = "mass_resolution") -> Path:
    sample = {"name": "data", "resonance": "z", "format": "stage1", "files": ["*.parquet"]}
    path = folder / "run.yaml"
    values = {"name": "t", "calibration": calibration, "samples": [sample], "cluster": cluster}
    path.write_text(yaml.safe_dump(values))
    return path


def site(path: Path, **values: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(values))


SLURM = {"kind": "slurm", "workers": 20, "job": {"queue": "long", "memory": "3 GB"}}


@pytest.mark.parametrize(
    ("name", "place"),
    [
        ("ours.yaml", "ours.yaml"),
        ("ours", "sites/ours.yaml"),
        ("ours", "sites/ours.yml"),
        ("ours.yaml", "sites/ours.yaml"),
        ("ours", "config/dimucal/sites/ours.yaml"),
        ("sub/ours.yaml", "sub/ours.yaml"),
    ],
)
def test_found_by_path_or_by_name(folder: Path, name: str, place: str) -> None:
    site(folder / place, **SLURM)
    config = load(configuration(folder, {"site": name, "workers": 40, "job": {"queue": "short"}}))
    assert config.cluster.kind == "slurm" and config.cluster.workers == 40
    assert config.cluster.job is not None
    assert config.cluster.job.queue == "short" and config.cluster.job.memory == "3 GB"


def test_beside_the_configuration_comes_first(folder: Path) -> None:
    site(folder / "ours.yaml", kind="inline")
    site(folder / "sites" / "ours.yaml", kind="local")
    assert load(configuration(folder, {"site": "ours.yaml"})).cluster.kind == "inline"


def test_a_run_keeps_what_the_site_said(folder: Path) -> None:
    site(folder / "sites" / "ours.yaml", kind="local", workers=1)
    work = Run.prepare(configuration(folder, {"site": "ours"}), folder / "out")
    work.adopt()
    site(folder / "sites" / "ours.yaml", kind="local", workers=7)
    kept = yaml.safe_load((folder / "out" / "config.yaml").read_text())["cluster"]
    assert kept["site"] is None and kept["kind"] == "local" and kept["workers"] == 1
    assert Run.resume(folder / "out").config.cluster.workers == 1


def test_files_are_relative_to_the_site(folder: Path) -> None:
    auth = {"kind": "basic", "password_file": "secret"}
    site(folder / "sites" / "ours.yaml", kind="gateway", address="https://g.org", auth=auth)
    found = load(configuration(folder, {"site": "ours"})).cluster.auth
    assert found is not None and found.password_file == str(folder / "sites" / "secret")
    own = {"kind": "address", "address": "tls://a:1", "security": {"ca": "ca.pem"}}
    security = load(configuration(folder, own)).cluster.security
    assert security is not None and security.ca == str(folder / "ca.pem")


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"kind": "slurm", "job": {"qeue": "x"}}, r"ours\.yaml.*'job\.qeue'; did you mean 'queue'"),
        ({"kind": "slurn"}, r"ours\.yaml: key 'kind': found 'slurn'"),
        ({"site": "other"}, r"ours\.yaml: key 'site'"),
        ({"kind": "gateway", "auth": {"password": "x"}}, r"'auth\.password'.*password_env"),
        ({"kind": "gateway", "address": "http://u:secret@g"}, r"key 'address'.*token in it"),
        ({"kind": "gateway", "options": {"API_TOKEN": "hunter2"}}, r"'API_TOKEN' would put"),
        ({"kind": "local", "auth": "basic"}, r"'auth' is for kind gateway, but kind is 'local'"),
        ({"kind": "slurm", "adaptive": {"minimum": 3, "maximum": 2}}, "minimum 3 is above"),
    ],
)
def test_refused_in_one_sentence(folder: Path, values: Any, words: str) -> None:
    site(folder / "ours.yaml", **values)
    with pytest.raises(InputError, match=words) as error:
        load(configuration(folder, {"site": "ours.yaml"}))
    assert "hunter2" not in str(error.value) and "secret" not in str(error.value)
    assert "\n" not in str(error.value)


def test_a_name_that_is_not_there(folder: Path) -> None:
    site(folder / "sites" / "lxplus.yaml", kind="local")
    with pytest.raises(InputError, match=r"'lxplu', but there is no.*known names: lxplus"):
        load(configuration(folder, {"site": "lxplu"}))
    with pytest.raises(InputError, match=r"cluster\.site': found 3"):
        load(configuration(folder, {"site": 3}))


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_examples_are_what_the_schema_takes(path: Path) -> None:
    assert Cluster(**read(path)).kind != "inline"
    kinds = {Cluster(**read(p)).kind for p in EXAMPLES}
    assert {"address", "gateway", "slurm", "htcondor", "kubernetes"} <= kinds


def test_what_is_left_out_has_its_default() -> None:
    sample = {"name": "a", "resonance": "z", "format": "stage1", "files": ["x"]}
    config = Config(name="t", calibration="x", samples=[sample])  # type: ignore[list-item]
    assert config.cluster == Cluster() and Cluster().patience == 60
    assert Cluster(kind="slurm").patience == 600 and Cluster(kind="slurm", wait=5).patience == 5
