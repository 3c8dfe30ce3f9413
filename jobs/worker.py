"""Loaded by each local worker when it starts."""

import importlib
import signal
from typing import Any

NEEDED = ("jobs.event_loop.chunk_result", "processors.calibration")


def dask_setup(worker: Any) -> None:
    """Tell of what is compiled, and ignore Ctrl-C.

    A terminal sends it to workers too: whether they end is the client's. What every chunk needs is
    imported, so that a memory limit which is below that is felt before the first one, and not taken
    for the fault of a chunk.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    from jobs import compiling

    compiling.tell(worker)
    for name in NEEDED:
        importlib.import_module(name)
