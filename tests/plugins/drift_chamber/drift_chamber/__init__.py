"""Space-time relations of a drift chamber from the residuals of cosmic tracks.

A first pass is a quick test of 80 000 tracks: where their mean residual is below the target with
the relations that there are, nothing is done. Else the relations are fitted to where the tracks,
found without the hit, pass by, until it is.
"""

import numpy as np
from pydantic import Field

from calib import plugin
from calib.events.random import uniform_of
from calib.fitting.linear import linear_fits, moments
from calib.plugin import Check, Curve, Pass, add
from calib.quality.fallbacks import as_parameters
from drift_chamber import toys
from drift_chamber.chamber import COLUMNS, LONGEST, ORDER, SETS, SHAPE, hits, linear

XT, EDGES = "drift_chamber_xt", np.linspace(-1500.0, 1500.0, 121)  # um
SLICES = 12  # of the drift time, in which the mean residual is looked at
CHEBYSHEV = ("1", "u", "(2*u^2-1)", "(4*u^3-3*u)", "(8*u^4-8*u^2+1)", "(16*u^5-20*u^3+5*u)")


class Settings(plugin.Strict):
    """Settings of the space-time relations."""

    target: float = Field(default=40.0, gt=0, description="um, largest mean residual")
    quick: int = Field(default=80_000, ge=100, description="tracks of the first test")
    outlier: float = Field(default=1500.0, gt=0, description="um, residual of a hit not used")
    max_passes: int = Field(default=12, ge=1, description="walks over all tracks")
    min_hits: int = Field(default=500, ge=20, description="of a set")


class Calibration(
    plugin.TableCalibration, plugin.Iterates, plugin.Closes, plugin.AddsColumns[plugin.Records]
):
    """See the module."""

    name, Settings, title = "drift_chamber", Settings, "Space-time relations"
    columns, passes_on = COLUMNS, ("coefficients",)
    payload = {
        XT: plugin.Formula(
            " + ".join(f"c{j}*{t}" for j, t in enumerate(CHEBYSHEV)),
            output="distance",
            unit="cm",
            inputs={"shape": "of the cell", "angle": "of incidence, rad", "time": "drift time, ns"},
            ranges={"time": (0.0, 400.0)},
            terms={"u": "2*time/longest-1"},
            constants={"longest": np.repeat(LONGEST, 6)},
        ),
        f"{XT}_status": plugin.StatusTable(),
    }
    reduction_only = ("target", "max_passes", "min_hits")

    @classmethod
    def toys(cls, sample, n, seed):
        return toys.tracks(n, seed)

    def sized(self, walk, n_events):
        share = min(1.0, self.settings.quick / max(1, sum(n_events.values())))
        return Pass(walk.name, {**walk.values, "share": np.asarray(share)})

    def rejects(self, records, sample):
        times = np.array([records[f"time_{i}"] for i in range(8)])
        return {"drift_time": np.any((times < 0) | (times > 2 * LONGEST.max()), axis=0)}

    def collect(self, records, sample, walk):
        random = uniform_of(self.seed, records)  # one in five takes no part in the fits
        first = {"main": random < walk.values.get("share", 1.0), "closure": random < 0.2}
        records = records.take(first.get(walk.name, random >= 0.2))
        sets, t, y, residual = hits(records, walk.values.get("coefficients", linear()))
        r = 1e4 * residual
        near = np.abs(r) < self.settings.outlier
        slices = SLICES * sets + np.clip(SLICES * (t[:, 1] + 1) / 2, 0, SLICES - 1).astype(int)
        slices, means = np.where(near, slices, -1), {"sum": r, "squares": r**2}
        return {
            "moments": moments(sets[near], len(SETS), t[near], y[near]),
            "hits": plugin.Fill(slices, len(SETS) * SLICES, r, EDGES, np.ones(len(r)), means),
        }

    def reduce(self, sums, edits, walk=plugin.MAIN):
        if edits:
            raise plugin.InputError(f"category {next(iter(edits))!r}: no set can be set by hand")
        total, used = add(sums.values()), walk.values.get("coefficients", linear())
        counts = total["hits/counts"].reshape(len(SETS), SLICES, -1).sum(axis=1)
        found = linear_fits(total["moments"], counts.sum(axis=1))
        # the tracks of the quick test are too few for a fit
        found = found.where(counts.sum(axis=1) >= self.settings.min_hits, used, walk.name == "main")
        names = [f"c{j}" for j in range(ORDER + 1)]
        relations = as_parameters(SETS, found, names, ["cm"] * len(names), file="relations")
        before, target = mean_residual(total), self.settings.target
        bad, text = sum(~relations.usable), f"um, of the tracks of pass {walk.name}"
        return plugin.Reduction(
            relations.as_fits("+".join(sums)),
            curves=tuple(
                Curve.of(name, EDGES, x) for name, x in zip(SETS.names, counts, strict=True)
            ),
            checks=(
                Check("mean_residual", before, target, before < target, text),
                Check("sets_without_relation", bad, 0, bad == 0, "too few hits"),
            ),
            state={"coefficients": relations.values, "converged": before < target},
            parameters={"": relations},
        )

    def closure(self, sums, reduction):
        total, parts = add(sums.values()), ("counts", "mean_sum", "mean_squares")
        n, s, s2 = (total[f"hits/{x}"].reshape(len(SETS), -1).sum(axis=1) for x in parts)
        mean, worst, target = s / n, mean_residual(total), self.settings.target
        text = "um, mean residual of tracks that took no part"
        check = Check("closure", worst, target, worst < target, text)
        return plugin.Closure.of(SETS.names, 0.0, mean, np.sqrt((s2 / n - mean**2) / n), check)

    @classmethod
    def apply(cls, document, records):
        one, found = np.ones(len(records), dtype=int), {}
        for i in range(8):
            at = {"shape": SHAPE[i] * one, "angle": records["angle"], "time": records[f"time_{i}"]}
            found[f"distance_{i}"] = plugin.evaluate_at(document, XT, at)
        return found


def mean_residual(total):
    """Return the mean over hits of |mean residual| of their set and slice of time, um."""
    n, s = total["hits/counts"].sum(axis=1), total["hits/mean_sum"]
    return float(np.sum(np.abs(s[n >= 50])) / max(np.sum(n[n >= 50]), 1))
