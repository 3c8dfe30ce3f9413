"""NanoAOD (TTree or RNTuple) to all events of a chunk, through coffea's virtual arrays.

Only branches that are used are read. When to use: every event is wanted (`calib apply`); to
select, `processors.levels` reads less.
"""

from __future__ import annotations

from typing import Any, Protocol

import awkward as ak
import numpy as np

from calib.calibrations.base import Needs
from calib.errors import InputError
from calib.schema import Sample
from calib.types import AnyArray, Array
from processors.readers.events import (
    Events,
    candidates_of,
    has_fired,
    identity_of,
    is_vetoed,
    weight_of,
    wide,
)
from processors.selection import ResolvedSelection


class Jagged(Protocol):
    """Columns with any number of values an event."""

    def jagged(self, name: str) -> tuple[AnyArray, AnyArray]:
        """Return (offsets, content), offsets from 0."""


class Branches:
    """Branches of NanoAOD as plain arrays."""

    def __init__(self, events: Any) -> None:
        self._events = events
        self.names = frozenset(events.fields)
        self.length = len(events)

    def flat(self, name: str) -> AnyArray:
        return np.asarray(ak.to_numpy(self._events[name]))

    def jagged(self, name: str) -> tuple[AnyArray, AnyArray]:
        """Return (offsets, content), offsets from 0."""
        layout = ak.materialize(self._events[name]).layout.to_ListOffsetArray64(True)
        offsets = np.asarray(layout.offsets)
        return offsets, np.asarray(ak.to_numpy(layout.content))[: offsets[-1]]


def read_nanoaod(events: Any, sample: Sample, needs: Needs, selection: ResolvedSelection) -> Events:
    """Return what is needed of a chunk of NanoAOD."""
    branches, metadata = Branches(events), events.metadata
    offsets, _ = branches.jagged("Muon_pt")

    def muon(name: str) -> AnyArray:
        own, content = branches.jagged(f"Muon_{name}")
        if len(content) != offsets[-1] or not np.array_equal(own, offsets):
            raise InputError(
                f"{metadata.get('filename')}: Muon_{name} has other numbers of muons per event than"
                " Muon_pt; the file is damaged, write it again"
            )
        return wide(content)

    first, count = offsets[:-1], np.diff(offsets)
    muons, extra = candidates_of(muon, first, count, 1, branches.names, "nanoaod", needs, selection)
    gen = matched(branches, muon("genPartIdx"), count) if sample.simulation else None
    identity = identity_of(branches, metadata)
    return Events(
        muons=muons,
        weight=weight_of(branches, "genWeight" if sample.simulation else ""),
        run=identity["run"],
        luminosityBlock=identity["luminosityBlock"],
        event=identity["event"],
        fired=has_fired(branches, selection),
        vetoed=is_vetoed(branches, selection),
        gen=gen,
        extra=extra,
    )


def matched(branches: Jagged, index: AnyArray, count: AnyArray) -> dict[str, Array]:
    """Return gen_pt, gen_eta, gen_phi of each muon: of a final-state muon, else not a number."""
    offsets, pdg_id = branches.jagged("GenPart_pdgId")
    is_muon = (np.abs(pdg_id) == 13) & (branches.jagged("GenPart_status")[1] == 1)
    inside = (index >= 0) & (index < np.repeat(np.diff(offsets), count))
    position = np.where(inside, np.repeat(offsets[:-1], count) + index, 0).astype(np.int64)
    if len(is_muon):
        inside &= is_muon[position]
    out = {}
    for name in ("pt", "eta", "phi"):
        out[f"gen_{name}"] = np.full(len(index), np.nan)
        out[f"gen_{name}"][inside] = branches.jagged(f"GenPart_{name}")[1][position[inside]]
    return out
