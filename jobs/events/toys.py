"""Simulated events with known truth to files, in the formats that are read; truths from files."""

from __future__ import annotations

import difflib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import uproot
from pydantic import TypeAdapter, ValidationError

from calib import calibrations
from calib.calibrations.base import Calibration
from calib.calibrations.capabilities import HasTruth
from calib.documents import json_values
from calib.errors import InputError
from calib.events.pairs import Muons, Pairs
from calib.physics.constants import MUON_MASS
from calib.sentences import sentence
from calib.toys.generation import ToyEvents, Truth, named_truth
from calib.types import AnyArray
from jobs.storage.files import write_json
from processors.readers.columns import muon_columns

CLUSTER = 100_000
"""Events in a cluster of the TTree."""

ROW_GROUP = 1_000_000

SUFFIX = {"nanoaod": ".root", "stage1": ".parquet"}


def truth_of_toys(choice: str, resonance: str, simulation: bool) -> Truth:
    """Return what is put into the toys.

    Parameters
    ----------
    choice : str
        A name that `calib.toys.generation.named_truth` knows, or a JSON file with keys of
        `calib.toys.generation.Truth` on top of its ``default``. A truth.json is such a file.
    resonance : str
        One of ``calib.physics.constants.RESONANCES``.
    simulation : bool
        Whether it is that of a simulated sample.

    Returns
    -------
    Truth
        What `calib.toys.generation.generate` takes.

    Raises
    ------
    InputError
        If there is no such file, or its keys or values cannot be.
    """
    named = named_truth(choice, resonance, simulation)
    if named is not None:
        return named
    own = named_truth("default", resonance, simulation)
    assert own is not None
    values = _read_json(Path(choice))
    known = [f.name for f in fields(Truth)]
    for key in values:
        if key not in known and key not in RECORDED:
            near = difflib.get_close_matches(key, known, n=1, cutoff=0.5)
            hint = f"did you mean {near[0]!r}?" if near else f"known keys: {', '.join(known)}"
            raise InputError(f"{choice}: unknown key {key!r}; {hint}")
    given = {key: value for key, value in values.items() if key in known}
    try:
        return TypeAdapter(Truth).validate_python({**asdict(own), **given})
    except ValidationError as error:
        raise InputError(f"{choice}: {sentence(Truth, error)}") from None
    except InputError as error:
        raise InputError(f"{choice}: {error}") from None


def _read_json(path: Path) -> dict[str, Any]:
    try:
        values = json_values(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(
            f"option --truth: found {str(path)!r}; expected a JSON file or one of the names in"
            " `calib toys --help`; correct it"
        ) from None
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read ({error}); expected a JSON file") from None
    if not isinstance(values, dict):
        raise InputError(f"{path}: found {values!r}, expected keys with values; correct it")
    return values


def write_toys(out: Path, events: ToyEvents, format: str, files: int = 1) -> list[Path]:
    """Write events and ``truth.json`` to a new directory, whole or not at all.

    Parameters
    ----------
    out : Path
        Must not exist yet, or be empty.
    events : ToyEvents
    format : str
        ``nanoaod`` or ``stage1``.
    files : int
        Number of files; the events are split evenly.

    Returns
    -------
    list of Path
        The files with events.

    Raises
    ------
    InputError
        If the directory is not empty, or the format or number of files cannot be.
    """
    writers: dict[str, Callable[[Path, Pairs, bool], None]] = {
        "nanoaod": write_nanoaod,
        "stage1": write_stage1,
    }
    if format not in writers:
        raise InputError(f"format {format!r}: expected one of {', '.join(writers)}; choose one")
    n = len(events.pairs)
    if not 1 <= files <= max(n, 1):
        raise InputError(f"files {files}: expected 1 to {max(n, 1)} for {n} events; choose fewer")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError(f"{out}: exists and is not empty; choose another directory or remove it")
    out.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{out.name}.", suffix=".part", dir=out.parent))
    names = [f"{events.resonance}_{i:03d}{SUFFIX[format]}" for i in range(files)]
    edges = [n * i // files for i in range(files + 1)]
    try:
        for name, start, stop in zip(names, edges[:-1], edges[1:], strict=True):
            part = events.pairs.take(np.arange(start, stop))
            writers[format](temporary / name, part, events.simulation)
        text = json.dumps(_truth(events, format, names), indent=1)
        (temporary / "truth.json").write_text(text + "\n", encoding="utf-8")
        temporary.chmod(0o755)  # mkdtemp keeps others out
        os.replace(temporary, out)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return [out / name for name in names]


RECORDED = (
    "resonance",
    "format",
    "simulation",
    "events",
    "background_events",
    "files",
    "min_pt",
    "mass_window",
    "calibrations",
)
"""Keys of a truth.json that say what was made, not what was put in."""


def _truth(events: ToyEvents, format: str, names: list[str]) -> dict[str, object]:
    return {
        "resonance": events.resonance,
        "format": format,
        "simulation": events.simulation,
        "events": len(events.pairs),
        "background_events": int(np.count_nonzero(events.background)),
        "files": names,
        **events.truth,
    }


# what calibrations should find --------------------------------------------------------------------
def add_truths(out: Path, pairs: Pairs) -> None:
    """Write into ``truth.json``, under ``calibrations``, what each calibration should find.

    Parameters
    ----------
    out : Path
        Folder of the toys, with truth.json.
    pairs : Pairs
        Simulated ones with generated muons, GeV.
    """
    path = out / "truth.json"
    found = json_values(path.read_text(encoding="utf-8"))
    found["calibrations"] = {}
    for name in calibrations.available():
        kind = calibrations.get(name)
        expected = kind.truth(pairs) if issubclass(kind, HasTruth) else None
        if expected is not None:
            found["calibrations"][name] = dict(expected)
    write_json(path, found)


def truth_of(path: Path, kind: type[Calibration]) -> Mapping[str, Any]:
    """Return what a calibration should find, from a truth.json.

    Parameters
    ----------
    path : Path
        A truth.json.
    kind : type
        Of the calibration.

    Returns
    -------
    mapping
        As `HasTruth.truth` returns it.

    Raises
    ------
    InputError
        If the file does not know.
    """
    try:
        return dict(json_values(path.read_text(encoding="utf-8"))["calibrations"][kind.name])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{path}: no truth for calibration {kind.name!r} ({type(error).__name__});"
            " make the toys again with `calib toys`"
        ) from error


# NanoAOD -----------------------------------------------------------------------------------------
def write_nanoaod(path: Path, pairs: Pairs, simulation: bool) -> None:
    """Write pairs as a TTree of NanoAOD: two muons an event, the leading one first.

    Parameters
    ----------
    path : Path
        The file, replaced where it is there.
    pairs : Pairs
        GeV.
    simulation : bool
        Whether generated muons are written.
    """
    with uproot.recreate(path, compression=uproot.ZSTD(1)) as file:
        tree = None
        for start in range(0, max(len(pairs), 1), CLUSTER):
            part = pairs.take(np.arange(start, min(start + CLUSTER, len(pairs))))
            branches = _branches(part, simulation)
            if tree is None:
                types = {name: _type(branch) for name, branch in branches.items()}
                tree = file.mktree("Events", types, title="simulated dimuons")
            tree.extend(branches)


def _type(branch: ak.Array | AnyArray) -> Any:
    return branch.type.content if isinstance(branch, ak.Array) else branch.dtype


def _branches(pairs: Pairs, simulation: bool) -> dict[str, ak.Array | AnyArray]:
    n = len(pairs)
    muons = {
        "pt": _both(pairs, "pt"),
        "eta": _both(pairs, "eta"),
        "phi": _both(pairs, "phi"),
        "mass": np.full(2 * n, MUON_MASS, dtype=np.float32),
        "ptErr": _both(pairs, "pt_err"),
        "charge": _both(pairs, "charge").astype(np.int32),
        "pfRelIso04_all": np.full(2 * n, 0.02, dtype=np.float32),
        **{name: np.ones(2 * n, dtype=np.bool_) for name in ("looseId", "mediumId", "tightId")},
        **{name: _both(pairs, name) for name in pairs.leading.extra},
    }
    branches: dict[str, ak.Array | AnyArray] = {
        "run": pairs.run.astype(np.uint32),
        "luminosityBlock": pairs.luminosityBlock.astype(np.uint32),
        "event": pairs.event.astype(np.uint64),
        "HLT_IsoMu24": np.ones(n, dtype=np.bool_),
    }
    if simulation:
        # the generated muons stand in the order of their charge, not of their pt
        charge = _both(pairs, "charge").reshape(n, 2)
        order = np.argsort(charge, axis=1)
        muons["genPartIdx"] = np.argsort(order, axis=1).astype(np.int32).ravel()

        def generated(name: str) -> AnyArray:
            return np.take_along_axis(_both(pairs, name).reshape(n, 2), order, axis=1).ravel()

        ordered = np.take_along_axis(charge, order, axis=1).ravel()
        particles = {name: generated(f"gen_{name}") for name in ("pt", "eta", "phi")}
        particles |= {
            "mass": muons["mass"],
            "pdgId": (-13 * ordered).astype(np.int32),
            "status": np.ones(2 * n, dtype=np.int32),
            "statusFlags": np.full(2 * n, 0x2181, dtype=np.int32),
            "genPartIdxMother": np.full(2 * n, -1, dtype=np.int32),
        }
        branches["genWeight"] = pairs.weight.astype(np.float32)
        branches["GenPart"] = _jagged(particles, n)
    branches["Muon"] = _jagged(muons, n)
    return branches


def _both(pairs: Pairs, name: str) -> AnyArray:
    """Return a column of both muons, those of an event beside each other."""
    muons = (pairs.leading, pairs.subleading)
    columns = [m.extra[name] if name in m.extra else getattr(m, name) for m in muons]
    values = np.stack(columns, axis=1).ravel()
    return values.astype(np.float32) if values.dtype.kind == "f" else values


def _jagged(columns: dict[str, AnyArray], n: int) -> ak.Array:
    record = ak.zip(columns)
    return ak.unflatten(record, np.full(n, 2))


# stage1 -------------------------------------------------------------------------------------------
def write_stage1(path: Path, pairs: Pairs, simulation: bool) -> None:
    """Write pairs as flat parquet: no dictionaries, lz4, row groups of about a million.

    Parameters
    ----------
    path : Path
        The file, replaced where it is there.
    pairs : Pairs
        GeV.
    simulation : bool
        Whether generated muons and weights are written.
    """
    columns: dict[str, AnyArray] = {
        "run": pairs.run.astype(np.uint32),
        "luminosityBlock": pairs.luminosityBlock.astype(np.uint32),
        "event": pairs.event.astype(np.uint64),
    }
    for i, muons in enumerate((pairs.leading, pairs.subleading)):
        own = _muon(muons, simulation)
        columns |= {muon_columns("stage1", name)[i]: column for name, column in own.items()}
    columns["dimuon_mass"] = pairs.mass.astype(np.float32)
    if simulation:
        assert pairs.gen_mass is not None
        columns["gen_dimuon_mass"] = pairs.gen_mass.astype(np.float32)
        columns["wgt_nominal"] = pairs.weight
    table = pa.table(columns)
    pq.write_table(
        table,
        path,
        compression="lz4",
        use_dictionary=False,
        row_group_size=ROW_GROUP,
        write_page_checksum=True,
    )


def _muon(muons: Muons, simulation: bool) -> dict[str, AnyArray]:
    assert muons.pt_err is not None
    columns: dict[str, AnyArray] = {
        "pt": muons.pt.astype(np.float32),
        "eta": muons.eta.astype(np.float32),
        "phi": muons.phi.astype(np.float32),
        "ptErr": muons.pt_err.astype(np.float32),
        "charge": muons.charge.astype(np.int32),
        **{name: column.astype(np.float32) for name, column in muons.extra.items()},
    }
    if simulation:
        assert muons.gen_pt is not None and muons.gen_eta is not None
        assert muons.gen_phi is not None
        columns |= {
            "gen_pt": muons.gen_pt.astype(np.float32),
            "gen_eta": muons.gen_eta.astype(np.float32),
            "gen_phi": muons.gen_phi.astype(np.float32),
        }
    return columns
