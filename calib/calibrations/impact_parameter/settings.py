"""Settings of the impact-parameter calibration, with their defaults."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import numpy as np
from pydantic import Field, model_validator

from calib.events.categories import Axis, Categories
from calib.events.eta_phi import eta_phi
from calib.fitting.residual_widths import Fitting
from calib.schema import Edges, Positive, PositiveEdges, PositiveWindow, Probability, Share, Strict
from calib.types import Array


class Gates(Strict):
    """What a category, and a bin of eta and phi, must pass before its values are published."""

    min_events: int = Field(default=400, ge=50, description="effective ones, of a category")
    chi2_probability: Probability = Field(default=1e-6, description="least, of a fit or a line")
    relative_error: Positive = Field(default=0.5, description="largest, of a and of b")
    neighbours: Positive = Field(
        default=5.0, description="most standard deviations from the next bins of eta"
    )
    neighbour_spread: float = Field(
        default=0.3, ge=0, description="relative spread of true values among neighbours"
    )
    a_range: PositiveWindow = Field(default=(0.5, 1000.0), description="um")
    b_range: PositiveWindow = Field(default=(1.0, 2000.0), description="um GeV")
    max_dropped: Share = Field(
        default=0.05, description="share of the events in categories that failed a gate"
    )
    max_held: Share = Field(default=0.15, description="share of the events in held bins")


class ClosureSettings(Strict):
    """The closure test: the width of d0 and z0 in units of the other half's resolution."""

    pt: PositiveEdges = Field(
        default=(0.0, 6.0, 9.0, 13.0, 20.0, 30.0, 45.0, 1000.0), description="GeV"
    )
    n_phi: int = Field(default=8, ge=1, le=72, description="equal bins")
    min_events: int = Field(default=500, ge=50, description="below: too_few_events")
    coverage: Share = Field(default=0.5, description="least share of the events that is tested")
    tolerance: float = Field(
        default=0.01, ge=0, description="relative; tails are not of one shape everywhere"
    )
    probability: Probability = Field(
        default=1e-3, description="least probability of the worst pull, given their number"
    )


class Settings(Strict):
    """Settings of impact_parameter."""

    observable: Literal["single", "difference"] = Field(
        default="single", description="difference: of two muons in one category, over sqrt(2)"
    )
    eta: Edges = Field(
        default=(-2.4, -2.0, -1.6, -1.2, -0.8, -0.4, 0.0, 0.4, 0.8, 1.2, 1.6, 2.0, 2.4),
        max_length=201,
        description="edges of the bins that have an a and a b",
    )
    phi: Edges = Field(default=(-3.1416, 3.1416), max_length=101, description="edges, likewise")
    p_tilde: PositiveEdges = Field(
        default=(
            0.25,
            0.32,
            0.42,
            0.55,
            0.7,
            0.9,
            1.2,
            1.5,
            2.0,
            2.6,
            3.4,
            4.4,
            5.7,
            7.4,
            9.6,
            12.5,
            16.0,
            21.0,
            27.0,
            35.0,
            46.0,
            60.0,
            100.0,
        ),
        min_length=3,
        max_length=201,
        description="GeV, edges of the categories",
    )
    window: float = Field(default=5000.0, gt=0, description="um, largest |d0| and |z0|")
    bins: int = Field(default=160, ge=40, le=2000, description="finer toward zero")
    gates: Gates = Gates()
    closure: ClosureSettings = ClosureSettings()

    @model_validator(mode="after")
    def _ascending(self) -> Settings:
        if self.p_tilde[0] <= 0:
            raise ValueError("p_tilde begins at or below 0")
        return self

    @property
    def places(self) -> Categories:
        """The bins that have an a and a b."""
        return eta_phi(self.eta, self.phi)

    @property
    def points(self) -> Axis:
        """The bins of p_tilde: with `places` they make the categories."""
        return Axis("p_tilde", self.p_tilde, unit="GeV")

    @property
    def how(self) -> Fitting:
        """How the categories are fitted."""
        gates = self.gates
        return Fitting(self.edges, len(self.points), gates.min_events, gates.chi2_probability)

    @property
    def looks(self) -> Mapping[str, int]:
        """Number of bins of each look of the closure, beside the places."""
        return {"place": 1, "pt": len(self.closure.pt) - 1, "phi": self.closure.n_phi}

    @property
    def edges(self) -> Array:
        """Edges of the bins of d0 and z0, in um: 20 um is where they begin to widen."""
        reach = np.arcsinh(self.window / 20.0)
        return np.asarray(20.0 * np.sinh(np.linspace(-reach, reach, self.bins + 1)))

    def names(self, observable: str) -> list[str]:
        """Return the categories of an observable: ``d0_e3_p7``, the bins counted from 0."""
        return [
            f"{observable}_{e}_p{p}" for e in self.places.names for p in range(len(self.points))
        ]
