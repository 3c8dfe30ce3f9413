"""Nobody waits for ever: the first worker comes within ``cluster.wait``, or a sentence."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from calib.errors import CalibError
from jobs.config.cluster import Cluster

if TYPE_CHECKING:
    from distributed import Client

POLL_S = 0.1


def require_worker(
    found: Client, cluster: Cluster, what: str, remedy: str, look: Callable[[], None] = lambda: None
) -> None:
    """Wait for the first worker.

    A task is handed in as well: a cluster that grows with its work has no worker before.

    Parameters
    ----------
    found : Client
        Of the cluster.
    cluster : Cluster
        With the time to wait.
    what : str
        What was asked for, in words.
    remedy : str
        What helps, in words.
    look : callable
        Called now and then; may raise where it is known that none will come.

    Raises
    ------
    CalibError
        If there is none after ``cluster.wait`` seconds; names ``what`` and the ``remedy``.
    """
    task = found.submit(os.getpid, pure=False)
    try:
        deadline = time.monotonic() + cluster.patience
        while task.status != "finished" and not found.nthreads():
            look()
            if time.monotonic() > deadline:
                raise CalibError(
                    f"key 'cluster.wait': {what} has no worker after {cluster.patience:g} s;"
                    f" {remedy}, and run the same command again"
                )
            time.sleep(POLL_S)
    finally:
        task.release()


def in_time(seconds: float, function: Callable[..., Any], *arguments: Any, **more: Any) -> Any:
    """Return what a function returns, if that is within some seconds.

    It runs in a thread, which is left to itself where it is late: for libraries that wait for
    minutes, or for ever.

    Parameters
    ----------
    seconds : float
        At most.
    function : callable
        That is called.
    *arguments, **more
        Of the function.

    Returns
    -------
    object
        What it returns.

    Raises
    ------
    TimeoutError
        If it is not.
    """
    answer: Future[Any] = Future()

    def run() -> None:
        try:
            answer.set_result(function(*arguments, **more))
        except BaseException as error:
            answer.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    return answer.result(timeout=seconds)


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Keep Ctrl-C and SIGTERM until the block has ended: it is short, and must not be cut in two.

    Only the main thread hears them; elsewhere nothing is done.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    heard: list[int] = []
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = {n: signal.signal(n, lambda number, frame: heard.append(number)) for n in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        if heard:
            signal.raise_signal(heard[0])
