"""Events of either format to stage1: the pairs of a chunk as parquet, with their account.

When to use: the events will be walked over more than once. What is written is what the
calibration would have been given, in the layout that is read fastest.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from coffea.processor import ProcessorABC
from coffea.processor.executor import WorkItem

from calib.calibrations.base import Needs
from calib.errors import InputError
from calib.events.pairs import Muons, Pairs
from calib.schema import Sample
from calib.types import AnyArray
from processors import pairing
from processors.levels import AT, select_nanoaod
from processors.readers import columns as names
from processors.readers.chunk import entries_of, open_columns, where_of
from processors.readers.events import Selected
from processors.readers.mapping import pt_of
from processors.readers.stage1 import read_stage1
from processors.selection import ResolvedSelection, of_chunk

OPTIONS: dict[str, Any] = {
    "compression": "lz4",
    "use_dictionary": False,
    "write_page_checksum": True,
}
"""Of the parquet writer: what is read fastest, and protected."""


@dataclass(frozen=True)
class Kept:
    """What is kept of a sample.

    ``along`` are columns that the calibration does not ask for (ptErr); ``weighted`` says
    whether the events have weights.
    """

    sample: Sample
    needs: Needs
    selection: ResolvedSelection
    along: tuple[str, ...] = ()
    weighted: bool = False


class SkimProcessor(ProcessorABC):  # type: ignore[misc]
    """Events of one chunk to parquet, and an account of every event."""

    def __init__(self, kept: Mapping[str, Kept]) -> None:
        self.kept = dict(kept)

    def process(self, events: Any) -> dict[str, Any]:
        """Return ``{sample: {"parquet": bytes, "counts", "costs"}}``."""
        where = where_of(events)
        name = where["dataset"]
        kept = self.kept[name]
        found = _selected(events, kept)
        counts = {"read": found.n_read, "selected": len(found.pairs), "rejected": found.rejected}
        table = table_of(found.pairs, kept, str(where.get("filename", "the events")))
        return {name: {"parquet": _written(table), "counts": counts, "costs": found.costs}}

    def postprocess(self, accumulator: Any) -> Any:
        """Return the accumulator as it is."""
        return accumulator


def work(item: WorkItem, processor: SkimProcessor) -> dict[str, Any]:
    """Return the result of one chunk, as the function that executors run.

    Parameters
    ----------
    item : WorkItem
        Entries of a file.
    processor : SkimProcessor
        What is done with them.

    Returns
    -------
    dict
        ``out``, what the processor returns, and ``processed``, the item.
    """
    return {"out": processor.process(entries_of(item)), "processed": {item}}


def _selected(events: Any, kept: Kept) -> Selected:
    sample, needs, where = kept.sample, kept.needs, where_of(events)
    selection = of_chunk(kept.selection, where)
    further = replace(needs, optional=tuple(dict.fromkeys((*needs.optional, *kept.along))))
    with open_columns(events, sample, further, selection) as columns:
        if sample.format == "nanoaod":
            return select_nanoaod(columns, where, sample, needs, selection, kept.along)
        chunk = read_stage1(columns, where, sample, needs, selection)
        found = {
            name: np.concatenate([columns.flat(c) for c in names.muon_columns("stage1", name)])
            for name in kept.along
        }
    at = {AT: np.arange(len(chunk.muons.pt))}
    pairs, rejected = pairing.select(replace(chunk, extra={**chunk.extra, **at}), selection)

    def along(muon: Muons) -> Muons:
        place = muon.extra[AT]
        extra = {k: v for k, v in muon.extra.items() if k != AT}
        return replace(muon, extra=extra | {k: v[place] for k, v in found.items()})

    pairs = replace(pairs, leading=along(pairs.leading), subleading=along(pairs.subleading))
    return Selected(pairs, len(chunk), rejected)


def table_of(pairs: Pairs, kept: Kept, path: str) -> pa.Table:
    """Return pairs as columns of stage1.

    Kinematics are in single precision, as in NanoAOD; the weight and the generated mass, which
    is computed, in double.

    Parameters
    ----------
    pairs : Pairs
        Selected ones.
    kept : Kept
        What is kept of the sample.
    path : str
        File they come from, for the sentences of errors.

    Returns
    -------
    pyarrow Table
        GeV; one row a pair.

    Raises
    ------
    InputError
        If a run or luminosityBlock does not fit into 32 bits.
    """
    columns: dict[str, AnyArray] = {
        "run": _in_32_bits("run", pairs.run, path),
        "luminosityBlock": _in_32_bits("luminosityBlock", pairs.luminosityBlock, path),
        "event": pairs.event,
    }
    for i, muons in enumerate((pairs.leading, pairs.subleading)):
        columns |= {names.muon_columns("stage1", n)[i]: v for n, v in _muon(muons).items()}
        columns |= _chosen_pt(i + 1, muons, pt_of(kept.sample) or kept.selection.muon_pt)
    columns["dimuon_mass"] = pairs.mass.astype(np.float32)
    if pairs.gen_mass is not None:
        columns[names.GEN_MASS] = pairs.gen_mass
    if kept.weighted:
        columns[names.GEN_WEIGHT["stage1"]] = pairs.weight
    return pa.table(columns)


def _muon(muons: Muons) -> dict[str, AnyArray]:
    found = {
        "pt": muons.pt,
        "eta": muons.eta,
        "phi": muons.phi,
        "ptErr": muons.pt_err,
        "charge": muons.charge.astype(np.int32),
        "gen_pt": muons.gen_pt,
        "gen_eta": muons.gen_eta,
        "gen_phi": muons.gen_phi,
    }
    there = {name: v for name, v in found.items() if v is not None} | dict(muons.extra)
    return {k: v.astype(np.float32) if v.dtype.kind == "f" else v for k, v in there.items()}


def _chosen_pt(number: int, muons: Muons, name: str) -> dict[str, AnyArray]:
    """Return pt and its error once more under the name of what was chosen for it."""
    if name == "pt":
        return {}
    found = {f"mu{number}_{name}": muons.pt.astype(np.float32)}
    if name in names.PT_ERROR and muons.pt_err is not None:
        found[f"mu{number}_{names.PT_ERROR[name]}"] = muons.pt_err.astype(np.float32)
    return found


def _in_32_bits(name: str, values: AnyArray, path: str) -> AnyArray:
    if len(values) and int(values.max()) >= 2**32:
        raise InputError(
            f"{path}: {name} {int(values.max())}, expected at most {2**32 - 1}; it cannot be"
            " skimmed, use the file as it is"
        )
    return values.astype(np.uint32)


def _written(table: pa.Table) -> bytes:
    sink = io.BytesIO()
    pq.write_table(table, sink, **OPTIONS)
    return sink.getvalue()
