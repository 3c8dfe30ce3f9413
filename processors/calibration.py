"""The generic processor: it fills the sums of any calibration and knows none of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from coffea.processor import ProcessorABC

from calib.calibrations.base import Calibration
from calib.config import Sample
from calib.results import Pass
from processors import pairing
from processors.fill import fill
from processors.reader import read
from processors.selection import ResolvedSelection, leave_out


class CalibrationProcessor(ProcessorABC):  # type: ignore[misc]
    """Events of one chunk to the sums of a calibration, and an account of every event.

    Parameters
    ----------
    calibration : Calibration
    samples : mapping of name to Sample
    selections : mapping of name to ResolvedSelection
    walk : Pass
        What this walk over the events needs to know beyond the configuration.
    """

    def __init__(
        self,
        calibration: Calibration,
        samples: Mapping[str, Sample],
        selections: Mapping[str, ResolvedSelection],
        walk: Pass,
    ) -> None:
        self.calibration = calibration
        self.samples = dict(samples)
        self.selections = dict(selections)
        self.walk = walk

    def process(self, events: Any) -> dict[str, Any]:
        """Return ``{sample: {"sums", "counts"}}``; all of it adds.

        ``counts`` holds ``read``, ``selected`` and ``rejected`` by reason: read = selected + the
        sum of rejected.
        """
        name = events.metadata["dataset"]
        sample, selection = self.samples[name], self.selections[name]
        chunk = read(events, sample, self.calibration.needs(sample), selection)
        pairs, rejected = pairing.select(chunk, selection)
        pairs, refused = leave_out(pairs, self.calibration.rejects(pairs, sample))
        columns = self.calibration.collect(pairs, sample, self.walk)
        counts = {"read": len(chunk), "selected": len(pairs), "rejected": rejected | refused}
        return {name: {"sums": fill(columns), "counts": counts}}

    def postprocess(self, accumulator: Any) -> Any:
        """Return the accumulator as it is."""
        return accumulator
