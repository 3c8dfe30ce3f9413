"""Many processes that publish at once, and some that are killed at it: a process of its own.

``publisher.py at-once ADDRESS DIR...``: as many processes as directories, each publishes ROUNDS
intervals. ``publisher.py killed ADDRESS DIR HOW``: a publisher that is killed; HOW is ``files``
(its files have their names), ``row`` (the row is written, not committed) or a number of seconds.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

from jobs.store import Store, changes

ROUNDS = 5


def die(*_: Any, **__: Any) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def at_once(address: str, directories: list[str]) -> None:
    start = time.monotonic() + 0.2
    children = []
    for i, directory in enumerate(directories):
        child = os.fork()
        if child == 0:
            time.sleep(max(0.0, start - time.monotonic()))
            store = Store.open(address) if "://" in address else Store.create(address)
            for n in range(ROUNDS):
                since = 1000 * i + 10 * n
                store.publish(Path(directory), None, since, since + 9, why=f"process {i}")
            os._exit(0)
        children.append(child)
    codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
    sys.exit(max(map(abs, codes)))


def killed(address: str, directory: str, hows: list[str]) -> None:
    Store.open(address).publish(Path(directory), None, 0, 0, replace=True)  # all is imported
    real = changes.publish
    for n, how in enumerate(hows):
        child = os.fork()
        if child == 0:
            if how == "files":
                changes.publish = die  # type: ignore[assignment]
            elif how == "row":
                changes.publish = lambda *values: die(real(*values))  # type: ignore[assignment]
            Store.open(address).publish(Path(directory), None, 1000 + n, 1000 + n)
            os._exit(0)
        if how.replace(".", "").isdigit():
            time.sleep(float(how))
            os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


if __name__ == "__main__":
    if sys.argv[1] == "at-once":
        at_once(sys.argv[2], sys.argv[3:])
    else:
        killed(sys.argv[2], sys.argv[3], sys.argv[4:])
