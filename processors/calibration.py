"""The generic processor: it fills the sums of any calibration and knows none of them."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from coffea.processor import ProcessorABC

from calib.calibrations.base import Calibration
from calib.errors import InputError
from calib.events.histograms import ChunkSums
from calib.quality.contract import blaming, require_masks, require_sums
from calib.results import MAIN, Pass
from calib.schema import Sample, Selection
from processors.corrections import Corrections
from processors.defaults import resolve
from processors.fill import fill
from processors.input_checks import duplicates
from processors.readers.chunk import selected, where_of
from processors.readers.given import GivenColumns
from processors.readers.mapping import our_names, recipes_of
from processors.selection import ResolvedSelection, leave_out

log = logging.getLogger(__name__)

DUPLICATE = "duplicate"
"""The reason of an event that is used elsewhere."""


class CalibrationProcessor(ProcessorABC):  # type: ignore[misc]
    """Events of one chunk to the sums of a calibration, and an account of every event.

    It works on the events that it is given: from coffea's Runner, NanoEvents in a notebook, with
    changed muons, with some events masked out, or in memory without any file. `calib collect`
    gives it entries of files instead (`processors.readers.chunk.FileEntries`), which are read
    faster; the selection, the corrections, the sums and the accounting are the same code, and the
    numbers the same to the bit.

    Parameters
    ----------
    calibration : Calibration
    samples : mapping of name to Sample
        The names are the datasets of the fileset.
    selections : mapping of name to ResolvedSelection
    walk : Pass
        What this walk over the events needs to know beyond the configuration.
    corrections : mapping of name to sequence of Correction, optional
        Payloads that are applied to the events of a sample first.

    Examples
    --------
    Files in coffea's Runner, and NanoEvents with muons of one's own:

    >>> z = calib.open_sample("toys/*.root", resonance="z", name="data")  # doctest: +SKIP
    >>> runner = processor.Runner(processor.IterativeExecutor(), schema=NanoAODSchema)
    ... # doctest: +SKIP
    >>> fileset = {"data": {"files": {path: "Events" for path in z.files["path"]}}}
    ... # doctest: +SKIP
    >>> runner.run(fileset, z.processor())["data"]["counts"]  # doctest: +SKIP

    >>> events = NanoEventsFactory.from_root({"toys/a.root": "Events"}).events()  # doctest: +SKIP
    >>> events["Muon", "pt"] = events.Muon.pt * 1.001  # doctest: +SKIP
    >>> z.processor().process(events)["data"]["sums"]["mass/counts"]  # doctest: +SKIP
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

    @classmethod
    def for_events(
        cls,
        calibration: Calibration,
        sample: Sample,
        events: Any,
        selection: Selection | None = None,
        walk: Pass = MAIN,
    ) -> CalibrationProcessor:
        """Return a processor for events that come from no file, with the calibration's defaults.

        Parameters
        ----------
        calibration : Calibration
            Its sums are filled.
        sample : Sample
            What the events are; its files are not looked at.
        events : awkward array of records
            Their columns say which defaults of the selection they allow.
        selection : Selection, optional
            Cuts in place of the defaults.
        walk : Pass, optional
            What this walk over the events needs to know beyond the configuration.

        Returns
        -------
        CalibrationProcessor
            For events of this one sample.

        Raises
        ------
        InputError
            If the events lack a column that the selection or the calibration names.

        Examples
        --------
        >>> kind = calibrations.get("my_calibration")  # doctest: +SKIP
        >>> sample = Sample(name="data", resonance="z", format="nanoaod", files=("-",))
        ... # doctest: +SKIP
        >>> mine = kind(kind.Settings(), (sample,), 1)  # doctest: +SKIP
        >>> events = ak.Array({"Muon_pt": pt, "Muon_eta": eta, ...})  # doctest: +SKIP
        >>> work = CalibrationProcessor.for_events(mine, sample, events)  # doctest: +SKIP
        >>> work.process(events)["data"]["counts"]  # doctest: +SKIP
        """
        have = {"the events": our_names(GivenColumns(events).names, recipes_of(sample))}
        defaults = calibration.selection(sample)
        resolved, notes = resolve(sample, selection or Selection(), defaults, have, None)
        for note in notes:
            log.warning("%s", note)
        return cls(calibration, {sample.name: sample}, {sample.name: resolved}, walk)

    def process(self, events: Any) -> dict[str, Any]:
        """Return ``{sample: {"sums", "counts", "costs"}}``; all of it adds.

        ``counts`` holds ``read``, ``selected`` and ``rejected`` by reason: read = selected + the
        sum of rejected. ``costs`` are bytes and seconds by level of the selection, of entries of a
        file alone.

        Parameters
        ----------
        events : NanoEvents, awkward array of records, or FileEntries
            ``metadata["dataset"]`` names the sample (`ak.with_parameter` gives an array one);
            events without it are of the only sample. Events without a column ``event`` are
            numbered by their entries, or from 0 where there is no file.

        Raises
        ------
        InputError
            If the events are of no sample, lack a column, or hold what is no number.
        """
        where = where_of(events)
        name = self._sample_of(where)
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
        again = None if sample.format == "table" else duplicates(pairs, where)
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
        chunk = str(where.get("filename", "")), int(where.get("entrystart", 0))
        return {name: {"sums": ChunkSums(sums, chunk), "counts": counts, "costs": found.costs}}

    def _sample_of(self, where: Mapping[str, Any]) -> str:
        """Return the name of the sample that events are of."""
        if "dataset" not in where and len(self.samples) == 1:
            return next(iter(self.samples))
        name = where.get("dataset")
        if name not in self.samples:
            said = "without metadata['dataset']" if name is None else f"of dataset {name!r}"
            raise InputError(
                f"events {said}, expected one of {', '.join(self.samples)}; name the dataset"
                " after the sample"
            )
        return str(name)

    def postprocess(self, accumulator: Any) -> Any:
        """Return the accumulator with the sums added up: plain arrays by name."""
        return {n: {**own, "sums": dict(own["sums"])} for n, own in accumulator.items()}
