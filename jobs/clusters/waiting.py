"""Nobody waits for ever: the first worker comes within ``cluster.wait``, or a sentence."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

from calib.cluster import Cluster
from calib.errors import CalibError

if TYPE_CHECKING:
    from distributed import Client

POLL_S = 0.1


def require_worker(found: Client, cluster: Cluster, what: str, remedy: str) -> None:
    """Wait for the first worker.

    A task is handed in as well: a cluster that grows with its work has no worker before.

    Raises
    ------
    CalibError
        If there is none after ``cluster.wait`` seconds; names ``what`` and the ``remedy``.
    """
    task = found.submit(os.getpid, pure=False)
    try:
        deadline = time.monotonic() + cluster.patience
        while task.status != "finished" and not found.nthreads():
            if time.monotonic() > deadline:
                raise CalibError(
                    f"key 'cluster.wait': {what} has no worker after {cluster.patience:g} s;"
                    f" {remedy}, and run the same command again"
                )
            time.sleep(POLL_S)
    finally:
        task.release()
