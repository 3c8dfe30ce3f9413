"""Workers on this machine: processes of their own, on loopback."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

from calib.cluster import Cluster
from jobs.clusters.settings import ONE_THREAD, SETTINGS

if TYPE_CHECKING:
    from distributed import Client

log = logging.getLogger(__name__)


@contextmanager
def at_local(cluster: Cluster) -> Iterator[Client]:
    import dask
    from distributed import Client, LocalCluster

    environment = dict(dask.config.get("distributed.nanny.pre-spawn-environ", {}) or {})
    # the nanny's setting of the allocator halves the speed of the event loop
    environment.pop("MALLOC_TRIM_THRESHOLD_", None)
    environment.update(ONE_THREAD)
    settings = {**SETTINGS, "distributed.nanny.pre-spawn-environ": environment}
    with dask.config.set(settings), ExitStack() as stack:
        with given_up_if_interrupted():
            here = stack.enter_context(
                LocalCluster(
                    n_workers=cluster.workers,
                    threads_per_worker=1,
                    processes=True,
                    host=cluster.host,
                    # its web server starts in any case: on loopback, any free port
                    dashboard_address=f"{cluster.host}:0",
                    worker_dashboard_address=f"{cluster.host}:0",
                    scheduler_kwargs={"dashboard": False},
                    memory_limit=cluster.memory_limit,
                    preload=["jobs.worker"],
                    silence_logs=logging.CRITICAL,
                )
            )
        found = stack.enter_context(Client(here, set_as_default=False))
        log.debug("local cluster of %d workers at %s", cluster.workers, here.scheduler_address)
        yield found


@contextmanager
def given_up_if_interrupted() -> Iterator[None]:
    """Leave a cluster that is interrupted while it starts; its processes end with ours.

    It can only be closed once it runs, and Dask would try so, with a traceback, at exit.
    """
    from distributed.deploy.spec import SpecCluster

    before = set(SpecCluster._instances)
    try:
        yield
    except BaseException:
        for half in set(SpecCluster._instances) - before:
            half.shutdown_on_close = False
        raise
