"""The validity test: whether the constants in force are still good for the new runs."""

from __future__ import annotations

import logging
from dataclasses import asdict

import numpy as np

from calib.calibrations import get
from calib.calibrations.capabilities import corrects, following_pass
from calib.errors import CalibError, InputError
from calib.quality import publication_gate
from calib.quality.publication_gate import Residual
from calib.results import MAIN, Pass, Reduction
from jobs.clusters import Workers
from jobs.event_loop import collection
from jobs.events.files import Inspection
from jobs.nightly import constants, directories
from jobs.nightly.circumstances import (
    Asked,
    Tools,
    open_bucket,
    payloads_before,
    prescale_of,
    still_good,
)
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
        return known.to(State.WAITING, "no constants in force", first=None, last=None)
    try:
        found = _tested(tools, it, force, known.first, known.last)
    except NothingSelected as error:
        return known.to(
            State.WAITING, f"runs {known.first} to {known.last}: {error}", first=None, last=None
        )
    numbers = {
        "test": asdict(found),
        "revision": force.number,
        "runs": [known.first, known.last],
        "limit": it.task.test.limit,
    }
    if found.outcome is Residual.UNDECIDED:
        return known.to(
            State.WAITING,
            f"runs {known.first} to {known.last}: {found.why}",
            first=None,
            last=None,
            numbers=numbers,
        )
    if found.outcome is Residual.WITHIN:
        why = f"runs {known.first} to {known.last} are good: {found.why}"
        return still_good(tools, it, known, force, known.last, why, numbers)
    at = _begins(tools, it, force, known)
    why = f"not good since run {at}: {found.why}"
    earlier = [r.run for r in it.runs if known.first <= r.run < at]
    if earlier:
        known = still_good(tools, it, known, force, earlier[-1], why, numbers)
    return known.to(
        State.CALIBRATING,
        why,
        since=at,
        bad=force.number,
        first=at,
        last=None,
        numbers=numbers,
        boundaries=tuple(sorted({*known.boundaries, at})),
    )


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


def _tested(
    tools: Tools, it: Asked, force: constants.InForce, first: int, last: int
) -> publication_gate.Tested:
    """Return what is left of the new events with the constants in force.

    Constants that correct nothing are measured again, and compared with those in force.
    """
    is_applied = corrects(get(it.task.calibration)) != "nothing"
    payloads = payloads_before(tools, it, last)
    if is_applied:
        payloads = [*payloads, force.payload]
    work = directories.test_work(tools.settings, it.task, first, last, payloads)
    shared = directories.rooms(tools.settings, it.task).sums
    with work.held("calib nightly"):
        directories.adopt(work, shared)
        found = _reduced(work, it.task.test.passes, tools)
        directories.share(work, shared)
    kind = type(work.calibration)
    left = kind.effects(found.tables, found.arrays)
    before = force.effects(kind, found.tables)
    if is_applied:
        left = publication_gate.with_force(left, before)
    elif before is not None:
        left = constants.change(left, before)
    else:
        raise CalibError(
            f"nothing is kept of revision {force.number} to compare new runs with;"
            " publish constants by hand"
        )
    return publication_gate.residual(left, it.task.test.tolerance)


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
    return runs[publication_gate.step_at(values, errors)]
