"""The result of a run, to look at: frozen; what it shows is what the files of the run say."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from calib.errors import InputError
from calib.payload.payload import Payload
from calib.results import Closure, Curve, Pass, Reduction
from jobs.config.complete import Work, resume
from jobs.config.schema import Config
from jobs.event_loop import collection
from jobs.notebook import html
from jobs.notebook.covariance import Covariance
from jobs.notebook.histograms import as_hists

if TYPE_CHECKING:
    import hist
    from matplotlib.figure import Figure

    from jobs.notebook.comparison import Comparison

MAIN_TABLES = ("factors", "parameters")
"""Tables that hold what a calibration is made for, by their names in the directory."""


@dataclass(frozen=True, eq=False)
class Result:
    """What a calibration found.

    Parameters
    ----------
    directory : Path
        Of the run.
    fits : DataFrame
        One row per sample and category, with parameters, errors, chi2 and status.
    tables : mapping of name to DataFrame
        ``factors`` or ``parameters``, and what else the calibration says.
    covariance : Covariance or None
        Of the values, by their names.
    closure : DataFrame
        One row per closure bin: expected, fitted, error, pull, status.
    verdict, accounting, provenance : mapping
        As in the files of these names.
    payload : Payload
        To use from arrays.
    edits : mapping of category to its own settings
    """

    directory: Path
    config: Config
    fits: pd.DataFrame
    tables: Mapping[str, pd.DataFrame]
    covariance: Covariance | None
    closure: pd.DataFrame
    verdict: Mapping[str, Any]
    accounting: Mapping[str, Any]
    provenance: Mapping[str, Any]
    payload: Payload
    edits: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    made: tuple[Reduction, Closure] | None = field(default=None, repr=False)

    def __repr__(self) -> str:
        word = "passed" if self.passed else "not passed"
        return f"Result({self.config.calibration}, {str(self.directory)!r}, verdict {word})"

    # what came out -----------------------------------------------------------------------------
    @property
    def passed(self) -> bool:
        """Whether the verdict is passed: it may be published."""
        return bool(self.verdict["passed"])

    @property
    def table_name(self) -> str:
        """Name of the main table."""
        return next((n for n in MAIN_TABLES if n in self.tables), next(iter(self.tables), "fits"))

    @property
    def values(self) -> pd.DataFrame:
        """The values of the payload: ``name, kind, value, error, status``."""
        return self.payload.to_dataframe()

    @property
    def statuses(self) -> pd.Series:
        """Number of rows of the main table by status."""
        table = self.to_dataframe()
        return (table["status"] if "status" in table else self.values["status"]).value_counts()

    @property
    def checks(self) -> pd.DataFrame:
        """The checks of the verdict: ``name, value, threshold, passed, text``."""
        return pd.DataFrame(list(self.verdict["checks"]))

    @property
    def report(self) -> Path:
        """The page that people read, as it was written last."""
        return self.directory / "report.html"

    def to_dataframe(self, name: str | None = None) -> pd.DataFrame:
        """Return a copy of a table; the main one (factors, parameters) by default.

        Raises
        ------
        InputError
            If there is no table of this name.
        """
        found = {**self.tables, "fits": self.fits, "closure": self.closure}
        wanted = name or self.table_name
        if wanted not in found:
            raise InputError(
                f"{self.directory}: there is no table {wanted!r}; it has {', '.join(found)}"
            )
        return found[wanted].copy()

    def uncertainties(self) -> dict[str, Any]:
        """Return the values as correlated numbers of the package ``uncertainties``, by name.

        Raises
        ------
        InputError
            If the calibration gives no covariance, or the package is not installed.
        """
        if self.covariance is None:
            raise InputError(f"{self.directory}: this calibration gives no covariance")
        return self.covariance.uncertainties()

    # what it is made of ------------------------------------------------------------------------
    @cached_property
    def _work(self) -> Work:
        return resume(self.directory)

    @cached_property
    def _walk(self) -> Pass:
        name = str(self._work.directory.marker("reduce").get("pass", "main"))
        return self._work.directory.load_pass(name)

    @cached_property
    def _parts(self) -> tuple[Reduction, Closure]:
        """The reduction, made again from the sums (the same to the bit), and its closure."""
        if self.made is not None:
            return self.made
        from jobs.notebook.opening import reduced

        return reduced(self._work, self._walk, self.edits)

    @property
    def curves(self) -> dict[str, Curve]:
        """The picture of each fit: what was counted, what the model says, by category."""
        return {c.name: c for c in self._parts[0].curves if c.group == "categories"}

    def histograms(self) -> dict[str, dict[str, hist.Hist]]:
        """Return the histograms that were fitted, by sample and name."""
        sums = collection.sums(self._work, self._walk)
        return {
            s.name: as_hists(sums[s.name], self._work.calibration.layout(s))
            for s in self.config.samples
        }

    # pictures ----------------------------------------------------------------------------------
    def figures(self) -> dict[str, Figure]:
        """Return a figure for each picture of the report, by the name it has in plots/."""
        from jobs.notebook.pictures import shown_in_cells
        from jobs.pages.report import figures

        shown_in_cells()
        reduction, closure = self._parts
        sections = self._work.calibration.sections(reduction, closure)
        return figures(reduction, closure, sections)

    def figure(self, name: str) -> Figure:
        """Return one picture of the report; or the fit of a category, by the category's name.

        Raises
        ------
        InputError
            If there is none of this name.
        """
        from calib.plots import figures as plots
        from jobs.notebook.pictures import shown_in_cells

        shown_in_cells()
        if name in self.curves:
            return plots.fit_figure(self.curves[name])
        found = self.figures()
        if name not in found:
            raise InputError(
                f"{self.directory}: there is no picture {name!r}; it has {', '.join(found)}, and"
                " one of each category"
            )
        return found[name]

    # what to do next ---------------------------------------------------------------------------
    def refit(
        self,
        category: str,
        settings: Mapping[str, Any] | None = None,
        *,
        keep: bool = False,
        progress: bool = True,
        **keys: Any,
    ) -> Result:
        """Return the result with other settings for one category; events are not touched.

        Parameters
        ----------
        category : str
        settings : mapping, optional
            By their names, ``{"fit.range": [82, 98]}``; or as ``fit_range=(82, 98)``.
        keep : bool
            Write it, as `calib reduce` does; else no file changes.
        progress : bool
            Show how far it is, where it is kept.

        Raises
        ------
        InputError
            If there is no such category, or it cannot have these settings of its own.
        """
        from jobs.notebook.opening import refitted
        from jobs.notebook.refits import edits_with
        from jobs.notebook.running import again

        edits = edits_with(self._work, self.edits, category, {**(settings or {}), **keys})
        if keep:
            return again(self._work, edits, progress)
        return refitted(self._work, self._walk, edits)

    def compare(self, other: Any) -> Comparison:
        """Return the distance from this result to another one; see `calib.compare`."""
        from jobs.notebook.comparison import compare

        return compare(self, other)

    def publish(
        self, store: str | Path, *, since: int, until: int | None = None, **keys: Any
    ) -> Any:
        """Publish the run in a store of constants, as `calib publish` does; return the revision.

        Parameters
        ----------
        store : path or address
        since, until : int
            Runs for which it is valid; without ``until`` the interval stays open.
        **keys
            ``tag``, ``force`` and ``why`` as of `calib publish`.

        Raises
        ------
        InputError
            If the verdict is not passed, or this result is not the one that was written.
        """
        if self.made is not None:
            raise InputError(
                f"{self.directory}: this result is a refit that was not written; make it with"
                " refit(..., keep=True), then publish"
            )
        from jobs.notebook.publishing import publish

        return publish(self, store, since, until, **keys)

    def _repr_html_(self) -> str:
        n = len(self.verdict["checks"])
        bad = [c["name"] for c in self.verdict["checks"] if not c["passed"]]
        counts = ", ".join(f"{n} {word}" for word, n in self.statuses.items())
        return html.block(
            f"{self.config.name}: {self.config.calibration}",
            html.verdict(
                self.passed,
                f"{n - len(bad)} of {n} checks passed"
                + (f"; not: {', '.join(bad)}" if bad else ""),
            ),
            html.words(f"{self.table_name}: {counts}"),
            html.table(self.to_dataframe()),
            html.checks(list(self.verdict["checks"])),
            html.words("a refit that is not written" if self.made else f"report: {self.report}"),
        )
