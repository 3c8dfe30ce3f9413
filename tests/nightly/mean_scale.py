"""A calibration that is quick: the mean mass over what it should be, for either sign of eta.

`MeanScale` moves the pt of each muon; `MeanWidth`, which comes after it, has a scale of its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
from pydantic import Field

from calib.calibrations import base
from calib.calibrations.base import Edits, Needs
from calib.calibrations.capabilities import Closes, CorrectsMuons, Iterates
from calib.events.histograms import Sums
from calib.events.pairs import Muons, Pairs
from calib.results import MAIN, Check, Closure, Pass, Reduction
from calib.schema import Sample, Strict
from calib.types import AnyArray, Array

NAMES = ("minus", "plus")
MASS, WIDTH = 91.0, 2.0


class Settings(Strict):
    """Settings of the test's calibration."""

    limit: float = Field(default=0.5, description="largest scale - 1 that passes")
    passes: int = Field(default=1, ge=1, description="walks over the events that it asks for")
    enough: int = Field(default=1, ge=1, description="walks after which it has converged")
    mend: str = Field(default="", description="nothing but another configuration")


class MeanScale(base.Calibration, Iterates, Closes, CorrectsMuons):
    """Mean mass over what it should be."""

    name = "mean_scale"
    Settings = Settings
    payload_names: tuple[str, ...] = ("mean_scale",)
    reduction_only = ("limit", "passes", "enough", "mend")
    settings: Settings

    def needs(self, sample: Sample) -> Needs:
        return Needs()

    def selection(self, sample: Sample) -> Mapping[str, Any]:
        return {"leading_pt": 1.0, "subleading_pt": 1.0, "abs_eta": 2.4}

    def collect(self, pairs: Pairs, sample: Sample, walk: Pass) -> Mapping[str, AnyArray]:
        side = (pairs.leading.eta > 0).astype(int)
        ratio = pairs.mass / MASS - 1
        return {
            "n": np.bincount(side, minlength=2).astype(float),
            "sum": np.bincount(side, ratio, minlength=2),
            "square": np.bincount(side, ratio**2, minlength=2),
        }

    def reduce(self, sums: Mapping[str, Sums], edits: Edits, walk: Pass = MAIN) -> Reduction:
        found = next(iter(sums.values()))
        n = np.asarray(found["n"])
        with np.errstate(invalid="ignore", divide="ignore"):
            mean = np.asarray(found["sum"]) / n
            errors = np.sqrt((np.asarray(found["square"]) / n - mean**2) / (n - 1))
        table = pd.DataFrame({"category": NAMES, "scale": mean, "scale_err": errors})
        fits = table.assign(sample="data", n_events=n, chi2=0.0, ndf=1, status="ok")
        worst = float(np.max(np.abs(mean)))
        number = 1 if walk.name == "main" else int(walk.name)
        checks = (
            Check("scale", worst, self.settings.limit, worst < self.settings.limit, "largest"),
            Check("converged", number, self.settings.enough, number >= self.settings.enough, ""),
        )
        arrays = {"names": np.array(NAMES), "values": mean, "covariance": np.diag(errors**2)}
        return Reduction(
            fits,
            {"scales": table},
            {"covariance": arrays},
            (),
            checks,
            {"values": mean, "pass": np.array(number)},
        )

    def next_pass(self, reduction: Reduction, walk: Pass) -> Pass | None:
        number = int(reduction.state["pass"])
        return None if number >= self.settings.passes else Pass(str(number + 1), {})

    def closure_pass(self, reduction: Reduction) -> Pass | None:
        return None

    def closure(self, sums: Mapping[str, Sums], reduction: Reduction) -> Closure:
        columns = ["bin", "expected", "fitted", "error", "pull", "status"]
        table = pd.DataFrame(columns=columns)  # without a bin, no picture takes its time
        return Closure(table, (Check("closure", 0.0, 5.0, True, ""),))

    def publish(self, reduction: Reduction) -> Mapping[str, Any]:
        content = [float(v) for v in reduction.state["values"]]
        return {
            "schema_version": 2,
            "corrections": [
                {
                    "name": self.payload_names[0],
                    "version": 1,
                    "inputs": [{"name": "eta", "type": "real"}],
                    "output": {"name": "scale", "type": "real"},
                    "data": {
                        "nodetype": "binning",
                        "input": "eta",
                        "edges": [-2.4, 0.0, 2.4],
                        "content": content,
                        "flow": "clamp",
                    },
                }
            ],
        }

    @classmethod
    def apply_muons(
        cls,
        document: Mapping[str, Any],
        muons: Muons,
        run: AnyArray,
        luminosityBlock: AnyArray,
        event: AnyArray,
        simulated: bool,
    ) -> Muons:
        scales = np.asarray(document["corrections"][0]["data"]["content"])
        return replace(muons, pt=muons.pt / (1 + scales[(muons.eta > 0).astype(int)]))


class MeanSecond(MeanScale):
    """The same again, for what comes after it."""

    name = "mean_second"
    payload_names = ("mean_second",)


def pairs(run: int, n: int, shift: float = 0.0, seed: int = 0, first: int = 1) -> Pairs:
    """Return pairs at rest with this scale, both muons on one side of the detector."""
    random = np.random.default_rng([seed, run])
    mass = MASS * (1 + shift) * (1 + WIDTH / MASS * random.standard_normal(n))
    side = np.where(random.random(n) < 0.5, -1.0, 1.0)

    def muons(phi: float, charge: int) -> Muons:
        pt: Array = mass / 2
        return Muons(pt, 0.4 * side, np.full(n, phi), np.full(n, charge, np.int64), 0.01 * pt)

    numbers = np.arange(first, first + n, dtype=np.uint64)
    return Pairs(
        muons(0.1, 1),
        muons(0.1 + np.pi, -1),
        np.ones(n),
        np.full(n, run, np.uint64),
        1 + numbers // np.uint64(100),
        numbers,
    )
