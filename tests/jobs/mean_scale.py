"""A small calibration for the tests of chains: the mean mass, and muons that it corrects."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from mean_mass import CATEGORIES, MeanMass

from calib.calibrations.capabilities import CorrectsMuons
from calib.events.pairs import Muons
from calib.results import Reduction
from calib.types import AnyArray

MASS = 91.188


class MeanScale(MeanMass, CorrectsMuons):
    """Muons of an |eta| bin are scaled by the mass of the Z over the mean of the bin."""

    name = "mean_scale"
    payload_names = ("mean_scale",)

    def publish(self, reduction: Reduction) -> Mapping[str, Any]:
        document = dict(super().publish(reduction))
        (correction,) = document["corrections"]
        return document | {"corrections": [{**correction, "name": "mean_scale"}]}

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
        means = np.asarray(document["corrections"][0]["data"]["content"])
        at = CATEGORIES.index(np.abs(muons.eta))
        return replace(muons, pt=np.where(at < 0, muons.pt, muons.pt * MASS / means[at]))


def install(folder: Path) -> Path:
    """Make it known as an installed package does, by an entry point; return what to import."""
    made = folder / "mean_scale-1.0.dist-info"
    made.mkdir(parents=True)
    (made / "METADATA").write_text("Metadata-Version: 2.1\nName: mean-scale\nVersion: 1.0\n")
    (made / "entry_points.txt").write_text(
        "[dimucal.calibrations]\nmean_scale = mean_scale:MeanScale\n"
    )
    return folder
