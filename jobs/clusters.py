"""Where the work is done: one context manager for every kind of cluster."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from calib.config import Cluster
from calib.config import Security as SecurityFiles
from calib.errors import CalibError, InputError

if TYPE_CHECKING:
    from distributed import Client

log = logging.getLogger(__name__)

SETTINGS: dict[str, Any] = {
    # without workers a client waits for ever
    "distributed.scheduler.no-workers-timeout": "5 minutes",
    "distributed.comm.timeouts.connect": "30 s",
    "distributed.admin.large-graph-warning-threshold": "1 GB",
    # a lost worker is told at once: what goes again, and where, is decided in jobs.dispatch
    "distributed.scheduler.allowed-failures": 0,
    "distributed.scheduler.worker-ttl": "2 minutes",
    # a local worker that is slow to come back on a busy machine is not given up
    "distributed.deploy.lost-worker-timeout": "5 minutes",
}
ONE_THREAD = {
    name: 1
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS")
}
ANSWER_S = 20
"""Seconds to wait for the answer of a scheduler."""

WAIT_S = 60
"""Seconds to wait for the first worker."""


@contextmanager
def client(cluster: Cluster) -> Iterator[Client | None]:
    """Yield a Dask client, or None where the work is done in this process.

    Raises
    ------
    InputError
        If the configuration names a cluster that is not there.
    """
    if cluster.kind == "inline":
        yield None
    elif cluster.kind == "local":
        with _local(cluster) as found:
            yield found
    elif cluster.kind == "address":
        with _at_address(cluster) as found:
            yield found
    else:
        raise InputError(
            f"key 'cluster.kind': {cluster.kind!r} is not available in this version;"
            " use local, inline or address"
        )


@contextmanager
def _local(cluster: Cluster) -> Iterator[Client]:
    import dask
    from distributed import Client, LocalCluster

    environment = dict(dask.config.get("distributed.nanny.pre-spawn-environ", {}) or {})
    # the nanny's setting of the allocator halves the speed of the event loop
    environment.pop("MALLOC_TRIM_THRESHOLD_", None)
    environment.update(ONE_THREAD)
    settings = {**SETTINGS, "distributed.nanny.pre-spawn-environ": environment}
    with dask.config.set(settings), ExitStack() as stack:
        with _given_up_if_interrupted():
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
def _given_up_if_interrupted() -> Iterator[None]:
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


@contextmanager
def _at_address(cluster: Cluster) -> Iterator[Client]:
    import dask
    from distributed import Client

    if not cluster.address:
        raise InputError(
            "key 'cluster.address' is missing; kind 'address' needs the one of a Dask scheduler,"
            " such as tcp://host:8786"
        )
    with dask.config.set(SETTINGS):
        try:
            found = Client(
                cluster.address,
                timeout=ANSWER_S,
                set_as_default=False,
                security=_security(cluster),
            )
        except TypeError:  # Dask's way to say that there is no certificate at all
            raise InputError(
                f"key 'cluster.security': {cluster.address} speaks TLS, but no certificates are"
                " named; give ca, cert and key, or set DASK_DISTRIBUTED__COMM__TLS__..."
            ) from None
        except (OSError, TimeoutError, ValueError) as error:
            raise InputError(
                f"key 'cluster.address': no Dask scheduler answers at {cluster.address}"
                f" ({' '.join(str(error).split())}); start it, or correct the address"
            ) from None
        with found:
            try:
                found.wait_for_workers(1, timeout=WAIT_S)
            except TimeoutError:
                raise CalibError(
                    f"key 'cluster.address': the scheduler at {cluster.address} has no worker"
                    f" after {WAIT_S} s; start workers and run the same command again"
                ) from None
            yield found


def _security(cluster: Cluster) -> Any:
    """Return the files for TLS; what is not named is in Dask's configuration or environment.

    Raises
    ------
    InputError
        If a file cannot be read.
    """
    from distributed import Security

    names = cluster.security or SecurityFiles()
    files = {"tls_ca_file": names.ca, "tls_client_cert": names.cert, "tls_client_key": names.key}
    for key, name in zip(("ca", "cert", "key"), files.values(), strict=True):
        if name is not None and not os.access(name, os.R_OK):
            raise InputError(
                f"key 'cluster.security.{key}': {name} cannot be read; correct the path or its"
                " permissions"
            )
    given = {key: name for key, name in files.items() if name is not None}
    is_tls = (cluster.address or "").startswith("tls://")
    return Security(require_encryption=True, **given) if given or is_tls else None


class Workers:
    """A cluster that starts when it is first asked for, and ends with the block."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self._stack = ExitStack()
        self._started = False
        self._client: Client | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            self._stack.__exit__(kind, error, trace)
        except (TimeoutError, OSError) as late:
            if error is not None:
                raise
            # the work is done: a busy machine that is slow to end its workers takes nothing away
            log.warning("the workers did not end in time (%s), and were left", late or "no answer")

    def client(self) -> Client | None:
        """Return the client of the cluster (None: the work is done in this process)."""
        if not self._started:
            self._client = self._stack.enter_context(client(self.cluster))
            self._started = True
        return self._client
