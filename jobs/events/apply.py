"""A payload applied to the events of an analysis: the same file with corrected columns.

Every event is written, whether it could be corrected or not; the others have NaN (-1 for
integers) in the new columns, and are counted under the reason.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import awkward as ak
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import uproot

from calib import calibrations
from calib.calibrations.base import Needs
from calib.calibrations.capabilities import AddsColumns, CorrectsMuons
from calib.errors import InputError
from calib.events.pairs import Muons
from calib.payload.payload import read as read_payload
from calib.physics.kinematics import mass as pair_mass
from calib.schema import Sample
from calib.types import AnyArray, BoolArray, IntArray
from jobs.event_loop.collection import Progress
from jobs.storage.files import whole
from processors import pairing
from processors.readers import chunk as reader
from processors.readers.columns import (
    GEN_MASS,
    GEN_PARTICLES,
    GEN_PARTNER,
    ISOLATION,
    gen_kinematics,
    identification_column,
    muon_columns,
)
from processors.readers.events import Events
from processors.readers.stage1 import Table
from processors.readers.table import records_of
from processors.selection import REASONS, SELECTED, ResolvedSelection, choose_pairs

STEP = 250_000
"""Events in memory at a time."""

KEPT = (
    "run",
    "luminosityBlock",
    "event",
    "genWeight",
    "Muon_pt",
    "Muon_eta",
    "Muon_phi",
    "Muon_mass",
    "Muon_charge",
    "Muon_ptErr",
    "Muon_looseId",
    "Muon_mediumId",
    "Muon_tightId",
    "Muon_pfRelIso04_all",
    "Muon_genPartIdx",
    "Muon_dxy",
    "Muon_dxyErr",
    "Muon_dz",
    "Muon_dzErr",
)
"""Branches of NanoAOD that are written again, where they are there."""

QUANTITIES = ("pt", "ptErr")
"""Of a muon, that a payload may replace."""

REPLACED = tuple(f"mu{i}_{name}" for name in QUANTITIES for i in (1, 2))
MASS = "dimuon_mass"
SIMULATED = {
    "nanoaod": ("genWeight", "GenPart_pt", "Generator_weight"),
    "stage1": (GEN_MASS, *gen_kinematics()),
}
"""Columns that only simulation has; in stage1 they may be there and empty."""

NEEDS = Needs(optional=("ptErr",))


@dataclass(frozen=True)
class Corrected:
    """New columns of one chunk, one entry an event, and which events have them.

    ``leading, subleading`` are the positions of the chosen muons among all, for those events.
    ``muons`` are all muons of the chunk, where each is corrected for itself.
    """

    columns: Mapping[str, AnyArray]
    chosen: BoolArray
    leading: IntArray
    subleading: IntArray
    left_alone: Mapping[str, int]
    muons: Muons | None = None


def apply_payload(payload: Path, path: Path, out: Path, progress: Progress) -> dict[str, Any]:
    """Write the events of a file with the columns that a payload gives; return the accounting.

    NanoAOD: every muon, where the calibration corrects muons; else of each event the pair that a
    calibration would choose, medium identification and isolation where the file has them. stage1:
    each row is a pair, the mass is scaled with the corrected muons. A table: each row.

    Raises
    ------
    InputError
        If the payload or the events cannot be used, or OUT exists.
    """
    document = read_payload(payload)
    kind = calibrations.of_payload(document)
    if not issubclass(kind, AddsColumns):
        raise InputError(
            f"{payload}: calibration {kind.name!r} gives no columns of events; use its payload.json"
        )
    suffix = path.suffix.lower()
    if suffix not in (".root", ".parquet"):
        raise InputError(f"{path}: expected a .root or .parquet file; give one of these")
    if out.suffix.lower() != suffix:
        raise InputError(f"{out}: the output has the format of the input; name it *{suffix}")
    if not path.is_file():
        raise InputError(f"{path}: there is no such file; give a file with events")
    if out.exists():
        raise InputError(f"{out}: exists already; remove it or choose another name")
    tally: Counter[str] = Counter()
    with whole(out) as temporary:
        write = _nanoaod if suffix == ".root" else _stage1
        if kind.formats == ("table",):
            write = _table
        n, added, replaced = write(kind, document, path, temporary, tally, progress)
    left = {reason: count for reason, count in tally.items() if count}
    return {
        "path": str(out),
        "calibration": kind.name,
        "events": n,
        "corrected": n - sum(left.values()),
        "left_alone": left,
        "added": added,
        "replaced": replaced,
    }


def _read(events: Any, format: str, simulated: bool, selection: ResolvedSelection) -> Events:
    sample = Sample(
        name="events",
        resonance="z",
        format=format,
        files=("-",),
        simulation=simulated,  # type: ignore[arg-type]
    )
    return reader.read(events, sample, NEEDS, selection)


def _pairs(
    kind: type[AddsColumns],
    document: Mapping[str, Any],
    chunk: Events,
    selection: ResolvedSelection,
) -> Corrected:
    """Correct the pair of each event."""
    nothing = np.full(len(chunk), SELECTED, dtype=np.int64)
    choice = choose_pairs(chunk.muons, chunk.weight, nothing, selection)
    chosen = choice.reason == SELECTED
    at = np.flatnonzero(chosen)
    leading, subleading = choice.leading[at], choice.subleading[at]
    pairs = pairing.pairs_of(chunk, at, leading, subleading)
    found = dict(kind.apply(document, pairs))
    for i, muons in ((1, pairs.leading), (2, pairs.subleading)):
        pt = found.get(f"mu{i}_pt")
        if pt is not None and muons.pt_err is not None:
            found.setdefault(f"mu{i}_ptErr", muons.pt_err * (pt / muons.pt))
    left = Counter(REASONS[reason] for reason in choice.reason[~chosen])
    columns = {name: _spread(np.asarray(v), chosen) for name, v in found.items()}
    return Corrected(columns, chosen, leading, subleading, left)


def _each_muon(
    kind: type[CorrectsMuons], document: Mapping[str, Any], chunk: Events, simulated: bool
) -> Corrected:
    """Correct all muons, each for itself."""
    n, own = len(chunk), chunk.muons
    of_event = np.repeat(np.arange(n), own.count)
    muons = Muons(own.pt, own.eta, own.phi, own.charge.astype(np.int64), own.pt_err)
    identity = (chunk.run[of_event], chunk.luminosityBlock[of_event], chunk.event[of_event])
    made = kind.apply_muons(document, muons, *identity, simulated)
    moved = np.isfinite(made.pt) & (made.pt != own.pt)
    chosen = np.bincount(of_event[moved], minlength=n) > 0
    left = {
        "no_muon": int((own.count == 0).sum()),
        "no_muon_corrected": int((~chosen & (own.count > 0)).sum()),
    }
    none = np.zeros(0, dtype=np.int64)
    return Corrected({}, chosen, none, none, left, made)


def _spread(values: AnyArray, chosen: BoolArray) -> AnyArray:
    """Return one value an event, with a gap where none was chosen."""
    missing = np.nan if values.dtype.kind == "f" else -1
    out = np.full(len(chosen), missing, dtype=values.dtype)
    out[chosen] = values
    return out


# stage1 ----------------------------------------------------------------------------------------
def _stage1(
    kind: type[AddsColumns],
    document: Mapping[str, Any],
    path: Path,
    out: Path,
    tally: Counter[str],
    progress: Progress,
) -> tuple[int, list[str], list[str]]:
    selection = ResolvedSelection(opposite_charge=False)
    with _readable(path), pq.ParquetFile(path) as file:
        have = set(file.schema_arrow.names)
        needed = [
            c for name in ("pt", "eta", "phi", "charge") for c in muon_columns("stage1", name)
        ]
        _require(path, needed, have)
        simulated = _has_generated(file, have)

        def columns_of(table: pa.Table, where: dict[str, Any]) -> dict[str, AnyArray]:
            events = SimpleNamespace(metadata=where)
            chunk = _read(events, "stage1", simulated, selection)
            part = _pairs(kind, document, chunk, selection)
            tally.update(part.left_alone)
            return _by_row(part, table)

        return _rewritten(path, file, out, columns_of, progress)


def _table(
    kind: type[AddsColumns],
    document: Mapping[str, Any],
    path: Path,
    out: Path,
    tally: Counter[str],
    progress: Progress,
) -> tuple[int, list[str], list[str]]:
    with _readable(path), pq.ParquetFile(path) as file:
        numbers = [f.name for f in file.schema_arrow if f.type.to_pandas_dtype() is not np.object_]

        def columns_of(table: pa.Table, where: dict[str, Any]) -> dict[str, AnyArray]:
            rows = Table(table.select(numbers), str(path))
            try:
                found = kind.apply(
                    document, records_of(rows, Needs(optional=tuple(numbers)), where)
                )
            except KeyError as error:
                raise InputError(
                    f"{path}: no column {error}, which {kind.name} needs; give a file that has it"
                ) from None
            return {name: np.asarray(values) for name, values in found.items()}

        return _rewritten(path, file, out, columns_of, progress)


def _rewritten(
    path: Path,
    file: pq.ParquetFile,
    out: Path,
    columns_of: Callable[[pa.Table, dict[str, Any]], dict[str, AnyArray]],
    progress: Progress,
) -> tuple[int, list[str], list[str]]:
    """Write rows again with further columns; return their number, what is new and what replaced."""
    have = set(file.schema_arrow.names)
    writer, done, total = None, 0, file.metadata.num_rows
    columns: dict[str, AnyArray] = {}
    try:
        for batch in file.iter_batches(STEP):
            table = pa.Table.from_batches([batch])
            n = table.num_rows
            where = {"filename": str(path), "entrystart": done, "entrystop": done + n}
            columns = columns_of(table, where)
            table = _with_columns(table, columns)
            writer = writer or pq.ParquetWriter(
                out, table.schema, compression="lz4", use_dictionary=False, write_page_checksum=True
            )
            writer.write_table(table)
            done += n
            progress("apply", done, total)
    finally:
        if writer is not None:
            writer.close()
    if writer is None:
        raise InputError(f"{path}: no rows in it; give a file with events")
    added = [name for name in columns if name not in have]
    return done, added, [name for name in columns if name in have]


def _has_generated(file: pq.ParquetFile, have: set[str]) -> bool:
    """Return whether any row has a generated muon or mass: the columns may be there and empty."""
    names = [
        name
        for name in SIMULATED["stage1"]
        if name in have and not name.endswith("eta") and not name.endswith("phi")
    ]
    return any(
        np.any(np.asarray(column.to_numpy(zero_copy_only=False), dtype=np.float64) > 0)
        for batch in (file.iter_batches(STEP, columns=names) if names else ())
        for column in batch.columns
    )


def _by_row(part: Corrected, table: pa.Table) -> dict[str, AnyArray]:
    """Return the columns with what was corrected given back to the muon that it belongs to."""
    columns = dict(part.columns)
    n = len(part.chosen)
    swapped = np.zeros(n, dtype=np.bool_)
    swapped[part.chosen] = part.leading >= n  # the second muon of the row leads
    for name in [n for n in columns if n.startswith("mu1_")]:
        both = (name, name.replace("mu1_", "mu2_", 1))
        if both[1] not in columns:
            continue
        first, second = (columns[n] for n in both)
        own = (np.where(swapped, second, first), np.where(swapped, first, second))
        corrects = name.removeprefix("mu1_") in QUANTITIES
        for n, values in zip(both, own, strict=True):
            columns[n] = values
            if corrects and n in table.column_names:
                columns[n] = np.where(part.chosen, values, _numbers(table, n))
    if MASS in table.column_names and "mu1_pt" in columns:
        columns.setdefault(MASS, _mass(columns, table, part.chosen))
    return columns


def _mass(columns: Mapping[str, AnyArray], table: pa.Table, chosen: BoolArray) -> AnyArray:
    """Return the mass of the file, moved by the ratio of the muons' mass after and before.

    It stays what the file means by it, with radiated photons, say.
    """
    angles = [[_numbers(table, f"mu{i}_{name}") for name in ("eta", "phi")] for i in (1, 2)]
    pts = ([_numbers(table, f"mu{i}_pt") for i in (1, 2)], [columns[f"mu{i}_pt"] for i in (1, 2)])
    with np.errstate(invalid="ignore", over="ignore"):
        before, after = (pair_mass(pt[0], *angles[0], pt[1], *angles[1]) for pt in pts)
        old = _numbers(table, MASS)
        return np.where(chosen, old * (after / before), old)


def _numbers(table: pa.Table, name: str) -> AnyArray:
    return np.asarray(table.column(name).to_numpy(), dtype=np.float64)


def _with_columns(table: pa.Table, columns: Mapping[str, AnyArray]) -> pa.Table:
    for name, values in columns.items():
        if name in table.column_names:
            place = table.column_names.index(name)
            array = pa.array(values).cast(table.schema.field(name).type, safe=False)
            table = table.set_column(place, name, array)
        else:
            table = table.append_column(name, pa.array(values))
    return table


# NanoAOD -----------------------------------------------------------------------------------------
def _nanoaod(
    kind: type[AddsColumns],
    document: Mapping[str, Any],
    path: Path,
    out: Path,
    tally: Counter[str],
    progress: Progress,
) -> tuple[int, list[str], list[str]]:
    from coffea.nanoevents import BaseSchema, NanoEventsFactory

    with _readable(path), uproot.open(path) as file:
        if "Events" not in file:
            raise InputError(f"{path}: no tree 'Events' in it; expected NanoAOD")
        total = int(file["Events"].num_entries)
        have = set(file["Events"].keys())
        _require(path, [f"Muon_{name}" for name in ("pt", "eta", "phi", "charge")], have)
        if total == 0:
            raise InputError(f"{path}: no events in it; give a file with events")
        selection = ResolvedSelection(
            identification="medium" if identification_column("medium") in _short(have) else None,
            isolation=0.25 if f"Muon_{ISOLATION}" in have else None,
        )
        simulated = any(name in have for name in SIMULATED["nanoaod"])
        matched = {*GEN_PARTICLES, f"Muon_{GEN_PARTNER}"} <= have
        added: list[str] = []
        replaced: list[str] = []
        with uproot.recreate(out, compression=uproot.ZSTD(1)) as made:
            tree = None
            for start in range(0, total, STEP):
                stop = min(start + STEP, total)
                events = NanoEventsFactory.from_root(
                    file,
                    treepath="Events",
                    schemaclass=BaseSchema,
                    mode="virtual",
                    entry_start=start,
                    entry_stop=stop,
                    metadata={
                        "filename": str(path),
                        "entrystart": start,
                        "entrystop": stop,
                        "fileuuid": str(file.file.uuid),
                    },
                ).events()
                chunk = _read(events, "nanoaod", matched, selection)
                if issubclass(kind, CorrectsMuons):
                    part = _each_muon(kind, document, chunk, simulated)
                else:
                    part = _pairs(kind, document, chunk, selection)
                tally.update(part.left_alone)
                branches, replaced = _branches(events, part)
                added = [name for name in part.columns if name not in (*REPLACED, *have)]
                if tree is None:
                    types = {name: _type(branch) for name, branch in branches.items()}
                    tree = made.mktree("Events", types)
                tree.extend(branches)
                progress("apply", stop, total)
    return total, added, replaced


def _branches(events: Any, part: Corrected) -> tuple[dict[str, Any], list[str]]:
    """Return what is written, and which branches of the muons are new."""
    kept = {name: events[name] for name in KEPT if name in events.fields}
    muons = {
        k.removeprefix("Muon_"): ak.materialize(v) for k, v in kept.items() if k.startswith("Muon_")
    }
    count = ak.num(muons["pt"])
    flat = {k: np.array(ak.to_numpy(ak.flatten(v))) for k, v in muons.items()}
    replaced = []
    for quantity in QUANTITIES:
        if quantity not in flat:
            continue
        if part.muons is not None:
            values = part.muons.pt if quantity == "pt" else part.muons.pt_err
            assert values is not None  # it is in the file
            flat[quantity] = values.astype(flat[quantity].dtype)
        elif f"mu1_{quantity}" in part.columns:
            flat[quantity][part.leading] = part.columns[f"mu1_{quantity}"][part.chosen]
            flat[quantity][part.subleading] = part.columns[f"mu2_{quantity}"][part.chosen]
        else:
            continue
        replaced.append(f"Muon_{quantity}")
    out: dict[str, Any] = {
        k: np.asarray(ak.to_numpy(v)) for k, v in kept.items() if not k.startswith("Muon_")
    }
    out |= {k: v for k, v in part.columns.items() if k not in REPLACED}
    out["Muon"] = ak.unflatten(ak.zip(flat), count)
    return out, replaced


def _type(branch: Any) -> Any:
    return branch.type.content if isinstance(branch, ak.Array) else branch.dtype


def _short(have: set[str]) -> set[str]:
    return {name.removeprefix("Muon_") for name in have}


# both ----------------------------------------------------------------------------------------
@contextmanager
def _readable(path: Path) -> Iterator[None]:
    """Turn what the readers say of a file that is not one into a sentence."""
    try:
        yield
    except (pa.ArrowInvalid, uproot.exceptions.KeyInFileError, ValueError, EOFError) as error:
        text = " ".join(str(error).split())[:200]
        raise InputError(f"{path}: cannot be read ({text}); write the file again") from error


def _require(path: Path, needed: list[str], have: set[str]) -> None:
    missing = [name for name in needed if name not in have]
    if missing:
        raise InputError(
            f"{path}: no column {', '.join(missing)}; add it, a pair cannot be made without"
        )
