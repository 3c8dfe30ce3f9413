"""Events to selected pairs, and the number of events under each reason to leave one out."""

from __future__ import annotations

import numpy as np

from calib.arrays import Array, IntArray
from calib.kinematics import mass as pair_mass
from calib.pairs import Muons, Pairs
from processors.events import Events
from processors.selection import (
    NOT_CERTIFIED,
    SELECTED,
    TRIGGER,
    ResolvedSelection,
    choose_pairs,
    counted,
    leave_out,
    outside_window,
)
from processors.weights import is_certified


def select(events: Events, selection: ResolvedSelection) -> tuple[Pairs, dict[str, int]]:
    """Return the selected pairs and the number of events rejected under each reason."""
    choice = choose_pairs(events.muons, events.weight, excluded(events, selection), selection)
    kept = np.flatnonzero(choice.reason == SELECTED)
    pairs = pairs_of(events, kept, choice.leading[kept], choice.subleading[kept])
    pairs, outside = leave_out(pairs, {"mass_window": outside_window(pairs, selection)})
    return pairs, counted(choice.reason) | outside


def excluded(events: Events, selection: ResolvedSelection) -> IntArray:
    """Return the reason against each event that needs no muon, `SELECTED` where there is none."""
    reason = np.full(len(events), SELECTED, dtype=np.int64)
    if events.fired is not None:
        reason[~events.fired] = TRIGGER
    if selection.certified is not None:
        good = is_certified(events.run, events.luminosityBlock, selection.certified)
        reason[~good] = NOT_CERTIFIED
    return reason


def pairs_of(events: Events, kept: IntArray, leading: IntArray, subleading: IntArray) -> Pairs:
    """Return the pairs of some events, their muons at these positions of the candidates."""
    first, second = _muons(events, leading), _muons(events, subleading)
    gen_mass = None if events.gen_mass is None else events.gen_mass[kept]
    if gen_mass is None and events.gen is not None:
        gen_mass = _generated_mass(first, second)
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


def _generated_mass(first: Muons, second: Muons) -> Array:
    """Return the mass of the generated muons; not a number without two different ones."""
    assert first.gen_pt is not None and first.gen_eta is not None and first.gen_phi is not None
    assert second.gen_pt is not None and second.gen_eta is not None and second.gen_phi is not None
    same = (first.gen_pt == second.gen_pt) & (first.gen_eta == second.gen_eta)
    mass = pair_mass(
        first.gen_pt, first.gen_eta, first.gen_phi, second.gen_pt, second.gen_eta, second.gen_phi
    )
    return np.where(same, np.nan, mass)
