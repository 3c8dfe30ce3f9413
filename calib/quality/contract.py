"""Whether what a calibration hands back can be used: said with its name, before it does harm."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from calib.calibrations.base import Calibration
from calib.errors import CalibError
from calib.events.histograms import Sums
from calib.later import pandas as pd
from calib.results import Closure, Reduction, Status

FITS = ("sample", "category", "n_events", "chi2", "ndf", "status")
"""Columns of the fits, beside those of the parameters."""

CLOSURE = ("bin", "expected", "fitted", "error", "pull", "status")
"""Columns of a closure test."""


@contextmanager
def blaming(calibration: Any, step: str) -> Iterator[None]:
    """Say whose fault it was, and in which step, for any error that is not a sentence of ours.

    Parameters
    ----------
    calibration : Calibration
        Its name is said.
    step : str
        What it was asked to do (``collect``).

    Yields
    ------
    None
        Inside, errors are given a name.

    Raises
    ------
    CalibError
        With the name of the calibration.
    """
    try:
        yield
    except CalibError:
        raise
    except Exception as error:
        text = " ".join(str(error).split())[:400]
        raise CalibError(
            f"calibration {calibration.name!r}, {step}: {type(error).__name__}: {text}"
        ) from error


def require_masks(calibration: Any, masks: Mapping[str, Any], n: int) -> None:
    """Refuse masks that are not of this many booleans.

    Parameters
    ----------
    calibration : Calibration
        Whose name is said.
    masks : mapping of reason to bool array
        What `rejects` has returned.
    n : int
        Number of entries that each must have.

    Raises
    ------
    CalibError
        If one is of another type or shape.
    """
    for reason, mask in masks.items():
        found = np.asarray(mask)
        if found.shape != (n,) or found.dtype != np.bool_:
            raise CalibError(
                f"calibration {calibration.name!r}, rejects: mask {reason!r} is {found.dtype} of"
                f" shape {found.shape}, expected bool of shape ({n},)"
            )


def require_sums(calibration: Any, sums: Sums) -> None:
    """Refuse sums that are not arrays of finite numbers.

    Parameters
    ----------
    calibration : Calibration
        Whose name is said.
    sums : mapping of name to array
        What `collect` has given.

    Raises
    ------
    CalibError
        If one is no array of finite numbers.
    """
    for name, values in sums.items():
        if not isinstance(values, (np.ndarray, np.generic)) or values.dtype.kind not in "biufc":
            kind = getattr(values, "dtype", type(values).__name__)
            raise CalibError(
                f"calibration {calibration.name!r}, collect: {name!r} is {kind}, expected an array"
                " of numbers (or a Fill)"
            )
        if values.dtype.kind in "fc" and not np.all(np.isfinite(values)):
            raise CalibError(
                f"calibration {calibration.name!r}, collect: {name!r} has numbers that are not"
                " finite, and no sum with them ever will be; reject those events"
            )


def require_reduction(calibration: Calibration, reduction: Any) -> None:
    """Refuse a reduction without a table of fits and a status for each.

    Parameters
    ----------
    calibration : Calibration
        Whose name is said.
    reduction : object
        What `reduce` has returned.

    Raises
    ------
    CalibError
        If it is no `Reduction`, a column of the fits is missing, or a status is none.
    """
    _require_kind(calibration, "reduce", reduction, Reduction)
    _require_columns(calibration, "reduce: the fits have", reduction.fits, FITS)
    known = {s.value for s in Status}
    strange = [s for s in reduction.fits["status"] if str(getattr(s, "value", s)) not in known]
    if strange:
        raise CalibError(
            f"calibration {calibration.name!r}, reduce: {strange[0]!r} is no status; expected one"
            f" of {', '.join(sorted(known))}"
        )


def require_closure(calibration: Calibration, closure: Any) -> None:
    """Refuse a closure test without its table.

    Parameters
    ----------
    calibration : Calibration
        Whose name is said.
    closure : object
        What `closure` has returned.

    Raises
    ------
    CalibError
        If it is no `Closure`, or a column of its table is missing.
    """
    _require_kind(calibration, "closure", closure, Closure)
    _require_columns(calibration, "closure: the table has", closure.table, CLOSURE)


def _require_kind(calibration: Calibration, step: str, found: Any, kind: type) -> None:
    if not isinstance(found, kind):
        raise CalibError(
            f"calibration {calibration.name!r}, {step}: returned {type(found).__name__},"
            f" expected a {kind.__name__}"
        )


def _require_columns(
    calibration: Calibration, where: str, table: pd.DataFrame, wanted: Sequence[str]
) -> None:
    missing = [name for name in wanted if name not in table]
    if missing:
        raise CalibError(
            f"calibration {calibration.name!r}, {where} no column {', '.join(missing)}; expected"
            f" at least {', '.join(wanted)}"
        )


def require_payload(calibration: Calibration, document: Any) -> None:
    """Refuse a payload without the correction that the calibration is known by.

    Parameters
    ----------
    calibration : Calibration
        Whose payload it is.
    document : mapping
        What `publish` has returned, a correctionlib document.

    Raises
    ------
    CalibError
        If it is no such document, or has not the first of the names.
    """
    try:
        names = [c["name"] for c in document["corrections"]]
    except (KeyError, TypeError):
        raise CalibError(
            f"calibration {calibration.name!r}, publish: no correctionlib document of schema 2"
        ) from None
    if calibration.payload_names[0] not in names:
        raise CalibError(
            f"calibration {calibration.name!r}, publish: no correction"
            f" {calibration.payload_names[0]!r}, which its payload is known by; found"
            f" {', '.join(map(str, names))}"
        )
