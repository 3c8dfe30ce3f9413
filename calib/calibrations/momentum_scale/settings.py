"""Settings of the momentum-scale calibration, with their defaults."""

from __future__ import annotations

from typing import Literal

import numpy as np
from pydantic import Field, model_validator

from calib.schema import Edges, Positive, PositiveWindow, Probability, Share, Strict
from calib.types import Array

DEFAULT_ETA = tuple(round(-2.4 + 0.1 * i, 10) for i in range(49))


class ResonanceSettings(Strict):
    """Categories and fits of one resonance."""

    log_pt_ratio: Edges = Field(description="edges of log(pt_plus / pt_minus)")
    cos_delta_phi: Edges = Field(description="edges of the cosine of the angle between the muons")
    window: PositiveWindow = Field(description="GeV, range of the fit")
    bins: int = Field(ge=10, le=1000, description="equal bins in the window")
    leading_pt: float = Field(gt=0, description="GeV, least corrected pt of the leading muon")
    subleading_pt: float = Field(gt=0, description="GeV, least corrected pt of the other")
    background: Literal["exponential", "quadratic", "none"] = "exponential"
    source_window: PositiveWindow = Field(
        description="GeV, events under the peak that are embedded where there is no simulation"
    )
    shares: tuple[Positive, ...] = Field(
        default=(1.0,), min_length=1, description="of the peaks, for embedding (Upsilon 1S, 2S, 3S)"
    )

    @property
    def mass_edges(self) -> Array:
        """Edges of the mass bins, in GeV."""
        return np.linspace(self.window[0], self.window[1], self.bins + 1)

    @model_validator(mode="after")
    def _fits_together(self) -> ResonanceSettings:
        if self.cos_delta_phi[0] > -1 or self.cos_delta_phi[-1] <= 1:
            raise ValueError(
                f"cos_delta_phi {list(self.cos_delta_phi)} leaves a hole; it must begin at or"
                " below -1 and end above 1 (1.01)"
            )
        if not self.window[0] < self.source_window[0] < self.source_window[1] < self.window[1]:
            raise ValueError("source_window is not inside window")
        if self.leading_pt < self.subleading_pt:
            raise ValueError("leading_pt is below subleading_pt")
        return self


class JpsiSettings(ResonanceSettings):
    """J/psi."""

    log_pt_ratio: Edges = (-4.0, -0.6, -0.2, 0.2, 0.6, 4.0)
    cos_delta_phi: Edges = (-1.0, 0.8, 0.9, 0.96, 1.01)
    window: PositiveWindow = (2.9, 3.3)
    bins: int = Field(default=100, ge=10, le=1000)
    leading_pt: Positive = 4.0
    subleading_pt: Positive = 4.0
    source_window: PositiveWindow = (3.02, 3.17)


class UpsilonSettings(ResonanceSettings):
    """Upsilon 1S, 2S, 3S."""

    log_pt_ratio: Edges = (-4.0, -0.3, 0.3, 4.0)
    cos_delta_phi: Edges = (-1.0, -0.5, 0.3, 1.01)
    window: PositiveWindow = (8.5, 11.5)
    bins: int = Field(default=100, ge=10, le=1000)
    leading_pt: Positive = 4.0
    subleading_pt: Positive = 4.0
    source_window: PositiveWindow = (9.2, 9.7)
    shares: tuple[Positive, ...] = (0.65, 0.22, 0.13)


class ZSettings(ResonanceSettings):
    """Z."""

    log_pt_ratio: Edges = (-3.0, -0.2, 0.2, 3.0)
    cos_delta_phi: Edges = (-1.0, -0.95, 1.01)
    window: PositiveWindow = (75.0, 110.0)
    bins: int = Field(default=70, ge=10, le=1000)
    leading_pt: Positive = 25.0
    subleading_pt: Positive = 20.0
    source_window: PositiveWindow = (86.0, 96.0)


class Resolution(Strict):
    """Resolution of a muon that the first reference is made with: a (+) c pt."""

    a: float = Field(default=0.012, gt=0, lt=0.2)
    c: float = Field(default=1.5e-4, ge=0, lt=0.01, description="1/GeV")


class ScaleGates(Strict):
    """What a category must pass before it takes part, and a result before it is published."""

    merge_below: int = Field(
        default=150, ge=1, description="events; below, joined along the pt ratio, then the angle"
    )
    min_events: int = Field(default=60, ge=10, description="events; below, dropped")
    chi2_probability: Probability = Field(
        default=1e-6, description="least, of the fit of a category"
    )
    residual: Positive = Field(default=6.0, description="most standard deviations from the model")
    extraction_probability: Probability = Field(
        default=1e-6, description="least, of the chi2 of all categories together"
    )
    max_dropped: Share = Field(default=0.1, description="share of the events in dropped ones")
    A_err: Positive = Field(default=0.01, description="an eta bin is not determined above")
    e_err: Positive = Field(default=0.2, description="GeV; an eta bin is not determined above")
    M_err: Positive = Field(default=1e-3, description="1/GeV; an eta bin is not determined above")


class Settings(Strict):
    """Settings of momentum_scale."""

    eta: Edges = Field(default=DEFAULT_ETA, description="edges of the eta bins of the parameters")
    method: Literal["likelihood", "chi2"] = Field(
        default="likelihood", description="whose numbers are published; both are made"
    )
    jpsi: JpsiSettings = JpsiSettings()
    upsilon: UpsilonSettings = UpsilonSettings()
    z: ZSettings = ZSettings()
    held_out: tuple[Literal["jpsi", "upsilon", "z"], ...] = Field(
        default=(), description="resonances that only test the result"
    )
    reference: bool = Field(
        default=True, description="divide by the smeared generated muons; false: for comparison"
    )
    copies: int = Field(default=4, ge=1, le=1000, description="smeared copies of a simulated event")
    embedded_copies: int = Field(default=8, ge=1, le=1000, description="of an event of the data")
    fsr: bool = Field(default=True, description="embedded muons radiate")
    calibrate_simulation: bool = Field(
        default=True, description="calibrate the simulation as well, for the smearing"
    )
    start: Resolution = Resolution()
    max_passes: int = Field(default=8, ge=1, le=40, description="over the events")
    convergence: float = Field(
        default=0.1, gt=0, description="largest move of a parameter in units of its error"
    )
    gates: ScaleGates = ScaleGates()

    def of(self, resonance: str) -> ResonanceSettings:
        """Return the settings of a resonance."""
        found: ResonanceSettings = getattr(self, resonance)
        return found

    @property
    def n_eta(self) -> int:
        """Number of eta bins."""
        return len(self.eta) - 1
