"""The nightly with a quick calibration: what becomes of each kind of night."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from calib.errors import InputError
from jobs.nightly.states import State

from .conftest import EVENTS, FIRST, Place, task


def states(night: object) -> dict[str, str]:
    return {p.calibration: p.state.value for p in night.calibrations}  # type: ignore[attr-defined]


def test_first_good_shifted_and_good_again(place: Place) -> None:
    place.run(FIRST)
    first = place.night()
    assert states(first) == {"scale": "published"} and first.exit_code == 0
    assert place.intervals() == [(FIRST, FIRST)]
    place.run(FIRST + 1)
    place.run(FIRST + 2)
    good = place.night()
    assert states(good) == {"scale": "waiting"} and "good" in good.calibrations[0].why
    assert place.intervals() == [(FIRST, FIRST + 2)] and len(place.published()) == 1
    payload = place.store.payload(place.store.at(FIRST + 2))

    place.run(FIRST + 3, shift=0.02)
    moved = place.night()
    assert states(moved) == {"scale": "published"}, moved.calibrations[0].why
    assert place.intervals() == [(FIRST, FIRST + 2), (FIRST + 3, FIRST + 3)]
    assert place.store.payload(place.store.at(FIRST)) == payload
    place.run(FIRST + 4, shift=0.02)
    assert states(place.night()) == {"scale": "waiting"}
    assert place.intervals() == [(FIRST, FIRST + 2), (FIRST + 3, FIRST + 4)]
    again = place.night()
    assert not again.told or again.told[-1]["state"] == "waiting"
    assert len(place.published()) == 2
    assert (place.folder / "nightly" / "nightly.html").is_file()


def test_of_several_runs_the_one_where_it_begins_is_found(place: Place) -> None:
    place.run(FIRST)
    place.night()
    for i in range(1, 7):
        place.run(FIRST + i, shift=0.02 if i >= 4 else 0.0)
    place.night()
    assert place.intervals() == [(FIRST, FIRST + 3), (FIRST + 4, FIRST + 6)]


def test_with_too_little_data_it_waits_and_says_so(place: Place) -> None:
    place.run(FIRST, n=EVENTS // 2)
    found = place.night().calibrations[0]
    assert found.state is State.WAITING and f"{EVENTS // 2} of {EVENTS} events" in found.why
    place.run(FIRST + 1, n=EVENTS // 2)
    assert states(place.night()) == {"scale": "published"}
    assert place.intervals() == [(FIRST, FIRST + 1)]
    # a small run says nothing, with the next one together it does
    place.run(FIRST + 2, n=40)
    small = place.night().calibrations[0]
    assert small.state is State.WAITING and "too little data" in small.why
    assert place.intervals() == [(FIRST, FIRST + 1)]
    place.run(FIRST + 3)
    place.night()
    assert place.intervals() == [(FIRST, FIRST + 3)]


def test_a_shift_with_too_little_data_for_a_calibration_waits_for_more(place: Place) -> None:
    place.run(FIRST)
    place.night()
    place.run(FIRST + 1, shift=0.02, n=EVENTS * 3 // 4)
    found = place.night().calibrations[0]
    assert found.state is State.BAD and found.since == FIRST + 1
    assert place.intervals() == [(FIRST, FIRST)]
    place.run(FIRST + 2, shift=0.02)
    assert states(place.night()) == {"scale": "published"}
    assert place.intervals() == [(FIRST, FIRST), (FIRST + 1, FIRST + 2)]


@pytest.mark.parametrize(
    "changes, state, words",
    [
        ({"gate": {"cut": 2e-3, "max": 0.015, "error_max": 0.01}}, "held", "too far"),
        ({"gate": {"cut": 2e-3, "max": 0.1, "error_max": 1e-6}}, "held", "error is too large"),
        ({"settings": {"limit": 0.01}}, "held", "verdict is not passed: scale"),
        ({"settings": {"enough": 2}}, "not_converged", "converged"),
    ],
)
def test_what_the_gate_holds_waits_for_a_person(
    place: Place, changes: dict[str, object], state: str, words: str
) -> None:
    place.run(FIRST)
    place.night()
    place.configure(calibrations=[task(**changes)])
    place.run(FIRST + 1, shift=0.02)
    found = place.night()
    assert states(found) == {"scale": state} and found.exit_code == 3
    assert words in found.calibrations[0].why
    assert place.intervals() == [(FIRST, FIRST)]
    place.run(FIRST + 2, shift=0.02)
    assert states(place.night()) == {"scale": state}  # nothing is tried again by itself
    place.configure(calibrations=[task(settings={"mend": "yes"})])
    assert states(place.night()) == {"scale": state}
    assert states(place.night(retry=["scale"]))["scale"] in ("published", "waiting")
    assert place.intervals() == [(FIRST, FIRST), (FIRST + 1, FIRST + 2)]


def test_after_a_person_has_published_it_goes_on(place: Place) -> None:
    place.run(FIRST)
    place.night()
    place.configure(calibrations=[task(gate={"cut": 2e-3, "max": 0.015, "error_max": 0.01})])
    place.run(FIRST + 1, shift=0.02)
    assert states(place.night()) == {"scale": "held"}
    place.store.publish(
        place.folder / "nightly" / "scale" / f"bucket-{FIRST + 1}",
        "mean_scale",
        FIRST + 1,
        FIRST + 1,
        why="looked at it",
    )
    place.run(FIRST + 2, shift=0.02)
    assert states(place.night()) == {"scale": "waiting"}
    assert place.intervals() == [(FIRST, FIRST), (FIRST + 1, FIRST + 2)]


def test_open_constants_end_where_the_next_begin(place: Place) -> None:
    place.configure(validity="open")
    for i, shift in enumerate((0.0, 0.0, 0.02, 0.02)):
        place.run(FIRST + i, shift=shift)
        place.night()
    assert place.intervals() == [(FIRST, FIRST + 1), (FIRST + 2, None)]


def test_the_first_constants_can_be_held(place: Place) -> None:
    place.configure(first="hold")
    place.run(FIRST)
    found = place.night()
    assert states(found) == {"scale": "held"} and "calib publish" in found.calibrations[0].why
    assert place.published() == []


def test_no_old_event_is_read_again(place: Place) -> None:
    place.configure(buckets={"minimum": 10 * EVENTS, "unit": "events"})
    for i in range(3):
        place.run(FIRST + i)
        place.night()
    place.configure(buckets={"minimum": 4 * EVENTS, "unit": "events"})
    place.run(FIRST + 3)
    place.night()
    assert place.intervals() == [(FIRST, FIRST + 3)]
    bucket = place.folder / "nightly" / "scale" / f"bucket-{FIRST}"
    chunks = bucket / "histograms" / "main" / "chunks"
    before = {p.name: p.stat().st_mtime_ns for p in chunks.glob("*.npz")}
    for i in (4, 5):
        place.run(FIRST + i)
        place.night()
    after = {
        p.name: p.stat().st_mtime_ns
        for p in (place.folder / "nightly" / "scale" / "sums").glob("*.npz")
    }
    assert before.items() <= after.items()


def test_one_calibration_after_another(place: Place) -> None:
    place.configure(
        calibrations=[task("second", "mean_second", after=["scale"]), task("scale", after=[])]
    )
    place.run(FIRST, shift=0.01)
    assert states(place.night()) == {"scale": "published", "second": "published"}
    document = place.store.document(place.store.at(FIRST, "mean_second"))
    content = document["corrections"][0]["data"]["content"]
    assert max(map(abs, content)) < 1e-6  # its events were corrected, by the very same mean
    place.run(FIRST + 1, shift=0.03)
    found = place.night()
    # with new constants before it, it is as good as it was
    assert states(found) == {"scale": "published", "second": "waiting"}
    assert place.intervals("mean_second") == [(FIRST, FIRST + 1)]


def test_what_comes_after_one_that_is_held_waits(place: Place) -> None:
    both = [task(settings={"limit": 0.02}), task("second", "mean_second")]
    place.configure(calibrations=both)
    place.run(FIRST)
    place.night()
    place.run(FIRST + 1, shift=0.05)
    found = place.night()
    assert states(found) == {"scale": "held", "second": "waiting"}
    assert "waits for scale" in found.calibrations[1].why
    assert place.intervals("mean_second") == [(FIRST, FIRST)]


def test_files_that_come_late_are_named(place: Place) -> None:
    for i in range(2):
        place.run(FIRST + i)
        place.night()
    place.run(FIRST, first=50_000, seed=3)
    place.run(FIRST + 2)
    found = place.night()
    assert found.late == {"scale": (FIRST,)}
    assert "late" in (place.folder / "nightly" / "nightly.html").read_text()
    again = place.night(recalibrate=FIRST)  # half of it new, and the scale is what it was
    assert "kept" in again.calibrations[0].why and again.late == {}
    assert len(place.published()) == 1


def test_late_files_that_change_a_bucket_are_published_when_a_person_asks(place: Place) -> None:
    for i in range(3):
        place.run(FIRST + i)
        place.night()
    place.run(FIRST + 1, shift=0.03, first=50_000, n=6 * EVENTS)
    assert place.night().late == {"scale": (FIRST + 1,)} and len(place.published()) == 1
    found = place.night(recalibrate=FIRST + 1)
    assert states(found) == {"scale": "published"}, found.calibrations[0].why
    assert place.intervals() == [(FIRST, FIRST), (FIRST + 1, FIRST + 1), (FIRST + 2, FIRST + 2)]
    with pytest.raises(InputError, match="has not been judged"):
        place.night(recalibrate=FIRST + 7)
    assert place.night().exit_code == 0


def test_a_failure_is_kept_and_tried_again(place: Place) -> None:
    place.configure(calibrations=[task(), task("other", "mean_second", after=[])])
    place.run(FIRST)
    place.night()
    place.run(FIRST + 1)
    path = next((place.folder / "store" / "payloads").rglob("*.json"))
    damaged = place.store.content.payload_path(place.store.at(FIRST, "mean_scale").payload)
    text = damaged.read_text()
    damaged.write_text(text + " ")
    found = place.night()
    assert states(found) == {"scale": "failed", "other": "waiting"} and found.exit_code == 1
    assert place.intervals("mean_second") == [(FIRST, FIRST + 1)]
    damaged.write_text(text)
    assert states(place.night()) == {"scale": "waiting", "other": "waiting"}
    assert place.intervals() == [(FIRST, FIRST + 1)]
    assert path.is_file()


def test_files_that_grow_are_left_alone_until_they_are_whole(place: Place) -> None:
    place.configure(complete={"unchanged": 3600})
    path = place.run(FIRST)
    found = place.night()
    assert found.arrived.files == 0 and found.arrived.not_whole == (str(path),)
    place.configure(complete={"unchanged": 0, "done": True})
    assert place.night().arrived.files == 0
    Path(f"{path}.done").touch()
    assert place.night().arrived.files == 1


def test_a_damaged_file_is_named_and_the_others_go_on(place: Place) -> None:
    place.run(FIRST)
    (place.folder / "incoming" / "bad.parquet").write_bytes(b"no parquet")
    found = place.night()
    assert states(found) == {"scale": "published"}
    assert len(found.arrived.problems) == 1 and "bad.parquet" in found.arrived.problems[0]


def test_the_numbers_are_plain_json(place: Place) -> None:
    place.run(FIRST)
    found = json.loads(json.dumps(place.night().as_dict()))
    assert found["calibrations"][0]["state"] == "published"
    assert found["steps"][-1]["numbers"]["published"] == 1
