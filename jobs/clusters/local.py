"""Workers on this machine: processes of their own, on loopback."""

from __future__ import annotations

import logging
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

from calib.errors import CalibError
from jobs.clusters import fork_server
from jobs.clusters.settings import ONE_THREAD, SETTINGS
from jobs.config.cluster import Cluster

if TYPE_CHECKING:
    from multiprocessing.process import BaseProcess

    from distributed import Client, LocalCluster
    from distributed.utils import LoopRunner

log = logging.getLogger(__name__)

POLL_S = 0.02
CLOSE_S, CLOSE_AFTER_ERROR_S = 60.0, 10.0
"""Seconds that the workers have to end by themselves."""

QUIET = 10
"""Looks in a row that find no process, before it is believed that none is on its way."""


@contextmanager
def at_local(cluster: Cluster) -> Iterator[Client]:
    """Yield a client of a cluster on this machine, which ends with the block."""
    from multiprocessing import resource_tracker

    import dask
    from distributed import Client, LocalCluster
    from distributed.utils import LoopRunner

    environment = dict(dask.config.get("distributed.nanny.pre-spawn-environ", {}) or {})
    # the nanny's setting of the allocator halves the speed of the event loop
    environment.pop("MALLOC_TRIM_THRESHOLD_", None)
    environment.update(ONE_THREAD)
    settings = {
        **SETTINGS,
        **fork_server.METHOD,
        "distributed.nanny.pre-spawn-environ": environment,
    }
    with dask.config.set(settings), ExitStack() as stack:
        runner = LoopRunner()
        resource_tracker.ensure_running()  # its start would let Ctrl-C in again
        with deaf_to_ctrl_c():
            fork_server.start()
            runner.start()
        with (
            too_late_is_a_sentence(cluster),
            given_up_if_interrupted(),
            ended_if_interrupted(runner),
        ):
            here = LocalCluster(
                loop=runner.loop,
                n_workers=0,  # they start below: its own wait for them has no end
                threads_per_worker=1,
                processes=True,
                host=cluster.host,
                # its web server starts in any case: on loopback, any free port
                dashboard_address=f"{cluster.host}:0",
                worker_dashboard_address=f"{cluster.host}:0",
                scheduler_kwargs={"dashboard": False},
                memory_limit=cluster.memory_limit,
                preload=["jobs.worker"],
                env=fork_server.environment_of_workers(),
                silence_logs=logging.CRITICAL,
            )
            here.scale(cluster.workers)
            _wait_for_workers(here, cluster)
        stack.push(closed_in_time(here, runner))  # not before: it cannot be closed half started
        stack.callback(runner.stop)
        found = stack.enter_context(Client(here, set_as_default=False))
        log.debug("local cluster of %d workers at %s", cluster.workers, here.scheduler_address)
        yield found


class _TooLate(BaseException):
    """No worker in time: like an interrupt, for what is half started must be ended as then."""


def _wait_for_workers(here: LocalCluster, cluster: Cluster) -> None:
    """Wait for all workers; go on with those that are there after ``cluster.wait``, if any."""
    deadline = time.monotonic() + cluster.patience
    while (ready := sum(_lasts(n, here) for n in here.workers.values())) < cluster.workers:
        if time.monotonic() > deadline:
            if ready:
                return
            raise _TooLate
        time.sleep(POLL_S)


def _lasts(nanny: Any, here: LocalCluster) -> bool:
    """Return whether a worker runs, and takes less memory than its nanny would end it for."""
    import psutil
    from distributed.core import Status

    worker = here.scheduler.workers.get(nanny.worker_address)
    if worker is None or worker.status != Status.running or nanny.pid is None:
        return False  # one that its nanny has ended is started again, small at first
    limits = nanny.memory_manager
    if not limits.memory_limit or not limits.memory_terminate_fraction:
        return True
    try:
        used = psutil.Process(nanny.pid).memory_info().rss
    except psutil.Error:
        return False
    # one that has just been killed takes nothing
    return bool(0 < used < limits.memory_terminate_fraction * limits.memory_limit)


@contextmanager
def too_late_is_a_sentence(cluster: Cluster) -> Iterator[None]:
    """Raise CalibError where no worker has started in time, and say what may be the cause."""
    try:
        yield
    except _TooLate:
        memory = cluster.memory_limit
        cause = (
            ""
            if memory == "auto"
            else (
                f"; key 'cluster.memory_limit': {memory} may be too little for one to start (Dask"
                " ends those above it): give 1 GB or more"
            )
        )
        raise CalibError(
            f"key 'cluster.wait': no worker has started on this machine after"
            f" {cluster.patience:g} s{cause or ', give it more seconds on a busy one'}, and run the"
            " same command again"
        ) from None


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
    before = _children()
    try:
        yield
    except Exception:  # Dask has closed what it could not start
        runner.stop()
        raise
    except BaseException:
        _end_all(runner, before)
        raise


def _children() -> set[BaseProcess]:
    from multiprocessing import active_children

    return set(active_children())


def _end_all(runner: LoopRunner, before: set[BaseProcess]) -> None:
    """Hold the loop for good, and kill the processes that it has started."""
    held = threading.Event()
    runner.loop.add_callback(lambda: (held.set(), threading.Event().wait()))
    held.wait(5.0)
    fork_server.end({child.pid for child in before if child.pid})
    quiet = 0
    while quiet < QUIET:
        killed = [_killed(child) for child in _children() - before]
        quiet = 0 if any(killed) else quiet + 1
        time.sleep(POLL_S)


def closed_in_time(here: LocalCluster, runner: LoopRunner) -> Callable[..., None]:
    """Return what closes a cluster at the end of a block, by force where it does not end by itself.

    A worker that is started again and again, being over its memory limit, is waited for without
    end by Dask.
    """
    own = {nanny.pid for nanny in here.workers.values()}
    before = {child for child in _children() if child.pid not in own}

    def close(kind: type[BaseException] | None, *details: Any) -> None:
        try:
            here.close(timeout=CLOSE_S if kind is None else CLOSE_AFTER_ERROR_S)
        except (TimeoutError, OSError) as late:
            log.debug("the workers did not end in time (%r), and are killed", late)
            here.shutdown_on_close = False
            _end_all(runner, before)

    return close


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
