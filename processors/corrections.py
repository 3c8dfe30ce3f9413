"""Events with payloads applied: the muons before anything is asked of them, then the pairs.

A payload that corrects muons (their pt) does so before the selection, so every cut is made on
corrected muons; one that corrects pairs (their predicted resolution) needs the pair, and comes
after it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from calib import calibrations
from calib.calibrations.base import Calibration, Needs
from calib.calibrations.capabilities import CorrectsMuons, CorrectsPairs, corrects
from calib.errors import InputError
from calib.events.pairs import Muons, Pairs
from calib.types import AnyArray, Array
from processors.readers.events import Events, charge_of
from processors.rows import Both, Rows


@dataclass(frozen=True)
class Correction:
    """A payload that has been read: its address, the digest of its content, who wrote it."""

    address: str
    sha256: str
    calibration: str
    document: Mapping[str, Any]

    @property
    def kind(self) -> type[Calibration]:
        """The calibration that it comes from."""
        return calibrations.get(self.calibration)


Corrections = Sequence[Correction]


def reads_of(corrections: Corrections, simulated: bool) -> tuple[str, ...]:
    """Return the columns of the muons that payloads read beside pt, eta, phi, charge."""
    kinds = [c.kind for c in corrections] if simulated else []
    found = (name for kind in kinds if issubclass(kind, CorrectsMuons) for name in kind.reads)
    return tuple(dict.fromkeys(found))


def with_reads(needs: Needs, corrections: Corrections, simulated: bool) -> Needs:
    """Return what a calibration and the payloads that are applied before it need.

    Parameters
    ----------
    needs : Needs
    corrections : sequence of Correction
    simulated : bool
    """
    of_event: dict[str, None] = {}
    why: dict[str, str] = {}
    for one in corrections if simulated else ():
        if issubclass(one.kind, CorrectsMuons):
            of_event |= dict.fromkeys(one.kind.reads_of_event)
            text = f"add it, or leave out the payload {one.address}, which reads it"
            why |= dict.fromkeys((*one.kind.reads, *one.kind.reads_of_event), text)
    if not why:
        return needs
    return replace(
        needs,
        muon=tuple(dict.fromkeys((*needs.muon, *reads_of(corrections, simulated)))),
        columns=tuple(dict.fromkeys((*needs.columns, *of_event))),
        why={**(needs.why or {}), **why},
    )


def corrects_muons(corrections: Corrections) -> bool:
    """Return whether any of the payloads moves muons before the selection."""
    return any(issubclass(c.kind, CorrectsMuons) for c in corrections)


def corrected_events(
    events: Events,
    corrections: Corrections,
    simulated: bool,
    identity: Mapping[str, AnyArray] | None = None,
) -> Events:
    """Return events with corrected pt and pt_err of all muons.

    Parameters
    ----------
    events : Events
        Before any cut.
    corrections : sequence of Correction
        In the order in which they are applied; those of pairs are left for `corrected_pairs`.
    simulated : bool
        Whether the payloads are to be applied as to simulation.
    identity : mapping of run, luminosityBlock and event to array, shape (events,), optional
        Where the events do not know their own.

    Returns
    -------
    Events
        pt and pt_err in GeV.
    """
    if not corrects_muons(corrections):
        return events
    own = identity or {n: getattr(events, n) for n in ("run", "luminosityBlock", "event")}
    found, of_event = events.muons, _event_of_each(events)
    extra = {name: events.extra[name] for name in reads_of(corrections, simulated)}
    charge = found.charge.astype(np.int64)
    muons = Muons(found.pt, found.eta, found.phi, charge, found.pt_err, extra=extra)
    moved = _moved(muons, {k: v[of_event] for k, v in own.items()}, corrections, simulated)
    return replace(events, muons=replace(found, pt=moved.pt, pt_err=moved.pt_err))


def _event_of_each(events: Events) -> AnyArray:
    """Return the event of each muon: muons of an event are neighbours, or ``stride`` apart."""
    muons = events.muons
    if muons.stride == 1:
        return np.repeat(np.arange(len(muons)), muons.count)
    return np.arange(len(muons.pt)) % muons.stride


def corrected_rows(rows: Rows, corrections: Corrections, simulated: bool) -> Rows:
    """Return rows of two muons with corrected pt and pt_err, in double precision.

    Parameters
    ----------
    rows : Rows
        n of them, as read.
    corrections : sequence of Correction
        In the order in which they are applied.
    simulated : bool
        Whether the payloads are to be applied as to simulation.

    Returns
    -------
    Rows
        pt and pt_err in GeV.
    """
    if not corrects_muons(corrections):
        return rows
    identity = {n: getattr(rows, n) for n in ("run", "luminosityBlock", "event")}
    first, second = (_moved(_muons_of(rows, i), identity, corrections, simulated) for i in (0, 1))
    errors: Both | None = None
    if first.pt_err is not None and second.pt_err is not None:
        errors = (first.pt_err, second.pt_err)
    return replace(rows, pt=(first.pt, second.pt), pt_err=errors)


def _muons_of(rows: Rows, i: int) -> Muons:
    def double(both: Both) -> Array:
        return np.asarray(both[i], dtype=np.float64)

    charge = charge_of(rows.charge[i]).astype(np.int64)
    error = None if rows.pt_err is None else double(rows.pt_err)
    extra = {name: both[i] for name, both in rows.extra.items()}
    return Muons(double(rows.pt), double(rows.eta), double(rows.phi), charge, error, extra=extra)


def _moved(
    muons: Muons, identity: Mapping[str, AnyArray], corrections: Corrections, simulated: bool
) -> Muons:
    for correction in corrections:
        kind = correction.kind
        if issubclass(kind, CorrectsMuons):
            muons = kind.apply_muons(correction.document, muons, **identity, simulated=simulated)
    return muons


def corrected_pairs(pairs: Pairs, corrections: Corrections) -> Pairs:
    """Return selected pairs with what the payloads correct of a pair as a whole.

    Parameters
    ----------
    pairs : Pairs
        Selected ones.
    corrections : sequence of Correction
        Those of muons are left out: they come before the selection.

    Returns
    -------
    Pairs
        The same ones, corrected.
    """
    for correction in corrections:
        kind = correction.kind
        if issubclass(kind, CorrectsPairs):
            pairs = kind.apply_pairs(correction.document, pairs)
    return pairs


def tried(correction: Correction, simulated: bool) -> None:
    """Apply a payload to one muon, before any event is read.

    Parameters
    ----------
    correction : Correction
        The payload.
    simulated : bool
        Whether it is to be applied to simulation.

    Raises
    ------
    InputError
        If it cannot be used for such events.
    """
    kind = correction.kind
    if corrects(kind) == "nothing":
        raise InputError(
            f"a payload of {correction.calibration}, which corrects nothing that another"
            " calibration reads; leave it out, `calib apply` writes what it gives into events"
        )
    one, whole = np.ones(1), np.ones(1, dtype=np.uint64)
    extra = dict.fromkeys(reads_of((correction,), simulated), 10 * one)
    charge = np.ones(1, dtype=np.int64)
    muon = Muons(40 * one, 0.5 * one, 0.3 * one, charge, 0.5 * one, extra=extra)
    if issubclass(kind, CorrectsMuons):
        kind.apply_muons(correction.document, muon, whole, whole, whole, simulated)
    other = replace(muon, charge=-muon.charge, phi=muon.phi + 3)
    if issubclass(kind, CorrectsPairs):
        kind.apply_pairs(correction.document, Pairs(muon, other, one, whole, whole, whole))
