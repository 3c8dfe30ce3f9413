"""Simulated events with known truth to files, in the formats that are read."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import uproot

from calib.arrays import AnyArray
from calib.constants import MUON_MASS
from calib.errors import InputError
from calib.pairs import Muons, Pairs
from calib.toys import ToyEvents

CLUSTER = 100_000
"""Events in a cluster of the TTree."""

ROW_GROUP = 1_000_000

SUFFIX = {"nanoaod": ".root", "stage1": ".parquet"}


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


# NanoAOD -----------------------------------------------------------------------------------------
def write_nanoaod(path: Path, pairs: Pairs, simulation: bool) -> None:
    """Write pairs as a TTree of NanoAOD: two muons an event, the leading one first."""
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
    columns = [getattr(m, name) for m in (pairs.leading, pairs.subleading)]
    values = np.stack(columns, axis=1).ravel()
    return values.astype(np.float32) if values.dtype.kind == "f" else values


def _jagged(columns: dict[str, AnyArray], n: int) -> ak.Array:
    record = ak.zip(columns)
    return ak.unflatten(record, np.full(n, 2))


# stage1 -------------------------------------------------------------------------------------------
def write_stage1(path: Path, pairs: Pairs, simulation: bool) -> None:
    """Write pairs as flat parquet: no dictionaries, lz4, row groups of about a million."""
    columns: dict[str, AnyArray] = {
        "run": pairs.run.astype(np.uint32),
        "luminosityBlock": pairs.luminosityBlock.astype(np.uint32),
        "event": pairs.event.astype(np.uint64),
    }
    for prefix, muons in (("mu1", pairs.leading), ("mu2", pairs.subleading)):
        columns |= {f"{prefix}_{name}": column for name, column in _muon(muons, simulation).items()}
    columns["dimuon_mass"] = pairs.mass.astype(np.float32)
    if simulation:
        assert pairs.gen_mass is not None
        columns["gen_dimuon_mass"] = pairs.gen_mass.astype(np.float32)
        columns["wgt_nominal"] = pairs.weight
    table = pa.table(columns)
    pq.write_table(table, path, compression="lz4", use_dictionary=False, row_group_size=ROW_GROUP)


def _muon(muons: Muons, simulation: bool) -> dict[str, AnyArray]:
    assert muons.pt_err is not None
    columns: dict[str, AnyArray] = {
        "pt": muons.pt.astype(np.float32),
        "eta": muons.eta.astype(np.float32),
        "phi": muons.phi.astype(np.float32),
        "ptErr": muons.pt_err.astype(np.float32),
        "charge": muons.charge.astype(np.int32),
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
