"""What follows from the list of revisions, against a table of runs that is filled by hand."""

from __future__ import annotations

import time
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from calib.payload.validity import Validity
from jobs.store.revisions import Revision, intervals, tags
from tests.pace import pace_s

TOP = 25
NOTHING: dict[str, Any] = {
    "since": None,
    "until": None,
    "payload": None,
    "size": None,
    "files": None,
    "origin": None,
    "source": None,
    "as_of": None,
    "frozen": False,
    "passed": True,
    "forced": False,
    "why": "",
    "name": "",
    "config_hash": "",
    "code_version": "",
    "made": "",
    "by": "",
}


def revision(number: int, action: str, tag: str = "main", **values: Any) -> Revision:
    calibration = None if action in ("tag", "freeze") else values.pop("calibration", "scale")
    own = {"number": number, "action": action, "tag": tag, "calibration": calibration}
    return Revision(**(NOTHING | own | values))


@st.composite
def histories(draw: st.DrawFn) -> list[Revision]:
    """A list of revisions of two calibrations and two tags."""
    found: list[Revision] = []
    for number in range(1, draw(st.integers(1, 15)) + 1):
        tag = draw(st.sampled_from(["main", "other"]))
        calibration = draw(st.sampled_from(["scale", "width"]))
        action = draw(st.sampled_from(["publish", "publish", "extend", "rollback", "tag"]))
        if action in ("publish", "extend"):
            since = draw(st.integers(0, TOP))
            until = draw(st.one_of(st.none(), st.integers(since, TOP)))
            old = [r for r in found if r.action == "publish"]
            origin = draw(st.sampled_from(old)).number if action == "extend" and old else number
            values: dict[str, Any] = {"since": since, "until": until, "origin": origin}
        else:
            source = tag if action == "rollback" else draw(st.sampled_from(["main", "other", None]))
            values = {"source": source, "as_of": draw(st.integers(0, number - 1))}
        found.append(revision(number, action, tag, calibration=calibration, **values))
    return found


def by_hand(found: list[Revision], calibration: str, tag: str, as_of: int) -> dict[int, int]:
    """Return the publication of each run, by going through the list run by run."""
    table: dict[int, int] = {}
    for r in found[:as_of]:
        if r.tag != tag or r.calibration not in (calibration, None):
            continue
        if r.action in ("rollback", "tag"):
            if r.source is not None:
                table = by_hand(found, calibration, r.source, int(r.as_of or 0))
            continue
        for run in range(TOP + 3):
            if r.validity.contains(run):
                table[run] = int(r.origin or 0)
    return table


@given(histories(), st.integers(0, 15), st.sampled_from(["scale", "width"]))
def test_any_moment_against_a_table(found: list[Revision], as_of: int, calibration: str) -> None:
    for tag in ("main", "other"):
        made = intervals(found, calibration, tag, as_of)
        table = {
            run: i.revision.number
            for i in made
            for run in range(TOP + 3)
            if i.validity.contains(run)
        }
        assert table == by_hand(found, calibration, tag, as_of)
        # in order, and none overlaps the next
        for one, other in zip(made, made[1:], strict=False):
            assert one.validity.last < other.validity.since


def test_tags_of_a_list() -> None:
    found = [
        revision(1, "publish", since=1, origin=1),
        revision(2, "tag", "paper", source="main", as_of=1),
        revision(3, "freeze", "paper", frozen=True),
    ]
    known = tags(found)
    assert (known["paper"].frozen, known["paper"].source, known["paper"].as_of) == (True, "main", 1)
    assert not known["main"].frozen and known["main"].revisions == 1
    assert tags([])["main"].revisions == 0


def test_ten_thousand_revisions_are_quick() -> None:
    found = [revision(n, "publish", since=10 * n, origin=n) for n in range(1, 10_001)]
    start = time.process_time()
    made = intervals(found, "scale")
    assert time.process_time() - start < 60 * pace_s()  # 2 of them are usual
    assert len(made) == 10_000 and made[0].validity == Validity(10, 19)
