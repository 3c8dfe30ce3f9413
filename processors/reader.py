"""One chunk of events to flat columns in double precision, whatever its format."""

from __future__ import annotations

from typing import Any

from calib.calibrations.base import Needs
from calib.config import Sample
from processors.events import Events
from processors.nanoaod import read_nanoaod
from processors.selection import ResolvedSelection
from processors.stage1 import read_stage1


def read(events: Any, sample: Sample, needs: Needs, selection: ResolvedSelection) -> Events:
    """Return what a calibration and the selection need of one chunk of events.

    Parameters
    ----------
    events : coffea NanoEvents
        Flat schema; ``metadata`` says the file, its uuid and the entries.
    sample : Sample
    needs : Needs
    selection : ResolvedSelection

    Raises
    ------
    InputError
        If a column cannot be read as numbers.
    """
    readers = {"nanoaod": read_nanoaod, "stage1": read_stage1}
    return readers[sample.format](events, sample, needs, selection)
