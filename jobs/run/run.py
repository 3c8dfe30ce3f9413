"""A run and its life: opened, collected, reduced, tested, reported. All doors lead here.

Each step leaves its files in the directory and a marker with a digest of what they depend on.
The reduction itself is not kept: it is made again from the sums, the same to the bit.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from calib.calibrations.capabilities import Closes, following_pass
from calib.digests import digest
from calib.documents import json_values
from calib.errors import CalibError, InputError
from calib.events import histograms
from calib.later import pandas as pd
from calib.payload import description
from calib.payload.payload import read as read_payload
from calib.quality.contract import blaming, require_closure, require_payload, require_reduction
from calib.quality.verdict import verdict
from calib.results import Check, Closure, Pass, Reduction
from calib.types import AnyArray
from jobs.clusters import Workers
from jobs.config import complete
from jobs.config.complete import Complete, Work
from jobs.config.edits import edited
from jobs.config.schema import dump, is_chain
from jobs.event_loop import collection
from jobs.events import files as datasets
from jobs.progress import Progress, silent
from jobs.run import accounting as accounts
from jobs.run import input_checks, payloads, provenance, summary, variations
from jobs.storage.files import (
    RunDirectory,
    write_csv,
    write_curves,
    write_json,
    write_parquet,
    write_text,
)
from jobs.storage.schemas import Accounting, Verdict, checked, written_json

if TYPE_CHECKING:
    from jobs.console import Console

log = logging.getLogger(__name__)

MAX_PASSES = 50
"""Passes after which an iteration is given up, however its calibration feels."""

ROUNDING = 1e-5
"""Difference of the values of a pass, of the largest, below which its sums are those of these.

Fits of the same sums on two makes of processors differ by 1e-6; an edit moves values by more."""

Edits = dict[str, dict[str, Any]]


@dataclass(frozen=True)
class ReducedPass:
    """A reduction with the pass that it was made from, and the digest of what it depends on."""

    reduction: Reduction
    walk: Pass
    key: str


@dataclass(frozen=True)
class Run(Work):
    """One run: a configuration in its directory, from the events to the report.

    The command line, a chain, the notebook and the nightly are thin over this.
    """

    word: ClassVar[str] = "run"

    # opened ------------------------------------------------------------------------------------
    @classmethod
    def prepare(cls, config_path: Path, out: Path) -> Run:
        """Return the run of a configuration in a directory, without writing anything.

        A directory in which nothing was collected, since its first run was refused, takes any.

        Parameters
        ----------
        config_path : Path
            Configuration.
        out : Path
            Directory.

        Returns
        -------
        Run
            Not begun, or as far as it came.

        Raises
        ------
        InputError
            If the directory belongs to another configuration; the sentence names the first key.
        """
        return cls.of(complete.complete(config_path), config_path, out)

    @classmethod
    def of(cls, made: Complete, where: Path, out: Path) -> Run:
        """Return the run of a complete configuration, as `prepare` does.

        Parameters
        ----------
        made : (Config, Calibration)
            As `complete` makes them.
        where : Path
            Name of the configuration, for the sentence of an error.
        out : Path
            Directory.

        Returns
        -------
        Run
            Not begun, or as far as it came.

        Raises
        ------
        InputError
            If the directory belongs to another configuration.
        """
        directory = RunDirectory(out)
        directory.require_free_for(cls.word)
        if directory.exists and (directory.has_events or is_chain(out)):
            # of a chain `complete` says so
            there = complete.complete(directory / "config.yaml")
            complete.require_same(made[0], there[0], where, out)
        return cls(directory, *made)

    @classmethod
    def resume(cls, path: Path) -> Run:
        """Return the run that a directory holds."""
        directory = RunDirectory(path)
        directory.require()
        return cls(directory, *complete.complete(directory / "config.yaml"))

    def held(self, command: str) -> AbstractContextManager[None]:
        """Hold the directory for one command.

        Raises
        ------
        InputError
            If another process holds it; the sentence says which.
        """
        return self.directory.lock(command)

    def adopt(self) -> None:
        """Write the configuration into the directory (held)."""
        list(variations.variations(self))  # refused before any event is read
        path = self.directory / "config.yaml"
        if path.is_file() and self.directory.has_events:
            old = complete.complete(path)
            complete.require_same(self.config, old[0], path, self.directory.path)
            complete.say_what_is_another((self.config, self.calibration), old, self.directory)
        text = dump(self.config)
        if path.is_file() and not self.directory.has_events and text != path.read_text("utf-8"):
            self.directory.forget("inputs")  # they are those of the configuration that is mended
            self.directory.forget_steps()
        if not path.is_file() or path.read_text(encoding="utf-8") != text:
            write_text(path, text)

    # its life ------------------------------------------------------------------------------------
    def execute(self, progress: Progress = silent, earlier: Path | None = None) -> dict[str, Any]:
        """Do what is not done yet, to the report; return the verdict.

        Parameters
        ----------
        progress : callable
            Told how far it is.
        earlier : Path, optional
            An earlier payload, which the report compares with.

        Returns
        -------
        dict
            As in verdict.json.

        Raises
        ------
        CalibError
            If it fails while running; what was done is kept.
        InputError
            If something about the configuration or the files is wrong.
        """
        self.adopt()
        self._compare_with(earlier)
        inspection = self.inspect(progress)
        with Workers(self.config.cluster, self.calibration) as workers:

            def walk_over(walk: Pass) -> None:
                collection.collect(self, inspection, walk, workers, progress)

            walk_over(Pass())
            if self.is_current:
                return self.verdict()
            reduced = self._varied(self._iterated(walk_over, progress), progress, workers)
            self.write_reduction(reduced)
            closure = self.test(reduced, walk_over, progress)
        return self.finish(reduced, closure, progress)

    def collect(self, progress: Progress = silent) -> dict[str, Any]:
        """Walk over the events for the first time; return the accounting."""
        self.adopt()
        inspection = self.inspect(progress)
        with Workers(self.config.cluster, self.calibration) as workers:
            collection.collect(self, inspection, Pass(), workers, progress)
        return self.accounting()

    def reduce(self, edits: Edits | None = None, progress: Progress = silent) -> dict[str, Any]:
        """Reduce the sums and rebuild everything downstream, without touching events.

        Parameters
        ----------
        edits : mapping, optional
            In place of the recorded ones, if the reduction accepts them.
        progress : callable
            Told how far it is.

        Returns
        -------
        dict
            The verdict, as in verdict.json.
        """
        reduced = self._from_sums(progress, edits)
        if edits is not None:
            self.directory.write_edits(edits)
        self.write_reduction(reduced)
        closure = self.test(reduced, None, progress)
        return self.finish(reduced, closure, progress)

    def refit(
        self, category: str | None, settings: Sequence[str], reset: bool, progress: Progress
    ) -> None:
        """Reduce again with settings of one category.

        Parameters
        ----------
        category : str or None
            Whose settings these are.
        settings : sequence of str
            ``key=value``.
        reset : bool
            Whether the category's earlier edits are taken back first.
        progress : callable
            Told how far it is.
        """
        self.reduce(edited(self.directory.edits(), category, settings, reset), progress)

    def close(self, progress: Progress = silent) -> dict[str, Any]:
        """Test the result on events that took no part in it; return the verdict."""
        reduced = self._from_sums(progress)
        inspection = None

        with Workers(self.config.cluster, self.calibration) as workers:

            def walk_over(walk: Pass) -> None:
                nonlocal inspection
                inspection = inspection or self.inspect(progress)
                collection.collect(self, inspection, walk, workers, progress)

            closure = self.test(reduced, walk_over, progress)
        return self._write_verdict(reduced, closure)

    def report(self, progress: Progress = silent, earlier: Path | None = None) -> dict[str, Any]:
        """Write the page and the figures; return the verdict.

        Parameters
        ----------
        progress : callable
            Told how far it is.
        earlier : Path, optional
            A payload, which the report compares with.

        Returns
        -------
        dict
            The verdict, as in verdict.json.
        """
        self._compare_with(earlier)
        reduced = self._from_sums(progress)
        closure = self.test(reduced, None, progress)
        return self.finish(reduced, closure, progress)

    def conclude(self, own: Console) -> dict[str, Any]:
        """Show what came out; return it as plain values."""
        return summary.conclude(self.directory, self.verdict(), self.accounting(), own)

    # what is there -----------------------------------------------------------------------------
    @property
    def is_current(self) -> bool:
        """Whether the run is finished, and of the sums, the edits and the code of now."""
        directory = self.directory
        if not directory.is_finished or directory.altered():
            return False
        return bool(directory.marker("report")["whole"] == self._whole_key())

    @property
    def last_pass(self) -> Pass:
        """The pass that the reduction was made from, the first where there is none."""
        return self.directory.load_pass(str(self.directory.marker("reduce").get("pass", "main")))

    def verdict(self) -> dict[str, Any]:
        """Return the verdict in the directory."""
        path = self.directory / "verdict.json"
        return checked(written_json(path), Verdict, path)

    def accounting(self) -> dict[str, Any]:
        """Return the accounting in the directory."""
        path = self.directory / "accounting.json"
        return checked(written_json(path), Accounting, path)

    def sums(self, walk: Pass | None = None) -> dict[str, histograms.Sums]:
        """Return the totals of a pass, by default the last one, by sample."""
        return collection.sums(self, walk or self.last_pass)

    # the pieces ----------------------------------------------------------------------------------
    def inspect(self, progress: Progress = silent) -> datasets.Inspection:
        """Open each input once; note what they are."""
        progress("inspect", 0, 1)
        inspection = datasets.inspect(self.config, self.calibration, self.directory.path)
        applied = payloads.used(inspection.corrections)
        before = self.directory.note("inputs")
        _say_what_is_applied(before.get("payloads", []), applied)
        _say_what_is_given(before, inspection)
        self.directory.keep(
            "inputs",
            {
                "payloads": applied,
                "inputs": [file.summary for file in inspection.files],
                "queries": [dict(asked) for asked in inspection.queries],
                "notes": list(inspection.notes),
                "bad": [
                    {"sample": b.sample, "path": b.path, "error": b.error} for b in inspection.bad
                ],
            },
        )
        progress("inspect", 1, 1)
        return inspection

    def reduced(self, walk: Pass, edits: Edits, progress: Progress = silent) -> ReducedPass:
        """Return the reduction of the sums of a pass; nothing is written.

        Parameters
        ----------
        walk : Pass
            That of the sums.
        edits : mapping
            ``{category: {key: value}}``.
        progress : callable
            Told how far it is.

        Returns
        -------
        ReducedPass
            With the digest of what it depends on.
        """
        sums = self.sums(walk)
        progress("reduce", 0, 1)
        watch = provenance.Stopwatch()
        with blaming(self.calibration, "reduce"):
            reduction = self.calibration.reduce(sums, edits, walk)
        require_reduction(self.calibration, reduction)
        key = digest(
            collection.collected(self, walk),
            edits,
            self.config.settings,
            provenance.code(type(self.calibration)),
        )
        self.directory.keep("time/reduce", watch.read())
        progress("reduce", 1, 1)
        return ReducedPass(reduction, walk, key)

    def payload(self, reduction: Reduction) -> Mapping[str, Any]:
        """Return the payload of a reduction, which says of which events it is; nothing is written.

        Raises
        ------
        CalibError
            If it is not what a payload of the calibration must be.
        """
        with blaming(self.calibration, "publish"):
            document = self.calibration.publish(reduction)
        require_payload(self.calibration, document)
        document = description.with_origin(document, description.origin(self.config.samples))
        document = description.with_columns(document, self.config.samples)
        return description.with_muon_pt(document, payloads.muon_pt_of_samples(self.config))

    def write_reduction(self, reduced: ReducedPass) -> None:
        """Write the fits, the tables and the payload.

        What is there of a verdict is one on something else from here on, so the run is not
        finished.
        """
        directory, reduction = self.directory, reduced.reduction
        document = self.payload(reduction)
        directory.unmark("report")
        directory.unmark("reduce")
        write_parquet(directory / "fits.parquet", reduction.fits)
        write_csv(directory / "fits.csv", reduction.fits)
        for name, table in reduction.tables.items():
            write_csv(directory / f"{name}.csv", table)
        for name, arrays in reduction.arrays.items():
            histograms.write(directory / f"{name}.npz", dict(arrays))
        payloads.write(directory / "payload.json", document)
        directory.mark("reduce", {"key": reduced.key, "pass": reduced.walk.name})

    def test(
        self,
        reduced: ReducedPass,
        walk_over: Callable[[Pass], None] | None,
        progress: Progress = silent,
    ) -> Closure:
        """Return the closure test, and write it.

        Parameters
        ----------
        reduced : ReducedPass
            What is tested.
        walk_over : callable or None
            Pass -> None, collects it; without, no event is touched, and where the sums at hand are
            not those that the closure needs, it has not passed.
        progress : callable
            Told how far it is.

        Returns
        -------
        Closure
            As it is written.
        """
        calibration = self.calibration
        if not isinstance(calibration, Closes):
            return self._not_tested("this calibration has no closure test")
        walk = calibration.closure_pass(reduced.reduction)
        if walk is None:
            walk = reduced.walk
        elif walk_over is not None:
            walk_over(walk)
        elif not self._is_collected(walk):
            return self._not_tested(
                f"its events have not been collected; run `calib closure {self.directory.path}`"
            )
        sums = self.sums(walk)
        progress("closure", 0, 1)
        watch = provenance.Stopwatch()
        with blaming(calibration, "closure"):
            closure = calibration.closure(sums, reduced.reduction)
        require_closure(calibration, closure)
        self.directory.keep("time/closure", watch.read())
        progress("closure", 1, 1)
        write_csv(self.directory / "closure.csv", closure.table)
        key = digest(reduced.key, collection.collected(self, walk))
        self.directory.mark("closure", {"key": key})
        return closure

    def tested_by_sums(self, reduction: Reduction, walk: Pass) -> Closure:
        """Return the closure test as far as the sums at hand allow it; nothing is written.

        Parameters
        ----------
        reduction : Reduction
            What is tested.
        walk : Pass
            That of its sums.

        Returns
        -------
        Closure
            Not passed where other events are needed.
        """
        calibration = self.calibration
        if not isinstance(calibration, Closes):
            return _untested("this calibration has no closure test")
        following = calibration.closure_pass(reduction)
        if following is not None and not self._is_collected(following):
            return _untested("other events are needed for this result")
        return calibration.closure(self.sums(following or walk), reduction)

    def finish(
        self, reduced: ReducedPass, closure: Closure, progress: Progress = silent
    ) -> dict[str, Any]:
        """Write the verdict, the provenance and the page; return the verdict.

        Parameters
        ----------
        reduced : ReducedPass
            The result.
        closure : Closure
            Its test.
        progress : callable
            Told how far it is.

        Returns
        -------
        dict
            The verdict, as in verdict.json.
        """
        from jobs.pages.report import ReportContext, write_report

        directory = self.directory
        directory.unmark("report")
        decided = self._write_verdict(reduced, closure)
        write_curves(directory / "curves.npz", (*reduced.reduction.curves, *closure.curves))
        progress("report", 0, 1)
        watch = provenance.Stopwatch()
        text = self._earlier_text()
        sections = self.calibration.sections(
            reduced.reduction, closure, json_values(text) if text else None
        )
        if self.config.variations:
            own = self.config.variations
            sections = (*sections, variations.section(reduced.reduction, own))
        made = self._write_provenance()
        context = ReportContext(
            config=self.config,
            reduction=reduced.reduction,
            closure=closure,
            sections=sections,
            verdict=decided,
            accounting=self.accounting(),
            provenance=made,
            notes=tuple(directory.note("inputs").get("notes", ())),
        )
        write_report(directory.path, context)
        directory.keep("time/report", watch.read())
        self._write_provenance()
        another = following_pass(self.calibration, reduced.reduction, reduced.walk) is not None
        is_closed = directory.marker("closure") or not isinstance(self.calibration, Closes)
        done = not another and is_closed
        if another:
            log.warning(
                "another pass over the events is needed: run `calib run %s`", directory.path
            )
        directory.mark(
            "report",
            {
                "whole": self._whole_key() if done else "",
                "stamp": directory.stamp() if done and _is_ours(self) else "",
                "digests": directory.digests(),
            },
        )
        progress("report", 1, 1)
        return decided

    def decide(
        self, document: Mapping[str, Any], reduction: Reduction, closure: Closure
    ) -> dict[str, Any]:
        """Return the verdict on a reduction, its payload and its closure.

        Parameters
        ----------
        document : mapping
            The payload.
        reduction : Reduction
            What it was made from.
        closure : Closure
            Its test.

        Returns
        -------
        dict
            As in verdict.json.
        """
        accounting = self.accounting()
        checks = [
            *reduction.checks,
            *self.calibration.check_payload(document, reduction),
            *closure.checks,
            *accounts.checks(accounting, self.config.allowed_bad),
            *accounts.yield_checks(accounting, self.config.allowed_bad),
            *input_checks.checks(accounting),
        ]
        return verdict(checks)

    # inside --------------------------------------------------------------------------------------
    def _iterated(self, walk_over: Callable[[Pass], None], progress: Progress) -> ReducedPass:
        """Reduce, and walk over the events again for as long as the calibration asks for it."""
        walk = Pass()
        for _ in range(MAX_PASSES):
            reduced = self.reduced(walk, self.directory.edits(), progress)
            following = following_pass(self.calibration, reduced.reduction, walk)
            if following is None:
                return reduced
            walk_over(following)
            walk = following
        raise CalibError(
            f"{self.directory.path}: calibration {self.config.calibration!r} asks for more than"
            f" {MAX_PASSES} passes over the events; what was done is kept, loosen its convergence"
        )

    def _from_sums(self, progress: Progress, edits: Edits | None = None) -> ReducedPass:
        edits = self.directory.edits() if edits is None else edits
        return self._varied(self.reduced(self.last_pass, edits, progress), progress, edits=edits)

    def _varied(
        self,
        reduced: ReducedPass,
        progress: Progress,
        workers: Workers | None = None,
        edits: Edits | None = None,
    ) -> ReducedPass:
        """Return a reduction with the shifts of the variations in its errors.

        Those that need other sums are runs of their own below the directory; without workers no
        event is touched.
        """
        if following_pass(self.calibration, reduced.reduction, reduced.walk) is not None:
            return reduced  # not the last pass yet
        edits = self.directory.edits() if edits is None else edits
        shifts, sums = {}, self.sums(reduced.walk) if self.config.variations else {}
        for own in variations.variations(self):
            _, calibration = own.made
            if own.same_sums:
                with blaming(calibration, "reduce"):
                    found = calibration.reduce(sums, edits, reduced.walk)
            else:
                place = self.directory.path / variations.FOLDER / own.name
                where = Path(f"variation {own.name}")
                twin = Run.of(own.made, where, place)
                found = twin.repeated(edits, workers, progress).reduction
            shifts[own.name] = variations.shift(reduced.reduction, found, own.name)
        if not shifts:
            return reduced
        with blaming(self.calibration, "with_systematics"):
            varied = self.calibration.with_systematics(reduced.reduction, shifts)
        return replace(reduced, reduction=varied)

    def repeated(self, edits: Edits, workers: Workers | None, progress: Progress) -> ReducedPass:
        """Return the reduction of this run as a variation of another one, without a report.

        Parameters
        ----------
        edits : mapping
            Those of the other one.
        workers : Workers, optional
            Of the other one; without them the sums must be there.
        progress : callable
            Told how far it is.

        Returns
        -------
        ReducedPass
            Of its last pass.

        Raises
        ------
        InputError
            If no event may be touched and the sums are not there.
        """
        if workers is None:
            if not collection.collected(self, Pass()):
                raise InputError(
                    f"{self.directory.path}: this variation needs sums of its own, which are not"
                    " collected yet; calib run does it"
                )
            return self.reduced(self.last_pass, edits, progress)
        self.adopt()
        self.directory.write_edits(edits)
        inspection = self.inspect(progress)

        def walk_over(walk: Pass) -> None:
            collection.collect(self, inspection, walk, workers, progress)

        walk_over(Pass())
        reduced = self._iterated(walk_over, progress)
        self.write_reduction(reduced)
        return reduced

    def _is_collected(self, walk: Pass) -> bool:
        """Return whether the sums of a pass are there, with values that are the wanted ones.

        Another processor rounds otherwise, which must not ask for the events again.
        """
        kept = self.directory.load_pass(walk.name).values
        same = kept.keys() == walk.values.keys() and all(
            _is_close(kept[name], np.asarray(value)) for name, value in walk.values.items()
        )
        return same and bool(collection.collected(self, walk))

    def _not_tested(self, why: str) -> Closure:
        self.directory.unmark("closure")
        (self.directory / "closure.csv").unlink(missing_ok=True)
        return _untested(why)

    def _write_verdict(self, reduced: ReducedPass, closure: Closure) -> dict[str, Any]:
        """Write every check of the reduction, the payload, the closure and the accounting."""
        document = read_payload(self.directory / "payload.json")
        decided = self.decide(document, reduced.reduction, closure)
        write_json(self.directory / "verdict.json", decided)
        return decided

    def _write_provenance(self) -> dict[str, Any]:
        """Write what made the numbers."""
        inputs = self.directory.note("inputs")
        made = {
            "name": self.config.name,
            "calibration": self.config.calibration,
            "of": description.origin(self.config.samples),
            "written": provenance.now(),
            "inputs": inputs.get("inputs", []),
            "queries": inputs.get("queries", []),
            "payloads": inputs.get("payloads", []),
            "config_hash": provenance.config_hash(self.config),
            "code_version": provenance.code(type(self.calibration)),
            "git_commit": provenance.commit(),
            "packages": provenance.packages(),
            "machine": provenance.machine(),
            "steps": self._seconds(),
            "levels": self.directory.note("levels"),
        }
        write_json(self.directory / "provenance.json", made)
        return made

    def _seconds(self) -> dict[str, dict[str, float]]:
        """Return how long each step took, in their order."""
        order = ("collect.main", "collect", "reduce", "closure", "report")
        names = sorted(
            (path.stem for path in (self.directory.path / ".calib" / "time").glob("*.json")),
            key=lambda n: (order.index(n if n in order else n.split(".")[0]), n),
        )
        notes = {name: self.directory.note(f"time/{name}") for name in names}
        return {
            name.replace(".", " "): {k: note[k] for k in ("wall_s", "cpu_s")}
            for name, note in notes.items()
        }

    def _whole_key(self) -> str:
        """Return the digest of everything that the files of a finished run depend on."""
        return digest(
            collection.collected(self, Pass()),
            provenance.code(type(self.calibration)),
            provenance.code_of_jobs(),
            self.directory.edits(),
            self.config.settings,
            self.config.variations,
            self.config.allowed_bad,
            self._earlier_text(),
        )

    def _compare_with(self, earlier: Path | None) -> None:
        """Keep an earlier payload, which the report compares with."""
        if earlier is not None:
            document: Mapping[str, Any] = read_payload(earlier)
            write_json(self.directory.path / ".calib" / "earlier.json", dict(document))

    def _earlier_text(self) -> str:
        """Return the earlier payload that is kept, empty where there is none."""
        path = self.directory.path / ".calib" / "earlier.json"
        return path.read_text(encoding="utf-8") if path.is_file() else ""


# sentences ---------------------------------------------------------------------------------------
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


def _untested(why: str) -> Closure:
    columns = ["bin", "expected", "fitted", "error", "pull", "status"]
    check = Check(
        "closure",
        float("nan"),
        float("nan"),
        False,
        f"not done: {why}",
        title="Closure",
        advice="remove what keeps the closure from being done, and go on with `calib closure`",
    )
    return Closure(pd.DataFrame(columns=columns), (check,))


def _is_close(one: AnyArray, other: AnyArray) -> bool:
    """Return whether two arrays are the same but for rounding, which fits make larger."""
    if one.shape != other.shape or one.dtype.kind != other.dtype.kind:
        return False
    if one.dtype.kind not in "fc":
        return bool(np.array_equal(one, other))
    largest = np.max(np.abs(other), initial=0.0, where=np.isfinite(other))
    return bool(np.allclose(one, other, rtol=0.0, atol=ROUNDING * largest, equal_nan=True))


def _is_ours(run: Run) -> bool:
    """Return whether the calibration is one of this package: its code is that of the stamp."""
    return type(run.calibration).__module__.startswith("calib.")
