"""Values that travel from the reduction to the files and the page. All frozen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from itertools import product
from typing import Any, Literal

import numpy as np

from calib.events.categories import Axis, Categories
from calib.later import pandas as pd
from calib.types import AnyArray, Array, BoolArray, IntArray


class Status(StrEnum):
    """What became of a category, in words. The number goes into payloads: 0 is good.

    ``ok``: its own fit passed every gate. ``merged``: too few events, the value of the merged
    parent, or what it has in common with the others, stands. ``held``: its own fit failed a gate,
    that value or the last good one stands. All others say why there is no value of its own, and
    none to fall back on.
    """

    OK = "ok"
    MERGED = "merged"
    HELD = "held"
    TOO_FEW_EVENTS = "too_few_events"
    FIT_FAILED = "fit_failed"
    NOT_POSITIVE_DEFINITE = "not_positive_definite"
    AT_LIMIT = "at_limit"
    BAD_CHI2 = "bad_chi2"
    OFF_NEIGHBOURS = "off_neighbours"
    OUT_OF_RANGE = "out_of_range"
    NO_TEMPLATE = "no_template"
    NOT_CONVERGED = "not_converged"
    NOT_DETERMINED = "not_determined"
    LEFT_OUT = "left_out"

    @property
    def code(self) -> int:
        """The number of this status in a payload: 0 ok, 1 merged, 2 held, above 2 unusable."""
        return list(Status).index(self)

    @property
    def usable(self) -> bool:
        """Whether a category of this status has a value that may be used."""
        return self in (Status.OK, Status.MERGED, Status.HELD)


@dataclass(frozen=True)
class Check:
    """One line of the verdict: a number and the limit that it must keep.

    Parameters
    ----------
    name : str
        The key of the check in verdict.json.
    value, threshold : float
        The number and its limit.
    passed : bool
        Whether the check is passed.
    text : str
        What the value is of.
    sense : str
        ``<=`` where the value may not be above the threshold, ``>=`` where it may not be below;
        where it is not given, the one that agrees with ``passed``.
    title : str
        The name for people; by default the words of ``name``.
    advice : str
        What to do where the check is not passed, in one sentence; not kept where it is.
    """

    name: str
    value: float
    threshold: float
    passed: bool
    text: str = ""
    sense: Literal["<=", ">=", ""] = ""
    title: str = ""
    advice: str = ""

    def __post_init__(self) -> None:
        if not self.sense:
            above = self.value > self.threshold
            object.__setattr__(self, "sense", ">=" if above == bool(self.passed) else "<=")
        if not self.title:
            words = self.name.replace("_", " ")
            object.__setattr__(self, "title", words[:1].upper() + words[1:])
        if self.passed:
            object.__setattr__(self, "advice", "")

    @classmethod
    def at_most(
        cls,
        name: str,
        value: float,
        threshold: float,
        text: str = "",
        *,
        title: str = "",
        advice: str = "",
    ) -> Check:
        """Return the check that a value is not above its threshold; NaN does not pass.

        Parameters
        ----------
        name, value, threshold, text, title, advice
            As of `Check`.

        Returns
        -------
        Check
            With its sense.
        """
        passed = bool(value <= threshold)
        return cls(name, float(value), float(threshold), passed, text, "<=", title, advice)

    @classmethod
    def at_least(
        cls,
        name: str,
        value: float,
        threshold: float,
        text: str = "",
        *,
        title: str = "",
        advice: str = "",
    ) -> Check:
        """Return the check that a value is not below its threshold; NaN does not pass.

        Parameters
        ----------
        name, value, threshold, text, title, advice
            As of `Check`.

        Returns
        -------
        Check
            With its sense.
        """
        passed = bool(value >= threshold)
        return cls(name, float(value), float(threshold), passed, text, ">=", title, advice)


@dataclass(frozen=True)
class Curve:
    """The picture of one fit: what was counted and what the model says, bin by bin.

    ``counts, model, background`` are per bin of ``edges``; ``variance`` is that of the counts
    (sum of squared weights). ``group`` sets apart fits of another kind (``categories``,
    ``merged``, ``closure``, or the name of a line-shape model); ``text`` is a line under the
    picture; ``observable`` with ``unit`` names the axis.
    """

    name: str
    edges: Array
    counts: Array
    variance: Array
    model: Array
    background: Array
    group: str = "categories"
    unit: str = "GeV"
    text: str = ""
    observable: str = "mass"

    @classmethod
    def of(cls, name: str, edges: Array, counts: Array, variance: Array | None = None) -> Curve:
        """Return the picture of a histogram without a model, which is drawn as itself.

        Parameters
        ----------
        name : str
            Of the picture.
        edges : array, shape (bins + 1,)
            In GeV.
        counts, variance : array, shape (bins,)
            The variance is that of counted events where it is not given.

        Returns
        -------
        Curve
            Model and counts are the same.
        """
        w = np.asarray(counts, dtype=np.float64)
        return cls(name, edges, w, w if variance is None else variance, w, np.zeros_like(w))


@dataclass(frozen=True)
class Section:
    """One section of the report: a heading, a text, tables and figures, drawn in this order.

    ``figures`` are matplotlib Figures by name (the name of the file in plots/); ``place`` is
    ``main`` or ``appendix``.
    """

    title: str
    text: str = ""
    tables: Mapping[str, pd.DataFrame] = field(default_factory=dict)
    figures: Mapping[str, Any] = field(default_factory=dict)
    place: Literal["main", "appendix"] = "main"


@dataclass(frozen=True)
class Pass:
    """What one walk over the events needs to know beyond the configuration.

    ``name`` is ``main``, ``closure`` or, for a calibration that iterates, the number of the
    iteration; ``values`` holds numbers and arrays (never objects), and is part of the identity
    of what was collected.
    """

    name: str = "main"
    values: Mapping[str, AnyArray] = field(default_factory=dict)


MAIN = Pass()
"""The first walk over the events."""


@dataclass(frozen=True)
class Parameters:
    """What a calibration has found: some parameters in each bin of some axes.

    Everything that is written of a result follows from it: table, covariance, payload, the
    payload's read-back, what moved, figures.

    Parameters
    ----------
    axes : tuple of Axis
        The bins, n in all, the last axis fastest.
    names, units : tuple of str, length k
        The parameters of a bin.
    values : array, shape (n, k)
    covariance : array, shape (n k, n k)
        In the order of the values: the parameters of the first bin, then those of the next.
    status : sequence of Status, length n
    fallback : sequence of str, length n, optional
        What a bin has its values from, where they are not its own; else empty.
    bins : sequence of str, length n, optional
        Names of the bins; by default those of their edges.
    labels : mapping of name to str
        What all bins have in common: the first columns of the table. ``sample`` sets results of
        the same kind apart, which are drawn into one panel.
    n_events, chi2, ndf : array, shape (n,), optional
    own_status, reason : sequence, length n, optional
        What became of a bin's own fit, and the sentence that explains it; by default its status.
    file : str
        Name of its table, without ``.csv``.
    """

    axes: tuple[Axis, ...]
    names: tuple[str, ...]
    units: tuple[str, ...]
    values: Array
    covariance: Array
    status: Sequence[Status]
    fallback: Sequence[str] = ()
    bins: Sequence[str] = ()
    labels: Mapping[str, str] = field(default_factory=dict)
    n_events: Array | None = None
    chi2: Array | None = None
    ndf: IntArray | None = None
    own_status: Sequence[Status] = ()
    reason: Sequence[str] = ()
    file: str = "parameters"

    def __post_init__(self) -> None:
        values = np.asarray(self.values, dtype=np.float64)
        values = values.reshape(len(values), -1)
        places = Categories.of(self.axes)
        n, k = len(places), len(self.names)
        for what, found, wanted in (
            ("values", values.shape, (n, k)),
            ("covariance", np.shape(self.covariance), (n * k, n * k)),
            ("status", (len(self.status),), (n,)),
        ):
            if found != wanted:
                raise ValueError(f"parameters: {what} of shape {found}, expected {wanted}")
        object.__setattr__(self, "values", values)
        object.__setattr__(self, "fallback", self.fallback or ("",) * n)
        object.__setattr__(self, "bins", self.bins or places.names)
        object.__setattr__(self, "own_status", self.own_status or self.status)

    def __len__(self) -> int:
        return len(self.values)

    @property
    def errors(self) -> Array:
        """Standard deviations, shape (n, k)."""
        return np.asarray(np.sqrt(np.diagonal(self.covariance)).reshape(self.values.shape))

    @property
    def codes(self) -> IntArray:
        """The status of each bin as a number, shape (n,)."""
        return np.array([s.code for s in self.status], dtype=np.int64)

    @property
    def usable(self) -> BoolArray:
        """Whether the values of each bin may be used, shape (n,)."""
        return np.array([s.usable for s in self.status], dtype=np.bool_)

    @property
    def own(self) -> BoolArray:
        """Whether the values of each bin are measured in itself, shape (n,)."""
        return np.array([s is Status.OK for s in self.own_status], dtype=np.bool_)

    def of_bin(self, i: int) -> Array:
        """Return the covariance of the parameters of a bin, shape (k, k)."""
        k = len(self.names)
        return self.covariance[i * k : (i + 1) * k, i * k : (i + 1) * k]

    def table(self) -> pd.DataFrame:
        """Return one row a bin: its edges, values with errors, status, and what it falls back on.

        With two parameters, their correlation as well.
        """
        k, errors = len(self.names), self.errors
        edges = list(product(*(list(axis.bins()) for axis in self.axes)))
        found: dict[str, Any] = dict(self.labels) | {"bin": list(self.bins)}
        for i, axis in enumerate(self.axes):
            if axis.whole:
                found[axis.name] = [int(e[i][0]) for e in edges]
            else:
                found[f"{axis.name}_low"] = [e[i][0] for e in edges]
                found[f"{axis.name}_high"] = [e[i][1] for e in edges]
        if self.n_events is not None:
            found["n_events"] = np.asarray(self.n_events).astype(np.int64)
        for j, name in enumerate(self.names):
            found |= {name: self.values[:, j], f"{name}_err": errors[:, j]}
        if k == 2:
            between = np.array([self.of_bin(i)[0, 1] for i in range(len(self))])
            found["correlation"] = between / (errors[:, 0] * errors[:, 1])
        if self.chi2 is not None:
            found["chi2"] = self.chi2
        if self.ndf is not None:
            found["ndf"] = self.ndf
        found |= {
            "status": [s.value for s in self.status],
            "own_status": [s.value for s in self.own_status],
            "held_at": list(self.fallback),
            "reason": list(self.reason) or "",
        }
        return pd.DataFrame(found)

    def all_usable(self) -> Check:
        """Return whether every bin has values that may be used."""
        bad = [name for name, usable in zip(self.bins, self.usable, strict=True) if not usable]
        text = "bins without a value" + f": {', '.join(bad[:5])}" * bool(bad)
        return Check.at_most(
            "bins_usable",
            len(bad),
            0,
            text,
            title="Bins without a value",
            advice=f"look at the fit of {bad[0]}: more events or coarser bins" if bad else "",
        )

    def as_fits(self, sample: str) -> pd.DataFrame:
        """Return the parameters as fits, one row a bin, where there is no other fit.

        Parameters
        ----------
        sample : str
            What the column ``sample`` says.
        """
        found: dict[str, Any] = {"sample": sample, "category": list(self.bins)}
        found["n_events"] = 0 if self.n_events is None else np.asarray(self.n_events)
        for j, name in enumerate(self.names):
            found |= {name: self.values[:, j], f"{name}_err": self.errors[:, j]}
        found["chi2"] = np.nan if self.chi2 is None else self.chi2
        found["ndf"] = 0 if self.ndf is None else self.ndf
        return pd.DataFrame(found | {"status": [s.value for s in self.own_status]})

    def value_names(self, key: str = "") -> list[str]:
        """Return a name for each value, in the order of the covariance: ``d0_e3_a``."""
        start = f"{key}_" if key else ""
        return [f"{start}{place}_{name}" for place in self.bins for name in self.names]


def with_covariance(found: Mapping[str, Parameters]) -> dict[str, AnyArray]:
    """Return ``names, values, covariance`` of all parameters, as covariance.npz holds them.

    Parameters
    ----------
    found : mapping of key to Parameters
        Those of one key are independent of those of another.
    """
    names = [name for key, own in found.items() for name in own.value_names(key)]
    covariance = np.zeros((len(names), len(names)))
    at = 0
    for own in found.values():
        n = own.values.size
        covariance[at : at + n, at : at + n] = own.covariance
        at += n
    values = np.concatenate([own.values.ravel() for own in found.values()])
    return {"names": np.array(names), "values": values, "covariance": covariance}


def tables_of(found: Mapping[str, Parameters]) -> dict[str, pd.DataFrame]:
    """Return the tables of all parameters, those of one file in one."""
    by_file: dict[str, list[pd.DataFrame]] = {}
    for own in found.values():
        by_file.setdefault(own.file, []).append(own.table())
    return {name: pd.concat(own, ignore_index=True) for name, own in by_file.items()}


@dataclass(frozen=True)
class Reduction:
    """What `Calibration.reduce` returns.

    Parameters
    ----------
    fits : DataFrame
        One row per sample and category: ``sample, category, n_events``, parameters and their
        ``_err``, ``chi2, ndf, status`` (written as fits.parquet and fits.csv).
    tables : mapping of name to DataFrame
        Written as ``name.csv`` (``factors``, ``parameters``). Those of ``parameters`` are added.
    arrays : mapping of name to (mapping of name to array)
        Written as ``name.npz`` (``covariance``). That of ``parameters`` is added.
    curves : tuple of Curve
    checks : tuple of Check
        Its part of the verdict.
    state : mapping of name to array
        What the later passes (closure, next iteration), `publish` and `sections` need.
    parameters : mapping of key to Parameters
        What it has found, by the key that stands in the names of the payload's corrections.
    """

    fits: pd.DataFrame
    tables: Mapping[str, pd.DataFrame] = field(default_factory=dict)
    arrays: Mapping[str, Mapping[str, AnyArray]] = field(default_factory=dict)
    curves: tuple[Curve, ...] = ()
    checks: tuple[Check, ...] = ()
    state: Mapping[str, AnyArray] = field(default_factory=dict)
    parameters: Mapping[str, Parameters] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.parameters:
            tables = {**tables_of(self.parameters), **self.tables}
            arrays = {"covariance": with_covariance(self.parameters), **self.arrays}
            object.__setattr__(self, "tables", tables)
            object.__setattr__(self, "arrays", arrays)


STATISTICAL = ("statistical", "covariance_stat")
"""Names in covariance.npz of the covariance without systematic variations."""


def with_shifts(reduction: Reduction, shifts: Mapping[str, AnyArray]) -> Reduction:
    """Return a result with systematic shifts in the covariance of its parameters.

    Parameters
    ----------
    reduction : Reduction
        With ``covariance``.
    shifts : mapping of name to array, shape (n,)
        Change of each parameter for one standard deviation.

    Returns
    -------
    Reduction
        ``covariance`` has them as ``syst_NAME``, its statistical part as ``statistical`` unless
        it has one apart; tables of ``parameters`` are those of the new errors.
    """
    old = dict(reduction.arrays["covariance"])
    total = np.asarray(old["covariance"], dtype=np.float64)
    added = sum((np.outer(s, s) for s in shifts.values()), np.zeros_like(total))
    kept = {} if old.keys() & set(STATISTICAL) else {STATISTICAL[0]: total}
    named = {f"syst_{name}": np.asarray(s) for name, s in shifts.items()}
    found, at = {}, 0
    for key, own in reduction.parameters.items():
        n = own.values.size
        part = added[at : at + n, at : at + n]
        found[key] = replace(own, covariance=own.covariance + part)
        at += n
    of_parameters = tables_of(reduction.parameters).keys()
    return replace(
        reduction,
        parameters=found,
        tables={k: t for k, t in reduction.tables.items() if k not in of_parameters},
        arrays={
            **reduction.arrays,
            "covariance": {**old, **kept, "covariance": total + added, **named},
        },
    )


@dataclass(frozen=True)
class Closure:
    """What `Calibration.closure` returns; see `Closure.of`.

    ``table`` has one row per closure bin: ``bin, expected, fitted, error, pull, status`` (more
    columns are welcome); written as closure.csv.
    """

    table: pd.DataFrame
    checks: tuple[Check, ...]
    curves: tuple[Curve, ...] = ()

    @classmethod
    def of(
        cls, bins: Sequence[str], expected: Any, fitted: Any, error: Any, *checks: Check
    ) -> Closure:
        """Return the closure of some bins.

        Parameters
        ----------
        bins : sequence of str, length n
            Names of the closure bins.
        expected, fitted, error : float or array, shape (n,)
            The pull is their difference over the error; without an error there is none.
        *checks : Check
            Its part of the verdict.

        Returns
        -------
        Closure
            Each bin with pull and status.
        """
        table = pd.DataFrame(
            {"bin": list(bins), "expected": expected, "fitted": fitted, "error": error}
        )
        with np.errstate(divide="ignore", invalid="ignore"):
            pull = (table["fitted"] - table["expected"]) / table["error"]
        pull = pull.where(table["error"] > 0)
        status = [
            Status.OK.value if known else Status.TOO_FEW_EVENTS.value for known in pull.notna()
        ]
        return cls(table.assign(pull=pull, status=status), checks)


@dataclass(frozen=True)
class Exported:
    """A payload in the layout of others: what it is, and what it does not say.

    ``lost`` are sentences about what the layout cannot hold; ``numbers`` says how much that is.
    """

    document: Mapping[str, Any]
    lost: tuple[str, ...]
    numbers: Mapping[str, Any] = field(default_factory=dict)
