"""Small files for the tests of input: events written by hand, in both formats."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import uproot

Muon = Mapping[str, Any]

MUON = {
    "pt": 40.0,
    "eta": 0.5,
    "phi": 0.0,
    "charge": 1,
    "mass": 0.1057,
    "ptErr": 0.5,
    "mediumId": True,
    "tightId": True,
    "pfRelIso04_all": 0.02,
}
TYPES = {"charge": np.int32, "mediumId": np.bool_, "tightId": np.bool_, "genPartIdx": np.int32}


def pair(first: Muon | None = None, second: Muon | None = None) -> list[dict[str, Any]]:
    """Return two good muons of a Z, with some values changed."""
    return [
        {**MUON, **(first or {})},
        {**MUON, "pt": 35.0, "eta": -0.3, "phi": 3.0, "charge": -1, **(second or {})},
    ]


def nanoaod(
    path: Path,
    events: Sequence[Sequence[Muon]],
    *,
    without: Sequence[str] = (),
    tree: str = "Events",
    **branches: Any,
) -> Path:
    """Write NanoAOD; ``without`` are branches to leave out, ``branches`` further ones."""
    names, counts, flat = _muons(events, without)
    columns = {**_event_columns(len(events)), **branches}
    columns["Muon"] = ak.unflatten(ak.zip(dict(zip(names, flat, strict=True))), counts)
    columns = {k: v for k, v in columns.items() if k not in without}
    with uproot.recreate(path) as file:
        file.mktree(tree, {k: _type(v) for k, v in columns.items()})
        if events:
            file[tree].extend(columns)
    return path


def rntuple(path: Path, clusters: Sequence[Sequence[Sequence[Muon]]]) -> Path:
    """Write NanoAOD as an RNTuple, with these events in each cluster."""
    with uproot.recreate(path) as file:
        ntuple = None
        for events in clusters:
            names, counts, flat = _muons(events, ())
            columns = _event_columns(len(events))
            for name, values in zip(names, flat, strict=True):
                columns[f"Muon_{name}"] = ak.unflatten(values, counts)
            if ntuple is None:
                ntuple = file.mkrntuple("Events", columns)
            else:
                ntuple.extend(columns)
    return path


def _muons(
    events: Sequence[Sequence[Muon]], without: Sequence[str]
) -> tuple[list[str], Any, list[Any]]:
    counts = np.array([len(muons) for muons in events], dtype=np.int64)
    names = list(dict.fromkeys(name for e in events for m in e for name in m)) or list(MUON)
    names = [name for name in names if f"Muon_{name}" not in without]
    flat = [
        np.array(
            [m.get(name, MUON.get(name, -1)) for e in events for m in e],
            dtype=TYPES.get(name, np.float32),
        )
        for name in names
    ]
    return names, counts, flat


def _event_columns(n: int) -> dict[str, Any]:
    return {
        "run": np.full(n, 1, dtype=np.uint32),
        "luminosityBlock": np.arange(n, dtype=np.uint32),
        "event": np.arange(100, 100 + n, dtype=np.uint64),
        "HLT_IsoMu24": np.ones(n, dtype=np.bool_),
    }


def _type(branch: Any) -> Any:
    if isinstance(branch, ak.Array):
        return branch.type.content
    return np.dtype((branch.dtype, branch.shape[1:]))


def stage1_columns(pairs: Sequence[Sequence[Muon]]) -> dict[str, Any]:
    """Return the columns of stage1 for pairs of muons."""
    n = len(pairs)
    columns: dict[str, Any] = {
        "run": np.full(n, 1, dtype=np.uint32),
        "event": np.arange(100, 100 + n, dtype=np.uint64),
    }
    for i, prefix in enumerate(("mu1", "mu2")):
        for name in ("pt", "eta", "phi", "ptErr", "charge"):
            dtype = TYPES.get(name, np.float32)
            columns[f"{prefix}_{name}"] = np.array([p[i][name] for p in pairs], dtype=dtype)
    return columns


def stage1(path: Path, columns: Mapping[str, Any], **options: Any) -> Path:
    """Write stage1."""
    pq.write_table(pa.table(dict(columns)), path, **options)
    return path
