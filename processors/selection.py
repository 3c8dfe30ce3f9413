"""The selection: which muons make the pair of an event, or under which reason it is left out.

Every event ends selected or rejected under exactly one reason, the first that applies in the
order of `REASONS`; the user's own cuts (`processors.cuts`) come after ``fewer_than_two_muons``, a
calibration adds its own reasons behind all of them.

Bad values: an event is bad if a muon that passes identification and isolation has a pt that is
not a positive number (it could have been the leading one); a bad eta, phi or charge counts only
for such a muon whose pt is above the cut. Muons that could not have been used do not matter.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numba
import numpy as np

from calib.events.cuts import Cut
from calib.events.pairs import Pairs
from calib.types import AnyArray, Array, BoolArray, IntArray
from processors.certified import Sections

REASONS = (
    "other_run",
    "not_certified",
    "trigger",
    "veto",
    "fewer_than_two_muons",
    "bad_pt",
    "bad_eta",
    "bad_phi",
    "bad_charge",
    "identification",
    "isolation",
    "eta",
    "pt",
    "bad_pt_err",
    "same_sign",
    "leading_pt",
    "bad_weight",
    "mass_window",
)
"""Why an event is left out, in the order of the decisions."""

SELECTED = -1
MAX_ABS_ETA = 10.0
"""Beyond this a pseudorapidity is not that of a muon in the detector."""

(
    OTHER_RUN,
    NOT_CERTIFIED,
    TRIGGER,
    VETO,
    FEWER_THAN_TWO_MUONS,
    BAD_PT,
    BAD_ETA,
    BAD_PHI,
    BAD_CHARGE,
    IDENTIFICATION,
    ISOLATION,
    ETA,
    PT,
    BAD_PT_ERR,
    SAME_SIGN,
    LEADING_PT,
    BAD_WEIGHT,
    MASS_WINDOW,
) = range(len(REASONS))


@dataclass(frozen=True)
class ResolvedSelection:
    """The selection of one sample with every default filled in: plain values.

    ``identification`` is a level (``medium``) or None; ``isolation`` the largest allowed value or
    None; ``leading_pt, subleading_pt`` lower edges in GeV, ``abs_eta`` an upper edge;
    ``mass_window`` is [low, high) in GeV. None always means: not required. Of the selected events
    one in ``prescale`` is used. ``runs`` are those of one file: see `of_chunk`. ``muon_pt`` is the
    column that is the pt of a muon, ``cuts`` the user's own, event filters first.
    """

    triggers: tuple[str, ...] = ()
    identification: str | None = None
    isolation: float | None = None
    leading_pt: float | None = None
    subleading_pt: float | None = None
    abs_eta: float | None = None
    opposite_charge: bool = True
    mass_window: tuple[float, float] | None = None
    certified: Sections | None = None
    prescale: float = 1.0
    runs: tuple[int, ...] | None = None
    veto: tuple[str, ...] = ()
    muon_pt: str = "pt"
    cuts: tuple[Cut, ...] = ()


@dataclass(frozen=True)
class Candidates:
    """All muons of a chunk before any cut, flat.

    The j-th muon of event i is at ``first[i] + j * stride``, for j below ``count[i]``.

    Parameters
    ----------
    first, count : int array, shape (events,)
    stride : int
    pt, eta, phi : array, shape (muons,)
        GeV; double precision, as read: not a number is possible.
    charge : int array, shape (muons,)
        +1, -1, or 0 where the file has anything else.
    identified : bool array, shape (muons,), or None where it is not required
    isolation : array, shape (muons,), or None where it is not required
    """

    first: IntArray
    count: IntArray
    stride: int
    pt: Array
    eta: Array
    phi: Array
    charge: AnyArray
    identified: BoolArray | None = None
    isolation: Array | None = None
    pt_err: Array | None = None

    def __len__(self) -> int:
        return len(self.first)


@dataclass(frozen=True)
class Choice:
    """The pair of each event, as positions among the candidates, and the reason against it.

    ``reason`` is `SELECTED` or an index into `REASONS`; ``leading, subleading`` have a meaning
    only for selected events. Shape (events,).
    """

    leading: IntArray
    subleading: IntArray
    reason: IntArray


def of_chunk(selection: ResolvedSelection, metadata: Mapping[str, Any]) -> ResolvedSelection:
    """Return the selection of a chunk, which may be of a file with runs that nobody asked for.

    Parameters
    ----------
    selection : ResolvedSelection
        Of the sample.
    metadata : mapping
        Of the chunk; ``runs`` are those that its file is wanted for.

    Returns
    -------
    ResolvedSelection
        With these runs.
    """
    return replace(selection, runs=metadata.get("runs"))


def choose_pairs(
    muons: Candidates, weight: Array, excluded: IntArray, selection: ResolvedSelection
) -> Choice:
    """Return the highest-pt good muon and the highest-pt one of opposite charge of each event.

    Parameters
    ----------
    muons : Candidates
        Of all events.
    weight : array, shape (events,)
        One that is not finite makes the event a bad one.
    excluded : int array, shape (events,)
        Reasons found before any muon was looked at, `SELECTED` where there is none.
    selection : ResolvedSelection
        Where ``opposite_charge`` is false, the two highest-pt muons are chosen.

    Returns
    -------
    Choice
        One of each event.
    """
    n, all_muons = len(muons), np.ones(len(muons.pt), dtype=np.bool_)
    choice = Choice(np.zeros(n, np.int64), np.zeros(n, np.int64), excluded.astype(np.int64))
    flat = _Flat(
        muons.first,
        muons.count,
        muons.stride,
        muons.pt,
        muons.eta,
        muons.phi,
        muons.charge,
        identified=all_muons if muons.identified is None else muons.identified,
        isolated=all_muons if muons.isolation is None else passes_isolation(muons, selection),
        pt_err=np.ones(len(muons.pt)) if muons.pt_err is None else muons.pt_err,
    )
    _choose(
        flat,
        weight,
        selection.leading_pt or 0.0,
        selection.subleading_pt or 0.0,
        MAX_ABS_ETA if selection.abs_eta is None else selection.abs_eta,
        selection.opposite_charge,
        choice.leading,
        choice.subleading,
        choice.reason,
    )
    return choice


def passes_isolation(muons: Candidates, selection: ResolvedSelection) -> BoolArray:
    """Return whether each muon is isolated; one without a number is not.

    Parameters
    ----------
    muons : Candidates
        With an isolation.
    selection : ResolvedSelection
        With the largest value that is allowed.

    Returns
    -------
    bool array, shape (muons,)
        True where it passes.
    """
    assert muons.isolation is not None and selection.isolation is not None
    return np.asarray(muons.isolation <= selection.isolation)


def outside_window(pairs: Pairs, selection: ResolvedSelection) -> BoolArray:
    """Return whether each pair is outside the mass window [low, high).

    Parameters
    ----------
    pairs : Pairs
        n of them.
    selection : ResolvedSelection
        Its mass window, in GeV.

    Returns
    -------
    bool array, shape (n,)
        All False without a window.
    """
    if selection.mass_window is None:
        return np.zeros(len(pairs), dtype=np.bool_)
    low, high = selection.mass_window
    mass = pairs.mass
    return np.asarray(~((mass >= low) & (mass < high)))


def leave_out(pairs: Pairs, masks: Mapping[str, BoolArray]) -> tuple[Pairs, dict[str, int]]:
    """Return the pairs that no mask rejects, and how many each reason took, first come.

    Parameters
    ----------
    pairs : Pairs
        n of them, or records.
    masks : mapping of reason to bool array, shape (n,)
        What each reason rejects; the first that applies counts.

    Returns
    -------
    Pairs
        Those that no mask rejects.
    dict of str to int
        How many each reason took.
    """
    kept = np.ones(len(pairs), dtype=np.bool_)
    taken: dict[str, int] = {}
    for reason, mask in masks.items():
        taken[reason] = int(np.count_nonzero(kept & mask))
        kept &= ~mask
    return (pairs if kept.all() else pairs.take(kept)), _without_zeros(taken)


def reasons_of(selection: ResolvedSelection) -> tuple[str, ...]:
    """Return `REASONS`, and behind them those of the user's own cuts."""
    return REASONS + tuple(cut.reason for cut in selection.cuts)


def counted(reason: IntArray, reasons: tuple[str, ...] = REASONS) -> dict[str, int]:
    """Return the number of events under each reason, in their order.

    Parameters
    ----------
    reason : int array, shape (events,)
        `SELECTED` (negative) or an index into the reasons.
    reasons : tuple of str
        By default those that need no cut of the user's own.

    Returns
    -------
    dict of str to int
        Without zeros.
    """
    counts = np.bincount(reason[reason >= 0], minlength=len(reasons))
    return _without_zeros(dict(zip(reasons, counts.tolist(), strict=True)))


def _without_zeros(counts: Mapping[str, int]) -> dict[str, int]:
    return {reason: n for reason, n in counts.items() if n}


class _Flat(NamedTuple):
    """The candidates as the compiled loop sees them: nothing is None."""

    first: IntArray
    number: IntArray
    stride: int
    pt: Array
    eta: Array
    phi: Array
    charge: AnyArray
    identified: BoolArray
    isolated: BoolArray
    pt_err: Array


@numba.njit(cache=True, nogil=True)
def _choose(  # type: ignore[no-untyped-def]
    muons, weight, leading_pt, subleading_pt, abs_eta, opposite_charge, leading, subleading, reason
):
    for i in range(len(reason)):
        if reason[i] != SELECTED:
            continue
        reason[i] = _missing(muons, i, subleading_pt, abs_eta)
        if reason[i] != SELECTED:
            continue
        a = _highest(muons, i, subleading_pt, abs_eta, -1, False)
        b = _highest(muons, i, subleading_pt, abs_eta, a, opposite_charge)
        same_sign = b < 0
        if same_sign:
            b = _highest(muons, i, subleading_pt, abs_eta, a, False)
        if not (_is_positive(muons.pt_err[a]) and _is_positive(muons.pt_err[b])):
            reason[i] = BAD_PT_ERR
        elif same_sign:
            reason[i] = SAME_SIGN
        elif not muons.pt[a] >= leading_pt:
            reason[i] = LEADING_PT
        elif not abs(weight[i]) < np.inf:
            reason[i] = BAD_WEIGHT
        leading[i], subleading[i] = a, b


@numba.njit(cache=True, nogil=True, inline="always")
def _missing(muons, i, subleading_pt, abs_eta):  # type: ignore[no-untyped-def]
    """Return why event i has no two good muons, or `SELECTED`."""
    if muons.number[i] < 2:
        return FEWER_THAN_TWO_MUONS
    bad = len(REASONS)
    identified = isolated = central = hard = 0
    for j in range(muons.number[i]):
        m = muons.first[i] + j * muons.stride
        identified += muons.identified[m]
        if not (muons.identified[m] and muons.isolated[m]):
            continue
        isolated += 1
        if not _is_positive(muons.pt[m]):
            bad = min(bad, BAD_PT)
            continue
        above = muons.pt[m] >= subleading_pt
        if above and not abs(muons.eta[m]) <= MAX_ABS_ETA:
            bad = min(bad, BAD_ETA)
        if above and not abs(muons.phi[m]) < np.inf:
            bad = min(bad, BAD_PHI)
        if above and muons.charge[m] == 0:
            bad = min(bad, BAD_CHARGE)
        if abs(muons.eta[m]) < abs_eta:
            central += 1
            hard += above
    if bad < len(REASONS):
        return bad
    if identified < 2:
        return IDENTIFICATION
    if isolated < 2:
        return ISOLATION
    if central < 2:
        return ETA
    return PT if hard < 2 else SELECTED


@numba.njit(cache=True, nogil=True, inline="always")
def _highest(muons, i, subleading_pt, abs_eta, other, opposite):  # type: ignore[no-untyped-def]
    """Return the good muon of highest pt beside another one, -1 if there is none."""
    best = -1
    for j in range(muons.number[i]):
        m = muons.first[i] + j * muons.stride
        if m == other or not (muons.identified[m] and muons.isolated[m]):
            continue
        if not (muons.pt[m] >= subleading_pt and abs(muons.eta[m]) < abs_eta):
            continue
        if opposite and muons.charge[m] == muons.charge[other]:
            continue
        if best < 0 or muons.pt[m] > muons.pt[best]:
            best = m
    return best


@numba.njit(cache=True, nogil=True, inline="always")
def _is_positive(value):  # type: ignore[no-untyped-def]
    """Return whether this is a positive, finite number."""
    return value > 0.0 and value < np.inf
