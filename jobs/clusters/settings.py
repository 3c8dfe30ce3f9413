"""What Dask is told wherever we start it."""

from __future__ import annotations

from typing import Any

from jobs.config.cluster import Cluster

SETTINGS: dict[str, Any] = {
    # without workers a client waits for ever
    "distributed.scheduler.no-workers-timeout": "5 minutes",
    "distributed.comm.timeouts.connect": "30 s",
    "distributed.admin.large-graph-warning-threshold": "1 GB",
    # a lost worker is told at once: jobs.event_loop.dispatch decides what goes again, and where
    "distributed.scheduler.allowed-failures": 0,
    "distributed.scheduler.worker-ttl": "2 minutes",
    # a local worker that is slow to come back on a busy machine is not given up
    "distributed.deploy.lost-worker-timeout": "5 minutes",
}
ONE_THREAD = {
    name: 1
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS")
}
ANSWER_S = 20.0
"""Seconds to wait for an answer, if ``cluster.wait`` does not ask for fewer."""


def answer_s(cluster: Cluster) -> float:
    """Return the seconds in which a scheduler or a gateway must answer."""
    return min(ANSWER_S, cluster.patience)
