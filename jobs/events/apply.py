"""A payload applied to the events of an analysis: the same file with corrected columns.

Every event is written, whether it could be corrected or not; the others have NaN (-1 for
integers) in the new columns, and are counted under the reason.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any
from uuid import UUID

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
from calib.payload.description import columns_of, muon_pt_of
from calib.payload.payload import read as read_payload
from calib.physics.kinematics import mass as pair_mass
from calib.schema import MappedColumn, Sample
from calib.types import AnyArray, BoolArray, IntArray
from jobs.events.facts import uuid_bytes
from jobs.events.marks import MARK, MEASURED, Mark, Marks, as_text, of_root, of_schema, with_marks
from jobs.events.parquet import inspect_parquet
from jobs.events.root_copy import TreeCopy, copy_others
from jobs.progress import Progress
from jobs.storage.files import whole
from processors import pairing
from processors.readers import chunk as reader
from processors.readers.columns import (
    GEN_MASS,
    GEN_PARTICLES,
    GEN_PARTNER,
    GEN_WEIGHT,
    IDENTITY,
    ISOLATION,
    N_MUONS,
    gen_kinematics,
    identification_column,
    muon_columns,
    stand_ins,
)
from processors.readers.events import Events
from processors.readers.mapping import (
    MappedColumns,
    Recipes,
    missing_branches,
    our_names,
    recipes_of,
)
from processors.readers.stage1 import RowTable
from processors.readers.table import records_of
from processors.selection import REASONS, SELECTED, ResolvedSelection, choose_pairs

STEP = 250_000
"""Events in memory at a time."""

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


@dataclass(frozen=True)
class Assumed:
    """Whether events are simulated, and why that is thought."""

    simulation: bool
    why: str


@dataclass(frozen=True)
class _Written:
    """What was written into a file."""

    events: int
    added: list[str]
    replaced: list[str]
    assumed: Assumed | None = None
    left_out: Sequence[str] = ()


@dataclass
class _Task:
    """A payload, what the user says of the events, and the count of those left as they were."""

    path: Path
    document: Mapping[str, Any]
    kind: type[AddsColumns]
    simulation: bool | None
    again: bool
    tally: Counter[str]

    @property
    def corrects_muons(self) -> bool:
        """Whether simulated muons are corrected in another way than those of data."""
        return issubclass(self.kind, CorrectsMuons)

    def needs(self, simulated: bool) -> Needs:
        """Return the columns to be read of the muons."""
        reads = self.kind.reads if simulated and issubclass(self.kind, CorrectsMuons) else ()
        return replace(NEEDS, muon=reads)

    def require(self, path: Path, format: str, have: Collection[str], simulated: bool) -> None:
        """Raise InputError where a column is missing that only the payload reads."""
        if not (simulated and issubclass(self.kind, CorrectsMuons)):
            return
        of_muons = [c for name in self.kind.reads for c in muon_columns(format, name)]
        missing = [n for n in (*of_muons, *self.kind.reads_of_event) if n not in have]
        if missing:
            raise InputError(
                f"{path}: no column {', '.join(missing)}, which {self.path.name} reads of simulated"
                " muons; add it"
            )

    def mark(self, assumed: Assumed | None, replaced: Sequence[str]) -> Mark:
        """Return the mark that a file will bear."""
        digest = hashlib.sha256(self.path.read_bytes()).hexdigest()
        simulation = assumed is not None and assumed.simulation
        return Mark(self.path.name, digest, self.kind.name, simulation, tuple(replaced))

    def refuse_again(self, path: Path, marks: Marks) -> None:
        """Raise InputError where muons would be corrected a second time."""
        done = [m for m in marks if m.replaced and m.calibration in (self.kind.name, "")]
        if done and not self.again:
            raise InputError(
                f"{path}: its {', '.join(done[-1].replaced)} have been corrected already, by"
                f" {done[-1]}; take the file as measured (the old values are in columns"
                f" ...{MEASURED}), or give --again to correct what is there once more"
            )

    def columns(
        self, path: Path, format: str, have: Collection[str], simulated: bool
    ) -> dict[str, MappedColumn]:
        """Return the branches that the payload's columns are, where they have other names.

        Raises
        ------
        InputError
            If the file lacks one.
        """
        found = columns_of(self.document, format, simulated)
        missing = missing_branches(have, recipes_of(_sample(format, simulated, found)))
        for branch, key in missing.items():
            raise InputError(
                f"{path}: no column {branch}, which is {key!r} of the muons that {self.path.name}"
                " is for; give a file that has it, or another payload"
            )
        return found

    def muon_pt(
        self,
        path: Path,
        format: str,
        have: Collection[str],
        recipes: Recipes = MappingProxyType({}),
    ) -> str:
        """Return the pt that the payload is for; ``pt`` where recipes make that of another.

        Raises
        ------
        InputError
            If the file lacks it.
        """
        if muon_columns(format, "pt")[0] in recipes:
            return "pt"
        name = muon_pt_of(self.document)
        _require(path, list(muon_columns(format, name)), set(have))
        return name

    def assume(self, path: Path, known: str, signs: Sequence[str]) -> Assumed:
        """Return what the events are taken for.

        Parameters
        ----------
        path : Path
        known : str
            What shows that they are simulated, empty where nothing does.
        signs : sequence of str
            What speaks for it without showing it.

        Raises
        ------
        InputError
            If it is unclear and makes a difference.
        """
        if self.simulation is not None:
            return Assumed(self.simulation, "as the option says")
        if known:
            return Assumed(True, known)
        if signs and self.corrects_muons:
            raise InputError(
                f"{path}: unclear whether these events are data or simulation, which are corrected"
                f" in different ways: no generated muons, but {' and '.join(signs)}; give --data or"
                " --simulation"
            )
        return Assumed(False, "nothing generated in it; --simulation says otherwise")


def apply_payload(
    payload: Path,
    path: Path,
    out: Path,
    progress: Progress,
    *,
    simulation: bool | None = None,
    again: bool = False,
) -> dict[str, Any]:
    """Write the events of a file with the columns that a payload gives; return the accounting.

    NanoAOD: every muon, where the calibration corrects muons; else of each event the pair that a
    calibration would choose, medium identification and isolation where the file has them. stage1:
    each row is a pair, the mass is scaled with the corrected muons. A table: each row. All else
    that is in the file is written again, or named; what was replaced is kept beside.

    Parameters
    ----------
    payload, path, out : Path
        Payload, file of events, and the file to write.
    progress : callable
        Told how far it is.
    simulation : bool, optional
        Whether the events are simulated; None: as the file shows.
    again : bool
        Whether muons may be corrected that a payload of the same calibration has corrected.

    Returns
    -------
    dict
        The accounting.

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
    task = _Task(payload, document, kind, simulation, again, Counter())
    suffix = path.suffix.lower()
    if suffix not in (".root", ".parquet"):
        raise InputError(f"{path}: expected a .root or .parquet file; give one of these")
    if out.suffix.lower() != suffix:
        raise InputError(f"{out}: the output has the format of the input; name it *{suffix}")
    if not path.is_file():
        raise InputError(f"{path}: there is no such file; give a file with events")
    if out.exists():
        raise InputError(f"{out}: exists already; remove it or choose another name")
    with whole(out) as temporary:
        write = _nanoaod if suffix == ".root" else _stage1
        if task.kind.formats == ("table",):
            write = _table
        made = write(task, path, temporary, progress)
    left = {reason: count for reason, count in task.tally.items() if count}
    found: dict[str, Any] = {
        "path": str(out),
        "calibration": task.kind.name,
        "events": made.events,
        "corrected": made.events - sum(left.values()),
        "left_alone": left,
        "added": made.added,
        "replaced": made.replaced,
        "left_out": list(made.left_out),
    }
    if made.assumed is not None:
        found["assumed"] = "simulation" if made.assumed.simulation else "data"
        found["assumed_because"] = made.assumed.why
    return found


def _sample(format: str, simulated: bool, columns: Mapping[str, MappedColumn]) -> Sample:
    return Sample(
        name="events",
        resonance="z",
        format=format,  # type: ignore[arg-type]
        files=("-",),
        simulation=simulated,
        columns=dict(columns),
    )


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
    charge = own.charge.astype(np.int64)
    muons = Muons(own.pt, own.eta, own.phi, charge, own.pt_err, extra=chunk.extra)
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
def _stage1(task: _Task, path: Path, out: Path, progress: Progress) -> _Written:
    with _readable(path), pq.ParquetFile(path) as file:
        in_file = {*file.schema_arrow.names, *stand_ins(file.schema_arrow.names)}
        shown = "it has generated muons or their mass" if _has_generated(file, in_file) else ""
        simulated = bool(shown) if task.simulation is None else task.simulation
        columns = task.columns(path, "stage1", in_file, simulated)
        recipes = recipes_of(_sample("stage1", simulated, columns))
        have = our_names(in_file, recipes)
        needed = [
            c for name in ("pt", "eta", "phi", "charge") for c in muon_columns("stage1", name)
        ]
        _require(path, needed, have)
        marks = of_schema(file.schema_arrow)
        task.refuse_again(path, marks)
        selection = ResolvedSelection(
            opposite_charge=False, muon_pt=task.muon_pt(path, "stage1", have, recipes)
        )
        assumed = task.assume(path, shown, () if shown else _signs_in_parquet(file, have))
        task.require(path, "stage1", have, assumed.simulation)
        needs = task.needs(assumed.simulation)
        uuid = str(UUID(bytes=uuid_bytes(inspect_parquet(str(path), ()).uuid)))

        def columns_of(table: pa.Table, where: dict[str, Any]) -> dict[str, AnyArray]:
            entries = reader.FileEntries({**where, "fileuuid": uuid})
            sample = _sample("stage1", assumed.simulation and bool(shown), columns)
            chunk = reader.read(entries, sample, needs, selection)
            part = _pairs(task.kind, task.document, _told(chunk, assumed), selection)
            task.tally.update(part.left_alone)
            return _by_row(part, table, recipes)

        def marked(columns: Mapping[str, AnyArray]) -> Marks:
            replaced = [name for name in columns if f"{name}{MEASURED}" in {*columns, *have}]
            return (*marks, task.mark(assumed, replaced))

        written = _rewritten(path, file, out, columns_of, marked, progress)
    return replace(written, assumed=assumed)


def _told(chunk: Events, assumed: Assumed) -> Events:
    """Return events that are simulated as far as a payload can see, or not."""
    if not assumed.simulation:
        return replace(chunk, gen=None, gen_mass=None)
    if chunk.gen_mass is None and chunk.gen is None:
        return replace(chunk, gen_mass=np.full(len(chunk), np.nan))
    return chunk


def _signs_in_parquet(file: pq.ParquetFile, have: set[str]) -> tuple[str, ...]:
    """Return what speaks for simulation in rows without generated muons."""
    signs = []
    known = {"run": "run 1 in all rows", GEN_WEIGHT["stage1"]: "weights that are not 1"}
    for name, text in known.items():
        if name not in have:
            continue
        ones = all(
            bool(np.all(np.asarray(batch.column(0).to_numpy(zero_copy_only=False)) == 1))
            for batch in file.iter_batches(STEP, columns=[name])
        )
        if ones == (name == "run"):
            signs.append(text)
    return tuple(signs)


def _table(task: _Task, path: Path, out: Path, progress: Progress) -> _Written:
    with _readable(path), pq.ParquetFile(path) as file:
        numbers = [f.name for f in file.schema_arrow if f.type.to_pandas_dtype() is not np.object_]
        marks = of_schema(file.schema_arrow)

        def columns_of(table: pa.Table, where: dict[str, Any]) -> dict[str, AnyArray]:
            rows = RowTable(table.select(numbers), str(path), where["entrystart"])
            try:
                found = task.kind.apply(
                    task.document, records_of(rows, Needs(optional=tuple(numbers)), where)
                )
            except KeyError as error:
                raise InputError(
                    f"{path}: no column {error}, which {task.kind.name} needs; give a file that"
                    " has it"
                ) from None
            return {name: np.asarray(values) for name, values in found.items()}

        def marked(columns: Mapping[str, AnyArray]) -> Marks:
            return (*marks, task.mark(None, ()))

        return _rewritten(path, file, out, columns_of, marked, progress)


def _rewritten(
    path: Path,
    file: pq.ParquetFile,
    out: Path,
    columns_of: Callable[[pa.Table, dict[str, Any]], dict[str, AnyArray]],
    marked: Callable[[Mapping[str, AnyArray]], Marks],
    progress: Progress,
) -> _Written:
    """Write rows again with further columns, and the marks of the file."""
    have = set(file.schema_arrow.names)
    writer, done, total = None, 0, file.metadata.num_rows
    columns: dict[str, AnyArray] = {}
    try:
        for batch in file.iter_batches(STEP):
            table = pa.Table.from_batches([batch])
            n = table.num_rows
            where = {"filename": str(path), "entrystart": done, "entrystop": done + n}
            columns = columns_of(table, where)
            table = with_marks(_with_columns(table, columns), marked(columns))
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
    return _Written(done, added, [name for name in columns if name in have])


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


def _by_row(part: Corrected, rows: pa.Table, recipes: Recipes) -> dict[str, AnyArray]:
    """Return the columns with what was corrected given back to the muon that it belongs to."""
    table = _under_our_names(rows, recipes)
    columns = {
        name: values
        for name, values in part.columns.items()
        # an error that the file has not was made for both muons from their mass
        if name not in REPLACED or name in table.column_names
    }
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
    replaced = [name for name in (*REPLACED, MASS) if name in columns]
    for name in replaced if "mu1_pt" in columns else ():
        if f"{name}{MEASURED}" not in rows.column_names and name in rows.column_names:
            columns[f"{name}{MEASURED}"] = rows.column(name).to_numpy()
    return columns


def _under_our_names(table: pa.Table, recipes: Recipes) -> pa.Table:
    """Return rows with the columns that have other names, or are made of others."""
    if not recipes:
        return table
    columns = MappedColumns(RowTable(table, ""), recipes)
    made = {n: pa.array(columns.flat(n)) for n in recipes}
    kept = table.select([n for n in table.column_names if n not in made])
    for name, values in made.items():
        kept = kept.append_column(name, values)
    return kept


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
def _block(columns: Mapping[str, ak.Array], where: Mapping[str, Any], recipes: Recipes) -> ak.Array:
    """Return some entries of NanoAOD as the reader takes them: the muons and theirs."""
    others = [branch for recipe in recipes.values() for branch in recipe.branches]
    wanted = (*IDENTITY, N_MUONS, GEN_WEIGHT["nanoaod"], *GEN_PARTICLES, *others)
    own = {n: c for n, c in columns.items() if n in wanted or n.startswith("Muon_")}
    return ak.with_parameter(ak.zip(own, depth_limit=1), "metadata", dict(where))


def _nanoaod(task: _Task, path: Path, out: Path, progress: Progress) -> _Written:
    with _readable(path), uproot.open({path: None}) as file:
        if "Events" not in file:
            raise InputError(f"{path}: no tree 'Events' in it; expected NanoAOD")
        copy = TreeCopy(file["Events"], STEP)
        named = next((name for name in SIMULATED["nanoaod"] if name in copy.names), None)
        simulation = bool(named) if task.simulation is None else task.simulation
        mapped = task.columns(path, "nanoaod", copy.names, simulation)
        recipes = recipes_of(_sample("nanoaod", simulation, mapped))
        have = set(our_names(copy.names, recipes))
        _require(path, [f"Muon_{name}" for name in ("pt", "eta", "phi", "charge")], have)
        if copy.length == 0:
            raise InputError(f"{path}: no events in it; give a file with events")
        marks = of_root(file, have)
        task.refuse_again(path, marks)
        selection = ResolvedSelection(
            identification="medium" if identification_column("medium") in _short(have) else None,
            isolation=0.25 if f"Muon_{ISOLATION}" in have else None,
            muon_pt=task.muon_pt(path, "nanoaod", have, recipes),
        )
        signs = () if named else _signs_in_root(copy)
        assumed = task.assume(path, f"it has {named}" if named else "", signs)
        task.require(path, "nanoaod", have, assumed.simulation)
        needs = task.needs(assumed.simulation)
        matched = {*GEN_PARTICLES, f"Muon_{GEN_PARTNER}"} <= have
        added: dict[str, None] = {}
        replaced: list[str] = []
        with uproot.recreate(out, compression=uproot.ZSTD(1)) as made:
            for start, stop, columns in copy.blocks():
                where = {
                    "filename": str(path),
                    "entrystart": start,
                    "entrystop": stop,
                    "fileuuid": str(file.file.uuid),
                }
                block = _block(columns, where, recipes)
                sample = _sample("nanoaod", matched and assumed.simulation, mapped)
                chunk = reader.read(block, sample, needs, selection)
                if issubclass(task.kind, CorrectsMuons):
                    part = _each_muon(task.kind, task.document, chunk, assumed.simulation)
                else:
                    part = _pairs(task.kind, task.document, _told(chunk, assumed), selection)
                task.tally.update(part.left_alone)
                new, replaced = _branches(columns, part, recipes)
                added |= dict.fromkeys(name for name in new if name not in copy.names)
                copy.write(made, "Events", {**columns, **new})
                progress("apply", stop, copy.length)
            made[MARK] = as_text((*marks, task.mark(assumed, replaced)))
            left_out = [*copy.left_out, *copy_others(file, made, "Events")]
    return _Written(copy.length, list(added), replaced, assumed, left_out)


def _signs_in_root(copy: TreeCopy) -> tuple[str, ...]:
    """Return what speaks for simulation in NanoAOD without generated particles."""
    if "run" not in copy.names:
        return ()
    run = copy.source.arrays(filter_name=["run"])["run"]
    return ("run 1 in all events",) if bool(ak.all(run == 1)) else ()


def _branches(
    columns: Mapping[str, ak.Array], part: Corrected, recipes: Recipes
) -> tuple[dict[str, Any], list[str]]:
    """Return new branches and replaced ones, and the names of the latter."""
    new: dict[str, Any] = {k: v for k, v in part.columns.items() if k not in REPLACED}
    replaced = []
    for quantity in QUANTITIES:
        name = f"Muon_{quantity}"
        if name in recipes:
            parts = [columns[branch] for branch in recipes[name].branches]
            values = recipes[name].made(tuple(ak.to_numpy(ak.flatten(p)) for p in parts))
            measured = ak.unflatten(values.astype(np.float32), ak.num(parts[0]))
        elif name in columns:
            measured = columns[name]
        else:
            continue
        flat = np.array(ak.to_numpy(ak.flatten(measured)))
        if part.muons is not None:
            values = part.muons.pt if quantity == "pt" else part.muons.pt_err
            assert values is not None  # it is in the file
            flat = values.astype(flat.dtype)
        elif f"mu1_{quantity}" in part.columns:
            flat[part.leading] = part.columns[f"mu1_{quantity}"][part.chosen]
            flat[part.subleading] = part.columns[f"mu2_{quantity}"][part.chosen]
        else:
            continue
        new[name] = ak.unflatten(flat, ak.num(measured))
        if f"{name}{MEASURED}" not in columns and name in columns:
            new[f"{name}{MEASURED}"] = columns[name]
        replaced.append(name)
    return new, replaced


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
