"""The generic processor: it fills the sums of any calibration and knows none of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from coffea.processor import ProcessorABC

from calib.calibrations.base import Calibration
from calib.quality.contract import blaming, require_masks, require_sums
from calib.results import Pass
from calib.schema import Sample
from processors.corrections import Corrections
from processors.fill import fill
from processors.input_checks import duplicates
from processors.readers.chunk import selected
from processors.selection import ResolvedSelection, leave_out

DUPLICATE = "duplicate"
"""The reason of an event that is used elsewhere."""


class CalibrationProcessor(ProcessorABC):  # type: ignore[misc]
    """Events of one chunk to the sums of a calibration, and an account of every event.

    Parameters
    ----------
    calibration : Calibration
    samples : mapping of name to Sample
    selections : mapping of name to ResolvedSelection
    walk : Pass
        What this walk over the events needs to know beyond the configuration.
    corrections : mapping of name to sequence of Correction, optional
        Payloads that are applied to the events of a sample first.
    """

    def __init__(
        self,
        calibration: Calibration,
        samples: Mapping[str, Sample],
        selections: Mapping[str, ResolvedSelection],
        walk: Pass,
        corrections: Mapping[str, Corrections] | None = None,
    ) -> None:
        self.calibration = calibration
        self.samples = dict(samples)
        self.selections = dict(selections)
        self.walk = walk
        self.corrections = dict(corrections or {})

    def process(self, events: Any) -> dict[str, Any]:
        """Return ``{sample: {"sums", "counts", "costs"}}``; all of it adds.

        ``counts`` holds ``read``, ``selected`` and ``rejected`` by reason: read = selected + the
        sum of rejected. ``costs`` are bytes and seconds by level of the selection.
        """
        name = events.metadata["dataset"]
        sample, selection = self.samples[name], self.selections[name]
        found = selected(
            events,
            sample,
            self.calibration.needs(sample),
            selection,
            self.corrections.get(name, ()),
        )
        with blaming(self.calibration, "rejects"):
            masks = self.calibration.rejects(found.pairs, sample)
        require_masks(self.calibration, masks, len(found.pairs))
        pairs, refused = leave_out(found.pairs, masks)
        again = None if sample.format == "table" else duplicates(pairs, events.metadata)
        if again is not None:
            pairs, there_before = leave_out(pairs, {DUPLICATE: again})
            refused |= there_before
        with blaming(self.calibration, "collect"):
            sums = fill(self.calibration.collect(pairs, sample, self.walk))
        require_sums(self.calibration, sums)
        counts = {
            "read": found.n_read,
            "selected": len(pairs),
            "rejected": found.rejected | refused,
        }
        return {name: {"sums": sums, "counts": counts, "costs": found.costs}}

    def postprocess(self, accumulator: Any) -> Any:
        """Return the accumulator as it is."""
        return accumulator
