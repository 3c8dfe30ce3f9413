"""Runs that look at what a correction does to events: an audit, a validation on the Higgs boson.

They are runs of `calib.calibrations.audit` and `calib.calibrations.validation` on events that it
has corrected.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import uproot

from calib.calibrations import of_payload
from calib.calibrations.capabilities import CorrectsPairs
from calib.errors import InputError
from calib.payload.payload import read
from jobs.config.complete import absolute, absolute_in, filled
from jobs.config.schema import Config, configuration, load
from jobs.events.addresses import is_remote
from jobs.events.apply import SIMULATED
from jobs.run.run import Run

CALIBRATION = "calib.calibrations.audit:Audit"
VALIDATION = "calib.calibrations.validation:Validation"
NOTHING = "none"
"""The correction that does nothing: the events as they are."""

FORMATS = {".root": "nanoaod", ".parquet": "stage1"}


def audit_of(correction: str, sources: Sequence[Path], resonance: str, out: Path) -> Run:
    """Return the run that audits a correction, without writing anything.

    Parameters
    ----------
    correction : str
        A payload, ours or one of muon_scalesmearing; the name of a column of the muons that is
        their corrected pt (without ``Muon_``); or ``none``: the events as they are.
    sources : sequence of Path
        A configuration, or the directory of a run, of which samples, selection, payloads that come
        before, cluster and seed are taken; or files with events, data and simulation.
    resonance : str
        Of the events, where files are given.
    out : Path

    Returns
    -------
    Run
        Not begun.

    Raises
    ------
    InputError
        If there is no such correction, or the events cannot be used.
    """
    config, base = _events(sources, resonance)
    selection = {}
    if is_column(correction):
        if correction != NOTHING:
            selection["muon_pt"] = correction.removeprefix("Muon_")
        correction = NOTHING
    return _looking(CALIBRATION, config, base, correction, selection, sources[0], out)


def validation_of(payload: str, sources: Sequence[Path], out: Path) -> Run:
    """Return the run that holds a mass resolution against simulated Higgs bosons.

    Parameters
    ----------
    payload : str
        A payload of the mass resolution, or the directory of its run.
    sources : sequence of Path
        A configuration, or the directory of a run, whose samples of resonance ``h`` are taken; or
        files with events.
    out : Path

    Returns
    -------
    Run
        Not begun.

    Raises
    ------
    InputError
        If the payload is of something else, or there are no such samples.
    """
    config, base = _events(sources, "h")
    samples = [sample for sample in config.samples if sample.resonance == "h"]
    if not samples:
        raise InputError(
            f"{sources[0]}: key 'samples': none is of resonance 'h', on which a validation is made;"
            " add simulated Higgs bosons"
        )
    path = _payload(payload)
    if not is_remote(path):
        kind = of_payload(read(Path(path)))
        if not issubclass(kind, CorrectsPairs):
            raise InputError(
                f"{payload}: a payload of {kind.name}, which predicts no resolution of pairs; name"
                " one that does, and this one under 'payloads' in the configuration of the samples"
            )
    config = config.model_copy(update={"samples": tuple(samples)})
    return _looking(VALIDATION, config, base, payload, {}, sources[0], out)


def _looking(
    calibration: str,
    config: Config,
    base: Path,
    correction: str,
    more: Mapping[str, Any],
    source: Path,
    out: Path,
) -> Run:
    """Return a run on the events of a configuration, with a correction after its own payloads."""
    keys = {"samples", "cluster", "seed", "chunk_size", "duplicates", "bad_files"}
    values = config.model_dump(mode="json", include=keys, exclude_unset=True)
    for sample, own in zip(values["samples"], config.samples, strict=True):
        sample |= absolute_in(own, base)
    given = {"certified", "triggers", "identification", "isolation", "muon_pt", "cuts", "filters"}
    selection = config.selection.model_dump(mode="json", include=given, exclude_unset=True)
    if selection.get("certified"):
        selection["certified"] = absolute(selection["certified"], base)
    before = [absolute(p, base) for p in config.payloads]
    if correction != NOTHING:
        before.append(_payload(correction))
        for sample in values["samples"]:
            if sample.get("payloads") is not None:
                sample["payloads"] = [*sample["payloads"], before[-1]]
    name = calibration.partition(":")[0].rpartition(".")[2]
    where = f"the {name} of {correction}"
    made = configuration(
        {
            **values,
            "name": name,
            "calibration": calibration,
            "selection": {**selection, **more},
            "payloads": before,
        },
        where,
    )
    return Run.of(filled(made, where, base), source, out)


def is_column(correction: str) -> bool:
    """Return whether a correction is the name of a column, or ``none``, and no file."""
    return re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", correction) is not None


def _payload(correction: str) -> str:
    if is_remote(correction):
        return correction
    path = Path(correction).expanduser()
    if path.is_dir():
        path = path / "payload.json"
    if not path.is_file():
        raise InputError(
            f"{correction}: there is no such file; give a payload, a file of muon_scalesmearing,"
            " the name of a column of the muons (correctedPt), or 'none'"
        )
    return str(path.resolve())


def _events(sources: Sequence[Path], resonance: str) -> tuple[Config, Path]:
    """Return a configuration whose events are to be looked at, and what its paths start from."""
    first = sources[0]
    if len(sources) == 1 and first.is_dir() and (first / "config.yaml").is_file():
        return load(first / "config.yaml"), first.resolve()
    if len(sources) == 1 and first.suffix in (".yaml", ".yml"):
        return load(first), first.resolve().parent
    samples: dict[tuple[str, bool], list[str]] = {}
    for path in sources:
        if path.suffix not in FORMATS:
            raise InputError(
                f"{path}: expected a configuration (.yaml), or files with events (.root, .parquet)"
            )
        if not path.is_file():
            raise InputError(f"{path}: there is no such file; give a file with events")
        kind = (FORMATS[path.suffix], _is_simulated(path))
        samples.setdefault(kind, []).append(str(path.resolve()))
    values: dict[str, Any] = {
        "name": "audit",
        "calibration": CALIBRATION,
        "samples": [
            {
                "name": f"{'simulation' if simulated else 'data'}-{format}",
                "resonance": resonance,
                "format": format,
                "files": files,
                "simulation": simulated,
            }
            for (format, simulated), files in samples.items()
        ],
    }
    return configuration(values, "the audit"), Path.cwd()


def _is_simulated(path: Path) -> bool:
    """Return whether a file has something generated in it."""
    try:
        if path.suffix == ".parquet":
            names = pq.read_schema(path).names
        else:
            with uproot.open(path) as file:
                names = file["Events"].keys()
    except Exception as error:  # readers have errors of any kind
        text = " ".join(str(error).split())[:200]
        raise InputError(f"{path}: cannot be read ({text}); write the file again") from error
    return bool(set(SIMULATED[FORMATS[path.suffix]]) & set(names))
