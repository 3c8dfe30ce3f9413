"""The steps of one calibration's night. Each takes what is known and returns what is known after.

A step can be done again: a run directory goes on where it stopped, and what is published or
extended already is not done a second time. So the nightly may be killed at any point.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from calib import calibrations, moves
from calib.buckets import Bucket, RunLuminosity, buckets
from calib.errors import CalibError, InputError
from calib.moves import Candidate, Decision, Residual
from calib.results import MAIN, Pass, Reduction
from jobs import collection
from jobs import steps as run_steps
from jobs.catalog.catalog import Catalog
from jobs.clusters import Workers
from jobs.configuration import Work
from jobs.datasets import Inspection
from jobs.nightly import arrivals, constants, directories
from jobs.nightly.order import before
from jobs.nightly.settings import Nightly, Task
from jobs.nightly.states import Progress, State

log = logging.getLogger(__name__)

NOTHING = "nothing new since run {}"


class NothingSelected(CalibError):
    """None of the events is selected: wait for more."""


@dataclass(frozen=True)
class Tools:
    """What the steps work with."""

    settings: Nightly
    store: Any  # a Store; None in a dry run before there is one
    catalog: Catalog
    progress: collection.Progress = run_steps.silent


@dataclass(frozen=True)
class Asked:
    """One calibration in tonight's circumstances.

    ``runs`` are those that its samples have; ``until`` the last one that it may look at, because
    of calibrations before it (None: all); ``waits_for`` says which of them; ``edges`` are the
    runs at which the constants of those change.
    """

    task: Task
    runs: tuple[RunLuminosity, ...]
    until: int | None = None
    waits_for: str = ""
    edges: tuple[int, ...] = ()

    @property
    def constants(self) -> str:
        """What its constants are called in the store."""
        return calibrations.get(self.task.calibration).name


def asked(tools: Tools, task: Task, others: Sequence[Progress]) -> Asked:
    """Return a calibration in tonight's circumstances; ``others`` are those that it comes after."""
    samples = [s for s in tools.settings.samples_of(task) if s.grows]
    runs = arrivals.runs_of(tools.catalog, samples, tools.settings.buckets.unit)
    until, name = None, ""
    for other in others:
        good = other.judged if other.judged is not None else -1
        if until is None or good < until:
            until, name = good, other.calibration
    edges = sorted({edge for other in others for edge in other.boundaries})
    return Asked(task, runs, until, name, tuple(edges))


# look --------------------------------------------------------------------------------------------
def look(tools: Tools, it: Asked, known: Progress) -> Progress:
    """Return what is to be done: a test, a calibration, or nothing."""
    if known.state is State.FAILED and known.resume:
        return known.to(State(known.resume), known.why, resume="")
    new = [r for r in it.runs if known.judged is None or r.run > known.judged]
    if not new:
        return _at_rest(it, known, _nothing(it, known))
    free = [r for r in new if it.until is None or r.run <= it.until]
    if not free:
        return _at_rest(it, known, f"waits for {it.waits_for}, which is not done with run"
                        f" {new[0].run}")  # fmt: skip
    edge = next((e for e in it.edges if e > free[0].run), None)
    free = [r for r in free if edge is None or r.run < edge]
    there = constants.interval_for(tools.store, it.constants, free[0].run,
                                   tools.settings.tag)  # fmt: skip
    since = known.since or (None if there is not None else free[0].run)
    if there is not None and since is not None and there.revision.number != known.bad:
        since = None  # a person has published others meanwhile
        known = known.to(known.state, known.why, since=None, bad=None)
    if since is None:
        first, last = free[0].run, free[-1].run
        return known.to(State.TESTING, f"runs {first} to {last}: are the constants still good?",
                        first=first, last=last, numbers={})  # fmt: skip
    bucket = bucket_from(tools.settings, it, known, since, free[-1].run)
    if not bucket.complete:
        why = "no constants yet" if there is None else f"the constants are bad since run {since}"
        return known.to(State.WAITING, f"{why}; {_amount(tools.settings, bucket)} for a full"
                        " calibration", since=since, first=None, last=None)  # fmt: skip
    if bucket.content == known.tried:
        return known
    return known.to(
        State.CALIBRATING, f"runs {bucket.first} to {bucket.last} are calibrated", since=since,
        first=bucket.first, last=bucket.last, numbers={},
    )  # fmt: skip


def _at_rest(it: Asked, known: Progress, why: str) -> Progress:
    if known.state.needs_person:
        return known
    return known.to(State.WAITING, why, first=None, last=None)


def _nothing(it: Asked, known: Progress) -> str:
    return "no runs yet" if known.judged is None else NOTHING.format(known.judged)


def _amount(settings: Nightly, bucket: Bucket) -> str:
    unit = "events" if settings.buckets.unit == "events" else "fb-1"
    return f"{bucket.luminosity:g} of {settings.buckets.minimum:g} {unit}"


def late(it: Asked, known: Progress) -> tuple[int, ...]:
    """Return judged runs of which files have come since."""
    return tuple(
        r.run for r in it.runs
        if known.judged is not None and r.run <= known.judged
        and known.seen.get(str(r.run), r.content) != r.content
    )  # fmt: skip


# buckets -----------------------------------------------------------------------------------------
def bucket_from(settings: Nightly, it: Asked, known: Progress, since: int, last: int) -> Bucket:
    """Return the bucket that begins with a run, among the runs up to ``last``."""
    found = _all_buckets(settings, it, known, (*known.boundaries, since), last)
    return next(b for b in found if b.last >= since)


def open_bucket(settings: Nightly, it: Asked, known: Progress, last: int) -> Bucket:
    """Return the bucket that the newest runs are in."""
    return _all_buckets(settings, it, known, known.boundaries, last)[-1]


def _all_buckets(
    settings: Nightly, it: Asked, known: Progress, boundaries: Sequence[int], last: int
) -> tuple[Bucket, ...]:
    return buckets(
        (r for r in it.runs if r.run <= last), settings.buckets.minimum,
        {*boundaries, *it.edges, *settings.buckets.boundaries}, closed=False,
        earlier=tuple(Bucket(**{**b, "runs": tuple(b["runs"])}) for b in known.buckets),
    )  # fmt: skip


# test --------------------------------------------------------------------------------------------
def test(tools: Tools, it: Asked, known: Progress) -> Progress:
    """Return whether the constants in force are good for the new runs."""
    assert known.first is not None and known.last is not None
    _add_sums(tools, it, known)
    force = constants.in_force(tools.store, it.constants, known.first, tools.settings.tag)
    if force is None:  # taken back meanwhile
        return known.to(State.WAITING, "no constants in force", first=None, last=None)
    try:
        found = _tested(tools, it, force, known.first, known.last)
    except NothingSelected as error:
        return known.to(State.WAITING, f"runs {known.first} to {known.last}: {error}",
                        first=None, last=None)  # fmt: skip
    numbers = {
        "test": asdict(found), "revision": force.number, "runs": [known.first, known.last],
        "limit": it.task.test.limit,
    }  # fmt: skip
    if found.outcome is Residual.UNDECIDED:
        return known.to(State.WAITING, f"runs {known.first} to {known.last}: {found.why}",
                        first=None, last=None, numbers=numbers)  # fmt: skip
    if found.outcome is Residual.WITHIN:
        why = f"runs {known.first} to {known.last} are good: {found.why}"
        return _still_good(tools, it, known, force, known.last, why, numbers)
    at = _begins(tools, it, force, known)
    why = f"not good since run {at}: {found.why}"
    earlier = [r.run for r in it.runs if known.first <= r.run < at]
    if earlier:
        known = _still_good(tools, it, known, force, earlier[-1], why, numbers)
    return known.to(
        State.CALIBRATING, why, since=at, bad=force.number, first=at, last=None, numbers=numbers,
        boundaries=tuple(sorted({*known.boundaries, at})),
    )  # fmt: skip


def _add_sums(tools: Tools, it: Asked, known: Progress) -> None:
    """Add the new runs to the sums of their bucket; older events are not read again."""
    bucket = open_bucket(tools.settings, it, known, int(known.last or 0))
    work = directories.bucket_work(
        tools.settings, it.task, bucket.first, bucket.last,
        _payloads_before(tools, it, bucket.last), _prescale(tools.settings, bucket),
    )  # fmt: skip
    shared = directories.rooms(tools.settings, it.task).sums
    with work.directory.lock("calib nightly"):
        directories.adopt(work, shared)
        run_steps.collect(work, tools.progress)
        directories.share(work, shared)


def _prescale(settings: Nightly, bucket: Bucket) -> float:
    return bucket.prescale if settings.buckets.prescale else 1.0


def _payloads_before(tools: Tools, it: Asked, run: int) -> list[str]:
    """Return the payloads of the calibrations that this one comes after, for a run."""
    found = []
    for other in before(tools.settings.calibrations, it.task.name):
        kind = calibrations.get(other.calibration).name
        interval = constants.interval_for(tools.store, kind, run, tools.settings.tag)
        if interval is None:
            raise CalibError(f"{it.task.name}: no constants of {other.name} for run {run} yet")
        found.append(str(tools.store.content.payload_path(str(interval.revision.payload))))
    return found


def _tested(
    tools: Tools, it: Asked, force: constants.InForce, first: int, last: int
) -> moves.Tested:
    payloads = [*_payloads_before(tools, it, last), force.payload]
    work = directories.test_work(tools.settings, it.task, first, last, payloads)
    shared = directories.rooms(tools.settings, it.task).sums
    with work.directory.lock("calib nightly"):
        directories.adopt(work, shared)
        found = _reduced(work, it.task.test.passes, tools)
        directories.share(work, shared)
    kind = type(work.calibration)
    left = kind.effects(found.tables, found.arrays)
    return moves.residual(
        moves.with_force(left, force.effects(kind, found.tables)), it.task.test.tolerance
    )


def _reduced(work: Work, passes: int, tools: Tools) -> Reduction:
    """Return the reduction of a test after some passes: what is looked for is small."""
    inspection = run_steps.inspect(work, tools.progress)
    with Workers(work.config.cluster) as workers:
        walk = MAIN
        for number in range(passes):
            _collected(work, inspection, walk, workers, tools)
            reduction = run_steps.reduce_sums(work, walk, {}, tools.progress).reduction
            following = work.calibration.next_pass(reduction, walk)
            if following is None or number == passes - 1:
                break
            walk = following
    return reduction


def _collected(
    work: Work, inspection: Inspection, walk: Pass, workers: Workers, tools: Tools
) -> None:
    try:
        collection.collect(work, inspection, walk, workers, tools.progress)
    except InputError as error:
        path = work.directory / "accounting.json"
        samples = run_steps.written_accounting(work)["samples"] if path.is_file() else {}
        if any(s["totals"]["selected"] == 0 < s["totals"]["read"] for s in samples.values()):
            raise NothingSelected(str(error)) from None
        raise


def _begins(tools: Tools, it: Asked, force: constants.InForce, known: Progress) -> int:
    """Return the run at which the constants cease to be good.

    The residual of each run is fitted with a step; the sums are those of the test.
    """
    runs = [r.run for r in it.runs if int(known.first or 0) <= r.run <= int(known.last or 0)]
    if len(runs) == 1:
        return runs[0]
    found = []
    for run in runs:
        try:
            one = _tested(tools, it, force, run, run)
            found.append((one.value, one.error))
        except CalibError as error:
            log.info("run %d: not tested alone (%s)", run, error)
            found.append((float("nan"), float("inf")))
    values, errors = np.array(found).T
    return runs[moves.step_at(values, errors)]


def _still_good(
    tools: Tools, it: Asked, known: Progress, force: constants.InForce, last: int, why: str,
    numbers: dict[str, Any],
) -> Progress:  # fmt: skip
    """Extend the constants in force to a run, unless they hold for it already."""
    validity = force.interval.validity
    if not validity.contains(last):
        now = constants.interval_for(tools.store, it.constants, last, tools.settings.tag)
        if now is not None and not now.validity.contains(last):
            tools.store.extend(force.number, last, why)
    return known.to(State.WAITING, why, judged=last, first=None, last=None, numbers=numbers,
                    **_judged(tools.settings, it, known, last))  # fmt: skip


def _judged(settings: Nightly, it: Asked, known: Progress, last: int) -> dict[str, Any]:
    seen = {str(r.run): r.content for r in it.runs if r.run <= last}
    found = _all_buckets(settings, it, known, known.boundaries, last)
    return {"seen": {**seen, **{k: v for k, v in known.seen.items() if k in seen}},
            "buckets": tuple(asdict(b) for b in found)}  # fmt: skip


# calibrate ---------------------------------------------------------------------------------------
def calibrate(tools: Tools, it: Asked, known: Progress) -> Progress:
    """Run the whole calibration of the bucket, with its iterations."""
    if known.last is None:  # straight from the test: is there enough?
        return _with_reason(look(tools, it, known.to(State.WAITING, known.why)), known)
    assert known.since is not None
    bucket = bucket_from(tools.settings, it, known, known.since, known.last)
    work = _bucket_work(tools, it, bucket)
    shared = directories.rooms(tools.settings, it.task).sums
    with work.directory.lock("calib nightly"):
        directories.adopt(work, shared)
        run_steps.run(work, tools.progress)
        directories.share(work, shared)
    return known.to(State.GATED, f"runs {bucket.first} to {bucket.last} are calibrated, the gate"
                    " decides", tried=bucket.content)  # fmt: skip


def _with_reason(found: Progress, known: Progress) -> Progress:
    """Return what `look` says with the numbers and the reason of the test."""
    return found.to(found.state, f"{known.why}; {found.why}", numbers=known.numbers)


def _bucket_work(tools: Tools, it: Asked, bucket: Bucket) -> Work:
    return directories.bucket_work(
        tools.settings, it.task, bucket.first, bucket.last,
        _payloads_before(tools, it, bucket.last), _prescale(tools.settings, bucket),
    )  # fmt: skip


# conclude ----------------------------------------------------------------------------------------
def conclude(tools: Tools, it: Asked, known: Progress) -> Progress:
    """Let the gate decide; once that is kept, publish, keep or hold."""
    assert known.since is not None and known.last is not None
    bucket = bucket_from(tools.settings, it, known, known.since, known.last)
    work = _bucket_work(tools, it, bucket)
    if "gate" not in known.numbers:
        force = constants.in_force(tools.store, it.constants, bucket.first, tools.settings.tag)
        decided = _gate(tools.settings, it.task, work, force)
        why = f"runs {bucket.first} to {bucket.last}: {decided.why}"
        numbers = {
            **known.numbers, "gate": asdict(decided), "directory": str(work.directory.path),
            "bucket": [bucket.first, bucket.last],
        }  # fmt: skip
        return known.to(State.GATED, why, numbers=numbers)
    decision = Decision(known.numbers["gate"]["decision"])
    if decision is Decision.NOT_CONVERGED:
        return known.to(State.NOT_CONVERGED, known.why)
    if decision is Decision.KEEP:
        return _keep(tools, it, known, bucket)
    if decision is not Decision.PUBLISH:
        return known.to(State.HELD, known.why)
    if known.bad is None and tools.settings.first == "hold":
        return known.to(State.HELD, f"{known.why}; key 'first' says hold: look, then `calib"
                        f" publish {work.directory.path}`")  # fmt: skip
    return _publish(tools, it, known, work, bucket)


def _keep(tools: Tools, it: Asked, known: Progress, bucket: Bucket) -> Progress:
    kind, tag = it.constants, tools.settings.tag
    force = constants.in_force(tools.store, kind, bucket.first, tag)
    if force is None:
        return known.to(State.HELD, "the constants in force were taken back meanwhile")
    kept = _still_good(tools, it, known, force, bucket.last, known.why, dict(known.numbers))
    return kept.to(State.WAITING, f"constants kept; {known.why}", since=None, bad=None)


def _gate(
    settings: Nightly, task: Task, work: Work, force: constants.InForce | None
) -> moves.Gated:
    verdict = run_steps.written_verdict(work)
    failed = [c["name"] for c in verdict["checks"] if not c["passed"]]
    candidate = Candidate(
        converged="converged" not in failed, passed=bool(verdict["passed"]),
        failed=", ".join(failed[:5]),
    )  # fmt: skip
    if force is None or not candidate.passed:
        return moves.gate(None, task.gate.limits, candidate)
    tables, _ = constants.written(work)
    kind = type(work.calibration)
    old = force.effects(kind, tables)
    if old is None:
        return moves.Gated(Decision.VETO, f"nothing is kept of revision {force.number} to compare"
                           " with; look, and publish by hand")  # fmt: skip
    fixed = frozenset(s.name for s in settings.samples if not s.grows)
    shared = constants.shared_events(constants.inputs_of(work), force.inputs, fixed)
    return moves.gate(
        moves.moved(constants.effects_of(work), old, shared), task.gate.limits, candidate
    )


def _publish(tools: Tools, it: Asked, known: Progress, work: Work, bucket: Bucket) -> Progress:
    settings, kind = tools.settings, it.constants
    now = constants.interval_for(tools.store, kind, bucket.first, settings.tag)
    is_open = settings.validity == "open"
    if now is not None and now.validity.contains(bucket.first):
        # an open interval ends where an open one begins; a closed one would let it go on after
        is_open = now.validity.is_open
    revision = tools.store.publish(
        work.directory.path, kind, bucket.first, None if is_open else bucket.last, settings.tag,
        why=known.why,
    )  # fmt: skip
    log.info("%s: revision %d", it.task.name, revision.number)
    known = known.to(
        State.PUBLISHED, f"revision {revision.number}, {known.why}",
        boundaries=tuple(sorted({*known.boundaries, bucket.first})),
        numbers={**known.numbers, "published": revision.number},
    )  # fmt: skip
    return known.to(
        State.PUBLISHED, known.why, judged=bucket.last, since=None, bad=None, first=None,
        last=None, **_judged(settings, it, known, bucket.last),
    )  # fmt: skip


# again -------------------------------------------------------------------------------------------
def recalibrate(tools: Tools, it: Asked, known: Progress, run: int) -> Progress:
    """Calibrate the bucket of a judged run again, with the files that came since.

    What the gate lets through is a new revision for the runs of the bucket; the sums of the old
    events are in the new ones, and the error of the move is that of nested data.
    """
    if known.judged is None or run > known.judged:
        raise InputError(f"option --recalibrate: run {run} has not been judged by {it.task.name}"
                         f" yet; the last one is {known.judged}")  # fmt: skip
    found = _all_buckets(tools.settings, it, known, known.boundaries, known.judged)
    bucket = next((b for b in found if b.first <= run <= b.last), None)
    if bucket is None:
        raise InputError(f"option --recalibrate: {it.task.name} has no bucket with run {run}")
    work = _bucket_work(tools, it, bucket)
    shared = directories.rooms(tools.settings, it.task).sums
    with work.directory.lock("calib nightly"):
        directories.adopt(work, shared)
        run_steps.run(work, tools.progress)
        directories.share(work, shared)
    force = constants.in_force(tools.store, it.constants, bucket.first, tools.settings.tag)
    decided = _gate(tools.settings, it.task, work, force)
    why = f"runs {bucket.first} to {bucket.last} again: {decided.why}"
    numbers = {"gate": asdict(decided), "directory": str(work.directory.path),
               "bucket": [bucket.first, bucket.last]}  # fmt: skip
    seen = {**known.seen, **{str(r.run): r.content for r in it.runs if r.run in bucket.runs}}
    known = known.to(known.state, why, numbers=numbers)
    if decided.decision is Decision.KEEP:
        return known.to(known.state, f"constants kept; {why}", seen=seen)
    if decided.decision is not Decision.PUBLISH:
        state = State.NOT_CONVERGED if decided.decision is Decision.NOT_CONVERGED else State.HELD
        return known.to(state, why)
    revision = tools.store.publish(
        work.directory.path, it.constants, bucket.first, bucket.last, tools.settings.tag,
        why=why, replace=True,
    )  # fmt: skip
    return known.to(State.PUBLISHED, f"revision {revision.number}, {why}", seen=seen,
                    numbers={**numbers, "published": revision.number})  # fmt: skip


STEPS = {State.TESTING: test, State.CALIBRATING: calibrate, State.GATED: conclude}
"""What is done in the states that do not rest; in all others, `look`."""
