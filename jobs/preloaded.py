"""Imported by the process that local workers are forked from: what each of them needs, once.

Nothing that is imported here may start a thread: a fork has none of them. (That of jemalloc, which
pyarrow brings, is stopped and started by jemalloc itself.)
"""

import numpy as np

from calib.events.binning import counts_of
from jobs.event_loop import chunk_result
from processors import calibration

__all__ = ["calibration", "chunk_result"]

counts_of(np.zeros(1), np.arange(3.0))  # numba sets itself up at the first call, which takes 0.5 s
