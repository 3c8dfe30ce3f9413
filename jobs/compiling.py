"""A word where functions are compiled: at the first use of an installation, 15 to 30 s of it.

What was compiled is kept (`calib.compiled_cache`) and shared by all workers of this machine.
"""

from __future__ import annotations

import fcntl
import platform
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import llvmlite.binding
import numba
from numba.core import event

from calib import compiled_cache
from calib.digests import digest
from jobs.clusters import fingerprint

if TYPE_CHECKING:
    from distributed import Client

TOPIC = "dimucal-compiling"
"""Under which workers tell of it."""

TEXT = "compiling, once"
LONG_S = 1.0
"""Shorter compilations are not worth a word."""

AT_MOST_S = 60.0
"""Seconds to wait for another process to compile; then it is taken for one that hangs."""

_compiled: set[Path] = set()
"""Marks of the kinds of work whose functions are known to be compiled."""


class Listener(event.Listener):  # type: ignore[misc]
    """Calls a function once, when something is compiled that takes long."""

    def __init__(self, say: Callable[[], Any], long_s: float = LONG_S) -> None:
        self._say, self._long_s = say, long_s
        self._depth = 0
        self._timer: threading.Timer | None = None

    def on_start(self, event: Any) -> None:
        """Look at the clock; compilations stand in each other."""
        self._depth += 1
        if self._depth == 1:
            self._timer = threading.Timer(self._long_s, self._say)
            self._timer.daemon = True
            self._timer.start()

    def on_end(self, event: Any) -> None:
        """Say nothing of a short one."""
        self._depth -= 1
        if self._depth == 0 and self._timer is not None:
            self._timer.cancel()


@contextmanager
def told(say: Callable[[], Any], long_s: float = LONG_S) -> Iterator[None]:
    """Call a function where something is compiled in this process, in the block."""
    with event.install_listener("numba:compile", Listener(say, long_s)):
        yield


@contextmanager
def told_by_workers(client: Client | None, say: Callable[[], Any]) -> Iterator[None]:
    """Call a function where a local worker compiles something, in the block."""
    if client is None:
        yield
        return
    client.subscribe_topic(TOPIC, lambda message: say())
    try:
        yield
    finally:
        client.unsubscribe_topic(TOPIC)


def tell(worker: Any) -> None:
    """Let a worker tell of what it compiles, as long as it lives."""
    event.register("numba:compile", Listener(lambda: worker.log_event(TOPIC, worker.address)))


@contextmanager
def alone_at_first(*kind: Any) -> Iterator[None]:
    """Run a block alone on this machine, where work of its kind has not been done before.

    What it compiles is then there for the other workers, which would all compile the same.

    Parameters
    ----------
    *kind : any
        Names what is compiled, beside our code, the versions and the make of the processor.
    """
    versions = (numba.__version__, platform.python_version(), llvmlite.binding.get_host_cpu_name())
    name = digest(fingerprint.__version__, versions, kind)
    mark = compiled_cache.folder() / f"dimucal-{name}.compiled"
    if mark in _compiled or mark.is_file():
        _compiled.add(mark)
        yield
        return
    lock = _opened(mark.with_suffix(".lock"))
    if lock is None:  # nothing can be kept: each process compiles for itself
        yield
        return
    with lock:
        _wait_for(lock, mark)
        yield
        with suppress(OSError):
            mark.touch()
            _compiled.add(mark)


def _opened(path: Path) -> IO[str] | None:
    """Return a file that is open to be locked, None where it cannot be."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return path.open("a")
    except OSError:
        return None


def _wait_for(lock: IO[str], mark: Path) -> None:
    """Take a lock, unless the mark appears or it takes too long."""
    deadline = time.monotonic() + AT_MOST_S
    while not mark.is_file() and time.monotonic() < deadline:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            time.sleep(0.05)
        except OSError:  # a file system without locks
            return
