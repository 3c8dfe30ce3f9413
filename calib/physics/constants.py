"""Masses and widths, in GeV (PDG 2024, S. Navas et al., Phys. Rev. D 110, 030001)."""

from dataclasses import dataclass

MUON_MASS = 0.1056583755
Z_MASS = 91.1880
Z_WIDTH = 2.4955
ALPHA = 1 / 137.035999084
SIN2_THETA_W = 0.23122


@dataclass(frozen=True)
class Resonance:
    """A resonance that decays to two muons: its peaks, and the mass range that is kept."""

    name: str
    masses: tuple[float, ...]
    width: float
    window: tuple[float, float]


RESONANCES = {
    "jpsi": Resonance("jpsi", (3.096900,), 92.6e-6, (2.9, 3.3)),
    "upsilon": Resonance("upsilon", (9.4604, 10.0233, 10.3552), 54.02e-6, (8.5, 11.5)),
    "z": Resonance("z", (Z_MASS,), Z_WIDTH, (75.0, 105.0)),
    "h": Resonance("h", (125.200,), 3.7e-3, (115.0, 135.0)),
}

LABELS = {"jpsi": "J/psi", "upsilon": "Upsilon", "z": "Z", "h": "Higgs boson"}
"""Names of the resonances in a sentence."""
