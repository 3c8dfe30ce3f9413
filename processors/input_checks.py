"""What every calibration wants to know of its pairs: events that are there twice, the peak."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from calib.events.duplicates import grouped
from calib.events.histograms import Fill, Sums
from calib.events.pairs import Pairs
from calib.events.peak_check import spectrum
from calib.events.random import keys
from calib.results import Pass
from calib.schema import Sample
from calib.types import AnyArray, BoolArray, UIntArray

KEYS, SPECTRUM = "seen/keys", "seen/spectrum"


class Seen:
    """A calibration whose sums also hold the events' keys and the mass spectrum.

    Parameters
    ----------
    calibration : Calibration
    want_keys : bool
        Whether the keys of the events are kept.
    """

    def __init__(self, calibration: Any, want_keys: bool) -> None:
        self.calibration, self.want_keys = calibration, want_keys

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name == "calibration":  # not while it is unpickled
            raise AttributeError(name)
        return getattr(self.calibration, name)

    def collect(self, pairs: Pairs, sample: Sample, walk: Pass) -> Mapping[str, Fill | AnyArray]:
        """Return what the calibration collects, keys (grouped) and spectrum.

        Parameters
        ----------
        pairs : Pairs
            Of one chunk; records of a table.
        sample : Sample
            What they are of.
        walk : Pass
            Which walk over the events this is.

        Returns
        -------
        dict of name to Fill or array
            Things that add.
        """
        found = dict(self.calibration.collect(pairs, sample, walk))
        if sample.format == "table":  # several rows of an event are no doubles, and have no mass
            return found
        found[SPECTRUM] = spectrum(pairs.mass, sample.resonance)
        if self.want_keys:
            found[KEYS] = grouped(keys(0, pairs.run, pairs.luminosityBlock, pairs.event))
        return found


def duplicates(pairs: Pairs, where: Mapping[str, Any]) -> BoolArray | None:
    """Return whether each pair is there before, in this chunk or an earlier one.

    Parameters
    ----------
    pairs : Pairs
        n of them.
    where : mapping
        Metadata of the chunk: ``earlier`` are the keys of events that an earlier chunk has,
        ``again`` of those that this one has several times, ascending.

    Returns
    -------
    bool array, shape (n,), or None
        None where the metadata name no such events.
    """
    earlier, again = where.get("earlier"), where.get("again")
    if earlier is None or again is None or not len(earlier) + len(again):
        return None
    own = keys(0, pairs.run, pairs.luminosityBlock, pairs.event)
    found = _is_in(own, earlier)
    at = np.flatnonzero(_is_in(own, again))
    later = np.ones(len(at), dtype=np.bool_)
    later[np.unique(own[at], return_index=True)[1]] = False
    found[at] |= later
    return found


def _is_in(values: UIntArray, sorted_ones: UIntArray) -> BoolArray:
    if not len(sorted_ones):
        return np.zeros(len(values), dtype=np.bool_)
    at = np.minimum(np.searchsorted(sorted_ones, values), len(sorted_ones) - 1)
    return np.asarray(sorted_ones[at] == values)


def taken_out(sums: Sums) -> tuple[UIntArray | None, AnyArray | None]:
    """Remove keys and spectrum from the sums of a chunk, and return them."""
    return sums.pop(KEYS, None), sums.pop(SPECTRUM, None)
