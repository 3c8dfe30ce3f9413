"""The steps of one calibration's night. Each takes what is known and returns what is known after.

`look` says which is next; `validity_test.test`, `calibrate` and `conclude` are the others.

A step can be done again: a run directory goes on where it stopped, and what is published or
extended already is not done a second time. So the nightly may be killed at any point.
"""

from __future__ import annotations

import logging
from dataclasses import asdict, replace

from calib.errors import InputError
from calib.quality import publication_gate, residual_test
from calib.quality.buckets import Bucket
from calib.quality.publication_gate import Candidate, Decision
from calib.quality.residual_test import Residual
from jobs.nightly import constants, directories
from jobs.nightly.circumstances import (
    Asked,
    Tools,
    all_buckets,
    amount,
    asked,
    bucket_from,
    bucket_work,
    is_closed,
    judged_values,
    late,
)
from jobs.nightly.settings import Nightly, Task
from jobs.nightly.states import Progress, State
from jobs.nightly.validity_test import pieces_of, test
from jobs.run.run import Run

__all__ = ["STEPS", "Asked", "Tools", "asked", "late", "look", "recalibrate", "retried"]

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


# a full calibration, the gate, and what becomes of the new constants ------------------------------
log = logging.getLogger(__name__)


def calibrate(tools: Tools, it: Asked, known: Progress) -> Progress:
    """Run the whole calibration of the bucket, with its iterations."""
    assert known.since is not None and known.last is not None
    bucket = bucket_from(tools.settings, it, known, known.since, known.last)
    work = bucket_work(tools, it, bucket)
    shared = directories.rooms(tools.settings, it.task).sums
    with work.held("calib nightly"):
        directories.adopt(work, shared)
        work.execute(tools.progress)
        directories.share(work, shared)
    return known.to(
        State.GATED,
        f"runs {bucket.first} to {bucket.last} are calibrated, the gate decides",
        tried=bucket.content,
    )


def conclude(tools: Tools, it: Asked, known: Progress) -> Progress:
    """Let the gate decide, and each run; once that is kept, publish or hold."""
    assert known.since is not None and known.last is not None
    bucket = bucket_from(tools.settings, it, known, known.since, known.last)
    work = bucket_work(tools, it, bucket)
    if "gate" not in known.numbers:
        return _decided(tools, it, known, work, bucket)
    why = str(known.numbers.get("why", known.why))
    decision = Decision(known.numbers["gate"]["decision"])
    if decision is Decision.NOT_CONVERGED:
        return _stuck(tools, it, known, State.NOT_CONVERGED, why, bucket)
    if decision is not Decision.PUBLISH:
        return _stuck(tools, it, known, State.HELD, why, bucket)
    if known.bad is None and tools.settings.first == "hold":
        why = f"{why}; key 'first' says hold: look, then `calib publish {work.directory.path}`"
        return _stuck(tools, it, known, State.HELD, why, bucket)
    return _publish(tools, it, known, work, bucket)


def _decided(tools: Tools, it: Asked, known: Progress, work: Run, bucket: Bucket) -> Progress:
    """Return what the gate says of new constants, and each run of them.

    A bucket is not taken to be of one piece: where its runs differ it is cut, and the parts are
    calibrated on their own. After an alarm nothing certifies the constants that raised it.
    """
    force = constants.in_force(tools.store, it.constants, bucket.first, tools.settings.tag)
    decided = _gate(tools.settings, it.task, work, force)
    runs = f"runs {bucket.first} to {bucket.last}"
    if decided.decision in (Decision.PUBLISH, Decision.KEEP):
        cuts, off = _one_by_one(tools, it, work, bucket)
        if cuts:
            named = ", ".join(map(str, cuts))
            return known.to(
                State.WAITING if force is None else State.BAD,
                f"{runs} are not of one piece: others begin with run {named}; each part is"
                " calibrated on its own",
                first=None,
                last=None,
                tried="",
                boundaries=tuple(sorted({*known.boundaries, bucket.first, *cuts})),
            )
        if off:
            decided = replace(decided, decision=Decision.VETO, why=off)
        elif decided.decision is Decision.KEEP:
            text = (
                f"the alarm ({known.numbers.get('test', {}).get('why', 'of a night before')}) is"
                f" not explained by new constants ({decided.why})"
            )
            decided = replace(decided, decision=Decision.VETO, why=text)
    why = f"{runs}: {decided.why}"
    numbers = {
        **known.numbers,
        "gate": asdict(decided),
        "why": why,
        "directory": str(work.directory.path),
        "bucket": [bucket.first, bucket.last],
    }
    return known.to(State.GATED, why, numbers=numbers)


def _one_by_one(tools: Tools, it: Asked, work: Run, bucket: Bucket) -> tuple[tuple[int, ...], str]:
    """Return the runs with which others begin, and a sentence on one that is off all the same.

    Each run of the bucket is tested with the constants that were made of all of them.
    """
    if len(bucket.runs) == 1:
        return (), ""
    runs = [r for r in it.runs if r.run in bucket.runs]
    pieces = pieces_of(tools, it, constants.made_by(work), runs)
    tolerance = it.task.test.tolerance
    cuts = tuple(pieces[i].first for i in residual_test.change_points(pieces, tolerance))
    found = residual_test.residual(pieces, tolerance, len(pieces))
    if found.outcome is not Residual.OUTSIDE:
        return cuts, ""
    at = pieces[found.begins]
    return cuts, f"with the new constants, run {at.first} or one after it: {found.why}"


def _stuck(
    tools: Tools, it: Asked, known: Progress, state: State, why: str, bucket: Bucket
) -> Progress:
    """Return that a person must look: at these runs alone where later ones are of another kind."""
    if not is_closed(tools.settings, it, known, bucket):
        return known.to(state, why)
    newest = max((r.number for r in tools.store.revisions()), default=0)
    entry = {"first": bucket.first, "last": bucket.last, "state": state.value, "why": why}
    return known.to(
        state,
        why,
        aside=(*known.aside, {**entry, "after": newest}),
        judged=bucket.last,
        since=None,
        bad=None,
        measured=None,
        first=None,
        last=None,
        **judged_values(tools.settings, it, known, bucket.last),
    )


def retried(tools: Tools, it: Asked, known: Progress) -> Progress:
    """Return that what waits for a person is tried again, beginning with what was put aside."""
    known = known.to(known.state, known.why, tried="")
    if not known.aside:
        return known
    entry, *rest = known.aside
    first = int(entry["first"])
    force = constants.interval_for(tools.store, it.constants, first, tools.settings.tag)
    return known.to(
        State.WAITING,
        f"runs {first} to {entry['last']} are tried again",
        aside=tuple(rest),
        judged=it.before(first),
        since=first,
        bad=None if force is None else force.revision.number,
        measured=max((r.run for r in it.runs), default=None),
        first=None,
        last=None,
    )


def _gate(
    settings: Nightly, task: Task, work: Run, force: constants.InForce | None
) -> publication_gate.Gated:
    verdict = work.verdict()
    failed = [c["name"] for c in verdict["checks"] if not c["passed"]]
    candidate = Candidate(
        converged="converged" not in failed,
        passed=bool(verdict["passed"]),
        failed=", ".join(failed[:5]),
    )
    if force is None or not candidate.passed:
        return publication_gate.gate(None, task.gate.limits, candidate)
    tables, _ = constants.written(work)
    kind = type(work.calibration)
    old = force.effects(kind, tables)
    if old is None:
        return publication_gate.Gated(
            Decision.VETO,
            f"nothing is kept of revision {force.number} to compare"
            " with; look, and publish by hand",
        )
    fixed = frozenset(s.name for s in settings.samples if not s.grows)
    shared = constants.shared_events(constants.inputs_of(work), force.inputs, fixed)
    change = constants.change(constants.effects_of(work), old, shared)
    return publication_gate.gate(change, task.gate.limits, candidate)


def _publish(tools: Tools, it: Asked, known: Progress, work: Run, bucket: Bucket) -> Progress:
    settings, kind = tools.settings, it.constants
    now = constants.interval_for(tools.store, kind, bucket.first, settings.tag)
    is_open, takes_over = settings.validity == "open", False
    if now is not None and now.validity.contains(bucket.first):
        # an open interval ends where an open one begins; a closed one would let it go on after
        is_open = now.validity.is_open
        # the runs were judged good, before later ones told that they are not
        takes_over = not is_open
    why = str(known.numbers.get("why", known.why))
    revision = tools.store.publish(
        work.directory.path,
        kind,
        bucket.first,
        None if is_open else bucket.last,
        settings.tag,
        why=why,
        replace=takes_over,
    )
    log.info("%s: revision %d", it.task.name, revision.number)
    known = known.to(
        State.PUBLISHED,
        f"revision {revision.number}, {why}",
        boundaries=tuple(sorted({*known.boundaries, bucket.first})),
        numbers={**known.numbers, "published": revision.number},
    )
    return known.to(
        State.PUBLISHED,
        known.why,
        judged=bucket.last,
        since=None,
        bad=None,
        measured=None,
        first=None,
        last=None,
        **judged_values(settings, it, known, bucket.last),
    )


def recalibrate(tools: Tools, it: Asked, known: Progress, run: int) -> Progress:
    """Calibrate the bucket of a judged run again, with the files that came since.

    What the gate lets through is a new revision for the runs of the bucket; the sums of the old
    events are in the new ones, and the error of the move is that of nested data.
    """
    if known.judged is None or run > known.judged:
        raise InputError(
            f"option --recalibrate: run {run} has not been judged by {it.task.name}"
            f" yet; the last one is {known.judged}"
        )
    found = all_buckets(tools.settings, it, known, known.boundaries, known.judged)
    bucket = next((b for b in found if b.first <= run <= b.last), None)
    if bucket is None:
        raise InputError(f"option --recalibrate: {it.task.name} has no bucket with run {run}")
    work = bucket_work(tools, it, bucket)
    shared = directories.rooms(tools.settings, it.task).sums
    with work.held("calib nightly"):
        directories.adopt(work, shared)
        work.execute(tools.progress)
        directories.share(work, shared)
    force = constants.in_force(tools.store, it.constants, bucket.first, tools.settings.tag)
    decided = _gate(tools.settings, it.task, work, force)
    why = f"runs {bucket.first} to {bucket.last} again: {decided.why}"
    numbers = {
        "gate": asdict(decided),
        "directory": str(work.directory.path),
        "bucket": [bucket.first, bucket.last],
    }
    seen = {**known.seen, **{str(r.run): r.content for r in it.runs if r.run in bucket.runs}}
    known = known.to(known.state, why, numbers=numbers)
    if decided.decision is Decision.KEEP:
        return known.to(known.state, f"constants kept; {why}", seen=seen)
    if decided.decision is not Decision.PUBLISH:
        state = State.NOT_CONVERGED if decided.decision is Decision.NOT_CONVERGED else State.HELD
        return known.to(state, why)
    revision = tools.store.publish(
        work.directory.path,
        it.constants,
        bucket.first,
        bucket.last,
        tools.settings.tag,
        why=why,
        replace=True,
    )
    return known.to(
        State.PUBLISHED,
        f"revision {revision.number}, {why}",
        seen=seen,
        numbers={**numbers, "published": revision.number},
    )


STEPS = {State.TESTING: test, State.CALIBRATING: calibrate, State.GATED: conclude}
"""What is done in the states that do not rest; in all others, `look`."""
