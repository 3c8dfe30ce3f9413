"""One calibration in tonight's circumstances: its runs, its buckets, what it may look at."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from calib import calibrations
from calib.errors import CalibError
from calib.quality.buckets import Bucket, RunLuminosity, buckets
from jobs import progress
from jobs.catalog.catalog import Catalog
from jobs.nightly import constants, directories, new_runs
from jobs.nightly.settings import Nightly, Task, before
from jobs.nightly.states import Progress, State, States
from jobs.run.run import Run


@dataclass(frozen=True)
class Tools:
    """What the steps work with."""

    settings: Nightly
    store: Any  # a Store; None in a dry run before there is one
    catalog: Catalog
    progress: progress.Progress = progress.silent
    states: States | None = None  # None in a dry run: nothing is measured
    apart: list[str] = field(default_factory=list)  # errors by which runs were left out tonight


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

    def between(self, first: int, last: int) -> tuple[RunLuminosity, ...]:
        """Return the runs from one to another."""
        return tuple(r for r in self.runs if first <= r.run <= last)

    def before(self, run: int) -> int | None:
        """Return the last run before one."""
        return max((r.run for r in self.runs if r.run < run), default=None)


def asked(tools: Tools, task: Task, others: Sequence[Progress]) -> Asked:
    """Return a calibration in tonight's circumstances; ``others`` are those that it comes after."""
    samples = [s for s in tools.settings.samples_of(task) if s.grows]
    runs = new_runs.runs_of(tools.catalog, samples, tools.settings.buckets.unit)
    until, name = None, ""
    for other in others:
        good = other.judged if other.judged is not None else -1
        if until is None or good < until:
            until, name = good, other.calibration
    edges = sorted({edge for other in others for edge in other.boundaries})
    return Asked(task, runs, until, name, tuple(edges))


def late(it: Asked, known: Progress) -> tuple[int, ...]:
    """Return judged runs of which files have come since."""
    return tuple(
        r.run
        for r in it.runs
        if known.judged is not None
        and r.run <= known.judged
        and known.seen.get(str(r.run)) != r.content
    )


def bucket_from(settings: Nightly, it: Asked, known: Progress, since: int, last: int) -> Bucket:
    """Return the bucket that begins with a run, among the runs up to ``last``."""
    found = all_buckets(settings, it, known, (*known.boundaries, since), last)
    return next(b for b in found if b.last >= since)


def open_bucket(settings: Nightly, it: Asked, known: Progress, last: int) -> Bucket:
    """Return the bucket that the newest runs are in."""
    return all_buckets(settings, it, known, known.boundaries, last)[-1]


def all_buckets(
    settings: Nightly, it: Asked, known: Progress, boundaries: Sequence[int], last: int
) -> tuple[Bucket, ...]:
    """Return the buckets of the runs up to the last one, full or not."""
    return buckets(
        (r for r in it.runs if r.run <= last),
        settings.buckets.minimum,
        {*boundaries, *it.edges, *settings.buckets.boundaries},
        closed=False,
        earlier=tuple(Bucket(**{**b, "runs": tuple(b["runs"])}) for b in known.buckets),
    )


def is_closed(settings: Nightly, it: Asked, known: Progress, bucket: Bucket) -> bool:
    """Return whether no later run can join a bucket: there is one, and it begins another."""
    edges = {*known.boundaries, *it.edges, *settings.buckets.boundaries}
    after = next((r.run for r in it.runs if r.run > bucket.last), None)
    return after is not None and any(bucket.last < e <= after for e in edges)


def amount(settings: Nightly, bucket: Bucket) -> str:
    """Return in words how full a bucket is."""
    unit = "events" if settings.buckets.unit == "events" else "fb-1"
    return f"{bucket.luminosity:g} of {settings.buckets.minimum:g} {unit} for a full calibration"


def prescale_of(settings: Nightly, bucket: Bucket) -> float:
    """Return by how much the events of a bucket are thinned; 1 where that is not asked for."""
    return bucket.prescale if settings.buckets.prescale else 1.0


def payloads_before(tools: Tools, it: Asked, run: int) -> list[str]:
    """Return the payloads of the calibrations that this one comes after, for a run."""
    found = []
    for other in before(tools.settings.calibrations, it.task.name):
        kind = calibrations.get(other.calibration).name
        interval = constants.interval_for(tools.store, kind, run, tools.settings.tag)
        if interval is None:
            raise CalibError(f"{it.task.name}: no constants of {other.name} for run {run} yet")
        found.append(str(tools.store.content.payload_path(str(interval.revision.payload))))
    return found


def bucket_work(tools: Tools, it: Asked, bucket: Bucket) -> Run:
    """Return the run that calibrates a bucket."""
    return directories.bucket_work(
        tools.settings,
        it.task,
        bucket.first,
        bucket.last,
        payloads_before(tools, it, bucket.last),
        prescale_of(tools.settings, bucket),
    )


def still_good(
    tools: Tools,
    it: Asked,
    known: Progress,
    force: constants.InForce,
    runs: tuple[int, int],
    why: str,
    numbers: dict[str, Any],
) -> Progress:
    """Let the constants in force hold for runs that they are good for, from the first to the last.

    They are extended, or published again where runs lie between for which they are not good.
    """
    first, last = runs
    interval = force.interval
    assert interval is not None
    now = constants.interval_for(tools.store, it.constants, last, tools.settings.tag)
    if not interval.validity.contains(last) and now is not None and not now.validity.contains(last):
        gap = [a for a in known.aside if interval.validity.last < a["first"] < first]
        if gap or now.revision.payload != interval.revision.payload:
            tools.store.again(force.number, first, last, tools.settings.tag, why)
        else:
            tools.store.extend(now.revision.number, last, why)
    return known.to(
        State.WAITING,
        why,
        judged=last,
        first=None,
        last=None,
        numbers=numbers,
        **judged_values(tools.settings, it, known, last),
    )


def judged_values(settings: Nightly, it: Asked, known: Progress, last: int) -> dict[str, Any]:
    """Return what is to be remembered once the runs up to the last one are judged."""
    seen = {str(r.run): r.content for r in it.runs if r.run <= last}
    found = all_buckets(settings, it, known, known.boundaries, last)
    return {
        "seen": {**seen, **known.seen},  # also of runs that are left out now
        "buckets": tuple(asdict(b) for b in found),
    }
