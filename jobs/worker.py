"""Loaded by each local worker when it starts."""

import signal
from typing import Any


def dask_setup(worker: Any) -> None:
    """Tell of what is compiled, and ignore Ctrl-C.

    A terminal sends it to workers too: whether they end is the client's.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    from jobs import compiling

    compiling.tell(worker)
