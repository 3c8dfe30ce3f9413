"""Workers on this machine: processes of their own, on loopback."""

from __future__ import annotations

import logging
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

from jobs.clusters.settings import ONE_THREAD, SETTINGS
from jobs.config.cluster import Cluster

if TYPE_CHECKING:
    from multiprocessing.process import BaseProcess

    from distributed import Client
    from distributed.utils import LoopRunner

log = logging.getLogger(__name__)

POLL_S = 0.02
QUIET = 10
"""Looks in a row that find no process, before it is believed that none is on its way."""


@contextmanager
def at_local(cluster: Cluster) -> Iterator[Client]:
    from multiprocessing import resource_tracker

    import dask
    from distributed import Client, LocalCluster
    from distributed.utils import LoopRunner

    environment = dict(dask.config.get("distributed.nanny.pre-spawn-environ", {}) or {})
    # the nanny's setting of the allocator halves the speed of the event loop
    environment.pop("MALLOC_TRIM_THRESHOLD_", None)
    environment.update(ONE_THREAD)
    settings = {**SETTINGS, "distributed.nanny.pre-spawn-environ": environment}
    with dask.config.set(settings), ExitStack() as stack:
        runner = LoopRunner()
        resource_tracker.ensure_running()  # its start would let Ctrl-C in again
        with deaf_to_ctrl_c():
            runner.start()
        with given_up_if_interrupted(), ended_if_interrupted(runner):
            here = stack.enter_context(
                LocalCluster(
                    loop=runner.loop,
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
        stack.callback(runner.stop)
        found = stack.enter_context(Client(here, set_as_default=False))
        log.debug("local cluster of %d workers at %s", cluster.workers, here.scheduler_address)
        yield found


@contextmanager
def deaf_to_ctrl_c() -> Iterator[None]:
    """Keep Ctrl-C from the threads that start in the block, and from the processes they start.

    A terminal sends it to workers too, from their first moment on: whether they end is ours.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def ended_if_interrupted(runner: LoopRunner) -> Iterator[None]:
    """Kill the workers of a cluster that is interrupted while they start.

    Left alone they would find that nobody talks to them any more, and say so, each with a
    traceback; and Dask would start others in place of those that are killed.

    Parameters
    ----------
    runner : distributed.utils.LoopRunner
        Of the loop that starts them, in a thread of its own, which is held for good.
    """
    from multiprocessing import active_children

    before = set(active_children())
    try:
        yield
    except Exception:  # Dask has closed what it could not start
        runner.stop()
        raise
    except BaseException:
        held = threading.Event()
        runner.loop.add_callback(lambda: (held.set(), threading.Event().wait()))
        held.wait(5.0)
        quiet = 0
        while quiet < QUIET:
            killed = [_killed(child) for child in set(active_children()) - before]
            quiet = 0 if any(killed) else quiet + 1
            time.sleep(POLL_S)
        raise


def _killed(child: BaseProcess) -> bool:
    """Kill a child; return whether it lived."""
    if not child.is_alive():
        return False
    child.kill()
    return True


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
