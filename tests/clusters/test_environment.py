"""Versions and code: what differs is named, what must be sent arrives as it was."""

from __future__ import annotations

import logging
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from calib import calibrations
from calib.errors import CalibError, InputError
from jobs.clusters import client, environment, fingerprint, shipping
from jobs.clusters.environment import CODE, AllVersions, Checked
from jobs.config.cluster import Cluster
from jobs.config.schema import Config

from .conftest import ROOT

HERE = {"python": "3.11", "numpy": "2.4.6", "dask": "2025.3.1", CODE: "abc"}
ANYWHERE = Cluster(kind="address", address="tcp://127.0.0.1:9")


def found(scheduler: dict[str, Any] | None = None, **worker: Any) -> AllVersions:
    return AllVersions(
        HERE, HERE | (scheduler or {}), {"tcp://a:1": HERE, "tcp://b:2": HERE | worker}
    )


def test_the_same_everywhere() -> None:
    environment.require_python(found())
    environment.require_same(found(), ANYWHERE)
    assert environment.where_code_differs(found()) == []


def test_another_python_is_named() -> None:
    with pytest.raises(InputError, match=r"worker tcp://b:2 has python 3\.12 \(here 3\.11\)"):
        environment.require_python(found(python="3.12"))


def test_other_versions_are_named(caplog: pytest.LogCaptureFixture) -> None:
    other = found(numpy="1.26.4")
    with pytest.raises(InputError, match=r"1 worker \(tcp://b:2\): numpy 1\.26\.4 \(here 2\.4\.6"):
        environment.require_same(other, ANYWHERE)
    with caplog.at_level(logging.WARNING):
        environment.require_same(other, ANYWHERE.model_copy(update={"versions": "warn"}))
    assert "numpy 1.26.4" in caplog.text


def test_a_missing_package_is_never_only_a_warning() -> None:
    with pytest.raises(InputError, match=r"the scheduler: numpy missing"):
        environment.require_same(
            found({"numpy": None}), ANYWHERE.model_copy(update={"versions": "warn"})
        )


@pytest.mark.parametrize(
    ("ship", "there", "refused"),
    [
        ("auto", None, False),
        ("auto", "old sent", False),
        ("auto", "old", True),
        ("always", "old", False),
        ("never", None, True),
        ("never", "old sent", True),
    ],
)
def test_when_our_code_is_sent(ship: Any, there: str | None, refused: bool) -> None:
    other = found(**{CODE: there})
    lacking = environment.where_code_differs(other)
    assert lacking == ["tcp://b:2"]
    cluster = ANYWHERE.model_copy(update={"ship": ship})
    if refused:
        with pytest.raises(InputError, match=r"cluster\.ship.*\(here abc\)"):
            environment.require_may_send(lacking, other, cluster)
    else:
        environment.require_may_send(lacking, other, cluster)


@pytest.mark.parametrize("ship", ["auto", "always"])
def test_code_that_somebody_is_using_is_never_replaced(ship: Any) -> None:
    other = found(**{CODE: "old sent"})
    cluster = ANYWHERE.model_copy(update={"ship": ship})
    with pytest.raises(InputError, match=r"code old \(here abc\), sent by somebody.*Client-7"):
        environment.require_may_send(["tcp://b:2"], other, cluster, ["Client-7"])
    lacks = found(**{CODE: None})  # nothing is replaced there
    environment.require_may_send(["tcp://b:2"], lacks, cluster, ["Client-7"])


def test_other_clients_of_a_scheduler_are_known() -> None:
    from distributed import Client, LocalCluster

    options = {"n_workers": 0, "dashboard_address": "127.0.0.1:0", "processes": False}
    with LocalCluster(**options) as cluster, Client(cluster) as one:
        assert environment.others_there(one) == []
        with Client(cluster.scheduler_address) as two:
            assert environment.others_there(one) == [two.id]


def test_code_that_was_sent_is_the_same_code() -> None:
    assert environment.where_code_differs(found(**{CODE: "abc sent"})) == []


def test_a_chunk_refuses_to_run_where_things_differ(monkeypatch: pytest.MonkeyPatch) -> None:
    checked = Checked.of(len, ANYWHERE)
    assert checked("four") == 4
    there = environment.versions_here() | {"numpy": "1.0"}
    monkeypatch.setattr(environment, "versions_here", lambda: there)
    with pytest.raises(InputError, match=r"numpy 1\.0 \(here .*run the same command again"):
        checked("four")
    assert Checked.of(len, ANYWHERE.model_copy(update={"versions": "warn"}))("four") == 4


# what is sent ------------------------------------------------------------------------------------
PROGRAM = """
import sys
sys.modules["calib.old"] = sys            # as an earlier version has left it
sys.path.insert(0, "/x/dimucal-code-older.zip")
sys.path.insert(0, sys.argv[1])
import _dimucal_first, calib.errors, jobs.clusters.fingerprint, processors
assert "calib.old" not in sys.modules and "/x/dimucal-code-older.zip" not in sys.path
assert ".zip" in calib.errors.__file__, calib.errors.__file__
print(jobs.clusters.fingerprint.__version__)
"""


def test_an_archive_gives_the_same_code(tmp_path: Path) -> None:
    files = dict(fingerprint.sources(fingerprint.ROOT))
    path = tmp_path / "dimucal-code-1.zip"
    shipping.write_archive(path, files, "dimucal-code-")
    (tmp_path / "again").mkdir()
    again = tmp_path / "again" / path.name
    shipping.write_archive(again, files, "dimucal-code-")
    assert path.read_bytes() == again.read_bytes()
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(path)], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == fingerprint.digest(iter(files.items())) + " sent"


def test_a_calibration_of_the_users_own_is_sent_along(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "tests" / "jobs"))
    sample = {"name": "a", "resonance": "z", "format": "stage1", "files": ["x"]}

    def built(name: str) -> Any:
        return calibrations.build(Config(name="t", calibration=name, samples=[sample]))  # type: ignore[list-item]

    own = shipping.extras(built("mean_mass:MeanMass"))
    assert own == {"mean_mass.py": (ROOT / "tests" / "jobs" / "mean_mass.py").read_bytes()}
    assert shipping.extras(built("mass_resolution")) == {} and shipping.extras(None) == {}


def test_a_scheduler_without_workers() -> None:
    from distributed import LocalCluster

    quiet = {"dashboard_address": "127.0.0.1:0", "scheduler_kwargs": {"dashboard": False}}
    with LocalCluster(n_workers=0, host="127.0.0.1", **quiet) as up:
        cluster = Cluster(kind="address", address=up.scheduler_address, wait=5)
        with pytest.raises(CalibError, match=r"cluster\.wait.*after 5 s"), client(cluster):
            pass
