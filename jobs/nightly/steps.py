"""The steps of one calibration's night. Each takes what is known and returns what is known after.

A step can be done again: a run directory goes on where it stopped, and what is published or
extended already is not done a second time. So the nightly may be killed at any point.
"""

from __future__ import annotations

from jobs.nightly import constants
from jobs.nightly.calibrating import calibrate, conclude, recalibrate, retried
from jobs.nightly.circumstances import Asked, Tools, amount, asked, bucket_from, is_closed, late
from jobs.nightly.states import Progress, State
from jobs.nightly.validity_test import test

__all__ = ["STEPS", "Asked", "Tools", "asked", "late", "look", "recalibrate", "retried"]

STEPS = {State.TESTING: test, State.CALIBRATING: calibrate, State.GATED: conclude}
"""What is done in the states that do not rest; in all others, `look`."""

OF_TEST = ("test", "revision", "runs", "limit")
"""Numbers of the alarm, which stay with the calibration that it has asked for."""

NOTHING = "nothing new since run {}"


def look(tools: Tools, it: Asked, known: Progress) -> Progress:
    """Return what is to be done: a test, a calibration, or nothing."""
    if known.state is State.FAILED and known.resume:
        return known.to(State(known.resume), known.why, resume="")
    new = [r for r in it.runs if known.judged is None or r.run > known.judged]
    if not new:
        return _at_rest(it, known, _nothing(it, known))
    free = [r for r in new if it.until is None or r.run <= it.until]
    if not free:
        return _at_rest(
            it, known, f"waits for {it.waits_for}, which is not done with run {new[0].run}"
        )
    edge = next((e for e in it.edges if e > free[0].run), None)
    free = [r for r in free if edge is None or r.run < edge]
    known = _without_published(tools, it, known)
    there = constants.interval_for(tools.store, it.constants, free[0].run, tools.settings.tag)
    since = known.since or (None if there is not None else free[0].run)
    if there is not None and since is not None and there.revision.number != known.bad:
        since = None  # a person has published others meanwhile
        known = known.to(known.state, known.why, since=None, bad=None, measured=None)
    if since is None:
        first, last = free[0].run, free[-1].run
        return known.to(
            State.TESTING,
            f"runs {first} to {last}: are the constants still good?",
            first=first,
            last=last,
            numbers={},
        )
    last = free[-1].run
    if there is not None and tools.states is not None and (known.measured or -1) < last:
        why = f"runs {since} to {last}: are they of one piece?"
        paused = known.state.value if known.state.is_stuck else ""
        return known.to(State.TESTING, why, first=since, last=last, paused=paused)
    return _bucket(tools, it, known, (since, last), there is not None)


def _bucket(
    tools: Tools, it: Asked, known: Progress, runs: tuple[int, int], is_bad: bool
) -> Progress:
    """Return whether the bucket that begins with a run is calibrated, or waits for more."""
    since, last = runs
    bucket = bucket_from(tools.settings, it, known, since, last)
    if not bucket.complete and not is_closed(tools.settings, it, known, bucket):
        why = f"the constants are bad since run {since}" if is_bad else "no constants yet"
        return known.to(
            State.BAD if is_bad else State.WAITING,
            f"{why}; {amount(tools.settings, bucket)}",
            since=since,
            first=None,
            last=None,
        )
    if bucket.content == known.tried:
        return known
    return known.to(
        State.CALIBRATING,
        f"runs {bucket.first} to {bucket.last} are calibrated",
        since=since,
        first=bucket.first,
        last=bucket.last,
        numbers={k: v for k, v in known.numbers.items() if k in OF_TEST},
    )


def _without_published(tools: Tools, it: Asked, known: Progress) -> Progress:
    """Return what is known without the runs put aside that a person has published since."""
    left = []
    for entry in known.aside:
        interval = constants.interval_for(
            tools.store, it.constants, int(entry["first"]), tools.settings.tag
        )
        holds = interval is not None and interval.validity.contains(int(entry["last"]))
        if not (interval is not None and holds and interval.revision.number > entry["after"]):
            left.append(entry)
    return known.to(known.state, known.why, aside=tuple(left)) if known.aside else known


def _at_rest(it: Asked, known: Progress, why: str) -> Progress:
    if known.state.needs_person:
        return known
    return known.to(State.WAITING, why, first=None, last=None)


def _nothing(it: Asked, known: Progress) -> str:
    return "no runs yet" if known.judged is None else NOTHING.format(known.judged)
