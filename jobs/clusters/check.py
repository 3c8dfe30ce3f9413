"""What works of a cluster, step by step, before anything is entrusted to it."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from dask.utils import format_bytes

from calib.errors import CalibError, InputError
from calib.schema import Sample
from jobs import clusters
from jobs.config.cluster import BATCH, Cluster
from jobs.config.schema import Config

if TYPE_CHECKING:
    from distributed import Client

    from calib.calibrations.base import Calibration

ENOUGH = 1.5e9
"""Bytes of memory that a worker should have: the packages take 0.5 GB, a chunk more."""

TRIPS = 20
"""Tasks that are sent there and back, one by one."""

SLOW_S = 0.5
"""A round trip that takes longer makes chunks wait for each other."""

READ_S = 120.0
"""Seconds to open one file."""


@dataclass(frozen=True)
class Trial:
    """One thing that was tried: ``state`` is ok, warning, failed or "not tried"."""

    name: str
    state: str
    text: str
    seconds: float = 0.0
    bad_input: bool = False


def check(config: Config, calibration: Calibration | None = None) -> Iterator[Trial]:
    """Yield the steps as they are done; after one that failed the others are not tried.

    The cluster is opened as for a run, and closed again if it was not there before. The step
    "files" alone stands for itself: one file that cannot be read does not end the check.

    Parameters
    ----------
    config : Config
        With cluster and samples.
    calibration : Calibration, optional
        Whose code the workers get as well.

    Yields
    ------
    Trial
        With its state.
    """
    cluster = config.cluster
    names = ["reached", "workers", "versions", "memory", "round trip"]
    names += [f"file of {sample.name}" for sample in config.samples]
    done = 0
    with ExitStack() as stack:
        for step in _steps(config, calibration, stack):
            done += 1
            yield step
            if step.state == "failed" and step.name in names[:3]:
                break
        else:
            return
    for name in names[done:] if cluster.kind != "inline" else ():
        yield Trial(name, "not tried", "")


def _steps(config: Config, calibration: Calibration | None, stack: ExitStack) -> Iterator[Trial]:
    cluster = config.cluster
    yield attempted("reached", lambda: reached(cluster))
    found: Client | None = None
    if cluster.kind != "inline":
        start = time.perf_counter()
        try:
            found = stack.enter_context(clusters.opened(cluster))
        except CalibError as error:
            yield _failed("workers", error, start)
            return
        first = time.perf_counter() - start
        step = attempted("workers", lambda: workers(found, cluster, first))
        yield replace(step, seconds=time.perf_counter() - start)
        yield attempted("versions", lambda: versions(found, cluster, calibration))
        yield attempted("memory", lambda: memory(found))
        yield attempted("round trip", lambda: round_trip(found))
    for sample in config.samples:
        yield attempted(f"file of {sample.name}", partial(first_file, found, sample))


def attempted(name: str, step: Callable[[], tuple[str, str]]) -> Trial:
    """Return what came of a step, which returns a state and a text or raises.

    Parameters
    ----------
    name : str
        Of the step.
    step : callable
        () -> (state, text), or it raises.

    Returns
    -------
    Trial
        With its seconds.
    """
    start = time.perf_counter()
    try:
        state, text = step()
    except (CalibError, OSError, TimeoutError) as error:
        return _failed(name, error, start)
    return Trial(name, state, text, time.perf_counter() - start)


def _failed(name: str, error: Exception, start: float) -> Trial:
    text = " ".join(str(error).split()) or type(error).__name__
    return Trial(name, "failed", text, time.perf_counter() - start, isinstance(error, InputError))


# the steps -----------------------------------------------------------------------------------
def reached(cluster: Cluster) -> tuple[str, str]:
    """Return who answers where the cluster is to be had."""
    if cluster.kind in ("inline", "local"):
        return "ok", f"this machine, {os.cpu_count()} cores"
    if cluster.kind == "gateway":
        return "ok", _at_gateway(cluster)
    if cluster.kind == "kubernetes":
        from jobs.clusters.kubernetes import reached as reached_kubernetes

        return "ok", f"Kubernetes at {reached_kubernetes(cluster)}"
    if cluster.kind in BATCH:
        from jobs.clusters.jobqueue import submit_command

        return "ok", f"{cluster.kind}, by {submit_command(cluster)}"
    return "ok", cluster.address or ""


def _at_gateway(cluster: Cluster) -> str:
    from jobs.clusters import gateway

    with gateway.reached(cluster) as found:
        version = gateway.asked(cluster, found.get_versions)["server"]["version"]
        running = [r.name for r in gateway.asked(cluster, found.list_clusters)]
        options = dict(gateway.asked(cluster, found.cluster_options))
    text = f"dask-gateway {version} at {cluster.address} knows us"
    text += f"; our clusters: {', '.join(running) or 'none'}"
    return text + (f"; options: {options}" if options else "; no options")


def workers(found: Client | None, cluster: Cluster, seconds: float) -> tuple[str, str]:
    """Return how many workers there are, and how long the first took.

    Parameters
    ----------
    found : Client or None
        Not None.
    cluster : Cluster
        As configured.
    seconds : float
        Until the first worker came.

    Returns
    -------
    str
        State.
    str
        Text.
    """
    assert found is not None
    wanted = cluster.adaptive.minimum if cluster.adaptive else cluster.workers
    if cluster.name is None and cluster.kind != "address":
        deadline = time.monotonic() + cluster.patience
        while len(found.nthreads()) < wanted and time.monotonic() < deadline:
            time.sleep(0.1)
    threads = found.nthreads()
    text = f"{len(threads)} with {sum(threads.values())} threads, the first after {seconds:.1f} s"
    if cluster.name is None and cluster.kind != "address" and len(threads) < wanted:
        return "warning", f"{text}; {wanted} were asked for"
    return "ok", text


def versions(
    found: Client | None, cluster: Cluster, calibration: Calibration | None
) -> tuple[str, str]:
    """Return what runs there, which is what runs here, after sending what was lacking.

    Parameters
    ----------
    found : Client or None
        Not None.
    cluster : Cluster
        As configured.
    calibration : Calibration or None
        Whose code the workers get as well.

    Returns
    -------
    str
        State.
    str
        Text.
    """
    from jobs.clusters.environment import CODE, PACKAGES, ask, equip

    assert found is not None
    before = ask(found, (CODE,))
    lacked = [place for place, v in before.places.items() if v.get(CODE) != before.here[CODE]]
    after = equip(found, cluster, calibration)
    same = ", ".join(f"{name} {after.here[name]}" for name in ("python", "dask", *PACKAGES))
    sent = f"; this package sent to {len(lacked)} places" if lacked else "; this package is there"
    return "ok", same + sent


def memory(found: Client | None) -> tuple[str, str]:
    """Return the memory of the smallest worker, and what of it is free."""
    assert found is not None
    known = found.scheduler_info(n_workers=-1)["workers"].values()
    limits = [worker["memory_limit"] for worker in known if worker["memory_limit"]]
    if not limits:
        return "warning", "no limit: a chunk that grows takes the machine with it"
    used = max(worker["metrics"].get("memory", 0) for worker in known)
    text = f"{format_bytes(min(limits))} a worker, {format_bytes(used)} of it used"
    if min(limits) < ENOUGH:
        return "warning", f"{text}; {format_bytes(int(ENOUGH))} are better, or a smaller chunk_size"
    return "ok", text


def round_trip(found: Client | None) -> tuple[str, str]:
    """Return how long a task takes there and back."""
    assert found is not None
    taken = []
    for _ in range(TRIPS):
        start = time.perf_counter()
        found.submit(os.getpid, pure=False).result(timeout=READ_S)
        taken.append(time.perf_counter() - start)
    text = f"{1e3 * median(taken):.0f} ms"
    slow = median(taken) > SLOW_S
    return ("warning", f"{text}; take larger chunks") if slow else ("ok", text)


def first_file(found: Client | None, sample: Sample) -> tuple[str, str]:
    """Return what a worker reads in the first file of a sample.

    Parameters
    ----------
    found : Client or None
        None: it is read in this process.
    sample : Sample
        Its first file is read.

    Returns
    -------
    str
        State.
    str
        Text.

    Raises
    ------
    InputError
        If it cannot be read.
    """
    from calib.schema import Query
    from jobs.catalog.answers import answer
    from jobs.events.addresses import expand

    if isinstance(sample.files, Query):
        path = answer(sample).files[0].path
    else:
        path = expand(sample, Path.cwd())[0]
    if found is None:
        events = opened_file(path, sample.format)
    else:
        task = found.submit(opened_file, path, sample.format, pure=False)
        try:
            events = task.result(timeout=READ_S)
        except (OSError, InputError) as error:
            raise InputError(
                f"sample {sample.name!r}: a worker cannot read {path}"
                f" ({' '.join(str(error).split())}); is it on a disk that the workers see?"
            ) from None
    return "ok", f"{path}: {events} events, read by {'a worker' if found else 'this process'}"


def opened_file(path: str, kind: str) -> int:
    """Return the number of events in a file; runs where the file is to be read.

    Parameters
    ----------
    path : str
        Path or address.
    kind : {"nanoaod", "stage1", "table"}
        Format.

    Returns
    -------
    int
        Events.
    """
    from jobs.events.parquet import inspect_parquet
    from jobs.events.root import inspect_root

    facts: Any = (inspect_root if kind == "nanoaod" else inspect_parquet)(path, ())
    return int(facts.n_events)
