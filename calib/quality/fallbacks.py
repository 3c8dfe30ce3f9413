"""Bins that cannot be measured: their values come from merged bins, and it is said so.

A calibration gives `Estimates`, each bin for itself, and a way to fit some bins as one. Here they
are judged by the gates; one that fails falls back on the nearest merged bin that passes. Bins that
have their values from the same place have the errors in common too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from pydantic import Field

from calib.events.categories import Categories
from calib.events.eta_phi import neighbours, stand_ins
from calib.later import pandas as pd
from calib.quality.category_gates import CategoryValue, GateLimits, judge, probability
from calib.results import Check, Parameters, Status
from calib.schema import Positive, Probability, Share, Strict
from calib.types import AnyArray, Array, IntArray


class BinGates(Strict):
    """What a category, and a bin with parameters, must pass before its values are published."""

    min_events: int = Field(default=400, ge=50, description="effective ones, of a category")
    chi2_probability: Probability = Field(default=1e-6, description="least, of a fit or a line")
    relative_error: Positive = Field(default=0.5, description="largest, of a parameter")
    neighbours: Positive = Field(
        default=5.0, description="most standard deviations from the next bins"
    )
    neighbour_spread: float = Field(
        default=0.3, ge=0, description="relative spread of true values among neighbours"
    )
    max_dropped: Share = Field(
        default=0.05, description="share of the events in categories that failed a gate"
    )
    max_held: Share = Field(default=0.15, description="share of the events in held bins")

    def limits(self, value_range: tuple[float, float]) -> GateLimits:
        """Return the thresholds for a parameter, with the range of its values."""
        return GateLimits(
            self.min_events,
            self.relative_error,
            self.chi2_probability,
            self.neighbours,
            self.neighbour_spread,
            value_range,
        )


@dataclass(frozen=True)
class Estimates:
    """k parameters of n bins, each as its own fit gave it; NaN where they are not determined.

    Parameters
    ----------
    values : array, shape (n, k)
    covariance : array, shape (n, k, k)
        Bins are independent of each other.
    chi2, ndf : array, shape (n,)
    n_events : array, shape (n,)
    """

    values: Array
    covariance: Array
    chi2: Array
    ndf: IntArray
    n_events: Array

    def where(self, known: AnyArray, other: Array, always: bool = False) -> Estimates:
        """Return these where they are known, else values from elsewhere, without an error.

        Parameters
        ----------
        known : bool array, shape (n,)
            Where it is false, the bin has no covariance, and is not determined.
        other : array, shape (n, k)
            Values from elsewhere, in the same units.
        always : bool
            Whether the other values are taken in all bins.

        Returns
        -------
        Estimates
            Of the same n bins.
        """
        values = np.where(known[:, None] & np.logical_not(always), self.values, other)
        covariance = np.where(known[:, None, None], self.covariance, np.nan)
        return replace(self, values=values, covariance=covariance)

    def candidates(self, bins: Sequence[str], names: Sequence[str], k: int) -> list[CategoryValue]:
        """Return one of the parameters as the gates want to see it.

        Parameters
        ----------
        bins : sequence of str, length n
            Their names.
        names : sequence of str
            Of the parameters.
        k : int
            Which parameter.

        Returns
        -------
        list of Candidate, length n
            Without a fit status of their own.
        """
        known = np.all(np.isfinite(self.values), axis=1).tolist()
        errors = np.asarray(np.sqrt(self.covariance[:, k, k]))
        return [
            CategoryValue(
                f"{name}, {names[k]}",
                float(self.n_events[i]),
                float(self.values[i, k]),
                float(errors[i]),
                float(self.chi2[i]),
                int(self.ndf[i]),
                Status.OK if known[i] else Status.NOT_DETERMINED,
                False,
            )
            for i, name in enumerate(bins)
        ]


def judged(
    found: Estimates,
    bins: Sequence[str],
    ranges: Mapping[str, tuple[float, float]],
    gates: BinGates,
    near: Sequence[Sequence[int]],
) -> list[tuple[Status, str]]:
    """Return status and sentence of each bin: those of its first parameter that fails a gate.

    Parameters
    ----------
    found : Estimates
        k parameters of n bins.
    bins : sequence of str, length n
        Names of the bins.
    ranges : mapping of name to (lowest, highest), length k
        The parameters in their order.
    gates : BinGates
        Thresholds.
    near : sequence of sequences of int, length n
        The neighbours of each.

    Returns
    -------
    list of (Status, str), length n
        The sentence is empty for ``ok``.
    """
    names = list(ranges)
    each = [
        judge(found.candidates(bins, names, k), near, gates.limits(ranges[name]))
        for k, name in enumerate(names)
    ]
    return [
        next((one for one in of_bin if one[0] is not Status.OK), of_bin[-1])
        for of_bin in zip(*each, strict=True)
    ]


def as_parameters(
    places: Categories, found: Estimates, names: Sequence[str], units: Sequence[str], **more: Any
) -> Parameters:
    """Return estimates as parameters, each bin for itself, without a fallback.

    A bin without a covariance has too few events.

    Parameters
    ----------
    places : Categories
        The n bins.
    found : Estimates
        k parameters of n bins.
    names, units : sequence of str, length k
        Of the parameters.
    **more
        Further fields of `Parameters`.

    Returns
    -------
    parameters : Parameters
        Of n bins.
    """
    known = np.asarray(np.all(np.isfinite(found.covariance), axis=(1, 2)))
    return Parameters(
        places.axes,
        tuple(names),
        tuple(units),
        found.values,
        shared_covariance(np.nan_to_num(found.covariance), places.names),
        [Status.OK if k else Status.TOO_FEW_EVENTS for k in known],
        bins=places.names,
        n_events=found.n_events,
        chi2=found.chi2,
        ndf=found.ndf,
        **more,
    )


def with_fallbacks(
    places: Categories,
    found: Estimates,
    ranges: Mapping[str, tuple[float, float]],
    gates: BinGates,
    *,
    merged: Callable[[str, Sequence[int]], Estimates],
    near: Sequence[Sequence[int]] | None = None,
    stand_ins: Callable[[Categories, int], Mapping[str, Sequence[int]]] = stand_ins,
    **more: Any,
) -> Parameters:
    """Return the parameters of each bin: its own, or those that it falls back on.

    Parameters
    ----------
    places : Categories
        The n bins.
    found : Estimates
        k parameters of n bins.
    ranges : mapping of name to (lowest, highest), length k
        Values that are believed, parameter by parameter.
    gates : BinGates
        Thresholds.
    merged : function
        Of a name and the bins that are merged, to the estimates of that one bin.
    near : sequence of sequences of int, length n, optional
        The neighbours of each bin; by default those of `calib.events.eta_phi`.
    stand_ins : function
        Of the bins and one of them, to what it may fall back on, nearest first: bins by name.
    **more
        Further fields of `Parameters`: ``units, labels, file``.

    Returns
    -------
    parameters : Parameters
        Of n bins, with status, reason and fallback of each.
    """
    near = neighbours(places) if near is None else near
    own = judged(found, places.names, ranges, gates, near)
    values, covariance = found.values.copy(), found.covariance.copy()
    chi2, ndf = found.chi2.copy(), found.ndf.copy()
    status, fallback = [s for s, _ in own], [""] * len(places)
    for i, (first, _) in enumerate(own):
        for parent, members in stand_ins(places, i).items() if first is not Status.OK else ():
            made = merged(parent, members)
            if not judged(made, [parent], ranges, gates, [[]])[0][0].usable:
                continue
            values[i], covariance[i] = made.values[0], made.covariance[0]
            chi2[i], ndf[i], fallback[i] = made.chi2[0], made.ndf[0], parent
            status[i] = Status.MERGED if first is Status.TOO_FEW_EVENTS else Status.HELD
            break
    sources = [parent or name for parent, name in zip(fallback, places.names, strict=True)]
    return Parameters(
        places.axes,
        tuple(ranges),
        values=values,
        covariance=shared_covariance(covariance, sources),
        status=status,
        fallback=fallback,
        bins=places.names,
        n_events=found.n_events,
        chi2=chi2,
        ndf=ndf,
        own_status=[s for s, _ in own],
        reason=[text for _, text in own],
        **more,
    )


def shared_covariance(covariance: Array, sources: Sequence[str]) -> Array:
    """Return the covariance of all values; bins of one source have theirs in common.

    Parameters
    ----------
    covariance : array, shape (n, k, k)
        Of the parameters of each bin.
    sources : sequence of str, length n
        What each bin has its values from.

    Returns
    -------
    array, shape (n k, n k)
    """
    n, k, _ = covariance.shape
    out = np.zeros((n, k, n, k))
    for i, one in enumerate(sources):
        for j, other in enumerate(sources):
            if one == other:
                out[i, :, j, :] = covariance[i]
    return out.reshape(n * k, n * k)


def checks(
    fits: pd.DataFrame, found: Mapping[str, Parameters], gates: BinGates, words: str
) -> tuple[Check, ...]:
    """Return the part of the verdict that follows from fits and parameters.

    Parameters
    ----------
    fits : DataFrame
        Of the categories, with ``n_events, status``.
    found : mapping of key to Parameters
        Their status is counted.
    gates : BinGates
        Its ``max_dropped`` and ``max_held``.
    words : str
        What a bin should have ("an a and a b").

    Returns
    -------
    tuple of Check
        Shares of events, with their limits.
    """
    table = pd.concat([own.table() for own in found.values()], ignore_index=True)
    usable = np.array([Status(s).usable for s in table["status"]])
    failed = ~fits["status"].isin([s.value for s in (Status.OK, Status.TOO_FEW_EVENTS)])
    lost = float(fits["n_events"][failed].sum() / max(fits["n_events"].sum(), 1))
    held = table["status"] == Status.HELD.value
    share = float(table["n_events"][held].sum() / max(table["n_events"].sum(), 1))
    bad = ", ".join(table["bin"][~usable].unique()[:5])
    made = [
        Check.at_least(
            "bins_usable",
            float(usable.mean()),
            1.0,
            f"share of the bins that have {words}" + f"; not: {bad}" * bool(bad),
            title="Bins with a value",
            advice=f"{_why(table[~usable])}: take more events, or merge {bad} with their neighbours"
            " by coarser edges",
        ),
        Check.at_most(
            "events_in_held_bins",
            share,
            gates.max_held,
            f"{int(held.sum())} bins failed a gate and take the value of the merged bins",
            title="Events in bins that failed a gate",
            advice=f"{_why(table[held])}: look at the fits there, and refit or merge these bins",
        ),
        Check.at_most(
            "categories_dropped",
            lost,
            gates.max_dropped,
            f"share of the events in the {int(failed.sum())} categories that failed a gate",
            title="Events in categories without a good fit",
            advice=f"{_why(fits[failed])}: look at the fits of these categories",
        ),
    ]
    own = table[table["own_status"] == Status.OK.value]
    if len(own):
        every = [probability(c, int(n)) for c, n in zip(own["chi2"], own["ndf"], strict=True)]
        worst = own["bin"].iloc[int(np.argmin(every))]
        made.append(
            Check.at_least(
                "worst_chi2_probability",
                1 - (1 - min(every)) ** len(own),
                1e-4,
                f"global p-value of {len(own)} fits of a line; the worst: {worst}",
                title="Goodness of fit",
                advice=f"a line does not describe {worst}: look at it, and take finer bins",
            )
        )
    return tuple(made)


def _why(rows: pd.DataFrame) -> str:
    """Return the commonest reason of some rows, and the first of them."""
    if rows.empty:
        return ""
    status = rows["own_status" if "own_status" in rows else "status"]
    reason = Status(status.mode().iloc[0])
    what = f"mostly {reason.value.replace('_', ' ')}"
    named = next((key for key in ("bin", "category") if key in rows), None)
    return f"{what}, first in {rows[named][status == reason.value].iloc[0]}" if named else what
