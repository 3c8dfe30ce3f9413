"""A word where functions are compiled: at the first use of an installation, 15 to 30 s of it.

What was compiled is kept (`calib.compiled_cache`) and shared by all workers of this machine.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from numba.core import event

if TYPE_CHECKING:
    from distributed import Client

TOPIC = "dimucal-compiling"
"""Under which workers tell of it."""

TEXT = "compiling, once"
LONG_S = 1.0
"""Shorter compilations are not worth a word."""


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
