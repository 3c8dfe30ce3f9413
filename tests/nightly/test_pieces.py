"""Buckets that are not of one piece, shifts that go back, small ones that stay, and who is told."""

from __future__ import annotations

import json
import re
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from calib.errors import InputError
from jobs.cli import app
from jobs.nightly.night import Night
from jobs.nightly.overview import standing
from jobs.nightly.settings import load
from jobs.nightly.states import State

from .conftest import EVENTS, FIRST, Place, task

FULL = 4 * EVENTS


@pytest.fixture
def place(tmp_path: Path) -> Place:
    """A nightly whose bucket takes four runs, with constants from its first one, and who hears."""
    made = Place(tmp_path)
    configure(made)
    made.run(FIRST, n=FULL)
    made.night()
    return made


def configure(place: Place, **changes: Any) -> None:
    told = place.folder / "told.jsonl"
    values = {
        "buckets": {"minimum": FULL, "unit": "events"},
        "calibrations": [task(test={"limit": 4e-3, "false_alarm": 1e-4, "fraction": 1.0})],
        "notify": [{"command": ["sh", "-c", f"cat >> '{told}'; echo >> '{told}'"]}],
    }
    place.configure(**values | changes)


def texts(place: Place) -> list[str]:
    path = place.folder / "told.jsonl"
    lines = path.read_text().splitlines() if path.is_file() else []
    return [json.loads(line)["text"] for line in lines if line]


def state(night: Night) -> State:
    return night.calibrations[0].state


def content(place: Place, run: int) -> float:
    document = place.store.document(place.store.at(run))
    return float(np.mean(document["corrections"][0]["data"]["content"]))


def shifted(place: Place, shifts: list[float], nightly: bool = True) -> Night:
    """Write a run for each shift, with a night after each or after all of them."""
    for i, shift in enumerate(shifts):
        place.run(FIRST + 1 + i, shift=shift)
        if nightly:
            night = place.night()
    return night if nightly else place.night()


@pytest.mark.parametrize("nightly", [True, False], ids=["run by run", "in one night"])
def test_a_shift_that_goes_back_is_published_for_its_own_runs(place: Place, nightly: bool) -> None:
    shifts = [0.03, 0.03, 0.0, 0.0, 0.0]
    shifted(place, shifts, nightly)
    assert place.intervals() == [(FIRST, FIRST), (FIRST + 1, FIRST + 2), (FIRST + 3, FIRST + 5)]
    for i, shift in enumerate(shifts):
        assert content(place, FIRST + 1 + i) == pytest.approx(shift, abs=4e-3)
    first, last = place.store.at(FIRST), place.store.at(FIRST + 5)
    assert first.payload == last.payload and "hold again" in last.why


def test_up_and_down_in_one_bucket_is_never_averaged(place: Place) -> None:
    shifted(place, [0.02, 0.02, -0.02, -0.02, -0.02, -0.02], nightly=False)
    for run in range(FIRST + 1, FIRST + 7):
        truth = 0.02 if run <= FIRST + 2 else -0.02
        assert content(place, run) == pytest.approx(truth, abs=4e-3)


def test_the_first_bucket_is_cut_as_well(tmp_path: Path) -> None:
    place = Place(tmp_path)
    configure(place)
    for i, shift in enumerate([0.0, 0.0, 0.03, 0.03]):
        place.run(FIRST + i, shift=shift)
    place.night()
    for i in (4, 5):
        place.run(FIRST + i, shift=0.03)
        place.night()
    assert place.intervals() == [(FIRST, FIRST + 1), (FIRST + 2, FIRST + 5)]
    assert content(place, FIRST + 1) == pytest.approx(0.0, abs=4e-3)
    assert content(place, FIRST + 2) == pytest.approx(0.03, abs=4e-3)


def test_an_alarm_is_told_at_once_and_in_every_night_after_it(place: Place) -> None:
    before = len(texts(place))
    for i in range(2):
        place.run(FIRST + 1 + i, shift=0.03)
        night = place.night()
        assert state(night) is State.BAD and night.exit_code == 3
        assert f"bad since run {FIRST + 1}" in night.calibrations[0].why or i == 0
    night = place.night()  # no new run
    assert state(night) is State.BAD and night.exit_code == 3
    assert len(texts(place)) == before + 3 and "still bad" in texts(place)[-1]
    found = standing(str(place.folder / "store"))
    assert found["exit_code"] == 3 and "bad" in found["needs_person"][0]
    assert "Needs a person" in (place.folder / "nightly" / "nightly.html").read_text()


def test_a_small_shift_that_stays_is_seen_and_the_judged_runs_are_corrected(place: Place) -> None:
    """Off by 1.3 limits, three standard deviations a run, from the first run on."""
    test = {"limit": 1.3e-3, "false_alarm": 1e-4, "fraction": 1.0}
    gate = {"cut": 1e-3, "max": 0.1, "error_max": 0.01}
    configure(place, calibrations=[task(test=test, gate=gate)])
    outcomes = []
    for i in range(10):
        place.run(FIRST + 1 + i, shift=1.7e-3)
        numbers = place.night().calibrations[0].numbers
        outcomes += [str(numbers["test"]["outcome"])] if "test" in numbers else []
    assert "outside" in outcomes[1:6] and outcomes[0] != "outside"
    intervals = place.intervals()
    assert intervals == [(FIRST, FIRST), (FIRST + 1, intervals[-1][1])], intervals
    assert content(place, FIRST + 1) == pytest.approx(1.7e-3, abs=1.3e-3)


def test_after_an_alarm_constants_that_have_not_moved_are_not_kept(place: Place) -> None:
    configure(place, calibrations=[task(gate={"cut": 0.05, "max": 0.1, "error_max": 0.01})])
    night = shifted(place, [0.03] * 4)
    assert state(night) is State.HELD and "not explained" in night.calibrations[0].why
    assert place.intervals() == [(FIRST, FIRST)]


def test_runs_that_are_held_do_not_stop_those_after_them(place: Place) -> None:
    configure(place, calibrations=[task(gate={"cut": 2e-3, "max": 0.02, "error_max": 0.01})])
    night = shifted(place, [0.03, 0.03, 0.0, 0.0])
    known = night.calibrations[0]
    assert [(a["first"], a["last"]) for a in known.aside] == [(FIRST + 1, FIRST + 2)]
    assert night.exit_code == 3 and place.intervals() == [(FIRST, FIRST), (FIRST + 3, FIRST + 4)]
    assert standing(str(place.folder / "store"))["exit_code"] == 3
    before = len(texts(place))
    assert place.night().exit_code == 3 and "still held, runs" in texts(place)[before]
    configure(place)
    night = place.night(retry=["scale"])
    assert night.exit_code == 0 and not night.calibrations[0].aside
    assert (FIRST + 1, FIRST + 2) in place.intervals()
    assert content(place, FIRST + 1) == pytest.approx(0.03, abs=4e-3)


# trouble ------------------------------------------------------------------------------------------
def trouble(place: Place) -> list[str]:
    """Return what a person must know, which status, notification and page have to say alike."""
    heard = len(texts(place))
    night = place.night()
    found = standing(str(place.folder / "store"))
    page = (place.folder / "nightly" / "nightly.html").read_text()
    assert night.exit_code == found["exit_code"] == 3 and "Needs a person" in page
    assert len(texts(place)) == heard + 1
    for text in night.troubles:
        assert text in found["needs_person"] and text in texts(place)[-1]
    return list(night.troubles)


def test_files_that_cannot_be_read_are_told(place: Place) -> None:
    good = place.run(FIRST + 1)
    good.with_name("cut.parquet").write_bytes(good.read_bytes()[:3000])
    assert "cut.parquet" in trouble(place)[0]
    assert place.intervals() == [(FIRST, FIRST + 1)]  # the others go on


def test_files_that_are_never_whole_are_told_in_the_second_night(place: Place) -> None:
    (place.folder / "incoming" / "empty.parquet").touch()
    assert place.night().exit_code == 0
    assert "empty.parquet: not whole" in trouble(place)[0]


def test_files_and_folders_that_are_gone_are_told(place: Place) -> None:
    place.run(FIRST + 1)
    place.night()
    folder = place.folder / "incoming"
    folder.rename(place.folder / "elsewhere")
    found = trouble(place)
    assert "watched folder" in found[0] and sum("is gone" in text for text in found) == 2


def test_a_run_whose_file_is_gone_is_left_out_until_it_is_back(place: Place) -> None:
    path = place.run(FIRST + 1)
    place.night()
    other = place.run(FIRST + 2, first=50_000)
    place.run(FIRST + 2)
    place.night()
    other.rename(other.with_suffix(".away"))
    place.run(FIRST + 3)
    [text] = trouble(place)
    assert f"run {FIRST + 2} of data is left out" in text and "--quality bad" in text
    assert place.intervals()[-1][1] == FIRST + 3  # the later one has gone on
    other.with_suffix(".away").rename(other)
    assert place.night().troubles == () and path.is_file()


def test_a_file_that_breaks_off_while_it_is_read_leaves_its_run_out(place: Place) -> None:
    place.run(FIRST + 1)
    broken = place.run(FIRST + 2)
    place.run(FIRST + 3)
    data = bytearray(broken.read_bytes())
    middle = slice(len(data) // 2, len(data) * 3 // 4)  # run and footer are as they were
    data[middle] = bytes(middle.stop - middle.start)
    broken.write_bytes(bytes(data))
    found = trouble(place)
    assert any(broken.name in text and "left out" in text for text in found)
    assert place.night().exit_code == 3  # until somebody does something
    assert place.intervals()[-1][1] == FIRST + 3
    time.sleep(0.01)
    place.run(FIRST + 2)  # copied again
    assert place.night().late == {"scale": (FIRST + 2,)}


def test_a_run_waits_for_the_files_that_are_expected_of_it(place: Place) -> None:
    table = place.folder / "expected.csv"
    table.write_text(f"run,files\n{FIRST},1\n{FIRST + 1},2\n")
    configure(place, complete={"unchanged": 0, "expected": "expected.csv"})
    place.run(FIRST + 1)
    assert "1 of 2 files have come" in trouble(place)[0]
    assert place.intervals() == [(FIRST, FIRST)]
    place.run(FIRST + 1, first=50_000)
    assert place.night().exit_code == 0 and place.intervals() == [(FIRST, FIRST + 1)]
    table.write_text("run,luminosity\n1,2\n")
    with pytest.raises(InputError, match="expected.csv: found columns luminosity, run"):
        place.night()


def test_a_night_that_ends_with_an_error_is_told(place: Place) -> None:
    configure(place, luminosities="gone.csv")
    with pytest.raises(InputError):
        place.night()
    assert "exit code 2" in texts(place)[-1] and "gone.csv" in texts(place)[-1]
    found = standing(str(place.folder / "store"))
    assert found["exit_code"] == 1 and "gone.csv" in found["needs_person"][0]
    page = (place.folder / "nightly" / "nightly.html").read_text()
    assert "Needs a person" in page and "gone.csv" in page
    configure(place)
    assert place.night().exit_code == 0
    assert standing(str(place.folder / "store"))["exit_code"] == 0


def test_a_store_that_cannot_be_opened_is_told(place: Place) -> None:
    (place.folder / "store" / "store.sqlite").write_bytes(b"no database" * 100)
    with pytest.raises(InputError):
        place.night()
    assert "store.sqlite" in texts(place)[-1]
    assert "store.sqlite" in (place.folder / "nightly" / "nightly.html").read_text()


def test_a_calibration_named_by_its_class_reads_what_it_has_published(tmp_path: Path) -> None:
    place = Place(tmp_path)
    (tmp_path / "own_ring.py").write_text(
        "from tests.nightly.mean_scale import MeanScale\n\n\n"
        "class Own(MeanScale):\n"
        "    name = 'own_ring'\n    payload_names = ('own_ring',)\n"
    )
    sys.path.insert(0, str(tmp_path))
    try:
        place.configure(calibrations=[task(calibration="own_ring:Own")])
        for i in range(2):
            place.run(FIRST + i)
            night = place.night()
            assert night.exit_code == 0, night.calibrations[0].why
    finally:
        sys.path.remove(str(tmp_path))
    assert place.intervals("own_ring") == [(FIRST, FIRST + 1)]


def test_every_commented_line_of_the_example_can_be_used(tmp_path: Path) -> None:
    """The comments that hold keys, each set free: `on` is a word like any other."""
    text = CliRunner().invoke(app, ["nightly", "--example"]).stdout
    free = re.sub(r"(?m)^(\s*)# (?=- |  \S+:)", r"\1", text).replace("notify: []", "notify:")
    assert free.count("\n") == text.count("\n") and len(free) < len(text) - 8
    path = tmp_path / "nightly.yaml"
    path.write_text(free)
    found = load(path)
    assert "held" in found.notify[0].on and len(found.notify) == 2 and len(found.samples) == 3
