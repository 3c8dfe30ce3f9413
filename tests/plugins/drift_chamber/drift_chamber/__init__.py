"""Space-time relations of a drift chamber from the residuals of cosmic tracks.

The events are walked over once for a quick test of 80 000 tracks: where their mean residual is
below the target with the relations that there are, nothing is done. Else the relations are
fitted to where the tracks, found without the hit, pass by; with the new ones the tracks are
other ones, so this goes on until the mean residual is below the target.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import pandas as pd
from pydantic import Field

from calib.calibrations.base import Needs
from calib.errors import InputError
from calib.events.histograms import Fill, add
from calib.events.random import keys
from calib.events.records import TableCalibration
from calib.results import MAIN, Check, Closure, Curve, Pass, Reduction, Section, Status
from calib.schema import Strict
from drift_chamber import relations, toys
from drift_chamber.tracks import COLUMNS, hits

NAME = "drift_chamber_xt"
UM = 1e4
"""Micrometres in a cm."""

EDGES = np.linspace(-1500.0, 1500.0, 121)
SLICES = 12
"""Of the drift time, in which the mean residual is looked at."""


class Settings(Strict):
    """Settings of the space-time relations."""

    target: float = Field(default=40.0, gt=0, description="um, largest mean residual")
    quick: int = Field(default=80_000, ge=100, description="tracks of the first test")
    outlier: float = Field(default=1500.0, gt=0, description="um, residual of a hit not used")
    max_passes: int = Field(default=12, ge=1, description="walks over all tracks")
    min_hits: int = Field(default=500, ge=20, description="of a set")


class Calibration(TableCalibration):
    """See the module."""

    name: ClassVar[str] = "drift_chamber"
    Settings = Settings
    payload_names = (NAME, f"{NAME}_status")
    reduction_only = ("target", "max_passes", "min_hits")

    def needs(self, sample):
        return Needs(columns=COLUMNS)

    @classmethod
    def toys(cls, sample, n, seed):
        return toys.tracks(n, seed)

    def sized(self, walk, n_events):
        share = min(1.0, self.settings.quick / max(1, sum(n_events.values())))
        return Pass(walk.name, {**walk.values, "share": np.asarray(share)})

    # event loop --------------------------------------------------------------------------------
    def rejects(self, records, sample):
        late = [records[f"time_{i}"] > 2 * relations.LONGEST.max() for i in range(8)]
        early = [records[f"time_{i}"] < 0 for i in range(8)]
        return {"drift_time": np.any([*late, *early], axis=0)}

    def collect(self, records, sample, walk):
        records = records.take(self._used(records, walk))
        found = hits(records, walk.values.get("coefficients", relations.linear()))
        near = np.abs(found.residual) * UM < self.settings.outlier
        sets, t, y = found.set[near], found.basis[near], found.expected[near]
        n, k = relations.N_SETS, relations.ORDER + 1
        normal, right = np.zeros((n, k, k)), np.zeros((n, k))
        for i in range(n):
            own = sets == i
            normal[i], right[i] = t[own].T @ t[own], t[own].T @ y[own]
        residual = found.residual[near] * UM
        at = np.minimum((SLICES * (t[:, 1] + 1) / 2).astype(int), SLICES - 1)
        slices = sets * SLICES + at
        size = n * SLICES
        return {
            "normal": normal,
            "right": right,
            "squares": np.bincount(sets, y**2, n),
            "slice/n": np.bincount(slices, minlength=size),
            "slice/sum": np.bincount(slices, residual, size),
            "slice/squares": np.bincount(slices, residual**2, size),
            "residual": Fill(sets, n, residual, EDGES, np.ones(len(sets)), {}),
        }

    def _used(self, records, walk):
        """Return which tracks a pass looks at: one in five takes no part in the fits."""
        key = keys(self.seed, records.run, records.luminosityBlock, records.event)
        if walk.name == "main":
            return key / 2.0**64 < float(walk.values.get("share", 1.0))
        held_out = key % np.uint64(5) == 0
        return held_out if walk.name == "closure" else ~held_out

    # reduction ---------------------------------------------------------------------------------
    def reduce(self, sums, edits, walk=MAIN):
        if edits:
            raise InputError(f"category {next(iter(edits))!r}: nothing of a set can be set by hand")
        total, sample = add(sums.values()), "+".join(sums)
        before = mean_residual(total)
        quick = walk.name == "main"
        used = walk.values.get("coefficients", relations.linear())
        coefficients, errors, status = fit(total, used, self.settings.min_hits)
        if quick:  # its tracks are too few for a fit
            coefficients = used
        rows = _rows(total, sample, coefficients, errors, status)
        passed = before < self.settings.target
        text = "um, quick test" if quick else f"um, of the tracks of pass {walk.name}"
        checks = [
            Check("mean_residual", before, self.settings.target, passed, text),
            Check(
                "sets_without_relation",
                float(np.sum([not s.usable for s in status])),
                0.0,
                all(s.usable for s in status),
                "too few hits",
            ),
        ]
        return Reduction(
            fits=rows,
            tables={"relations": rows.drop(columns=["sample", "chi2", "ndf"])},
            arrays={"relations": {"coefficients": coefficients, "errors": errors}},
            curves=tuple(_curves(total)),
            checks=tuple(checks),
            state={
                "coefficients": coefficients,
                "status": np.array([s.code for s in status]),
                "mean_residual": before,
                "passed": passed,
            },
        )

    def next_pass(self, reduction, walk):
        done = 0 if walk.name == "main" else int(walk.name)
        if reduction.state["passed"] or done >= self.settings.max_passes:
            return None
        return Pass(str(done + 1), {"coefficients": reduction.state["coefficients"]})

    def closure_pass(self, reduction):
        return Pass("closure", {"coefficients": reduction.state["coefficients"]})

    def closure(self, sums, reduction):
        total = add(sums.values())
        n, s, s2 = (
            total[f"slice/{k}"].reshape(relations.N_SETS, SLICES).sum(axis=1)
            for k in ("n", "sum", "squares")
        )
        mean = s / np.maximum(n, 1)
        error = np.sqrt(s2 / np.maximum(n, 1) - mean**2) / np.sqrt(np.maximum(n, 1))
        table = pd.DataFrame(
            {
                "bin": relations.names(),
                "expected": 0.0,
                "fitted": mean,
                "error": error,
                "pull": mean / np.maximum(error, 1e-9),
                "status": "ok",
            }
        )
        worst = mean_residual(total)
        check = Check(
            "closure",
            worst,
            self.settings.target,
            worst < self.settings.target,
            "um, mean residual of tracks that took no part",
        )
        return Closure(table, (check,))

    # out ---------------------------------------------------------------------------------------
    def publish(self, reduction):
        angles = len(relations.ANGLES) - 1
        nodes = [
            {
                "nodetype": "formula",
                "parser": "TFormula",
                "variables": ["time"],
                "expression": HORNER,
                "parameters": relations.powers(c, i // angles).tolist(),
            }
            for i, c in enumerate(reduction.state["coefficients"])
        ]
        status = [float(s) for s in reduction.state["status"]]
        return {
            "schema_version": 2,
            "corrections": [
                _correction(NAME, "distance", "cm", nodes, ("shape", "angle", "time")),
                _correction(f"{NAME}_status", "status", "0 is good", status, ("shape", "angle")),
            ],
        }

    def check_payload(self, document, reduction):
        random = np.random.default_rng(self.seed)
        shape, angle = random.integers(0, 2, 3000), random.uniform(-0.48, 0.48, 3000)
        time = random.uniform(0, relations.LONGEST[shape])
        found = distances(document, shape, angle, time)
        c = reduction.state["coefficients"][relations.set_of(shape, angle)]
        expected = np.einsum("nj,nj->n", relations.basis(time, shape), c)
        worst = float(np.max(np.abs(found - expected)))
        return [Check("payload_read_back", worst, 1e-6, worst < 1e-6, "cm, largest difference")]

    def sections(self, reduction, closure, earlier=None):
        text = (
            f"Mean residual {reduction.state['mean_residual']:.1f} um; target"
            f" {self.settings.target:g} um."
        )
        tables = {"relations": reduction.tables["relations"]}
        return (Section("Space-time relations", text, tables),)

    @classmethod
    def apply(cls, document, records):
        from drift_chamber.tracks import SHAPE

        shape = np.ones(len(records), dtype=int)
        return {
            f"distance_{i}": distances(
                document, SHAPE[i] * shape, records["angle"], records[f"time_{i}"]
            )
            for i in range(8)
        }


HORNER = "[0]+x*([1]+x*([2]+x*([3]+x*([4]+x*[5]))))"


def mean_residual(total):
    """Return the mean over hits of |mean residual| of their set and slice of time, um."""
    n, s = total["slice/n"], total["slice/sum"]
    enough = n >= 50
    if not enough.any():
        return float("nan")
    return float(np.sum(np.abs(s[enough])) / np.sum(n[enough]))


def fit(total, used, min_hits):
    """Return coefficients and errors (sets, ORDER + 1), and a status each."""
    coefficients, errors, status = used.copy(), np.zeros_like(used), []
    n = total["slice/n"].reshape(len(used), SLICES).sum(axis=1)
    for i in range(len(used)):
        if n[i] < min_hits:
            status.append(Status.TOO_FEW_EVENTS)
            continue
        normal, right = total["normal"][i], total["right"][i]
        c = np.linalg.solve(normal, right)
        left = max(total["squares"][i] - c @ right, 0.0) / (n[i] - len(c))
        coefficients[i], errors[i] = c, np.sqrt(left * np.diag(np.linalg.inv(normal)))
        status.append(Status.OK)
    return coefficients, errors, status


def distances(document, shape, angle, time):
    """Return the distance of each hit, cm, from a payload alone."""
    import json

    import correctionlib

    found = correctionlib.CorrectionSet.from_string(json.dumps(dict(document)))
    return found[NAME].evaluate(shape, angle, time)


def _correction(name, output, unit, nodes, inputs):
    angles = len(relations.ANGLES) - 1
    types = {"shape": "int", "angle": "real", "time": "real"}
    return {
        "name": name,
        "version": 1,
        "inputs": [{"name": i, "type": types[i]} for i in inputs],
        "output": {"name": output, "type": "real", "description": unit},
        "data": {
            "nodetype": "category",
            "input": "shape",
            "content": [
                {
                    "key": s,
                    "value": {
                        "nodetype": "binning",
                        "input": "angle",
                        "edges": relations.ANGLES.tolist(),
                        "content": nodes[s * angles : (s + 1) * angles],
                        "flow": "clamp",
                    },
                }
                for s in range(relations.N_SHAPES)
            ],
        },
    }


def _rows(total, sample, coefficients, errors, status):
    n = total["slice/n"].reshape(relations.N_SETS, SLICES).sum(axis=1)
    rows = []
    for i, name in enumerate(relations.names()):
        row = {"sample": sample, "category": name, "n_events": int(n[i])}
        for j in range(relations.ORDER + 1):
            row |= {f"c{j}": coefficients[i, j], f"c{j}_err": errors[i, j]}
        rows.append(
            {
                **row,
                "chi2": float("nan"),
                "ndf": int(n[i]) - relations.ORDER - 1,
                "status": status[i],
            }
        )
    return pd.DataFrame(rows)


def _curves(total):
    for i, name in enumerate(relations.names()):
        counts = total["residual/counts"][i].astype(float)
        yield Curve(name, EDGES, counts, counts, counts, np.zeros_like(counts))
