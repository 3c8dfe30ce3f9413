"""From the sums to a and b of every bin of eta and phi, and what stands in for them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from calib.calibrations.base import Edits
from calib.events.eta_phi import neighbours, stand_ins
from calib.events.histograms import Sums
from calib.fitting.residual_widths import Histograms, Widths, candidates, roots, widths
from calib.fitting.straight_line import Line
from calib.quality.category_gates import Limits, judge, probability
from calib.results import Check, Reduction, Status
from calib.types import AnyArray, Array

from .settings import Settings

KINDS = {"data": "", "simulation": "_simulation"}
"""What the corrections of each are named with."""


@dataclass(frozen=True)
class Block:
    """One observable of the data, or of the simulation: its widths, and what is published.

    ``halves`` are the lines of each half, shape (2, places, 2), and ``halves_covariance``;
    ``edited`` those with the edits of single categories.
    """

    kind: str
    name: str
    widths: Widths
    table: pd.DataFrame
    lines: tuple[Line, ...]
    halves: Array
    halves_covariance: Array
    edited: Array

    @property
    def key(self) -> str:
        """What its arrays and corrections are named with."""
        return f"{self.name}{KINDS[self.kind]}"


def reduce_block(kind: str, name: str, sums: Sums, settings: Settings, edits: Edits) -> Block:
    """Return a and b of every place, and those of both halves alone."""
    names, whole, how = settings.names(name), Histograms.of(sums, name, (0, 1)), settings.how
    own = {c: e for c, e in edits.items() if c in names} if kind == "data" else {}
    first = widths(whole, names, how)
    final = widths(whole, names, how, first, own)
    parts = [Histograms.of(sums, name, (h,)) for h in (0, 1)]
    halves = [widths(p, names, how.half(), first).lines for p in parts]
    edited = [widths(p, names, how.half(), first, own).lines for p in parts] if own else halves
    table, lines = published(kind, name, whole, final, settings)
    return Block(
        kind,
        name,
        final,
        table,
        lines,
        np.array([[x.values for x in h] for h in halves]),
        np.array([[x.covariance for x in h] for h in halves]),
        np.array([[x.values for x in h] for h in edited]),
    )


def published(
    kind: str, name: str, whole: Histograms, final: Widths, settings: Settings
) -> tuple[pd.DataFrame, tuple[Line, ...]]:
    """Return a and b of every place, its own or those that it falls back on."""
    places, n = settings.places, settings.how.n_points
    events = final.table["n_events"].to_numpy().reshape(-1, n).sum(axis=1)
    rows, lines = [], []
    for i, (own, reason) in enumerate(
        judged(final.lines, places.names, events, settings, neighbours(places))
    ):
        line, status, held_at = final.lines[i], own, ""
        for parent, members in stand_ins(places, i).items() if own is not Status.OK else ():
            groups = [[m * n + p for m in members] for p in range(n)]
            labels = [f"{name}_{parent}_p{p}" for p in range(n)]
            found = widths(whole.merged(groups), labels, settings.how)
            if judged(found.lines, [parent], events[[members]].sum(1), settings, [[]])[0][0].usable:
                few = own is Status.TOO_FEW_EVENTS
                line, held_at = found.lines[0], parent
                status = Status.MERGED if few else Status.HELD
                break
        (a, b), covariance = roots(line)
        a_err, b_err = np.sqrt(np.diagonal(covariance))
        eta, phi = places.bins(i)
        rows.append(
            {
                "sample": kind,
                "observable": name,
                "bin": places.names[i],
                "eta_low": settings.eta[eta],
                "eta_high": settings.eta[eta + 1],
                "phi_low": settings.phi[phi],
                "phi_high": settings.phi[phi + 1],
                "n_events": int(events[i]),
                "a": a,
                "a_err": a_err,
                "b": b,
                "b_err": b_err,
                "correlation": covariance[0, 1] / (a_err * b_err),
                "chi2": line.chi2,
                "ndf": line.ndf,
                "status": status.value,
                "own_status": own.value,
                "held_at": held_at,
                "reason": reason,
            }
        )
        lines.append(line)
    return pd.DataFrame(rows), tuple(lines)


def judged(
    lines: Sequence[Line],
    names: Sequence[str],
    events: Array,
    settings: Settings,
    near: Sequence[Sequence[int]],
) -> list[tuple[Status, str]]:
    """Return the status of each place: that of a, or of b where a is good."""
    gates = settings.gates
    of_a, of_b = (
        judge(
            candidates(lines, names, events, k),
            near,
            Limits(
                gates.min_events,
                gates.relative_error,
                gates.chi2_probability,
                gates.neighbours,
                gates.neighbour_spread,
                limits,
            ),
        )
        for k, limits in enumerate((gates.a_range, gates.b_range))
    )
    return [a if a[0] is not Status.OK else b for a, b in zip(of_a, of_b, strict=True)]


def reduction_of(blocks: Sequence[Block], settings: Settings) -> Reduction:
    """Return tables, covariance, pictures, checks and state of all blocks."""
    fits = pd.concat([b.widths.table.assign(sample=b.kind) for b in blocks], ignore_index=True)
    # no muon can reach many of them
    fits = fits[fits["n_events"] > 0].reset_index(drop=True)
    table = pd.concat([b.table for b in blocks], ignore_index=True)
    several = len({b.kind for b in blocks}) > 1
    curves = [
        fit.curve(f"{b.kind}/{name}" if several else name, b.name, "um")
        for b in blocks
        for name, fit in zip(b.widths.table["category"], b.widths.fits, strict=True)
        if fit.result is not None
    ]
    state: dict[str, AnyArray] = {}
    for b in blocks:
        state[f"{b.key}_lines"] = np.array([x.values for x in b.lines])
        state[f"{b.key}_covariance"] = np.array([x.covariance for x in b.lines])
        state[f"{b.key}_status"] = np.array([Status(s).code for s in b.table["status"]])
        state |= {
            f"{b.key}_halves": b.halves,
            f"{b.key}_edited": b.edited,
            f"{b.key}_halves_covariance": b.halves_covariance,
        }
    first = ["sample", "category", "n_events"]
    fits = fits[first + [c for c in fits.columns if c not in first]]
    return Reduction(
        fits,
        {"parameters": table},
        {"covariance": covariance_of(blocks)},
        tuple(curves),
        tuple(checks(fits, table, settings)),
        state,
    )


def covariance_of(blocks: Sequence[Block]) -> dict[str, AnyArray]:
    """Return ``names, values, covariance`` of a (um) and b (um GeV) of all places.

    Places that fall back on the same merged one have its values and errors in common.
    """
    names, values, parts, sources = [], [], [], []
    for b in blocks:
        for row, line in zip(b.table.to_dict("records"), b.lines, strict=True):
            v, c = roots(line)
            names += [f"{b.key}_{row['bin']}_{what}" for what in "ab"]
            values += list(v)
            parts.append(c)
            sources.append(f"{b.key}_{row['held_at'] or row['bin']}")
    found = np.zeros((len(names), len(names)))
    for i, one in enumerate(sources):
        for j, other in enumerate(sources):
            if one == other:
                found[2 * i : 2 * i + 2, 2 * j : 2 * j + 2] = parts[i]
    return {"names": np.array(names), "values": np.array(values), "covariance": found}


def checks(fits: pd.DataFrame, table: pd.DataFrame, settings: Settings) -> list[Check]:
    """Return the reduction's part of the verdict."""
    gates, usable = settings.gates, np.array([Status(s).usable for s in table["status"]])
    failed = ~fits["status"].isin([s.value for s in (Status.OK, Status.TOO_FEW_EVENTS)])
    lost = float(fits["n_events"][failed].sum() / max(fits["n_events"].sum(), 1))
    held = table["status"] == Status.HELD.value
    share = float(table["n_events"][held].sum() / max(table["n_events"].sum(), 1))
    bad = ", ".join(table["bin"][~usable].unique()[:5])
    found = [
        Check(
            "bins_usable",
            float(usable.mean()),
            1.0,
            bool(usable.all()),
            "share of the bins that have an a and a b" + f"; not: {bad}" * bool(bad),
        ),
        Check(
            "events_in_held_bins",
            share,
            gates.max_held,
            share <= gates.max_held,
            f"{int(held.sum())} bins failed a gate and are held at merged ones",
        ),
        Check(
            "categories_dropped",
            lost,
            gates.max_dropped,
            lost <= gates.max_dropped,
            f"share of the events in the {int(failed.sum())} categories that failed a gate",
        ),
    ]
    own = table[table["own_status"] == Status.OK.value]
    if len(own):
        p = min(probability(c, int(n)) for c, n in zip(own["chi2"], own["ndf"], strict=True))
        least = 1 - (1 - p) ** len(own)
        found.append(
            Check(
                "worst_chi2_probability",
                least,
                1e-4,
                least > 1e-4,
                f"of the worst of {len(own)} lines, given their number",
            )
        )
    return found
