"""Systematic variations that a user names: changed settings, and what they do to each parameter."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from calib import calibrations
from calib.calibrations.base import Calibration
from calib.errors import InputError
from calib.later import pandas as pd
from calib.results import Reduction, Section
from calib.types import Array
from jobs.config.complete import Complete, Work

FOLDER = "variations"
PREFIX = "syst_"


@dataclass(frozen=True)
class Variation:
    """The same run with some settings changed.

    ``same_sums``: what is collected of the events is the same, so that the sums at hand serve.
    """

    name: str
    made: Complete
    same_sums: bool


def variations(work: Work) -> Iterator[Variation]:
    """Yield the variations of a run.

    Parameters
    ----------
    work : Work
        With ``variations`` in its configuration.

    Yields
    ------
    Variation

    Raises
    ------
    InputError
        If the settings of one are not valid; the sentence names it.
    """
    for name, changed in work.config.variations.items():
        yield Variation(name, *_changed(work, name, changed))


def _changed(work: Work, name: str, changed: Mapping[str, Any]) -> tuple[Complete, bool]:
    where = f"{work.config.name}: key 'variations.{name}'"
    settings = _merged(work.config.settings, changed)
    config = work.config.model_copy(update={"settings": settings, "variations": {}})
    calibration: Calibration = calibrations.build(config, where)
    config = config.model_copy(update={"settings": calibration.settings.model_dump(mode="json")})
    if config.settings == work.config.settings:
        raise InputError(
            f"{where}: found {dict(changed)}, which are the settings of the run itself; change one"
        )
    same = dict(calibration.collect_settings()) == dict(work.calibration.collect_settings())
    return (config, calibration), same


def _merged(settings: Mapping[str, Any], changed: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings with some changed, however deep; a key may be dotted."""
    found = dict(settings)
    for key, value in changed.items():
        first, _, rest = key.partition(".")
        inner = {rest: value} if rest else value
        old = found.get(first)
        if isinstance(inner, Mapping) and isinstance(old, Mapping):
            found[first] = _merged(old, inner)
        else:
            found[first] = inner
    return found


def shift(nominal: Reduction, varied: Reduction, name: str) -> Array:
    """Return the change of each parameter under a variation, 0 where either has none.

    Parameters
    ----------
    nominal, varied : Reduction
        With ``covariance``.
    name : str
        Of the variation, for the sentence of an error.

    Returns
    -------
    array, shape (n,)
        In the order and the units of covariance.npz.

    Raises
    ------
    InputError
        If there are no parameters, or not the same ones.
    """
    where = f"key 'variations.{name}'"
    if "covariance" not in nominal.arrays or "covariance" not in varied.arrays:
        raise InputError(
            f"{where}: this calibration gives no 'covariance', so that no variation can be added to"
            " it; take the variation out"
        )
    one, other = nominal.arrays["covariance"], varied.arrays["covariance"]
    if f"{PREFIX}{name}" in one:
        raise InputError(f"{where}: {PREFIX}{name} is there already; choose another name")
    if list(one["names"]) != list(other["names"]):
        raise InputError(
            f"{where}: its parameters are not those of the run ({len(other['names'])} and"
            f" {len(one['names'])}); a variation may not change the bins of the result"
        )
    return np.nan_to_num(np.asarray(other["values"]) - np.asarray(one["values"]))


def section(reduction: Reduction, names: Mapping[str, Mapping[str, Any]]) -> Section:
    """Return what each variation does, for the report.

    Parameters
    ----------
    reduction : Reduction
        With the shifts in ``covariance``.
    names : mapping of name to settings
        The variations.

    Returns
    -------
    Section
        One row for each variation.
    """
    found = reduction.arrays["covariance"]
    shifts = {name: np.asarray(found[f"{PREFIX}{name}"]) for name in names}
    total = np.sqrt(np.diagonal(found["covariance"]))
    others = sum((s**2 for s in shifts.values()), np.zeros(len(total)))
    without = np.sqrt(np.maximum(total**2 - others, 0.0))
    rows = []
    for name, changed in names.items():
        with np.errstate(invalid="ignore", divide="ignore"):
            of_error = np.where(without > 0, np.abs(shifts[name]) / without, np.nan)
        known = np.flatnonzero(np.isfinite(of_error))
        at = known[np.argmax(of_error[known])] if len(known) else 0
        rows.append(
            {
                "variation": name,
                "settings": ", ".join(f"{k}: {v}" for k, v in changed.items()),
                "median_in_errors": float(np.median(of_error[known])) if len(known) else np.nan,
                "largest_in_errors": float(of_error[at]) if len(known) else np.nan,
                "of": str(found["names"][at]),
                "shift": float(shifts[name][at]),
            }
        )
    text = (
        "What changed settings do to the parameters: the shift of each, over its error without"
        " variations. One standard deviation of each variation is added to the covariance"
        f" ({PREFIX}NAME in covariance.npz and in the payload)."
    )
    return Section("Variations", text, {"variations": pd.DataFrame(rows)})
