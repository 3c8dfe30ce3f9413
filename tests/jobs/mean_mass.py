"""A small calibration of its own, for the tests of jobs: the mean mass per |eta| of a muon."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from pydantic import Field

from calib.calibrations import base
from calib.calibrations.base import Edits, Needs
from calib.calibrations.capabilities import AddsColumns, Closes, Iterates
from calib.errors import InputError
from calib.events.categories import Axis, Categories
from calib.events.histograms import Fill, Sums
from calib.events.pairs import Pairs
from calib.results import MAIN, Check, Closure, Curve, Pass, Reduction, Section, Status
from calib.schema import Sample, Strict
from calib.types import AnyArray

CATEGORIES = Categories.of([Axis("abs_eta", (0.0, 0.9, 1.8, 2.4), ("B", "O", "E"))])
EDGES = np.linspace(75.0, 105.0, 61)


class Settings(Strict):
    """Settings of the test's calibration."""

    low: float = Field(default=80.0, description="GeV, lower edge of the mean")
    high: float = Field(default=100.0, description="GeV, upper edge of the mean")
    limit: float = Field(default=2.0, description="GeV, largest distance from the Z mass")
    passes: int = Field(default=1, ge=1, description="walks over the events")
    break_event: int = Field(default=-1, description="event at which collect fails")
    sleep_s: float = Field(default=0.0, description="seconds that a chunk takes")
    gate: str = Field(default="", description="file that holds up all chunks but the first to come")


def _pass(gate: str) -> None:
    """Let one chunk pass, whichever comes first; the others wait while the gate is there."""
    if not gate:
        return
    with suppress(FileExistsError):
        Path(f"{gate}.passed").touch(exist_ok=False)
        return
    while Path(gate).exists():
        time.sleep(0.02)


class MeanMass(base.Calibration, Iterates, Closes, AddsColumns):
    """Mean mass in bins of |eta| of the leading muon."""

    name = "mean_mass"
    Settings = Settings
    payload_names = ("mean_mass",)
    reduction_only = ("low", "high", "limit", "passes")
    settings: Settings

    def needs(self, sample: Sample) -> Needs:
        return Needs()

    def selection(self, sample: Sample) -> Mapping[str, Any]:
        return {
            "leading_pt": 26.0,
            "subleading_pt": 15.0,
            "abs_eta": 2.4,
            "mass_window": (75.0, 105.0),
        }

    def collect(self, pairs: Pairs, sample: Sample, walk: Pass) -> Mapping[str, Fill | AnyArray]:
        if np.any(pairs.event == self.settings.break_event):
            raise ValueError("this event breaks it")
        time.sleep(self.settings.sleep_s)
        _pass(self.settings.gate)
        category = CATEGORIES.index(np.abs(pairs.leading.eta))
        odd = (pairs.event % 2 == 1) if walk.name == "closure" else np.ones(len(pairs), bool)
        fill = Fill(
            np.where(odd, category, -1),
            len(CATEGORIES),
            pairs.mass,
            EDGES,
            pairs.weight,
            {"mass": pairs.mass},
        )
        return {"mass": fill}

    def reduce(self, sums: Mapping[str, Sums], edits: Edits, walk: Pass = MAIN) -> Reduction:
        for category, values in edits.items():
            for key in values:
                if category not in CATEGORIES.names or key not in ("low", "high"):
                    raise InputError(f"category {category!r}: no setting {key!r}; set low or high")
        rows, curves = [], []
        for sample, found in sums.items():
            for i, name in enumerate(CATEGORIES.names):
                own = {"low": self.settings.low, "high": self.settings.high}
                own |= edits.get(name, {})
                rows.append(_row(sample, name, found, i, own))
                counts = found["mass/sumw"][i]
                curves.append(
                    Curve(
                        f"{sample} {name}",
                        EDGES,
                        counts,
                        found["mass/sumw2"][i],
                        counts,
                        np.zeros_like(counts),
                    )
                )
        fits = pd.DataFrame(rows)
        far = float(np.nanmax(np.abs(fits["mean"] - 91.188)))
        checks = (Check("mean", far, self.settings.limit, far < self.settings.limit, "distance"),)
        values = np.asarray(fits["mean"][: len(CATEGORIES)])
        errors = np.asarray(fits["mean_err"][: len(CATEGORIES)])
        arrays = {
            "names": np.array(CATEGORIES.names),
            "values": values,
            "covariance": np.diag(errors**2),
        }
        return Reduction(
            fits,
            {"means": fits[["category", "mean", "mean_err"]]},
            {"covariance": arrays},
            tuple(curves),
            checks,
            {"values": values},
        )

    def next_pass(self, reduction: Reduction, walk: Pass) -> Pass | None:
        done = 1 if walk.name == "main" else int(walk.name) + 1
        if done >= self.settings.passes:
            return None
        return Pass(str(done), {"values": reduction.state["values"]})

    def closure_pass(self, reduction: Reduction) -> Pass | None:
        return Pass("closure")

    def closure(self, sums: Mapping[str, Sums], reduction: Reduction) -> Closure:
        found = next(iter(sums.values()))
        rows = []
        for i, name in enumerate(CATEGORIES.names):
            row = _row("", name, found, i, {"low": self.settings.low, "high": self.settings.high})
            expected = reduction.state["values"][i]
            pull = (row["mean"] - expected) / row["mean_err"]
            rows.append(
                {
                    "bin": name,
                    "expected": expected,
                    "fitted": row["mean"],
                    "error": row["mean_err"],
                    "pull": pull,
                    "status": "ok",
                }
            )
        table = pd.DataFrame(rows)
        worst = float(table["pull"].abs().max())
        return Closure(table, (Check("closure", worst, 5.0, worst < 5.0, "largest pull"),))

    def publish(self, reduction: Reduction) -> Mapping[str, Any]:
        content = [float(np.nan_to_num(v)) for v in reduction.state["values"]]
        axis = CATEGORIES.axes[0]
        return {
            "schema_version": 2,
            "corrections": [
                {
                    "name": "mean_mass",
                    "version": 1,
                    "inputs": [{"name": "abs_eta", "type": "real"}],
                    "output": {"name": "mean", "type": "real"},
                    "data": {
                        "nodetype": "binning",
                        "input": "abs_eta",
                        "edges": list(axis.edges),
                        "content": content,
                        "flow": "clamp",
                    },
                }
            ],
        }

    def sections(
        self,
        reduction: Reduction,
        closure: Closure | None,
        earlier: Mapping[str, Any] | None = None,
    ) -> Sequence[Section]:
        return (Section("Means", "The means.", {"means": reduction.tables["means"]}),)

    @classmethod
    def apply(cls, document: Mapping[str, Any], events: Pairs) -> Mapping[str, AnyArray]:
        means = np.asarray(document["corrections"][0]["data"]["content"])
        scale = 91.188 / means[np.clip(CATEGORIES.index(np.abs(events.leading.eta)), 0, None)]
        return {
            "mu1_pt": events.leading.pt * scale,
            "mu2_pt": events.subleading.pt * scale,
            "mean_scale": scale,
        }


def _row(sample: str, name: str, found: Sums, i: int, own: Mapping[str, Any]) -> dict[str, Any]:
    centre = 0.5 * (EDGES[1:] + EDGES[:-1])
    inside = (centre > own["low"]) & (centre < own["high"])
    w, w2 = found["mass/sumw"][i][inside], found["mass/sumw2"][i][inside]
    n = float(w.sum())
    mean = float(w @ centre[inside] / n) if n else float("nan")
    spread = float(np.sqrt(w @ (centre[inside] - mean) ** 2 / n)) if n else float("nan")
    status = Status.OK if n > 20 else Status.TOO_FEW_EVENTS
    return {
        "sample": sample,
        "category": name,
        "n_events": int(found["mass/counts"][i].sum()),
        "mean": mean,
        "mean_err": spread * float(np.sqrt(w2.sum())) / n if n else float("nan"),
        "chi2": 0.0,
        "ndf": 1,
        "status": status,
    }
