"""Results from the files of a run, and from its sums in memory."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from calib.errors import InputError
from calib.events import histograms
from calib.payload.payload import Payload
from calib.payload.payload import read as read_payload
from calib.results import Closure, Pass, Reduction
from jobs.config.complete import Work, resume
from jobs.config.schema import is_chain
from jobs.event_loop import collection
from jobs.notebook.covariance import Covariance
from jobs.notebook.result import Result
from jobs.run import steps
from jobs.storage.files import plain

if TYPE_CHECKING:
    from jobs.notebook.chains import ChainResult


def open_result(directory: str | Path) -> Result | ChainResult:
    """Return the result that a finished run has left in a directory; of a chain, of each step.

    Raises
    ------
    InputError
        If it is not the directory of a run, or the run is not finished.

    Examples
    --------
    >>> z = calib.open_result("z-2018")  # doctest: +SKIP
    >>> z.to_dataframe()[["category", "factor", "factor_err", "status"]]  # doctest: +SKIP
    """
    path = Path(directory)
    if is_chain(path):
        from jobs.notebook.chains import open_chain

        return open_chain(path)
    return result_of(resume(path))


def result_of(work: Work) -> Result:
    """Return what the files in the directory of a run say."""
    directory = work.directory
    verdict = steps.written_verdict(work)
    if not directory.marker("reduce"):
        raise InputError(f"{directory.path}: not reduced yet; run `calib run {directory.path}`")
    own = {"fits", "closure"}
    tables = {p.stem: _csv(p) for p in sorted(directory.path.glob("*.csv"))}
    closure = directory / "closure.csv"
    return Result(
        directory=directory.path,
        config=work.config,
        fits=pd.read_parquet(directory / "fits.parquet"),
        tables={name: table for name, table in tables.items() if name not in own},
        covariance=_covariance(directory / "covariance.npz"),
        closure=tables["closure"] if closure.is_file() else pd.DataFrame(),
        verdict=verdict,
        accounting=steps.written_accounting(work),
        provenance=directory_json(directory / "provenance.json"),
        payload=_payload(work, read_payload(directory / "payload.json"), "payload.json"),
        edits=directory.edits(),
    )


def _csv(path: Path) -> pd.DataFrame:
    try:
        found = pd.read_csv(path)
    except pd.errors.EmptyDataError:
        return pd.DataFrame()
    words = found.select_dtypes(exclude="number").columns
    return found.fillna(dict.fromkeys(words, ""))  # no word is not a number that is missing


def directory_json(path: Path) -> dict[str, Any]:
    """Return a JSON file of a run, empty where there is none."""
    from calib.documents import json_values

    try:
        found = json_values(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _payload(work: Work, document: Mapping[str, Any], name: str) -> Payload:
    return Payload(document, str(work.directory / name), type(work.calibration))


def _covariance(path: Path) -> Covariance | None:
    if not path.is_file():
        return None
    found = histograms.read(path)
    if not {"names", "values", "covariance"} <= found.keys():
        return None
    return Covariance(found["names"], found["values"], found["covariance"])


# in memory ---------------------------------------------------------------------------------------
def reduced(
    work: Work, walk: Pass, edits: Mapping[str, Mapping[str, Any]]
) -> tuple[Reduction, Closure]:
    """Return the reduction of the sums with these edits, and the closure they allow."""
    reduction = work.calibration.reduce(collection.sums(work, walk), edits, walk)
    return reduction, steps.close_sums(work, reduction, walk)


def refitted(work: Work, walk: Pass, edits: Mapping[str, Mapping[str, Any]]) -> Result:
    """Return the result with these edits; nothing is written."""
    reduction, closure = reduced(work, walk, edits)
    document = work.calibration.publish(reduction)
    made = reduction.arrays.get("covariance")
    return Result(
        directory=work.directory.path,
        config=work.config,
        fits=plain(reduction.fits),
        tables={name: plain(table) for name, table in reduction.tables.items()},
        covariance=Covariance(*(np.asarray(made[n]) for n in ("names", "values", "covariance")))
        if made
        else None,
        closure=plain(closure.table),
        verdict=steps.decide(work, document, reduction, closure),
        accounting=steps.written_accounting(work),
        provenance=directory_json(work.directory / "provenance.json"),
        payload=_payload(work, document, "a refit"),
        edits=edits,
        made=(reduction, closure),
    )
