"""The steps of one calibration's night. Each takes what is known and returns what is known after.

A step can be done again: a run directory goes on where it stopped, and what is published or
extended already is not done a second time. So the nightly may be killed at any point.
"""

from __future__ import annotations

from jobs.nightly.calibrating import calibrate, conclude, recalibrate
from jobs.nightly.circumstances import Asked, Tools, asked, late
from jobs.nightly.next_step import look
from jobs.nightly.states import State
from jobs.nightly.validity_test import test

__all__ = ["STEPS", "Asked", "Tools", "asked", "late", "look", "recalibrate"]

STEPS = {State.TESTING: test, State.CALIBRATING: calibrate, State.GATED: conclude}
"""What is done in the states that do not rest; in all others, `look`."""
