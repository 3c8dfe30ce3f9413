"""The nightly killed at random moments, and two at a time."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from jobs.nightly import states

from .conftest import FIRST, Place

Start = Callable[..., "subprocess.Popen[str]"]
LONG = 240


def prepared(folder: Path) -> Place:
    """Return a nightly with constants, two good runs and a shifted one before it."""
    folder.mkdir()
    place = Place(folder)
    place.run(FIRST)
    place.night()
    for i, shift in ((1, 0.0), (2, 0.0), (3, 0.02)):
        place.run(FIRST + i, shift=shift)
    return place


def outcome(place: Place) -> dict[str, Any]:
    """Return all that must be the same however often it was killed."""
    found = states.summary(place.store.content.folder)[0]["calibrations"][0]
    payloads = [r.payload for r in place.published()]
    return {
        "intervals": place.intervals(),
        "payloads": payloads,
        **{k: found[k] for k in ("state", "judged", "since", "boundaries")},
    }


def test_killed_at_random_moments_it_ends_as_if_it_had_not_been(
    tmp_path: Path, command: Start
) -> None:
    undisturbed = prepared(tmp_path / "undisturbed")
    began = time.monotonic()
    process = command("nightly", undisturbed.config)
    _, errors = process.communicate(timeout=LONG)
    assert process.returncode == 0, errors
    takes = time.monotonic() - began
    expected = outcome(undisturbed)
    assert expected["intervals"] == [(FIRST, FIRST + 2), (FIRST + 3, FIRST + 3)]
    assert expected["state"] == "published" and len(expected["payloads"]) == 2

    place, rng = prepared(tmp_path / "killed"), random.Random(11)
    lock = place.folder / "store" / states.LOCK_FILE
    killed = 0
    for number in range(3):
        process = command("nightly", place.config)
        deadline = time.monotonic() + LONG
        while process.poll() is None and not states.holder(lock.parent):
            assert time.monotonic() < deadline
            time.sleep(0.02)
        try:  # somewhere in its work, which begins with the lock
            process.wait(rng.uniform(0.02, 0.5) * takes * (number + 1) / 3)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            killed += 1
        process.communicate(timeout=LONG)
    assert killed
    process = command("nightly", place.config, "--json")
    out, errors = process.communicate(timeout=LONG)
    assert process.returncode == 0, errors
    assert json.loads(out)["exit_code"] == 0
    # one that was killed after its last publication is followed by a night without new runs
    for each in (undisturbed, place):
        each.night()
    assert outcome(place) == outcome(undisturbed)
    assert outcome(place)["payloads"] == expected["payloads"]
    assert not list(place.folder.rglob("*.part"))


def test_killed_between_publication_and_its_note_nothing_is_published_twice(place: Place) -> None:
    place.run(FIRST)
    place.night()
    place.run(FIRST + 1, shift=0.02)
    place.night()
    before = outcome(place)
    # the state as it was when the gate had decided
    gated = states.States.open(place.store.content.folder, "prompt")
    now = gated.progress("scale")
    numbers = {k: v for k, v in now.numbers.items() if k != "published"}
    gated.keep(
        2,
        0,
        now.to(
            states.State.GATED,
            "the gate said so",
            judged=FIRST,
            since=FIRST + 1,
            bad=1,
            first=FIRST + 1,
            last=FIRST + 1,
            numbers=numbers,
        ),
    )
    gated.engine.dispose()
    place.night()
    assert outcome(place) == before


def test_one_at_a_time_the_second_says_who_holds_it(place: Place, command: Start) -> None:
    place.run(FIRST)
    place.night()
    with states.lock(place.store.content.folder, "calib nightly other.yaml"):
        process = command("nightly", place.config)
        _, errors = process.communicate(timeout=LONG)
    assert process.returncode == 2
    assert errors.count("\n") == 1 and "`calib nightly other.yaml`, process" in errors
    assert states.holder(place.store.content.folder) == ""
