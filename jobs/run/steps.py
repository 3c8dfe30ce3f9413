"""The steps of a run as functions: collect, reduce, closure, report, and all of them in order.

Each step leaves its files in the directory and a marker with a digest of what they depend on.
The reduction itself is not kept: it is made again from the sums, the same to the bit.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from calib.calibrations.capabilities import Closes, following_pass
from calib.digests import digest
from calib.documents import json_values
from calib.errors import CalibError
from calib.events import histograms
from calib.payload.payload import read as read_payload
from calib.quality.contract import blaming, require_closure, require_payload, require_reduction
from calib.quality.verdict import verdict
from calib.results import Check, Closure, Pass, Reduction
from jobs.clusters import Workers
from jobs.config.complete import Work
from jobs.event_loop import collection
from jobs.events import files as datasets
from jobs.progress import Progress, silent
from jobs.run import accounting as accounts
from jobs.run import input_checks, payloads, provenance
from jobs.storage.files import write_csv, write_curves, write_json, write_parquet
from jobs.storage.schemas import Accounting, Verdict, checked, written_json

log = logging.getLogger(__name__)

MAX_PASSES = 50
"""Passes after which an iteration is given up, however its calibration feels."""

Edits = dict[str, dict[str, Any]]


@dataclass(frozen=True)
class Reduced:
    """A reduction with the pass that it was made from, and the digest of what it depends on."""

    reduction: Reduction
    walk: Pass
    key: str


# all of it -----------------------------------------------------------------------------------
def run(work: Work, progress: Progress = silent, earlier: Path | None = None) -> dict[str, Any]:
    """Do what is not done yet, to the report; return the verdict."""
    compare_with(work, earlier)
    inspection = inspect(work, progress)
    with Workers(work.config.cluster, work.calibration) as workers:

        def walk_over(walk: Pass) -> None:
            collection.collect(work, inspection, walk, workers, progress)

        walk_over(Pass())
        if is_current(work):
            return written_verdict(work)
        reduced = _iterate(work, walk_over, progress)
        write_reduction(work, reduced)
        closure = close(work, reduced, walk_over, progress)
    return finish(work, reduced, closure, progress)


def _iterate(work: Work, walk_over: Callable[[Pass], None], progress: Progress) -> Reduced:
    """Reduce, and walk over the events again for as long as the calibration asks for it."""
    walk = Pass()
    for _ in range(MAX_PASSES):
        reduced = reduce_sums(work, walk, work.directory.edits(), progress)
        following = following_pass(work.calibration, reduced.reduction, walk)
        if following is None:
            return reduced
        walk_over(following)
        walk = following
    raise CalibError(
        f"{work.directory.path}: calibration {work.config.calibration!r} asks for more than"
        f" {MAX_PASSES} passes over the events; what was done is kept, loosen its convergence"
    )


def is_finished(work: Work) -> bool:
    """Return whether all files of a run are there."""
    return work.directory.is_finished


def is_current(work: Work) -> bool:
    """Return whether the files are those of the sums, the edits and the code of now."""
    if not is_finished(work) or work.directory.altered():
        return False
    return bool(work.directory.marker("report")["whole"] == _whole_key(work))


def _whole_key(work: Work) -> str:
    """Return the digest of everything that the files of a finished run depend on."""
    return digest(
        collection.collected(work, Pass()),
        provenance.code(type(work.calibration)),
        provenance.code_of_jobs(),
        work.directory.edits(),
        work.config.settings,
        work.config.allowed_bad,
        earlier_text(work),
    )


# one by one ------------------------------------------------------------------------------------
def inspect(work: Work, progress: Progress = silent) -> datasets.Inspection:
    """Open each input once; note what they are."""
    progress("inspect", 0, 1)
    inspection = datasets.inspect(work.config, work.calibration, work.directory.path)
    applied = payloads.used(inspection.corrections)
    before = work.directory.note("inputs")
    _say_what_is_applied(before.get("payloads", []), applied)
    _say_what_is_given(before, inspection)
    work.directory.keep(
        "inputs",
        {
            "payloads": applied,
            "inputs": [file.summary for file in inspection.files],
            "queries": [dict(asked) for asked in inspection.queries],
            "notes": list(inspection.notes),
            "bad": [{"sample": b.sample, "path": b.path, "error": b.error} for b in inspection.bad],
        },
    )
    progress("inspect", 1, 1)
    return inspection


def _say_what_is_given(before: Mapping[str, Any], inspection: datasets.Inspection) -> None:
    """Say which queries give other files than before: new ones are read, others left out."""
    digests = {q["sample"]: q["digest"] for q in before.get("queries", [])}
    for query in inspection.queries:
        name = query["sample"]
        if digests.get(name, query["digest"]) == query["digest"]:
            continue
        old = {i["path"]: i.get("runs") for i in before["inputs"] if i["sample"] == name}
        now = {f.path: f.runs and list(f.runs) for f in inspection.files if f.sample == name}
        log.warning(
            "sample %s: its query gives other files than before: %d new, %d no longer, %d with"
            " other runs; these are read or left out, nothing else is read again",
            name,
            len(now.keys() - old.keys()),
            len(old.keys() - now.keys()),
            sum(old[path] != now[path] for path in now.keys() & old.keys()),
        )


def _say_what_is_applied(before: list[dict[str, Any]], now: list[dict[str, Any]]) -> None:
    """Say which payloads are no longer those of before: the events are read again."""
    known = {p["path"]: p["sha256"] for p in before}
    for one in now:
        if known.get(one["path"], one["sha256"]) != one["sha256"]:
            log.warning(
                "%s: another payload than before (%s, now %s), the events that it corrects are"
                " read again",
                one["path"],
                known[one["path"]][:12],
                one["sha256"][:12],
            )


def collect(work: Work, progress: Progress = silent) -> dict[str, Any]:
    """Walk over the events for the first time; return the accounting."""
    inspection = inspect(work, progress)
    with Workers(work.config.cluster, work.calibration) as workers:
        collection.collect(work, inspection, Pass(), workers, progress)
    return written_accounting(work)


def reduce(work: Work, edits: Edits | None = None, progress: Progress = silent) -> dict[str, Any]:
    """Reduce the sums and rebuild everything downstream, without touching events.

    ``edits`` replace the recorded ones if the reduction accepts them; return the verdict.
    """
    reduced = _from_sums(work, progress, edits)
    if edits is not None:
        work.directory.write_edits(edits)
    write_reduction(work, reduced)
    closure = close(work, reduced, None, progress)
    return finish(work, reduced, closure, progress)


def closure(work: Work, progress: Progress = silent) -> dict[str, Any]:
    """Test the result on events that took no part in it; return the verdict."""
    reduced = _from_sums(work, progress)
    inspection = None

    with Workers(work.config.cluster, work.calibration) as workers:

        def walk_over(walk: Pass) -> None:
            nonlocal inspection
            inspection = inspection or inspect(work, progress)
            collection.collect(work, inspection, walk, workers, progress)

        tested = close(work, reduced, walk_over, progress)
    return write_verdict(work, reduced, tested)


def report(work: Work, progress: Progress = silent, earlier: Path | None = None) -> dict[str, Any]:
    """Write the page and the figures; return the verdict."""
    compare_with(work, earlier)
    reduced = _from_sums(work, progress)
    tested = close(work, reduced, None, progress)
    return finish(work, reduced, tested, progress)


def _from_sums(work: Work, progress: Progress, edits: Edits | None = None) -> Reduced:
    name = str(work.directory.marker("reduce").get("pass", "main"))
    walk = work.directory.load_pass(name)
    return reduce_sums(work, walk, work.directory.edits() if edits is None else edits, progress)


# the pieces --------------------------------------------------------------------------------------
def reduce_sums(work: Work, walk: Pass, edits: Edits, progress: Progress = silent) -> Reduced:
    """Return the reduction of the sums of a pass."""
    sums = collection.sums(work, walk)
    progress("reduce", 0, 1)
    watch = provenance.Stopwatch()
    with blaming(work.calibration, "reduce"):
        reduction = work.calibration.reduce(sums, edits, walk)
    require_reduction(work.calibration, reduction)
    key = digest(
        collection.collected(work, walk),
        edits,
        work.config.settings,
        provenance.code(type(work.calibration)),
    )
    work.directory.keep("time/reduce", watch.read())
    progress("reduce", 1, 1)
    return Reduced(reduction, walk, key)


def write_reduction(work: Work, reduced: Reduced) -> None:
    """Write the fits, the tables and the payload.

    What is there of a verdict is one on something else from here on, so the run is not finished.
    """
    directory, reduction = work.directory, reduced.reduction
    with blaming(work.calibration, "publish"):
        document = work.calibration.publish(reduction)
    require_payload(work.calibration, document)
    directory.unmark("report")
    directory.unmark("reduce")
    write_parquet(directory / "fits.parquet", reduction.fits)
    write_csv(directory / "fits.csv", reduction.fits)
    for name, table in reduction.tables.items():
        write_csv(directory / f"{name}.csv", table)
    for name, arrays in reduction.arrays.items():
        histograms.write(directory / f"{name}.npz", dict(arrays))
    document = payloads.with_muon_pt(document, work.config.selection.muon_pt)
    payloads.write(directory / "payload.json", document)
    directory.mark("reduce", {"key": reduced.key, "pass": reduced.walk.name})


def close(
    work: Work,
    reduced: Reduced,
    walk_over: Callable[[Pass], None] | None,
    progress: Progress = silent,
) -> Closure:
    """Return the closure test, and write it.

    ``walk_over`` collects a pass; without it no event is touched, and where the sums at hand
    are not those that the closure needs, it has not passed.
    """
    calibration = work.calibration
    if not isinstance(calibration, Closes):
        return _not_done(work, "this calibration has no closure test")
    walk = calibration.closure_pass(reduced.reduction)
    if walk is None:
        walk = reduced.walk
    elif walk_over is not None:
        walk_over(walk)
    elif not _is_collected(work, walk):
        return _not_done(work)
    sums = collection.sums(work, walk)
    progress("closure", 0, 1)
    watch = provenance.Stopwatch()
    with blaming(work.calibration, "closure"):
        found = calibration.closure(sums, reduced.reduction)
    require_closure(work.calibration, found)
    work.directory.keep("time/closure", watch.read())
    progress("closure", 1, 1)
    write_csv(work.directory / "closure.csv", found.table)
    work.directory.mark("closure", {"key": digest(reduced.key, collection.collected(work, walk))})
    return found


def _is_collected(work: Work, walk: Pass) -> bool:
    kept = work.directory.load_pass(walk.name)
    wanted = {name: np.asarray(value) for name, value in walk.values.items()}
    return digest(kept.values) == digest(wanted) and bool(collection.collected(work, walk))


def close_sums(work: Work, reduction: Reduction, walk: Pass) -> Closure:
    """Return the closure test as far as the sums at hand allow it; nothing is written."""
    calibration = work.calibration
    if not isinstance(calibration, Closes):
        return _untested("this calibration has no closure test")
    following = calibration.closure_pass(reduction)
    if following is not None and not _is_collected(work, following):
        return _untested("other events are needed for this result")
    return calibration.closure(collection.sums(work, following or walk), reduction)


def _not_done(work: Work, why: str = "") -> Closure:
    text = why or f"its events have not been collected; run `calib closure {work.directory.path}`"
    work.directory.unmark("closure")
    (work.directory / "closure.csv").unlink(missing_ok=True)
    return _untested(text)


def _untested(why: str) -> Closure:
    columns = ["bin", "expected", "fitted", "error", "pull", "status"]
    check = Check("closure", float("nan"), float("nan"), False, f"not done: {why}")
    return Closure(pd.DataFrame(columns=columns), (check,))


def finish(
    work: Work, reduced: Reduced, tested: Closure, progress: Progress = silent
) -> dict[str, Any]:
    """Write the verdict, the provenance and the page; return the verdict."""
    from jobs.pages.report import ReportContext, write_report

    directory = work.directory
    directory.unmark("report")
    decided = write_verdict(work, reduced, tested)
    write_curves(directory / "curves.npz", (*reduced.reduction.curves, *tested.curves))
    progress("report", 0, 1)
    watch = provenance.Stopwatch()
    text = earlier_text(work)
    sections = work.calibration.sections(
        reduced.reduction, tested, json_values(text) if text else None
    )
    made = write_provenance(work)
    context = ReportContext(
        config=work.config,
        reduction=reduced.reduction,
        closure=tested,
        sections=sections,
        verdict=decided,
        accounting=written_accounting(work),
        provenance=made,
        notes=tuple(directory.note("inputs").get("notes", ())),
    )
    write_report(directory.path, context)
    directory.keep("time/report", watch.read())
    write_provenance(work)
    another = following_pass(work.calibration, reduced.reduction, reduced.walk) is not None
    done = not another and (directory.marker("closure") or not isinstance(work.calibration, Closes))
    if another:
        log.warning("another pass over the events is needed: run `calib run %s`", directory.path)
    directory.mark(
        "report",
        {
            "whole": _whole_key(work) if done else "",
            "stamp": directory.stamp() if done and _is_ours(work) else "",
            "digests": directory.digests(),
        },
    )
    progress("report", 1, 1)
    return decided


def write_verdict(work: Work, reduced: Reduced, tested: Closure) -> dict[str, Any]:
    """Write every check of the reduction, the payload, the closure and the accounting."""
    document = read_payload(work.directory / "payload.json")
    decided = decide(work, document, reduced.reduction, tested)
    write_json(work.directory / "verdict.json", decided)
    return decided


def decide(
    work: Work, document: Mapping[str, Any], reduction: Reduction, tested: Closure
) -> dict[str, Any]:
    """Return the verdict on a reduction, its payload and its closure."""
    accounting = written_accounting(work)
    checks = [
        *reduction.checks,
        *work.calibration.check_payload(document, reduction),
        *tested.checks,
        *accounts.checks(accounting, work.config.allowed_bad),
        *accounts.yield_checks(accounting, work.config.allowed_bad),
        *input_checks.checks(accounting),
    ]
    return verdict(checks)


def write_provenance(work: Work) -> dict[str, Any]:
    """Write what made the numbers."""
    directory = work.directory
    folder = directory.path / ".calib" / "time"
    order = ("collect.main", "collect", "reduce", "closure", "report")
    names = sorted(
        (path.stem for path in folder.glob("*.json")),
        key=lambda n: (order.index(n if n in order else n.split(".")[0]), n),
    )
    steps = {
        name.replace(".", " "): {k: directory.note(f"time/{name}")[k] for k in ("wall_s", "cpu_s")}
        for name in names
    }
    found = {
        "name": work.config.name,
        "calibration": work.config.calibration,
        "written": provenance.now(),
        "inputs": directory.note("inputs").get("inputs", []),
        "queries": directory.note("inputs").get("queries", []),
        "payloads": directory.note("inputs").get("payloads", []),
        "config_hash": provenance.config_hash(work.config),
        "code_version": provenance.code(type(work.calibration)),
        "git_commit": provenance.commit(),
        "packages": provenance.packages(),
        "machine": provenance.machine(),
        "steps": steps,
        "levels": directory.note("levels"),
    }
    write_json(directory / "provenance.json", found)
    return found


# what is written ---------------------------------------------------------------------------------
def written_verdict(work: Work) -> dict[str, Any]:
    """Return the verdict in the directory."""
    path = work.directory / "verdict.json"
    return checked(written_json(path), Verdict, path)


def written_accounting(work: Work) -> dict[str, Any]:
    """Return the accounting in the directory."""
    path = work.directory / "accounting.json"
    return checked(written_json(path), Accounting, path)


def compare_with(work: Work, earlier: Path | None) -> None:
    """Keep an earlier payload, which the report compares with."""
    if earlier is not None:
        document: Mapping[str, Any] = read_payload(earlier)
        write_json(work.directory.path / ".calib" / "earlier.json", dict(document))


def _is_ours(work: Work) -> bool:
    """Return whether the calibration is one of this package: its code is that of the stamp."""
    return type(work.calibration).__module__.startswith("calib.")


def earlier_text(work: Work) -> str:
    """Return the earlier payload that is kept, empty where there is none."""
    path = work.directory.path / ".calib" / "earlier.json"
    return path.read_text(encoding="utf-8") if path.is_file() else ""
