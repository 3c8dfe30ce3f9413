"""Loaded by each local worker when it starts."""

import signal
from typing import Any


def dask_setup(worker: Any) -> None:
    """Ignore Ctrl-C, which a terminal sends to workers too: whether they end is the client's."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
