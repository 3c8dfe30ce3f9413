"""Events to selected pairs, and the number of events under each reason to leave one out."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from calib.events.pairs import Muons, Pairs, generated_mass
from calib.types import IntArray
from processors.certified import is_certified, is_other_run
from processors.readers.events import Events
from processors.rows import Rows, find
from processors.selection import (
    NOT_CERTIFIED,
    OTHER_RUN,
    REASONS,
    SELECTED,
    TRIGGER,
    VETO,
    ResolvedSelection,
    choose_pairs,
    counted,
    leave_out,
    outside_window,
    reasons_of,
)


def select(events: Events, selection: ResolvedSelection) -> tuple[Pairs, dict[str, int]]:
    """Return the selected pairs and the number of events rejected under each reason.

    Parameters
    ----------
    events : Events
        Before any cut.
    selection : ResolvedSelection
        Cuts.

    Returns
    -------
    Pairs
        In the order of the events.
    dict of str to int
        Rejected events under each reason.
    """
    choice = choose_pairs(events.muons, events.weight, excluded(events, selection), selection)
    kept = np.flatnonzero(choice.reason == SELECTED)
    pairs = pairs_of(events, kept, choice.leading[kept], choice.subleading[kept])
    pairs, outside = leave_out(pairs, {"mass_window": outside_window(pairs, selection)})
    return pairs, counted(choice.reason, reasons_of(selection)) | outside


def select_rows(
    rows: Rows, selection: ResolvedSelection, events_of: Callable[[IntArray], Events]
) -> tuple[Pairs, dict[str, int]]:
    """Return the selected pairs of rows of two muons, and the number rejected under each reason.

    Rows that are not selected are looked at again, one by one, for the reason.

    Parameters
    ----------
    rows : Rows
        n of them.
    selection : ResolvedSelection
        Cuts.
    events_of : callable
        Positions of rows -> their events.

    Returns
    -------
    Pairs
        In the order of the rows.
    dict of str to int
        Rejected rows under each reason.
    """
    found = find(rows, selection)
    if not len(found.others):
        return found.pairs, {"mass_window": found.n_outside} if found.n_outside else {}
    none, reasons = select(events_of(found.others), selection)
    assert not len(none), "a row is selected in one way and not in the other"
    outside = found.n_outside + reasons.pop("mass_window", 0)
    return found.pairs, reasons | ({"mass_window": outside} if outside else {})


def excluded(events: Events, selection: ResolvedSelection) -> IntArray:
    """Return the reason against each event that needs no muon, `SELECTED` where there is none.

    Parameters
    ----------
    events : Events
        n of them.
    selection : ResolvedSelection
        Its runs and certified sections.

    Returns
    -------
    int array, shape (n,)
        `SELECTED`, or an index into `processors.selection.reasons_of`.
    """
    reason = np.full(len(events), SELECTED, dtype=np.int64)
    if events.failed is not None:
        reason[events.failed >= 0] = len(REASONS) + events.failed[events.failed >= 0]
    if events.vetoed is not None:
        reason[events.vetoed] = VETO
    if events.fired is not None:
        reason[~events.fired] = TRIGGER
    if selection.certified is not None:
        good = is_certified(events.run, events.luminosityBlock, selection.certified)
        reason[~good] = NOT_CERTIFIED
    if selection.runs is not None:
        reason[is_other_run(events.run, selection.runs)] = OTHER_RUN
    return reason


def pairs_of(events: Events, kept: IntArray, leading: IntArray, subleading: IntArray) -> Pairs:
    """Return the pairs of some events.

    Parameters
    ----------
    events : Events
        Before any cut.
    kept : int array, shape (n,)
        Positions of the events.
    leading, subleading : int array, shape (n,)
        Positions of their muons among the candidates.

    Returns
    -------
    Pairs
        n of them.
    """
    first, second = _muons(events, leading), _muons(events, subleading)
    gen_mass = None if events.gen_mass is None else events.gen_mass[kept]
    if gen_mass is None and events.gen is not None:
        gen_mass = generated_mass(first, second)
    return Pairs(
        leading=first,
        subleading=second,
        weight=events.weight[kept],
        run=events.run[kept],
        luminosityBlock=events.luminosityBlock[kept],
        event=events.event[kept],
        gen_mass=gen_mass,
    )


def _muons(events: Events, at: IntArray) -> Muons:
    muons, gen = events.muons, events.gen or {}
    return Muons(
        pt=muons.pt[at],
        eta=muons.eta[at],
        phi=muons.phi[at],
        charge=muons.charge[at].astype(np.int64),
        pt_err=None if muons.pt_err is None else muons.pt_err[at],
        extra={name: column[at] for name, column in events.extra.items()},
        **{name: column[at] for name, column in gen.items()},
    )
