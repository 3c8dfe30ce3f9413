"""Another calibration of the tests, that a chain can have beside the first one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mean_mass import MeanMass

from calib.results import Reduction


class OtherMass(MeanMass):
    """The same under another name."""

    name = "other_mass"
    payload_names = ("other_mass",)

    def publish(self, reduction: Reduction) -> Mapping[str, Any]:
        found = super().publish(reduction)
        (correction,) = found["corrections"]
        return {**found, "corrections": [{**correction, "name": self.name}]}
