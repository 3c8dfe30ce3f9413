"""Settings of the mass-resolution calibration, with their defaults."""

from __future__ import annotations

from typing import Literal

import numpy as np
from pydantic import Field, field_validator, model_validator

from calib.schema import Positive, PositiveEdges, PositiveWindow, Probability, Share, Strict
from calib.types import Array

LineShape = Literal["embedded", "simulation", "kernel", "breit_wigner"]


class PredictedResolution(Strict):
    """Relative resolution of a muon, sigma_k/k = a (+) c pt, in a range of |eta|."""

    abs_eta: PositiveWindow = Field(description="[low, high)")
    a: float = Field(ge=0, description="constant term")
    c: float = Field(ge=0, description="1/GeV")


class FitSettings(Strict):
    """The fit of one category."""

    range: PositiveWindow = Field(default=(80.0, 100.0), description="GeV")
    bins: int = Field(default=120, ge=10, le=2000, description="equal bins in the range")
    background: Literal["exponential", "none"] = "exponential"


class FactorGates(Strict):
    """What a category must pass before its own value is published."""

    min_events: int = Field(default=1000, ge=1, description="effective ones, with weights")
    relative_error: Positive = Field(
        default=0.15, description="largest of a factor; fits less certain than that are skewed"
    )
    chi2_probability: Probability = Field(default=1e-6, description="least")
    neighbours: Positive = Field(
        default=5.0, description="most standard deviations from the same rings at other pt"
    )
    neighbour_spread: float = Field(
        default=0.02, ge=0, description="relative spread of true factors among neighbours"
    )
    factor_range: PositiveWindow = (0.5, 2.0)
    max_held: Share = Field(default=0.15, description="share of the events in held categories")


class MuonSettings(Strict):
    """Factors of single muons, in fine bins."""

    abs_eta: PositiveEdges = Field(
        default=(0.0, 0.3, 0.6, 0.9, 1.2, 1.5, 1.8, 2.1, 2.4), description="edges of |eta|"
    )
    pt: PositiveEdges = Field(
        default=(20.0, 30.0, 37.5, 45.0, 52.0, 62.0, 80.0, 200.0),
        description="GeV, edges of the payload; between them the factor is a power of pt",
    )


class ClosureSettings(Strict):
    """The closure test."""

    edges: PositiveEdges = (0.6, 0.7, 0.8, 0.9, 1.0, 1.1, 1.2, 1.3, 1.4, 1.5, 1.7, 2.0, 2.5, 3.5)
    abs_eta: PositiveEdges = Field(
        default=(0.0, 0.3, 0.6, 0.9, 1.2, 1.5, 1.8, 2.1, 2.4),
        description="edges of |eta|, for both muons",
    )
    leading_pt: PositiveEdges = Field(
        default=(30.0, 34.0, 38.0, 41.0, 43.0, 45.0, 47.0, 49.0, 52.0, 57.0, 62.0, 75.0, 200.0),
        description="GeV, edges of the finer leading pt",
    )
    phi_bins: int = Field(default=12, ge=1, le=72, description="of phi of the leading muon")
    periods: int = Field(default=4, ge=1, le=24, description="of runs, with as many events each")
    min_events: int = Field(default=500, ge=1, description="below: too_few_events")
    max_error: Positive = Field(
        default=0.2, description="largest expected error of a width that is compared"
    )
    coverage: Share = Field(
        default=0.5, description="least share of the events in bins that can be tested"
    )
    tolerance: float = Field(
        default=0.02,
        ge=0,
        description="relative; half of the central 68 % of a mixture is not its median",
    )
    probability: Probability = Field(
        default=1e-3, description="least probability of the pulls of one kind of bins"
    )


class Settings(Strict):
    """Settings of mass_resolution."""

    line_shape: Literal["auto", "embedded", "simulation", "kernel", "breit_wigner"] = Field(
        default="auto", description="auto: simulation where a simulated sample is given"
    )
    compare: tuple[LineShape, ...] = Field(
        default=("breit_wigner",), description="other models, for the appendix of the report"
    )
    leading_pt: PositiveEdges = Field(default=(30.0, 45.0, 52.0, 62.0, 200.0))
    abs_eta: PositiveEdges = Field(default=(0.0, 0.9, 1.8, 2.4), max_length=27)
    window: PositiveWindow = Field(default=(75.0, 105.0), description="GeV, kept")
    source_window: PositiveWindow = Field(
        default=(86.0, 96.0), description="GeV, events under the peak that are embedded"
    )
    copies: Literal["auto"] | float = Field(
        default="auto",
        description="embedded copies of an event, or below 1 the share of the events; auto: 8, and"
        " fewer for stage1 samples so large that they make 10 million"
        " pairs",
    )
    fsr: bool = Field(default=True, description="embedded muons radiate")
    radiation: Literal["leading_log", "exponentiated"] = Field(
        default="leading_log",
        description="how they radiate: collinear leading logarithm, or the exact first order,"
        " exponentiated",
    )
    predicted_resolution: tuple[PredictedResolution, ...] | None = Field(
        default=None,
        description="instead of ptErr: [{abs_eta: [0.0, 0.9], a: 0.008, c: 1.0e-4}, ...]",
    )
    fit: FitSettings = FitSettings()
    gates: FactorGates = FactorGates()
    closure: ClosureSettings = ClosureSettings()
    muons: MuonSettings = MuonSettings()
    apply: Literal["category", "muon"] = Field(
        default="category",
        description="what `calib apply` multiplies the prediction with: the factor of the pair's"
        " category, or ptErr of each muon with the muon's own; the verdict is on it",
    )

    @field_validator("copies")
    @classmethod
    def _possible(cls, copies: float | str) -> float | str:
        if isinstance(copies, str) or 0 < copies < 1 or copies in range(1, 1001):
            return copies
        raise ValueError("expected 1 to 1000, a share between 0 and 1, or auto")

    @model_validator(mode="after")
    def _fits_together(self) -> Settings:
        low, high = self.fit.range
        if not self.window[0] <= low < high <= self.window[1]:
            raise ValueError(f"fit.range {self.fit.range} is not inside window {self.window}")
        for edge in self.window:
            if abs((edge - low) / self.step - round((edge - low) / self.step)) > 1e-6:
                raise ValueError(
                    f"window edge {edge:g} is not a whole number of fit bins"
                    f" ({self.step:.6g} GeV) from fit.range"
                )
        if not self.window[0] <= self.source_window[0] < self.source_window[1] <= self.window[1]:
            raise ValueError("source_window is not inside window")
        return self

    @property
    def step(self) -> float:
        """Width of a bin, in GeV."""
        return (self.fit.range[1] - self.fit.range[0]) / self.fit.bins

    @property
    def mass_edges(self) -> Array:
        """Edges of the bins over the whole window, in GeV."""
        n = round((self.window[1] - self.window[0]) / self.step)
        return np.linspace(self.window[0], self.window[1], n + 1)

    @property
    def ring_labels(self) -> tuple[str, ...]:
        """Letters of the |eta| rings: B, O, E for three, else A, B, C ..."""
        n = len(self.abs_eta) - 1
        return tuple("BOE" if n == 3 else "ABCDEFGHIJKLMNOPQRSTUVWXYZ"[:n])
