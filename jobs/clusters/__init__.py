"""Where the work is done: one context manager for every kind of cluster.

Each kind has its file; what they have in common: nothing is left running that was started here,
nobody waits for ever, and workers elsewhere are checked before the first event.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from jobs.clusters.settings import ONE_THREAD, SETTINGS
from jobs.config.cluster import BATCH, Cluster

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from distributed import Client

    from calib.calibrations.base import Calibration

__all__ = ["ONE_THREAD", "SETTINGS", "Workers", "client", "opened"]

log = logging.getLogger(__name__)

Function = Callable[[Any], Any]

WORTH_WORKERS = 2_000_000
"""Events from which on local workers save more than they cost, where nobody has asked for them."""


@contextmanager
def client(cluster: Cluster, calibration: Calibration | None = None) -> Iterator[Client | None]:
    """Yield a Dask client.

    Workers elsewhere have been checked, and have the code of this package and of the calibration.

    Parameters
    ----------
    cluster : Cluster
        As configured.
    calibration : Calibration, optional
        Whose code the workers get as well.

    Yields
    ------
    Client or None
        None: the work is done in this process.

    Raises
    ------
    InputError
        If the configuration names a cluster that is not there, or refuses us, or whose workers
        have other versions.
    CalibError
        If no worker comes within ``cluster.wait``.
    """
    if cluster.kind == "inline":
        yield None
        return
    with opened(cluster) as found:
        if cluster.kind != "local":
            from jobs.clusters.environment import equip

            equip(found, cluster, calibration)
        yield found


def opened(cluster: Cluster) -> AbstractContextManager[Client]:
    """Return the context manager of a kind, which yields a client with at least one worker."""
    if cluster.kind == "local":
        from jobs.clusters.local import at_local

        return at_local(cluster)
    if cluster.kind == "address":
        from jobs.clusters.address import at_address

        return at_address(cluster)
    if cluster.kind == "gateway":
        from jobs.clusters.gateway import at_gateway

        return at_gateway(cluster)
    if cluster.kind in BATCH:
        from jobs.clusters.jobqueue import at_batch_system

        return at_batch_system(cluster)
    from jobs.clusters.kubernetes import at_kubernetes

    return at_kubernetes(cluster)


class Workers:
    """A cluster that starts when it is first asked for, and ends with the block."""

    def __init__(self, cluster: Cluster, calibration: Calibration | None = None) -> None:
        self.cluster, self.calibration = cluster, calibration
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
            self._client = self._stack.enter_context(client(self.cluster, self.calibration))
            self._started = True
        return self._client

    def client_for(self, events: int) -> Client | None:
        """Return the client for so many events: None where workers are not worth their start.

        They start where ``cluster.kind`` is given, whatever there is to do. Chunks are the same
        either way, and so are the numbers.
        """
        chosen = "kind" in self.cluster.model_fields_set
        if not self._started and not chosen and events < WORTH_WORKERS:
            log.info("%d events: read in this process; cluster.kind: local starts workers", events)
            return None
        return self.client()

    def checked(self, function: Function) -> Function:
        """Return a function of chunks that runs only where code and packages are those of here."""
        if self.cluster.kind in ("inline", "local"):
            return function
        from jobs.clusters.environment import Checked

        return Checked.of(function, self.cluster)
