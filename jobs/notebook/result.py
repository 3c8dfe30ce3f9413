"""The result of a run, to look at: frozen; what it shows is what the files of the run say."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import BaseModel

from calib.calibrations import of_payload
from calib.documents import json_values
from calib.errors import InputError
from calib.events import histograms
from calib.later import pandas as pd
from calib.payload.payload import Payload, load_payload
from calib.payload.payload import read as read_payload
from calib.results import Closure, Curve, Pass, Reduction
from jobs.config.schema import Config
from jobs.notebook import html
from jobs.notebook.comparison import Comparison, compared
from jobs.notebook.covariance import Covariance
from jobs.notebook.histograms import as_hists
from jobs.notebook.progress import shown
from jobs.run.run import Run
from jobs.storage.database import is_address
from jobs.storage.files import plain

if TYPE_CHECKING:
    import hist
    from matplotlib.figure import Figure


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
    def _run(self) -> Run:
        return Run.resume(self.directory)

    @cached_property
    def _walk(self) -> Pass:
        return self._run.last_pass

    @cached_property
    def _parts(self) -> tuple[Reduction, Closure]:
        """The reduction, made again from the sums (the same to the bit), and its closure."""
        if self.made is not None:
            return self.made
        return reduced(self._run, self._walk, self.edits)

    @property
    def curves(self) -> dict[str, Curve]:
        """The picture of each fit: what was counted, what the model says, by category."""
        return {c.name: c for c in self._parts[0].curves if c.group == "categories"}

    def histograms(self) -> dict[str, dict[str, hist.Hist]]:
        """Return the histograms that were fitted, by sample and name."""
        sums = self._run.sums(self._walk)
        return {
            s.name: as_hists(sums[s.name], self._run.calibration.layout(s))
            for s in self.config.samples
        }

    # pictures ----------------------------------------------------------------------------------
    def figures(self) -> dict[str, Figure]:
        """Return a figure for each picture of the report, by the name it has in plots/."""
        from jobs.pages.report import figures

        html.shown_in_cells()
        reduction, closure = self._parts
        sections = self._run.calibration.sections(reduction, closure)
        return figures(reduction, closure, sections)

    def figure(self, name: str) -> Figure:
        """Return one picture of the report; or the fit of a category, by the category's name.

        Raises
        ------
        InputError
            If there is none of this name.
        """
        from calib.plots import figures as plots

        html.shown_in_cells()
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
        **keys : Any
            Settings by names with ``_`` in place of dots.

        Returns
        -------
        Result
            A new one.

        Raises
        ------
        InputError
            If there is no such category, or it cannot have these settings of its own.
        """
        edits = edits_with(self._run, self.edits, category, {**(settings or {}), **keys})
        if keep:
            with self._run.held("calib.reduce"), shown(progress) as tell:
                self._run.reduce(edits, tell)
            return result_of(self._run)
        return refitted(self._run, self._walk, edits)

    def compare(self, other: Any) -> Comparison:
        """Return the distance from this result to another one; see `calib.compare`."""
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

        Returns
        -------
        Revision
            As the store has it.

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
        from jobs.store import Store

        address = str(store)
        with Store.open(address) if is_address(address) else Store.create(address) as opened:
            return opened.publish(self.directory, self.config.calibration, since, until, **keys)

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


# from files and from sums ----------------------------------------------------------------------
def result_of(run: Run) -> Result:
    """Return what the files in the directory of a run say."""
    directory = run.directory
    verdict = run.verdict()
    if not directory.marker("reduce"):
        raise InputError(f"{directory.path}: not reduced yet; run `calib run {directory.path}`")
    own = {"fits", "closure"}
    tables = {p.stem: _csv(p) for p in sorted(directory.path.glob("*.csv"))}
    closure = directory / "closure.csv"
    return Result(
        directory=directory.path,
        config=run.config,
        fits=pd.read_parquet(directory / "fits.parquet"),
        tables={name: table for name, table in tables.items() if name not in own},
        covariance=_covariance(directory / "covariance.npz"),
        closure=tables["closure"] if closure.is_file() else pd.DataFrame(),
        verdict=verdict,
        accounting=run.accounting(),
        provenance=_json(directory / "provenance.json"),
        payload=_payload(run, read_payload(directory / "payload.json"), "payload.json"),
        edits=directory.edits(),
    )


def _csv(path: Path) -> pd.DataFrame:
    try:
        found = pd.read_csv(path)
    except pd.errors.EmptyDataError:
        return pd.DataFrame()
    words = found.select_dtypes(exclude="number").columns
    return found.fillna(dict.fromkeys(words, ""))  # no word is not a number that is missing


def _json(path: Path) -> dict[str, Any]:
    """Return a JSON file of a run, empty where there is none."""
    try:
        found = json_values(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _payload(run: Run, document: Mapping[str, Any], name: str) -> Payload:
    return Payload(document, str(run.directory / name), type(run.calibration))


def _covariance(path: Path) -> Covariance | None:
    if not path.is_file():
        return None
    found = histograms.read(path)
    if not {"names", "values", "covariance"} <= found.keys():
        return None
    return Covariance(found["names"], found["values"], found["covariance"])


def reduced(
    run: Run, walk: Pass, edits: Mapping[str, Mapping[str, Any]]
) -> tuple[Reduction, Closure]:
    """Return the reduction of the sums with these edits, and the closure they allow.

    Parameters
    ----------
    run : Run
        With its sums.
    walk : Pass
        That of the sums.
    edits : mapping
        ``{category: {key: value}}``.

    Returns
    -------
    Reduction
        With these edits.
    Closure
        As far as the sums at hand allow it.
    """
    reduction = run.calibration.reduce(run.sums(walk), edits, walk)
    return reduction, run.tested_by_sums(reduction, walk)


def refitted(run: Run, walk: Pass, edits: Mapping[str, Mapping[str, Any]]) -> Result:
    """Return the result with these edits; nothing is written.

    Parameters
    ----------
    run : Run
        With its sums.
    walk : Pass
        That of the sums.
    edits : mapping
        ``{category: {key: value}}``.

    Returns
    -------
    Result
        A new one.
    """
    reduction, closure = reduced(run, walk, edits)
    document = run.payload(reduction)
    made = reduction.arrays.get("covariance")
    return Result(
        directory=run.directory.path,
        config=run.config,
        fits=plain(reduction.fits),
        tables={name: plain(table) for name, table in reduction.tables.items()},
        covariance=Covariance(*(np.asarray(made[n]) for n in ("names", "values", "covariance")))
        if made
        else None,
        closure=plain(closure.table),
        verdict=run.decide(document, reduction, closure),
        accounting=run.accounting(),
        provenance=_json(run.directory / "provenance.json"),
        payload=_payload(run, document, "a refit"),
        edits=edits,
        made=(reduction, closure),
    )


def edits_with(
    run: Run, edits: Mapping[str, Mapping[str, Any]], category: str, changes: Mapping[str, Any]
) -> dict[str, dict[str, Any]]:
    """Return the edits with those of one category added.

    Parameters
    ----------
    run : Run
        Whose settings are known.
    edits : mapping
        Those there are.
    category : str
        Whose settings are changed.
    changes : mapping
        By key, with dots or with ``_`` in their place.

    Returns
    -------
    dict of category to dict of key to value
        A new one.

    Raises
    ------
    InputError
        If nothing is to be changed.
    """
    if not changes:
        raise InputError(
            f"refit of {category}: no settings given; name some, fit_range=(82, 98) or"
            " {'fit.range': [82, 98]}"
        )
    known = {key.replace(".", "_"): key for key in _keys(run.calibration.settings)}
    found = {name: dict(values) for name, values in edits.items()}
    own = found.setdefault(category, {})
    own |= {known.get(key, key): _plain(value) for key, value in changes.items()}
    return found


def _keys(settings: BaseModel, before: str = "") -> Iterator[str]:
    for name in type(settings).model_fields:
        value = getattr(settings, name)
        if isinstance(value, BaseModel):
            yield from _keys(value, f"{before}{name}.")
        else:
            yield f"{before}{name}"


def _plain(value: Any) -> Any:
    """Return a value as YAML would give it."""
    if isinstance(value, (tuple, list, np.ndarray)):
        return [_plain(v) for v in value]
    return value.item() if isinstance(value, np.generic) else value


# side by side ------------------------------------------------------------------------------------
def compare(one: Any, other: Any, *, labels: tuple[str, str] | None = None) -> Comparison:
    """Return what moved from one payload to another.

    Parameters
    ----------
    one, other : Result, Payload, payload.json, directory of a run, or a document
    labels : pair of str, optional
        What they are called.

    Returns
    -------
    Comparison
        Other minus one.

    Raises
    ------
    InputError
        If they come from different calibrations, or are no payloads.

    Examples
    --------
    >>> calib.compare("z-2017", "z-2018/payload.json").furthest  # doctest: +SKIP
    """
    sides = _side(one), _side(other)
    payloads = sides[0][0], sides[1][0]
    return compared(payloads, (sides[0][1], sides[1][1]), labels)


def _side(source: Any) -> tuple[Payload, Covariance | None]:
    if isinstance(source, (str, Path)) and Path(source).is_dir():
        source = result_of(Run.resume(Path(source)))
    if isinstance(source, Result):
        return source.payload, source.covariance
    if isinstance(source, Payload):
        return source, None
    if isinstance(source, Mapping):
        return Payload(source, "document", of_payload(source)), None
    return load_payload(Path(source)), None
