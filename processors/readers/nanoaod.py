"""NanoAOD to all events of a chunk.

Only columns that are used are read. When to use: every event is wanted (`calib apply`); to
select, `processors.levels` reads less.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from calib.calibrations.base import Needs
from calib.errors import InputError
from calib.schema import Sample
from calib.types import AnyArray, Array
from processors.cuts import PASSED, pass_cuts
from processors.readers.events import (
    EventColumns,
    Events,
    candidates_of,
    has_fired,
    identity_of,
    is_vetoed,
    weight_of,
    wide,
)
from processors.selection import ResolvedSelection


def read_nanoaod(
    columns: EventColumns,
    where: Mapping[str, Any],
    sample: Sample,
    needs: Needs,
    selection: ResolvedSelection,
) -> Events:
    """Return what is needed of all events of a chunk of NanoAOD.

    Parameters
    ----------
    columns : EventColumns
        Of the chunk.
    where : mapping
        What the chunk is.
    sample : Sample
        What it is of.
    needs : Needs
        Columns that the calibration asks for.
    selection : ResolvedSelection
        Cuts, which need columns too.

    Returns
    -------
    Events
        All of them, before any cut.

    Raises
    ------
    InputError
        If a column has other numbers of muons than ``Muon_pt``.
    """
    failed = None
    if selection.cuts:
        n_muons = np.diff(columns.jagged("Muon_pt")[0])
        columns, failed = pass_cuts(columns, selection.cuts)
        failed[n_muons < 2] = PASSED  # which is the reason then
    offsets, _ = columns.jagged("Muon_pt")

    def muon(name: str) -> AnyArray:
        own, content = columns.jagged(f"Muon_{name}")
        if len(content) != offsets[-1] or not np.array_equal(own, offsets):
            raise InputError(
                f"{columns.where}: Muon_{name} has other numbers of muons per event than"
                f" Muon_pt; {columns.advice}"
            )
        return wide(content)

    first, count = offsets[:-1], np.diff(offsets)
    muons, extra = candidates_of(muon, first, count, 1, columns.names, "nanoaod", needs, selection)
    gen = matched(columns, muon("genPartIdx"), count) if sample.simulation else None
    identity = identity_of(columns, where)
    return Events(
        muons=muons,
        weight=weight_of(columns, "genWeight" if sample.simulation else ""),
        run=identity["run"],
        luminosityBlock=identity["luminosityBlock"],
        event=identity["event"],
        fired=has_fired(columns, selection),
        vetoed=is_vetoed(columns, selection),
        failed=failed,
        gen=gen,
        extra=extra,
    )


def matched(branches: EventColumns, index: AnyArray, count: AnyArray) -> dict[str, Array]:
    """Return gen_pt, gen_eta, gen_phi of each muon: of a final-state muon, else not a number.

    Parameters
    ----------
    branches : EventColumns
        With the generated particles.
    index : int array, shape (muons,)
        Position among the generated particles of the event; negative: none.
    count : int array, shape (events,)
        Muons of each event.

    Returns
    -------
    dict of name to array, shape (muons,)
        GeV and rad.
    """
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
