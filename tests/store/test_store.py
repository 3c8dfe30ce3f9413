"""The rules of a store, on SQLite and on PostgreSQL."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import correctionlib
import numpy as np
import pytest
import sqlalchemy as sa

from calib.errors import CalibError, InputError
from calib.payload.description import muon_pt_of, origin_of, with_muon_pt, with_origin
from calib.payload.validity import Validity
from jobs.run.run import Run
from jobs.store import NotPublishable, Store, display
from jobs.store.differences import compare

from .conftest import as_left


def holds(store: Store, **how: Any) -> list[tuple[str, int]]:
    return [(str(i.validity), i.revision.number) for i in store.intervals(**how)]


def test_what_is_published_comes_back_to_the_byte(store: Store, done: list[Path]) -> None:
    made = store.publish(done[0], None, 100)
    assert (made.number, made.calibration, made.validity) == (1, "mean_mass", Validity(100))
    assert made.passed and not made.forced and made.name == "run0"
    assert store.at(100) == store.at(10**6) == made == store.revision(1)
    assert store.payload(made) == (done[0] / "payload.json").read_bytes()
    kept = store.files(made)
    assert {
        "report.html",
        "verdict.json",
        "provenance.json",
        "covariance.npz",
        "means.csv",
        "config.yaml",
        "accounting.json",
    } <= set(kept)
    for name in kept:
        assert store.file(made, name) == (done[0] / name).read_bytes()
    assert store.problems() == []
    with pytest.raises(InputError, match="run 99: no constants in tag 'main'"):
        store.at(99)
    with pytest.raises(InputError, match="not kept of this run"):
        store.file(made, "../../store.sqlite")


def test_a_later_run_closes_what_is_open(store: Store, done: list[Path]) -> None:
    for i, since in enumerate((100, 200, 300)):
        store.publish(done[i], None, since)
    assert holds(store) == [("100 - 199", 1), ("200 - 299", 2), ("300 - open", 3)]
    # as it was
    assert holds(store, as_of=2) == [("100 - 199", 1), ("200 - open", 2)]
    assert store.at(350, as_of=1).number == 1
    assert len(store.revisions()) == 3 and store.revisions()[0].until is None


def test_overlaps_are_refused_unless_asked_for(store: Store, done: list[Path]) -> None:
    store.publish(done[0], None, 100, 199)
    store.publish(done[1], None, 300)
    for since, until in (
        (150, None),
        (50, 100),
        (150, 160),
        (50, None),
        (199, 310),
        (350, 360),
        (300, None),
        (250, None),
    ):
        with pytest.raises(InputError, match="taken in tag 'main' by revision [12]"):
            store.publish(done[2], None, since, until)
    assert len(store.revisions()) == 2 and store.problems() == []
    store.publish(done[2], None, 200, 299)
    made = store.publish(done[3], None, 150, 320, replace=True)
    assert made.number == 4
    assert holds(store) == [("100 - 149", 1), ("150 - 320", 4), ("321 - open", 2)]


def test_simulation_does_not_come_over_data(
    store: Store, done: list[Path], simulated: Path
) -> None:
    for directory, of in ((done[0], "data"), (simulated, "simulation")):
        document = json.loads((directory / "payload.json").read_text())
        assert origin_of(document) == of
        assert json.loads((directory / "provenance.json").read_text())["of"] == of
    store.publish(done[0], None, 100)
    for how in ({"replace": True}, {}):
        with pytest.raises(InputError, match="are of simulation, but those of revision 1"):
            store.publish(simulated, None, 200, **how)
    assert len(store.revisions()) == 1
    # beside them they are welcome, and the entry says what it is of
    store.publish(simulated, None, 1, 1)
    assert "of simulation" in display.lines(display.details(store, store.revision(2)))
    with pytest.raises(InputError, match="are of data, but those of revision 2"):
        store.publish(done[1], None, 1, 1, replace=True)
    # what older code has made does not say it, and is not refused
    old = {"corrections": [], "description": "Muon pt: bsConstrainedPt."}
    assert origin_of(old) is None
    both = with_muon_pt(with_origin({"corrections": []}, "data"), "bsConstrainedPt")
    assert origin_of(both) == "data" and muon_pt_of(both) == "bsConstrainedPt"


def test_the_same_again_is_the_same(store: Store, done: list[Path]) -> None:
    first = store.publish(done[0], None, 100, 199)
    assert store.publish(done[0], "mean_mass", 100, 199) == first
    assert len(store.revisions()) == 1


def test_extensions(store: Store, done: list[Path]) -> None:
    made = store.publish(done[0], None, 100, 199)
    more = store.extend(made.number, 249, why="nothing has moved")
    again = store.extend(more.number, 260)
    assert (more.action, more.since, more.until, more.origin) == ("extend", 200, 249, 1)
    assert store.extend(1, 260) == again  # a nightly that was killed asks twice
    assert holds(store) == [("100 - 260", 1)] and holds(store, as_of=2) == [("100 - 249", 1)]
    assert store.intervals()[0].last == again and store.at(255) == made
    assert store.payload(again) == store.payload(made)
    store.publish(done[1], None, 300)
    with pytest.raises(InputError, match="runs 261 - 310: taken .* by revision 4"):
        store.extend(1, 310)
    with pytest.raises(InputError, match="holds for runs 100 - 260 already"):
        store.extend(1, 150)
    with pytest.raises(InputError, match="holds for runs 300 - open already"):
        store.extend(4, 400)
    assert store.extend(1, 299).since == 261


def test_a_rollback_is_a_revision(store: Store, done: list[Path]) -> None:
    store.publish(done[0], None, 100)
    store.publish(done[1], None, 200)
    store.publish(done[2], None, 150, 250, replace=True)
    with pytest.raises(InputError, match="--why is missing"):
        store.rollback(1)
    made = store.rollback(1, why="wrong field map")
    assert (made.number, made.action, made.as_of, made.why) == (4, "rollback", 1, "wrong field map")
    assert holds(store) == [("100 - open", 1)]
    assert holds(store, as_of=3) == [("100 - 149", 1), ("150 - 250", 3), ("251 - open", 2)]
    with pytest.raises(InputError, match="nothing to take back"):
        store.rollback(1, why="again")
    store.rollback(3, why="it was right after all")
    assert holds(store) == holds(store, as_of=3)
    store.rollback(0, why="start again")
    assert holds(store) == [] and len(store.revisions()) == 6
    with pytest.raises(InputError, match="a rollback has no payload"):
        store.payload(made)


def test_tags(store: Store, done: list[Path]) -> None:
    store.publish(done[0], None, 100)
    frozen = store.tag("winter-2018", frozen=True, why="for the paper")
    assert frozen.frozen and frozen.source == "main"
    store.publish(done[1], None, 200)
    assert holds(store, tag="winter-2018") == [("100 - open", 1)]
    for change in (
        lambda: store.publish(done[2], None, 300, tag="winter-2018"),
        lambda: store.rollback(0, tag="winter-2018", why="x"),
    ):
        with pytest.raises(InputError, match="frozen"):
            change()
    with pytest.raises(InputError, match="frozen, and that is for ever"):
        store.tag("winter-2018", frozen=True)
    store.tag("test", of=None)
    assert holds(store, tag="test") == []
    store.publish(done[2], None, 150, tag="test")
    assert holds(store, tag="test") == [("150 - open", 5)]
    assert holds(store) == [("100 - 199", 1), ("200 - open", 3)]
    store.tag("older", of="main", as_of=1)
    assert holds(store, tag="older") == [("100 - open", 1)]
    assert [t.name for t in store.tags()] == ["main", "older", "test", "winter-2018"]
    store.tag("test", frozen=True)
    with pytest.raises(InputError, match="frozen"):
        store.publish(done[3], None, 400, tag="test")
    with pytest.raises(InputError, match="tag 'mian': there is none; did you mean 'main'"):
        store.publish(done[3], None, 400, tag="mian")
    for name in ("../main", "", "a b", "x" * 81, "-x"):
        with pytest.raises(InputError, match="expected up to 80"):
            store.tag(name)


def test_only_what_passed_unless_forced(store: Store, done: list[Path], failed: Path) -> None:
    with pytest.raises(NotPublishable, match=r"not passed \(mean\)"):
        store.publish(failed, None, 100)
    with pytest.raises(InputError, match="--why is missing"):
        store.publish(failed, None, 100, force=True, why="  ")
    assert store.revisions() == () and store.content.orphans(set(), set()) == []
    made = store.publish(failed, None, 100, 199, force=True, why="the magnet was off")
    assert made.forced and made.passed is False and made.why == "the magnet was off"
    more = store.extend(made.number, 250, why="still off")
    assert more.forced and store.intervals()[0].revision.forced
    # forced or not is a matter of the verdict
    assert not store.publish(done[0], None, 300, force=True, why="in a hurry").forced


def test_a_reason_is_one_line(store: Store, done: list[Path]) -> None:
    made = store.publish(done[0], None, 1, why="first\nline \x1b[31mand\x07 more ")
    assert made.why == "first line [31mand more"
    with pytest.raises(InputError, match="2001 characters"):
        store.tag("long", why="x" * 2001)


@pytest.mark.parametrize("name", ["payload.json", "verdict.json", "covariance.npz"])
def test_files_altered_after_the_verdict_are_not_published(
    store: Store, done: list[Path], tmp_path: Path, name: str
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(done[0], copy)
    (copy / name).write_bytes((copy / name).read_bytes() + b" ")
    for force in (False, True):
        with pytest.raises(InputError, match=f"{name}: not as the run has left it"):
            store.publish(copy, None, 100, force=force, why="it looks better")
    assert store.revisions() == ()


def test_a_payload_holds_again_for_other_runs(store: Store, done: list[Path]) -> None:
    first = store.publish(done[0], None, 1, 5)
    store.publish(done[1], None, 6, 7)
    made = store.again(first.number, 8, 9, why="it went back")
    assert store.payload(store.at(8)) == store.payload(first) and made.number == 3
    assert store.again(first.number, 8, 9) == made  # asked for twice, done once
    with pytest.raises(InputError, match="taken in tag 'main' by revision 2"):
        store.again(first.number, 7, 8)
    assert [str(i.validity) for i in store.intervals()] == ["1 - 5", "6 - 7", "8 - 9"]


def test_what_is_no_finished_run(store: Store, done: list[Path], tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(done[0], copy)
    with pytest.raises(InputError, match="a run of mean_mass, not of other"):
        store.publish(copy, "other", 100)
    payload = json.loads((copy / "payload.json").read_text())
    payload["corrections"][0]["name"] = "another"
    (copy / "payload.json").write_text(json.dumps(payload))
    with pytest.raises(InputError, match="payload.json: not as the run has left it"):
        store.publish(copy, None, 100)
    as_left(copy)
    with pytest.raises(InputError, match="has no correction 'mean_mass'"):
        store.publish(copy, None, 100)
    (copy / "payload.json").write_text('{"schema_version": 3}')
    as_left(copy)
    with pytest.raises(InputError, match="not a correctionlib payload"):
        store.publish(copy, None, 100)
    shutil.copy(done[0] / "payload.json", copy)
    as_left(copy)
    (copy / "report.html").unlink()
    (copy / "report.html").symlink_to("/etc/hostname")
    with pytest.raises(InputError, match="report.html: no plain file"):
        store.publish(copy, None, 100)
    (copy / "report.html").unlink()
    with pytest.raises(InputError, match="not finished"):
        store.publish(copy, None, 100)
    with pytest.raises(InputError, match="no such directory"):
        store.publish(tmp_path / "nowhere", None, 100)
    # a reduction that was killed before its verdict: what is there is one on another payload
    shutil.copytree(done[0], tmp_path / "other")
    work = Run.resume(tmp_path / "other")
    sums = work.reduced(work.directory.load_pass("main"), {"B": {"low": 85.0}})
    work.write_reduction(sums)
    with pytest.raises(InputError, match="not finished"):
        store.publish(tmp_path / "other", None, 100)
    assert store.revisions() == () and store.problems() == []
    assert list((store.content.folder / "incoming").iterdir()) == []


def test_damage_is_seen(store: Store, done: list[Path]) -> None:
    made = store.publish(done[0], None, 100)
    path = store.content.payload_path(str(made.payload))
    data = path.read_bytes()
    path.write_bytes(data + b" ")
    with pytest.raises(CalibError, match="its checksum differs"):
        store.payload(made)
    path.write_bytes(data)
    report = store.content.run_path(str(made.files)) / "report.html"
    report.unlink()
    assert len(store.problems()) == 1 and "report.html" in store.problems()[0]


def test_nobody_changes_a_revision(store: Store, done: list[Path]) -> None:
    store.publish(done[0], None, 100)
    for statement in ("UPDATE store_revisions SET since = 5", "DELETE FROM store_revisions"):
        with pytest.raises(sa.exc.DBAPIError, match="never changed or removed"):
            with store.engine.begin() as connection:
                connection.execute(sa.text(statement))
    assert store.revision(1).since == 100


def test_all_runs_in_one_file(store: Store, done: list[Path]) -> None:
    store.publish(done[0], None, 100, 199)
    store.publish(done[1], None, 200, 299)
    store.extend(2, 310)
    store.publish(done[2], None, 400)
    whole = correctionlib.CorrectionSet.from_string(json.dumps(store.by_run()))["mean_mass"]
    eta = np.linspace(0, 2.5, 50)
    for run in (100, 199, 200, 305, 310, 400, 10**6):
        one = correctionlib.CorrectionSet.from_string(store.payload(store.at(run)).decode())
        assert np.array_equal(whole.evaluate(run, eta), one["mean_mass"].evaluate(eta))
    for run in (99, 311, 399):
        with pytest.raises((RuntimeError, IndexError)):
            whole.evaluate(run, 0.5)


def test_differences(store: Store, done: list[Path]) -> None:
    for i, since in enumerate((100, 200)):
        store.publish(done[i], None, since)
    found = compare(store, 1, 2)
    sets = [dict(np.load(path / "covariance.npz")) for path in done[:2]]
    move = sets[1]["values"] - sets[0]["values"]
    variance = sum(np.diagonal(s["covariance"]) for s in sets)
    assert np.allclose(found.found.pull, move / np.sqrt(variance))
    assert move[0] != 0 and (move[1:] == 0).all()  # one category was fitted otherwise
    assert found.shared == 1 and found.table()["parameter"].iloc[0] == "B"
    assert compare(store, 1, 1).as_dict()["same_payload"]
    with pytest.raises(InputError, match="revision 9: there is none"):
        compare(store, 1, 9)
