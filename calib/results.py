"""Values that travel from the reduction to the files and the page. All frozen."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Literal

from calib.types import AnyArray, Array

if TYPE_CHECKING:
    import pandas as pd  # slow to load


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
    """One line of the verdict."""

    name: str
    value: float
    threshold: float
    passed: bool
    text: str = ""


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
class Reduction:
    """What `Calibration.reduce` returns.

    Parameters
    ----------
    fits : DataFrame
        One row per sample and category: ``sample, category, n_events``, parameters and their
        ``_err``, ``chi2, ndf, status`` (written as fits.parquet and fits.csv).
    tables : mapping of name to DataFrame
        Written as ``name.csv`` (``factors``, ``parameters``).
    arrays : mapping of name to (mapping of name to array)
        Written as ``name.npz`` (``covariance``).
    curves : tuple of Curve
    checks : tuple of Check
        Its part of the verdict.
    state : mapping of name to array
        What the later passes (closure, next iteration), `publish` and `sections` need.
    """

    fits: pd.DataFrame
    tables: Mapping[str, pd.DataFrame]
    arrays: Mapping[str, Mapping[str, AnyArray]]
    curves: tuple[Curve, ...]
    checks: tuple[Check, ...]
    state: Mapping[str, AnyArray]


@dataclass(frozen=True)
class Closure:
    """What `Calibration.closure` returns.

    ``table`` has one row per closure bin: ``bin, expected, fitted, error, pull, status`` (more
    columns are welcome); written as closure.csv.
    """

    table: pd.DataFrame
    checks: tuple[Check, ...]
    curves: tuple[Curve, ...] = ()


@dataclass(frozen=True)
class Exported:
    """A payload in the layout of others: what it is, and what it does not say.

    ``lost`` are sentences about what the layout cannot hold; ``numbers`` says how much that is.
    """

    document: Mapping[str, Any]
    lost: tuple[str, ...]
    numbers: Mapping[str, Any] = field(default_factory=dict)
