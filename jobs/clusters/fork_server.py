"""The process that local workers are forked from: what they need is imported there, once.

It is started anew (nothing of this process is forked, and it has one thread), lives as long as this
process, and makes the workers of every cluster that this process starts.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, suppress

from jobs.clusters.settings import ONE_THREAD

PRELOADED = ("distributed.nanny", "jobs.worker", "jobs.preloaded")

METHOD = {"distributed.worker.multiprocessing-method": "forkserver"}
"""What Dask is told."""

ITS_OWN = {"PYTHONSAFEPATH": "1", **{name: str(n) for name, n in ONE_THREAD.items()}}
"""The environment in which it starts: it must not import from the working directory."""


def start() -> None:
    """Start it, if it does not run: it imports while this process goes on."""
    from multiprocessing import forkserver

    forkserver.set_forkserver_preload(list(PRELOADED))
    with _environment({**ITS_OWN, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}):
        forkserver.ensure_running()


def end(spared: Collection[int]) -> None:
    """Kill what it has forked, also what this process does not know of yet.

    One that has just been forked would find that nobody talks to it, and say so with a traceback.

    Parameters
    ----------
    spared : collection of int
        Process numbers of workers of other clusters. Where there are none it ends itself, too,
        so that nothing is forked any more.
    """
    from multiprocessing import forkserver

    import psutil

    number = forkserver._forkserver._forkserver_pid  # type: ignore[attr-defined]
    if number is None:
        return
    with suppress(psutil.Error):
        server = psutil.Process(number)
        server.suspend()
        for worker in server.children(recursive=True):
            if worker.pid not in spared:
                worker.kill()
        server.resume() if spared else server.kill()


def environment_of_workers() -> dict[str, str]:
    """Return what a worker must have in its environment: all that is in that of this process.

    It may have changed since the server started, which has some of its own besides.
    """
    return {"PYTHONPATH": "", "PYTHONSAFEPATH": "", **os.environ}


@contextmanager
def _environment(values: Mapping[str, str]) -> Iterator[None]:
    """Have other values in the environment in a block."""
    before = dict(os.environ)
    os.environ.update(values)
    try:
        yield
    finally:
        for name in values:
            if name in before:
                os.environ[name] = before[name]
            else:
                del os.environ[name]
