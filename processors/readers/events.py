"""The events of a chunk before any cut, and what both formats do to make them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from calib.calibrations.base import Needs
from calib.errors import InputError
from calib.events.pairs import Pairs
from calib.types import AnyArray, Array, BoolArray, IntArray, UIntArray
from processors.readers import columns as names
from processors.selection import Candidates, ResolvedSelection


@dataclass(frozen=True)
class Events:
    """One chunk of events before any cut: muons, and what belongs to the whole event.

    ``gen_mass`` and the ``gen`` columns of the muons (flat, like the candidates) are None in
    collision data; ``fired`` and ``vetoed`` are None where no trigger is asked for,
    ``failed`` is the number of the user's cut that an event fails, None where there is none.
    """

    muons: Candidates
    weight: Array
    run: UIntArray
    luminosityBlock: UIntArray
    event: UIntArray
    fired: BoolArray | None
    gen: Mapping[str, Array] | None = None
    gen_mass: Array | None = None
    extra: Mapping[str, AnyArray] = field(default_factory=dict)
    vetoed: BoolArray | None = None
    failed: IntArray | None = None

    def __len__(self) -> int:
        return len(self.run)


@dataclass(frozen=True)
class Selected:
    """The selected pairs of a chunk, how many events it has, and why the others are left out.

    ``costs`` are bytes and seconds by level of the selection, empty where they are not known;
    the seconds differ from run to run.
    """

    pairs: Pairs
    n_read: int
    rejected: dict[str, int]
    costs: Mapping[str, Mapping[str, float]] = field(default_factory=dict)


class Columns(Protocol):
    """Columns of one chunk, by name."""

    names: frozenset[str]
    length: int

    @property
    def at(self) -> IntArray:
        """Entries of the events in their file."""

    def flat(self, name: str) -> AnyArray:
        """Return a column of one number an event."""


class EventColumns(Columns, Protocol):
    """Columns of events with any number of muons: of the entries of a file, or given ones.

    ``where`` says what the events are, and ``advice`` what to do where they do not fit together.
    """

    where: str
    advice: str

    @property
    def bytes(self) -> int:
        """Bytes that were read until now."""

    def jagged(self, name: str) -> tuple[AnyArray, AnyArray]:
        """Return (offsets, content), offsets from 0."""

    def take(self, kept: BoolArray | IntArray) -> EventColumns:
        """Return fewer of the events.

        Parameters
        ----------
        kept : bool array, shape (length,), or int array
            Mask or positions.

        Returns
        -------
        EventColumns
            Of these events.
        """

    def load(self, names: Iterable[str]) -> None:
        """Read columns together, which is cheaper than one by one."""


def identity_of(columns: Columns, metadata: Mapping[str, Any]) -> dict[str, UIntArray]:
    """Return run, luminosityBlock and event; without them a file is told apart by its uuid.

    Parameters
    ----------
    columns : Columns
        Of n events.
    metadata : mapping
        Of the chunk.

    Returns
    -------
    dict of name to uint array, shape (n,)
        ``run, luminosityBlock, event``.

    Raises
    ------
    InputError
        If a column holds what is no such number.
    """
    missing = {
        "run": run_of(str(metadata.get("fileuuid") or metadata.get("filename", ""))),
        "luminosityBlock": 0,
    }
    out: dict[str, UIntArray] = {}
    for name in names.IDENTITY:
        if name in columns.names:
            out[name] = _whole(columns.flat(name), name, _place(columns, metadata))
        elif name == "event":
            out[name] = columns.at.astype(np.uint64)
        else:
            out[name] = np.full(columns.length, missing[name], dtype=np.uint64)
    return out


LARGEST = {"run": 2**32 - 1, "luminosityBlock": 2**32 - 1, "event": 2**64 - 1}
"""As NanoAOD has them; beyond, a number is something else."""


def _place(columns: Columns, metadata: Mapping[str, Any]) -> str:
    return str(getattr(columns, "where", "") or metadata.get("filename", "events"))


def require_whole(values: AnyArray, name: str, where: str) -> None:
    """Raise InputError where numbers of runs, sections or events are none.

    Parameters
    ----------
    values : array, shape (n,)
        Of any type of numbers.
    name : str
        run, luminosityBlock or event.
    where : str
        The file.
    """
    if not len(values):
        return
    if values.dtype.kind == "f":
        bad = ~(np.isfinite(values) & (values == np.floor(values)))
        if bad.any():
            first = values[np.argmax(bad)]
            raise InputError(
                f"{where}: column {name!r} has {np.count_nonzero(bad)} of {len(bad)} values that"
                f" are no whole numbers (the first: {first}), expected one in each row; fill or"
                " drop those rows"
            )
        exact = 2.0 ** (np.finfo(values.dtype).nmant + 1)
        if np.abs(values).max() > exact:
            raise InputError(
                f"{where}: column {name!r} ({values.dtype}) holds numbers above {exact:.0f}, which"
                " this type cannot tell apart; write it as whole numbers of 64 bits"
            )
    if values.dtype.kind == "f" or values.dtype.kind == "i" or name != "event":
        require_in_range(int(values.min()), int(values.max()), name, where)


def require_in_range(low: int, high: int, name: str, where: str) -> None:
    """Refuse numbers that are none of a run, section or event.

    Parameters
    ----------
    low, high : int
        The least and the largest number.
    name : {"run", "luminosityBlock", "event"}
        Which column.
    where : str
        Which file.

    Raises
    ------
    InputError
        If one is negative or too large.
    """
    largest = LARGEST[name]
    if low < 0 or high > largest:
        raise InputError(
            f"{where}: column {name!r} holds {low if low < 0 else high}, expected numbers from 0 to"
            f" {largest}; correct the column or drop those rows"
        )


def _whole(values: AnyArray, name: str, where: str) -> UIntArray:
    """Return the values as whole numbers of 64 bits; a column of those is not copied."""
    require_whole(values, name, where)
    same = values.dtype.kind in "iu" and values.dtype.itemsize == 8
    return values.view(np.uint64) if same else values.astype(np.uint64)


def run_of(uuid: str) -> int:
    """Return a stable number of 32 bits in place of the run of a file that has none."""
    return int.from_bytes(hashlib.blake2b(uuid.encode(), digest_size=4).digest(), "big")


def candidates_of(
    muon: Callable[[str], AnyArray],
    first: AnyArray,
    count: AnyArray,
    stride: int,
    have: frozenset[str],
    format: str,
    needs: Needs,
    selection: ResolvedSelection,
) -> tuple[Candidates, dict[str, AnyArray]]:
    """Return the candidates and the columns that only the calibration knows.

    Parameters
    ----------
    muon : callable
        Quantity of the muons by its name -> flat array, shape (muons,).
    first, count : int array, shape (events,)
        Position of the first muon of an event, and how many it has.
    stride : int
        Between the muons of an event.
    have : frozenset of str
        Columns there are.
    format : {"nanoaod", "stage1"}
        Of the columns.
    needs : Needs
        Columns that the calibration asks for.
    selection : ResolvedSelection
        Cuts.

    Returns
    -------
    Candidates
        All muons, GeV.
    dict of name to array, shape (muons,)
        What only the calibration knows.
    """
    asked = asked_of(have, format, needs)
    level = selection.identification
    identified = None if level is None else muon(names.identification_column(level)) != 0
    pt, pt_err = pt_and_error(muon, "ptErr" in asked, have, format, selection)
    muons = Candidates(
        first=first.astype(np.int64),
        count=count.astype(np.int64),
        stride=stride,
        pt=double(pt),
        eta=double(muon("eta")),
        phi=double(muon("phi")),
        charge=charge_of(muon("charge")),
        identified=identified,
        isolation=None if selection.isolation is None else double(muon(names.ISOLATION)),
        pt_err=None if pt_err is None else double(pt_err),
    )
    return muons, {name: muon(name) for name in asked if name not in names.KNOWN}


def pt_and_error(
    muon: Callable[[str], AnyArray],
    with_error: bool,
    have: frozenset[str],
    format: str,
    selection: ResolvedSelection,
) -> tuple[AnyArray, AnyArray | None]:
    """Return pt of the muons and its error, of the columns that the selection names.

    A muon without a positive value there (-1: the constraint to the beam spot failed) has ``pt``
    and ``ptErr``.

    Parameters
    ----------
    muon : callable
        Quantity of the muons by its name -> flat array, shape (muons,).
    with_error : bool
        Whether the error is wanted.
    have : frozenset of str
        Columns there are.
    format : {"nanoaod", "stage1"}
        Of the columns.
    selection : ResolvedSelection
        Its ``muon_pt`` is the column.

    Returns
    -------
    array, shape (muons,)
        pt, in GeV.
    array, shape (muons,), or None
        Its error, in GeV.
    """
    pt, error = muon("pt"), muon("ptErr") if with_error else None
    if selection.muon_pt == "pt":
        return pt, error
    chosen = double(muon(selection.muon_pt))
    good = (chosen > 0) & (chosen < np.inf)
    name = names.PT_ERROR.get(selection.muon_pt)
    if error is not None and name and set(names.muon_columns(format, name)) <= have:
        own = double(muon(name))
        good &= (own > 0) & (own < np.inf)
        error = np.where(good, own, error)
    return np.where(good, chosen, pt), error


def asked_of(have: frozenset[str], format: str, needs: Needs) -> tuple[str, ...]:
    """Return the quantities of the muons that a calibration gets: asked for, and there.

    Parameters
    ----------
    have : frozenset of str
        Columns there are.
    format : {"nanoaod", "stage1"}
        Of the columns.
    needs : Needs
        Columns that the calibration asks for.

    Returns
    -------
    tuple of str
        By their names in NanoAOD, each once.
    """
    optional = [n for n in needs.optional if set(names.muon_columns(format, n)) <= have]
    return tuple(dict.fromkeys([*needs.muon, *optional]))


def charge_of(values: AnyArray) -> AnyArray:
    """Return +1, -1, or 0 for anything that is no charge of a muon.

    Parameters
    ----------
    values : array, shape (n,)
        As read.

    Returns
    -------
    int array, shape (n,)
        One byte each.
    """
    charge: AnyArray = (values == 1).astype(np.int8)
    charge -= (values == -1).astype(np.int8)
    return charge


def weight_of(columns: Columns, name: str) -> Array:
    """Return the weight of each event, 1 where the input has none of this name.

    Parameters
    ----------
    columns : Columns
        Of n events.
    name : str
        Column of the weights.

    Returns
    -------
    array, shape (n,)
        Without unit.
    """
    return double(columns.flat(name)) if name in columns.names else np.ones(columns.length)


def has_fired(columns: Columns, selection: ResolvedSelection) -> BoolArray | None:
    """Return whether any of the triggers has fired.

    Parameters
    ----------
    columns : Columns
        Of n events.
    selection : ResolvedSelection
        Its triggers.

    Returns
    -------
    bool array, shape (n,), or None
        None where none is asked for.
    """
    return _any_of(columns, selection.triggers)


def is_vetoed(columns: Columns, selection: ResolvedSelection) -> BoolArray | None:
    """Return whether any trigger of the veto has fired.

    Parameters
    ----------
    columns : Columns
        Of n events.
    selection : ResolvedSelection
        Its veto.

    Returns
    -------
    bool array, shape (n,), or None
        None where there is none.
    """
    return _any_of(columns, selection.veto)


def _any_of(columns: Columns, branches: tuple[str, ...]) -> BoolArray | None:
    if not branches:
        return None
    fired: BoolArray = np.zeros(columns.length, dtype=np.bool_)
    for name in branches:
        if name in columns.names:  # a path may be of another period
            fired |= columns.flat(name) != 0
    return fired


def double(values: AnyArray) -> Array:
    """Return the values in double precision.

    Parameters
    ----------
    values : array
        Numbers of any type.

    Returns
    -------
    array
        Shape as values.
    """
    return np.asarray(values, dtype=np.float64)


def wide(values: AnyArray) -> AnyArray:
    """Return the values, floating-point numbers in double precision.

    Parameters
    ----------
    values : array
        Numbers of any type.

    Returns
    -------
    array
        Shape as values; whole numbers as they are.
    """
    return double(values) if values.dtype.kind == "f" else values


def positive(values: Array) -> Array:
    """Return the values, not a number where there is no partner (0, -1 and the like).

    Parameters
    ----------
    values : array
        A generated quantity.

    Returns
    -------
    array
        Shape as values, same unit.
    """
    return np.where(values > 0, values, np.nan)
