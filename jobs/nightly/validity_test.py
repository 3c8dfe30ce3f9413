"""The validity test: whether the constants in force are still good for the new runs."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any

import numpy as np

from calib.calibrations import get
from calib.calibrations.capabilities import corrects, following_pass
from calib.digests import digest
from calib.errors import CalibError, InputError
from calib.quality import residual_test
from calib.quality.buckets import RunLuminosity
from calib.quality.residual_test import COMMON, Measured, Residual, Tested
from calib.results import MAIN, Pass, Reduction
from jobs.clusters import Workers
from jobs.event_loop import collection
from jobs.events.files import Inspection
from jobs.nightly import constants, directories
from jobs.nightly.circumstances import (
    Asked,
    Tools,
    amount,
    bucket_from,
    judged_values,
    open_bucket,
    payloads_before,
    prescale_of,
    still_good,
)
from jobs.nightly.constants import InForce
from jobs.nightly.states import Progress, State
from jobs.run.run import Run

log = logging.getLogger(__name__)


class NothingSelected(CalibError):
    """None of the events is selected: wait for more."""


def test(tools: Tools, it: Asked, known: Progress) -> Progress:
    """Return whether the constants in force are good for the new runs."""
    assert known.first is not None and known.last is not None
    _add_sums(tools, it, known)
    force = constants.in_force(tools.store, it.constants, known.first, tools.settings.tag)
    if force is None:  # taken back meanwhile
        return known.to(State.WAITING, "no constants in force", first=None, last=None, paused="")
    runs = it.between(known.first, known.last)
    try:
        new = pieces_of(tools, it, force, runs)
    except NothingSelected as error:
        why = f"runs {known.first} to {known.last}: {error}"
        state = State.WAITING if known.since is None else State(known.paused or State.BAD)
        changes: dict[str, Any] = {"first": None, "last": None, "paused": ""}
        return known.to(state, why, **changes, measured=known.since and known.last)
    if known.since is not None:
        return _while_bad(tools, it, known, new)
    pieces = [*_judged(tools, it, known, force), *new]
    fresh = sum(piece.last > (known.measured or -1) for piece in new)
    found = residual_test.residual(pieces, it.task.test.tolerance, len(new), fresh)
    numbers = _numbers(it, force, found, (known.first, known.last))
    if found.outcome is Residual.UNDECIDED:
        why = f"runs {known.first} to {known.last}: {found.why}"
        changes = {"first": None, "last": None, "measured": known.last, "numbers": numbers}
        return known.to(State.WAITING, why, **changes)
    if found.outcome is Residual.WITHIN:
        why = f"runs {known.first} to {known.last} are good: {found.why}"
        return still_good(tools, it, known, force, (known.first, known.last), why, numbers)
    at = _begins(tools, it, force, pieces, found)
    return _not_good(tools, it, known, force, at, found, numbers)


def _numbers(it: Asked, force: InForce, found: Tested, runs: tuple[int, int]) -> dict[str, Any]:
    return {
        "test": asdict(found),
        "revision": force.number,
        "runs": list(runs),
        "limit": it.task.test.limit,
    }


def _not_good(
    tools: Tools,
    it: Asked,
    known: Progress,
    force: InForce,
    at: int,
    found: Tested,
    numbers: dict[str, Any],
) -> Progress:
    """Return what follows from an alarm: those before are good, or were judged too early."""
    assert known.first is not None and known.last is not None
    again = _former_again(tools, it, known, at)
    if again is not None:
        return again
    why = f"not good since run {at}: {found.why}"
    earlier = it.before(at)
    if earlier is not None and earlier >= known.first:
        known = still_good(tools, it, known, force, (known.first, earlier), why, numbers)
    elif known.judged is not None and known.judged >= at:
        known = known.to(known.state, why, judged=earlier)  # they are judged again
    known = known.to(
        State.BAD,
        why,
        since=at,
        bad=force.number,
        measured=max(r.run for r in it.runs if r.run <= _last(numbers)),
        first=None,
        last=None,
        numbers=numbers,
        boundaries=tuple(sorted({*known.boundaries, at})),
    )
    bucket = bucket_from(tools.settings, it, known, at, _last(numbers))
    return known.to(State.BAD, f"{why}; {amount(tools.settings, bucket)}")


def _last(numbers: dict[str, Any]) -> int:
    return int(numbers["runs"][1])


def _former_again(tools: Tools, it: Asked, known: Progress, at: int) -> Progress | None:
    """Return that the constants before those in force hold again, None where they do not."""
    assert known.first is not None and known.last is not None
    before = constants.former(tools.store, it.constants, at, tools.settings.tag)
    if before is None or at < known.first:
        return None
    pieces = pieces_of(tools, it, before, it.between(at, known.last))
    found = residual_test.residual(pieces, it.task.test.tolerance, len(pieces))
    if found.outcome is not Residual.WITHIN:
        return None
    runs = (at, known.last)
    numbers = _numbers(it, before, found, runs)
    earlier = it.before(at)
    if earlier is not None and earlier >= known.first:
        force = constants.in_force(tools.store, it.constants, known.first, tools.settings.tag)
        assert force is not None
        why = f"good up to run {earlier}, those of revision {before.number} from run {at} on"
        known = still_good(tools, it, known, force, (known.first, earlier), why, numbers)
    why = f"the constants of revision {before.number} hold again from run {at} on: {found.why}"
    revision = tools.store.again(before.number, at, runs[1], tools.settings.tag, why)
    known = known.to(State.PUBLISHED, why, boundaries=tuple(sorted({*known.boundaries, at})))
    return known.to(
        State.PUBLISHED,
        f"revision {revision.number}, {why}",
        judged=runs[1],
        first=None,
        last=None,
        numbers={**numbers, "published": revision.number, "bucket": list(runs)},
        **judged_values(tools.settings, it, known, runs[1]),
    )


def _while_bad(tools: Tools, it: Asked, known: Progress, pieces: Sequence[Measured]) -> Progress:
    """Return where the runs since the alarm differ among themselves: there others begin."""
    assert known.since is not None and known.last is not None
    cuts = residual_test.change_points(pieces, it.task.test.tolerance)
    begins = [pieces[i].first for i in cuts]
    text = f"; others begin with run {', '.join(map(str, begins))}" if begins else ""
    known = known.to(
        State(known.paused or State.BAD),
        known.why,
        measured=known.last,
        first=None,
        last=None,
        paused="",
        boundaries=tuple(sorted({*known.boundaries, *begins})),
    )
    if known.state is not State.BAD:
        return known
    bucket = bucket_from(tools.settings, it, known, known.since or 0, known.measured or 0)
    why = f"the constants are bad since run {known.since}{text}; {amount(tools.settings, bucket)}"
    return known.to(State.BAD, why)


# measuring ---------------------------------------------------------------------------------------
def pieces_of(
    tools: Tools, it: Asked, applied: InForce, runs: Sequence[RunLuminosity]
) -> list[Measured]:
    """Return what is left of runs with constants applied, one by one.

    Runs that would say too little alone (the error of their common residual, from their share of
    the whole) go together. What was measured before is not measured again.
    """
    whole = _measured(tools, it, applied, runs)
    place = whole.names.index(COMMON) if COMMON in whole.names else 0
    if len(runs) == 1 or not whole.names:
        return [whole]
    least = (whole.errors[place] / (it.task.test.power * it.task.test.limit)) ** 2
    total = sum(r.luminosity for r in runs)
    groups: list[list[RunLuminosity]] = [[]]
    for run in runs:
        if sum(r.luminosity for r in groups[-1]) >= least * total and groups[-1]:
            groups.append([])
        groups[-1].append(run)
    if len(groups) > 1 and sum(r.luminosity for r in groups[-1]) < least * total:
        groups[-2] += groups.pop()
    if len(groups) == 1:
        return [whole]
    try:
        return [_measured(tools, it, applied, group) for group in groups]
    except CalibError as error:
        log.info("runs %d to %d: not tested one by one (%s)", runs[0].run, runs[-1].run, error)
        return [whole]


def _content(it: Asked, runs: Sequence[RunLuminosity]) -> str:
    test = it.task.test
    return digest([r.content for r in runs], test.fraction, test.settings, test.passes)


def _measured(tools: Tools, it: Asked, applied: InForce, runs: Sequence[RunLuminosity]) -> Measured:
    """Return what is left of some runs together, as it was kept or as it is measured now."""
    assert tools.states is not None
    first, last, content = runs[0].run, runs[-1].run, _content(it, runs)
    for kept, piece in tools.states.remembered(it.task.name, applied.sha):
        if (piece.first, piece.last, kept) == (first, last, content):
            return piece
    found = replace(_left(tools, it, applied, first, last), first=first, last=last)
    tools.states.remember(it.task.name, applied.sha, content, found)
    return found


def _judged(tools: Tools, it: Asked, known: Progress, force: InForce) -> list[Measured]:
    """Return what was left of earlier runs that were judged good, since the last boundary."""
    assert tools.states is not None and known.first is not None
    begin = max((b for b in known.boundaries if b <= known.first), default=0)
    found: dict[int, Measured] = {}
    for content, piece in tools.states.remembered(it.task.name, force.sha):
        runs = it.between(piece.first, piece.last)
        inside = begin <= piece.first and piece.last < known.first
        if inside and runs and content == _content(it, runs):
            # of overlapping ones the finest: the whole of a night is kept beside its runs
            overlaps = [f for f in found.values() if f.last >= piece.first]
            if all(piece.last <= f.last for f in overlaps):
                for f in overlaps:
                    found.pop(f.first)
                found[piece.first] = piece
    return [found[first] for first in sorted(found)]


def _add_sums(tools: Tools, it: Asked, known: Progress) -> None:
    """Add the new runs to the sums of their bucket; older events are not read again."""
    bucket = open_bucket(tools.settings, it, known, int(known.last or 0))
    work = directories.bucket_work(
        tools.settings,
        it.task,
        bucket.first,
        bucket.last,
        payloads_before(tools, it, bucket.last),
        prescale_of(tools.settings, bucket),
    )
    shared = directories.rooms(tools.settings, it.task).sums
    with work.held("calib nightly"):
        directories.adopt(work, shared)
        work.collect(tools.progress)
        directories.share(work, shared)


def _left(tools: Tools, it: Asked, applied: InForce, first: int, last: int) -> Measured:
    """Return what is left of the events of some runs with constants applied.

    Constants that correct nothing are measured again, and compared with those applied.
    """
    is_applied = corrects(get(it.task.calibration)) != "nothing"
    payloads = payloads_before(tools, it, last)
    if is_applied:
        payloads = [*payloads, applied.payload]
    work = directories.test_work(tools.settings, it.task, first, last, payloads, applied.sha)
    shared = directories.rooms(tools.settings, it.task).sums
    with work.held("calib nightly"):
        directories.adopt(work, shared)
        found = _reduced(work, it.task.test.passes, tools)
        directories.share(work, shared)
    kind = type(work.calibration)
    left = kind.effects(found.tables, found.arrays)
    before = applied.effects(kind, found.tables)
    if is_applied:
        return residual_test.measured(left, residual_test.with_force(left, before))
    if before is None:
        raise CalibError(
            f"nothing is kept of revision {applied.number} to compare new runs with;"
            " publish constants by hand"
        )
    exact = replace(before, covariance=np.zeros_like(before.covariance))
    return residual_test.measured(constants.change(left, exact), constants.change(left, before))


def _reduced(work: Run, passes: int, tools: Tools) -> Reduction:
    """Return the reduction of a test after some passes: what is looked for is small."""
    inspection = work.inspect(tools.progress)
    with Workers(work.config.cluster) as workers:
        walk = MAIN
        for number in range(passes):
            _collected(work, inspection, walk, workers, tools)
            reduction = work.reduced(walk, {}, tools.progress).reduction
            following = following_pass(work.calibration, reduction, walk)
            if following is None or number == passes - 1:
                break
            walk = following
    return reduction


def _collected(
    work: Run, inspection: Inspection, walk: Pass, workers: Workers, tools: Tools
) -> None:
    try:
        collection.collect(work, inspection, walk, workers, tools.progress)
    except InputError as error:
        path = work.directory / "accounting.json"
        samples = work.accounting()["samples"] if path.is_file() else {}
        if any(s["totals"]["selected"] == 0 < s["totals"]["read"] for s in samples.values()):
            raise NothingSelected(str(error)) from None
        raise


def _begins(
    tools: Tools, it: Asked, force: InForce, pieces: Sequence[Measured], found: Tested
) -> int:
    """Return the run at which the constants cease to be good.

    Where the piece that begins it holds several runs, each is measured alone; the residual of the
    quantity that is worst is fitted with a step.
    """
    piece = pieces[found.begins]
    runs = it.between(piece.first, piece.last)
    if len(runs) == 1:
        return piece.first
    values, errors = [], []
    for run in runs:
        value, error = float("nan"), float("inf")
        try:
            one = _measured(tools, it, force, (run,))
            if found.worst in one.names:
                at = one.names.index(found.worst)
                value, error = float(one.values[at]), float(one.errors[at])
        except CalibError as problem:
            log.info("run %d: not tested alone (%s)", run.run, problem)
        values.append(value)
        errors.append(error)
    return runs[residual_test.step_at(np.array(values), np.array(errors))].run
