"""`calib publish` and `calib store`: words, JSON, files and exit codes."""

from __future__ import annotations

import gzip
import json
import shutil
import sqlite3
from pathlib import Path
from typing import Any

import correctionlib
import pytest
from typer.testing import CliRunner, Result

from jobs.cli import app

NAMES = ("init", "list", "history", "show", "get", "diff", "extend", "rollback", "tag", "check")


def calib(*arguments: str | Path, code: int = 0) -> Result:
    found = CliRunner().invoke(app, [str(a) for a in arguments], env={"COLUMNS": "200"})
    assert found.exit_code == code, found.output
    return found


def told(*arguments: str | Path, code: int = 0) -> dict[str, Any]:
    """Return what a command says to machines."""
    values: dict[str, Any] = json.loads(calib(*arguments, "--json", code=code).stdout)
    return values


@pytest.fixture
def place(tmp_path: Path, done: list[Path]) -> Path:
    """A store with two intervals."""
    for i, since in enumerate((100, 200)):
        calib("publish", done[i], "--store", tmp_path / "constants", "--since", str(since))
    return tmp_path / "constants"


@pytest.mark.parametrize("name", [("publish",), *(("store", n) for n in NAMES)])
def test_help_has_an_example(name: tuple[str, ...]) -> None:
    found = calib(*name, "--help").stdout
    assert f"Example: calib {' '.join(name)}" in found
    assert all(option in found for option in ("--quiet", "-q", "--verbose", "-v", "--json"))


def test_publish_and_get(place: Path, tmp_path: Path, done: list[Path]) -> None:
    out = tmp_path / "payload.json"
    for run, path in ((100, done[0]), (199, done[0]), (200, done[1]), (10**6, done[1])):
        calib("store", "get", place, "--run", str(run), "--out", out)
        assert out.read_bytes() == (path / "payload.json").read_bytes()
        found = calib("store", "get", place, "--run", str(run))
        assert found.stdout_bytes == out.read_bytes()
    calib("store", "get", "--store", place, "--revision", "1", "--out", out)
    assert out.read_bytes() == (done[0] / "payload.json").read_bytes()
    calib("store", "get", place, "--run", "300", "--as-of", "1", "--out", out)
    assert out.read_bytes() == (done[0] / "payload.json").read_bytes()
    found = told("store", "get", place, "--run", "150")
    assert found["revision"]["number"] == 1
    assert found["payload"] == (done[0] / "payload.json").read_text()


def test_a_file_for_all_runs(place: Path, tmp_path: Path, done: list[Path]) -> None:
    out = tmp_path / "all.json"
    found = told("store", "get", place, "--out", out)
    assert [i["revision"] for i in found["intervals"]] == [1, 2]
    whole = correctionlib.CorrectionSet.from_file(str(out))["mean_mass"]
    for run, path in ((150, done[0]), (250, done[1])):
        one = correctionlib.CorrectionSet.from_file(str(path / "payload.json"))["mean_mass"]
        assert whole.evaluate(run, 0.5) == one.evaluate(0.5)
    calib("store", "get", place, "--out", tmp_path / "all.json.gz")
    assert gzip.decompress((tmp_path / "all.json.gz").read_bytes()) == out.read_bytes()
    assert list(correctionlib.CorrectionSet.from_file(str(tmp_path / "all.json.gz")))


def test_lists(place: Path, done: list[Path]) -> None:
    words = calib("store", "list", place).stdout
    assert "100 - 199" in words and "200 - open" in words and "passed" in words
    found = told("store", "list", place)["intervals"]
    assert [(i["since"], i["until"], i["revision"]) for i in found] == [
        (100, 199, 1),
        (200, None, 2),
    ]
    assert len(told("store", "list", place, "--as-of", "1")["intervals"]) == 1
    calib("store", "rollback", place, "--to", "1", "--why", "wrong field map")
    assert len(told("store", "list", place)["intervals"]) == 1
    revisions = told("store", "history", place)["revisions"]
    assert [r["action"] for r in revisions] == ["publish", "publish", "rollback"]
    assert "wrong field map" in calib("store", "history", place, "--tag", "main").stdout


def test_show(place: Path, tmp_path: Path, done: list[Path]) -> None:
    found = told("store", "show", place, "2", "--files", tmp_path / "kept")
    assert found["verdict"]["passed"] and found["provenance"]["name"] == "run0"
    assert found["holds_now"] == [{"since": 200, "until": None}]
    for name in ("report.html", "payload.json", "means.csv"):
        assert (tmp_path / "kept" / name).read_bytes() == (done[1] / name).read_bytes()
    words = calib("store", "show", place, "2").stdout
    assert "runs 200 - open; holds now for 200 - open" in words and found["payload"] in words
    calib("store", "show", place, "2", "--files", tmp_path / "kept", code=2)


def test_what_was_forced_stays_visible(place: Path, tmp_path: Path, failed: Path) -> None:
    before = (place / "store.sqlite").read_bytes()
    found = calib("publish", failed, "--store", place, "--since", "300", code=3)
    assert "the verdict is not passed (mean)" in found.stderr
    found = calib("publish", failed, "--store", place, "--since", "300", "--force", code=2)
    assert "--why is missing" in found.stderr
    assert (place / "store.sqlite").read_bytes() == before
    words = calib(
        "publish",
        failed,
        "--store",
        place,
        "--since",
        "300",
        "--force",
        "--why",
        "the magnet was off",
    ).stdout
    assert "forced: the magnet was off" in words
    for command in (("list", place), ("history", place), ("show", place, "3")):
        assert "the magnet was off" in calib("store", *command).stdout
    found = calib("store", "get", place, "--run", "300", "--out", tmp_path / "payload.json")
    assert "forced, its verdict not passed: the magnet was off" in found.stderr
    assert told("store", "get", place, "--run", "300")["revision"]["forced"] is True
    assert told("store", "list", place)["intervals"][-1]["forced"] is True


def test_diff_tag_extend_check(place: Path, tmp_path: Path, done: list[Path]) -> None:
    found = told("store", "diff", place, "1", "2")
    assert found["ndf"] == 3 and [p["parameter"] for p in found["parameters"]] == ["B", "O", "E"]
    assert found["parameters"][0]["sigma"] != 0 and found["parameters"][1]["sigma"] == 0
    words = calib("store", "diff", place, "1", "2").stdout
    assert "3 of 3 parameters compared" in words and "1 of the same files" in words
    assert told("store", "tag", place, "paper", "--frozen")["tags"][1]["frozen"]
    assert "frozen" in calib("store", "tag", place).stdout
    calib("publish", done[2], "--store", place, "--since", "50", "--until", "60")
    calib("store", "extend", place, "4", "--until", "70", "--why", "nothing has moved")
    assert told("store", "list", place)["intervals"][0]["until"] == 70
    assert told("store", "check", place)["problems"] == []
    shutil.rmtree(place / "runs")
    # two of the three revisions are of runs that differ in their payload alone
    assert len(told("store", "check", place, code=3)["problems"]) == 2


def test_usage_that_is_refused(place: Path, tmp_path: Path, done: list[Path]) -> None:
    before = sorted(place.rglob("*"))
    for arguments, says in (
        (("publish", done[2], "--store", place, "--since", "150"), "taken in tag 'main'"),
        (("publish", done[2], "--store", place, "--since", "9", "--until", "8"), "until: found"),
        (("publish", tmp_path, "--store", place, "--since", "9"), "no config.yaml"),
        (("publish", done[2], "--store", done[1], "--since", "9"), "so it is no store"),
        (("store", "list", tmp_path / "nothing"), "there is no store"),
        (("store", "list", place, "--calibration", "mean_mas"), "did you mean 'mean_mass'"),
        (("store", "get", place, "--run", "5"), "run 5: no constants"),
        (("store", "get", place, "--run", "5", "--revision", "1"), "two answers"),
        (("store", "get", place, "--run", "100", "--out", tmp_path), "a directory"),
        (("store", "show", place, "7"), "revision 7: there is none"),
        (("store", "rollback", place, "--to", "1"), "--why is missing"),
        (("store", "tag", place, "../x"), "expected up to 80"),
        (("store", "extend", place, "2", "--until", "300"), "already"),
    ):
        found = calib(*arguments, code=2)
        assert says in found.stderr and found.stderr.count("\n") == 1, arguments
    assert sorted(place.rglob("*")) == before


def test_the_store_is_plain_sqlite(place: Path) -> None:
    with sqlite3.connect(place / "store.sqlite") as connection:
        assert connection.execute("SELECT count(*) FROM store_revisions").fetchone() == (2,)
    connection.close()
