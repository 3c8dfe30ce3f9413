"""Buckets: consecutive runs that are calibrated together.

A bucket collects runs until it holds a minimum of luminosity; what is left over below that joins
the bucket before. A bucket that holds more is prescaled down to the minimum. New buckets begin at
forced boundaries (``payload_boundaries``), whatever the luminosity.

Runs that come later do not move the buckets that were complete: given as ``earlier``, those keep
their runs, and one whose files changed gets a new revision.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from calib.digests import digest
from calib.errors import InputError
from calib.events.random import keys, uniforms
from calib.types import AnyArray, BoolArray

MINIMUM = 9.0
"""Luminosity of a bucket, in fb^-1."""

_SEED = 0x6275636B6574
"""Apart from the seeds of toys, halves and references: a prescale must not select among those."""


@dataclass(frozen=True)
class RunLuminosity:
    """One run and its luminosity in fb^-1; ``content`` changes where its files do (a digest)."""

    run: int
    luminosity: float
    content: str = ""


@dataclass(frozen=True)
class Bucket:
    """Consecutive runs, from ``first`` to ``last``.

    ``luminosity`` is that of all its runs, in fb^-1; one event in ``prescale`` (>= 1) is used.
    ``complete`` says whether it holds the minimum; ``waiting`` whether later runs may still join.
    ``revision`` counts from 1; ``content`` changes with runs, luminosities and files.
    """

    first: int
    last: int
    runs: tuple[int, ...]
    luminosity: float
    prescale: float
    complete: bool
    waiting: bool
    content: str
    revision: int = 1


def buckets(
    runs: Iterable[RunLuminosity],
    minimum: float = MINIMUM,
    boundaries: Iterable[int] = (),
    *,
    earlier: Sequence[Bucket] = (),
    closed: bool = True,
) -> tuple[Bucket, ...]:
    """Return the buckets of the runs, in order; every run is in exactly one.

    Parameters
    ----------
    runs : iterable of RunLuminosity
        In any order, each run once.
    minimum : float
        fb^-1. A bucket has less only where it is alone between two boundaries, or waiting, or
        one of ``earlier`` that has lost luminosity.
    boundaries : iterable of int
        Runs at which a new bucket begins in any case.
    earlier : sequence of Bucket
        Of an earlier call; the complete ones keep their first and last run, unless a boundary is
        now within them. Runs that turned up since between two of them join the one before.
    closed : bool
        Whether no more runs will come. If not, a leftover at the end is a bucket that waits.

    Returns
    -------
    tuple of Bucket
        Ascending in runs.

    Raises
    ------
    InputError
        If a run is there twice, or a luminosity is no number >= 0.
    """
    ordered = _ordered(runs, minimum)
    edges = sorted(set(boundaries))
    stretches: dict[int, list[RunLuminosity]] = {}
    for run in ordered:
        stretches.setdefault(bisect_right(edges, run.run), []).append(run)
    found: list[Bucket] = []
    for number, stretch in stretches.items():
        is_open = not closed and stretch[-1] is ordered[-1]
        pins = [b for b in earlier if b.complete and _within(b, edges, number)]
        for group in _groups(stretch, minimum, pins, is_open):
            waits = is_open and group[-1] is ordered[-1]
            found.append(_bucket(group, minimum, waits, earlier))
    return tuple(found)


def kept(run: AnyArray, luminosityBlock: AnyArray, event: AnyArray, prescale: float) -> BoolArray:
    """Return which events a prescale leaves.

    It depends on the event alone; what a larger prescale leaves, a smaller one leaves too.

    Parameters
    ----------
    run, luminosityBlock, event : int array, shape (n,)
        Identity of the events.
    prescale : float
        One event in so many is left; at least 1.

    Returns
    -------
    bool array, shape (n,)
        True for those that are left.
    """
    if prescale == 1.0:
        return np.ones(len(run), dtype=np.bool_)
    chosen = uniforms(keys(_SEED, run, luminosityBlock, event), 0)
    return np.asarray(chosen < 1.0 / prescale)


def _ordered(runs: Iterable[RunLuminosity], minimum: float) -> list[RunLuminosity]:
    if not 0.0 < minimum < math.inf:
        raise InputError(f"minimum luminosity of a bucket: found {minimum}, expected more than 0")
    ordered = sorted(runs, key=lambda r: r.run)
    for one, other in zip(ordered[:-1], ordered[1:], strict=True):
        if one.run == other.run:
            raise InputError(f"run {one.run}: there twice; give each run once, with all its files")
    for one in ordered:
        if not 0.0 <= one.luminosity < math.inf:
            raise InputError(
                f"run {one.run}: luminosity {one.luminosity}, expected a number >= 0 in fb^-1;"
                " correct the table"
            )
    return ordered


def _within(bucket: Bucket, edges: Sequence[int], number: int) -> bool:
    """Return whether a bucket lies between two forced boundaries, in this stretch."""
    return bisect_right(edges, bucket.first) == number == bisect_right(edges, bucket.last)


Group = list[RunLuminosity]


def _groups(stretch: Group, minimum: float, pins: Sequence[Bucket], is_open: bool) -> list[Group]:
    """Return the runs of a stretch in groups: before, in and after the buckets that stay."""
    firsts = [b.first for b in pins]
    head: Group = []
    middle: list[Group] = [[] for _ in pins]
    tail: Group = []
    for run in stretch:
        at = bisect_right(firsts, run.run) - 1
        if not pins or (at == len(pins) - 1 and run.run > pins[-1].last):
            tail.append(run)
        else:
            (head if at < 0 else middle[at]).append(run)
    middle = [group for group in middle if group]
    found = _filled(head, minimum)
    if middle and found and luminosity(found[-1]) < minimum:
        middle[0] = found.pop() + middle[0]
    found += middle
    new = _filled(tail, minimum)
    if new and luminosity(new[-1]) < minimum and not is_open:
        last = new.pop()
        before = new or found
        if before:
            before[-1] = before[-1] + last
        else:
            new.append(last)
    return found + new


def _filled(runs: Group, minimum: float) -> list[Group]:
    """Return groups that hold the minimum each; the last one may hold less."""
    groups: list[Group] = []
    total = minimum
    for run in runs:
        if total >= minimum:
            groups.append([])
            total = 0.0
        groups[-1].append(run)
        total += run.luminosity
    return groups


def luminosity(runs: Iterable[RunLuminosity]) -> float:
    """Return the sum, in the order of the runs (a sum over more of them is never less)."""
    total = 0.0
    for run in runs:
        total += run.luminosity
    return total


def _bucket(group: Group, minimum: float, waits: bool, earlier: Sequence[Bucket]) -> Bucket:
    total = luminosity(group)
    prescale = max(1.0, total / minimum)
    runs = tuple(r.run for r in group)
    content = digest([(int(r.run), float(r.luminosity), r.content) for r in group], prescale)
    complete = total >= minimum
    revision = _revision(runs, content, earlier)
    return Bucket(
        runs[0],
        runs[-1],
        runs,
        total,
        prescale,
        complete,
        waits and not complete,
        content,
        revision,
    )


def _revision(runs: Sequence[int], content: str, earlier: Sequence[Bucket]) -> int:
    """Return the revision after that of the earlier bucket that shares most runs with this one."""
    mine = set(runs)
    shared = [(len(mine.intersection(b.runs)), b) for b in earlier]
    n, before = max(shared, key=lambda s: s[0], default=(0, None))
    if before is None or n == 0:
        return 1
    return before.revision + (before.content != content)
