"""What more data would bring: the errors of a run, or of all constants of a store, beforehand."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from calib import calibrations
from calib.errors import InputError
from calib.quality.error_budget import ErrorBudget
from jobs.nightly.constants import in_force, written
from jobs.run.run import Run

if TYPE_CHECKING:
    from rich.table import Table

    from jobs.store import Store


def of_run(directory: Path, times: float) -> dict[str, Any]:
    """Return the errors of a finished run now, and with more data.

    Parameters
    ----------
    directory : Path
        Of the run.
    times : float
        Luminosity of the data over that of the run.

    Returns
    -------
    dict
        ``directory, calibration, times, kinds, parameters``: see `ErrorBudget.table`, `summary`.

    Raises
    ------
    InputError
        If the run is not reduced, or its calibration writes no covariance.
    """
    work = Run.resume(directory)
    if not (directory / "covariance.npz").is_file():
        raise InputError(
            f"{directory}: no covariance.npz, expected a run with a result;"
            f" calib run {directory} goes on with it"
        )
    budget = type(work.calibration).error_budget(*written(work))
    about = {"directory": str(directory), "calibration": work.calibration.name}
    return {**about, **_numbers(budget, times)}


def of_store(store: Store, times: float, tag: str, least: float) -> dict[str, Any]:
    """Return what more data would bring to the newest constants of each calibration of a store.

    Parameters
    ----------
    store : Store
        Only read.
    times : float
        Luminosity of the data over that of the constants.
    tag : str
        The line of revisions.
    least : float
        Share by which the median error of some kind of parameter must shrink for a calibration to
        be worth redoing.

    Returns
    -------
    dict
        ``times, tag, least, calibrations``: one entry each, most gain first, with ``calibration,
        revision, since, until, gain, worth, kinds``.
    """
    found = []
    for name in store.calibrations():
        intervals = store.intervals(name, tag)
        if not intervals:
            continue
        kept = in_force(store, name, intervals[-1].validity.since, tag)
        assert kept is not None  # of an interval that is there
        about = {
            "calibration": name,
            "revision": kept.number,
            "since": intervals[-1].validity.since,
            "until": intervals[-1].validity.until,
        }
        try:
            kind = calibrations.get(name)
            numbers = _numbers(kind.error_budget(kept.tables, kept.arrays), times)
        except InputError as error:
            found.append({**about, "gain": 0.0, "worth": False, "kinds": [], "error": str(error)})
            continue
        gain = max((row["gain"] for row in numbers["kinds"]), default=0.0)
        found.append({**about, "gain": gain, "worth": gain >= least, "kinds": numbers["kinds"]})
    if not found:
        raise InputError(f"tag {tag}: nothing is published in it; calib store list STORE shows all")
    found.sort(key=lambda one: -one["gain"])
    return {"times": times, "tag": tag, "least": least, "calibrations": found}


def _numbers(budget: ErrorBudget, times: float) -> dict[str, Any]:
    return {
        "times": times,
        "kinds": budget.summary(times).to_dict("records"),
        "parameters": budget.table(times).dropna(subset=["error"]).to_dict("records"),
    }


def table(found: Mapping[str, Any]) -> Table:
    """Return what `of_run` or `of_store` have found, one row a kind of parameter."""
    from rich.table import Table

    out = Table("of", "parameters", box=None, pad_edge=False)
    for name in ("number", "error now", f"with {found['times']:g} times", "falls by", "stays"):
        out.add_column(name, justify="right")
    results: Iterable[Mapping[str, Any]] = found.get("calibrations", [found])
    for one in results:
        number = f" {one['revision']}" if "revision" in one else ""
        for row in one["kinds"]:
            out.add_row(
                f"{one['calibration']}{number}",
                row["kind"],
                str(row["n"]),
                f"{row['error']:.2g}",
                f"{row['error_then']:.2g}",
                f"{100 * row['gain']:.0f} %",
                f"{row['error_least']:.2g}",
            )
    return out


def lines(found: Mapping[str, Any]) -> list[str]:
    """Return which calibrations of a store are worth redoing, in words."""
    out = []
    for one in found.get("calibrations", []):
        name = f"{one['calibration']}, revision {one['revision']} from run {one['since']} on"
        if "error" in one:
            out.append(f"{name}: not known ({one['error']})")
        elif one["worth"]:
            out.append(f"{name}: worth redoing, an error falls by {100 * one['gain']:.0f} %")
        else:
            out.append(f"{name}: not worth it, no error falls by {100 * found['least']:.0f} %")
    return out
