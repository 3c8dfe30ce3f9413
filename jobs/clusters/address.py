"""A Dask scheduler that runs already, at an address."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from calib.errors import InputError
from jobs.clusters.settings import SETTINGS, answer_s
from jobs.clusters.waiting import require_worker
from jobs.config.cluster import Cluster
from jobs.config.cluster import Security as SecurityFiles

if TYPE_CHECKING:
    from distributed import Client


@contextmanager
def at_address(cluster: Cluster) -> Iterator[Client]:
    """Yield a client of the scheduler at ``cluster.address``."""
    import dask
    from distributed import Client

    if not cluster.address:
        raise InputError(
            "key 'cluster.address' is missing; kind 'address' needs the one of a Dask scheduler,"
            " such as tcp://host:8786"
        )
    with dask.config.set(SETTINGS):
        security = _security(cluster)
        try:
            found = Client(
                cluster.address, timeout=answer_s(cluster), set_as_default=False, security=security
            )
        except (OSError, TimeoutError, ValueError) as error:
            raise InputError(
                f"key 'cluster.address': no Dask scheduler answers at {cluster.address}"
                f" ({' '.join(str(error).split())}); start it, or correct the address"
            ) from None
        with found:
            require_worker(found, cluster, f"the scheduler at {cluster.address}", "start workers")
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
    is_tls = (cluster.address or "").startswith(("tls://", "wss://"))
    if not (given or is_tls):
        return None
    found = Security(require_encryption=True, **given)
    # asked for here: a client that finds out by itself is half started, and says so at its end
    if is_tls and found.get_connection_args("client").get("ssl_context") is None:
        raise InputError(
            f"key 'cluster.security': {cluster.address} speaks TLS, but no certificates are"
            " named; give ca, cert and key, or set DASK_DISTRIBUTED__COMM__TLS__..."
        )
    return found
