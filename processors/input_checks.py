"""What every calibration wants to know of the selected pairs: twice in there? a peak there?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from calib.events.duplicates import grouped
from calib.events.histograms import Fill, Sums
from calib.events.pairs import Pairs
from calib.events.peak_check import spectrum
from calib.events.random import keys
from calib.results import Pass
from calib.schema import Sample
from calib.types import AnyArray, UIntArray

KEYS, SPECTRUM = "seen/keys", "seen/spectrum"


class Seen:
    """A calibration whose sums also hold the events' keys and the mass spectrum.

    Parameters
    ----------
    calibration : Calibration
    want_keys : bool
        Whether collision data keeps the keys of its events.
    """

    def __init__(self, calibration: Any, want_keys: bool) -> None:
        self.calibration, self.want_keys = calibration, want_keys

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name == "calibration":  # not while it is unpickled
            raise AttributeError(name)
        return getattr(self.calibration, name)

    def collect(self, pairs: Pairs, sample: Sample, walk: Pass) -> Mapping[str, Fill | AnyArray]:
        """Return what the calibration collects, keys (grouped) and spectrum."""
        found = dict(self.calibration.collect(pairs, sample, walk))
        if sample.format == "table":  # several rows of an event are no doubles, and have no mass
            return found
        found[SPECTRUM] = spectrum(pairs.mass, sample.resonance)
        if self.want_keys and not sample.simulation:
            found[KEYS] = grouped(keys(0, pairs.run, pairs.luminosityBlock, pairs.event))
        return found


def taken_out(sums: Sums) -> tuple[UIntArray | None, AnyArray | None]:
    """Remove keys and spectrum from the sums of a chunk, and return them."""
    return sums.pop(KEYS, None), sums.pop(SPECTRUM, None)
