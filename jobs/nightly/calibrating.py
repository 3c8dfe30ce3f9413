"""A full calibration, the gate, and what becomes of the new constants."""

from __future__ import annotations

import logging
from dataclasses import asdict

from calib.errors import InputError
from calib.quality import publication_gate
from calib.quality.buckets import Bucket
from calib.quality.publication_gate import Candidate, Decision
from jobs.nightly import constants, directories
from jobs.nightly.circumstances import (
    Asked,
    Tools,
    all_buckets,
    bucket_from,
    bucket_work,
    judged_values,
    still_good,
)
from jobs.nightly.next_step import look
from jobs.nightly.settings import Nightly, Task
from jobs.nightly.states import Progress, State
from jobs.run.run import Run

log = logging.getLogger(__name__)


def calibrate(tools: Tools, it: Asked, known: Progress) -> Progress:
    """Run the whole calibration of the bucket, with its iterations."""
    if known.last is None:  # straight from the test: is there enough?
        return _with_reason(look(tools, it, known.to(State.WAITING, known.why)), known)
    assert known.since is not None
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


def _with_reason(found: Progress, known: Progress) -> Progress:
    """Return what `look` says with the numbers and the reason of the test."""
    return found.to(found.state, f"{known.why}; {found.why}", numbers=known.numbers)


def conclude(tools: Tools, it: Asked, known: Progress) -> Progress:
    """Let the gate decide; once that is kept, publish, keep or hold."""
    assert known.since is not None and known.last is not None
    bucket = bucket_from(tools.settings, it, known, known.since, known.last)
    work = bucket_work(tools, it, bucket)
    if "gate" not in known.numbers:
        force = constants.in_force(tools.store, it.constants, bucket.first, tools.settings.tag)
        decided = _gate(tools.settings, it.task, work, force)
        why = f"runs {bucket.first} to {bucket.last}: {decided.why}"
        numbers = {
            **known.numbers,
            "gate": asdict(decided),
            "directory": str(work.directory.path),
            "bucket": [bucket.first, bucket.last],
        }
        return known.to(State.GATED, why, numbers=numbers)
    decision = Decision(known.numbers["gate"]["decision"])
    if decision is Decision.NOT_CONVERGED:
        return known.to(State.NOT_CONVERGED, known.why)
    if decision is Decision.KEEP:
        return _keep(tools, it, known, bucket)
    if decision is not Decision.PUBLISH:
        return known.to(State.HELD, known.why)
    if known.bad is None and tools.settings.first == "hold":
        return known.to(
            State.HELD,
            f"{known.why}; key 'first' says hold: look, then `calib publish {work.directory.path}`",
        )
    return _publish(tools, it, known, work, bucket)


def _keep(tools: Tools, it: Asked, known: Progress, bucket: Bucket) -> Progress:
    kind, tag = it.constants, tools.settings.tag
    force = constants.in_force(tools.store, kind, bucket.first, tag)
    if force is None:
        return known.to(State.HELD, "the constants in force were taken back meanwhile")
    kept = still_good(tools, it, known, force, bucket.last, known.why, dict(known.numbers))
    return kept.to(State.WAITING, f"constants kept; {known.why}", since=None, bad=None)


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
    is_open = settings.validity == "open"
    if now is not None and now.validity.contains(bucket.first):
        # an open interval ends where an open one begins; a closed one would let it go on after
        is_open = now.validity.is_open
    revision = tools.store.publish(
        work.directory.path,
        kind,
        bucket.first,
        None if is_open else bucket.last,
        settings.tag,
        why=known.why,
    )
    log.info("%s: revision %d", it.task.name, revision.number)
    known = known.to(
        State.PUBLISHED,
        f"revision {revision.number}, {known.why}",
        boundaries=tuple(sorted({*known.boundaries, bucket.first})),
        numbers={**known.numbers, "published": revision.number},
    )
    return known.to(
        State.PUBLISHED,
        known.why,
        judged=bucket.last,
        since=None,
        bad=None,
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
