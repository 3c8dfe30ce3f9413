"""What is to be done with a calibration tonight: a test, a calibration, or nothing."""

from __future__ import annotations

from calib.quality.buckets import Bucket
from jobs.nightly import constants
from jobs.nightly.circumstances import Asked, Tools, bucket_from
from jobs.nightly.settings import Nightly
from jobs.nightly.states import Progress, State

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
    there = constants.interval_for(tools.store, it.constants, free[0].run, tools.settings.tag)
    since = known.since or (None if there is not None else free[0].run)
    if there is not None and since is not None and there.revision.number != known.bad:
        since = None  # a person has published others meanwhile
        known = known.to(known.state, known.why, since=None, bad=None)
    if since is None:
        first, last = free[0].run, free[-1].run
        return known.to(
            State.TESTING,
            f"runs {first} to {last}: are the constants still good?",
            first=first,
            last=last,
            numbers={},
        )
    bucket = bucket_from(tools.settings, it, known, since, free[-1].run)
    if not bucket.complete:
        why = "no constants yet" if there is None else f"the constants are bad since run {since}"
        return known.to(
            State.WAITING,
            f"{why}; {_amount(tools.settings, bucket)} for a full calibration",
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
        numbers={},
    )


def _at_rest(it: Asked, known: Progress, why: str) -> Progress:
    if known.state.needs_person:
        return known
    return known.to(State.WAITING, why, first=None, last=None)


def _nothing(it: Asked, known: Progress) -> str:
    return "no runs yet" if known.judged is None else NOTHING.format(known.judged)


def _amount(settings: Nightly, bucket: Bucket) -> str:
    unit = "events" if settings.buckets.unit == "events" else "fb-1"
    return f"{bucket.luminosity:g} of {settings.buckets.minimum:g} {unit}"
