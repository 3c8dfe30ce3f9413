"""A cluster behind dask-gateway: a new one, which ends with us, or a named one, which stays."""

from __future__ import annotations

import difflib
import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from calib.errors import CalibError, InputError
from jobs.clusters.authentication import authentication, secret_place, who
from jobs.clusters.settings import SETTINGS, answer_s
from jobs.clusters.waiting import in_time, require_worker, uninterrupted
from jobs.config.cluster import Cluster

if TYPE_CHECKING:
    from dask_gateway import Gateway, GatewayCluster
    from distributed import Client

log = logging.getLogger(__name__)


@contextmanager
def at_gateway(cluster: Cluster) -> Iterator[Client]:
    """Yield a client of a cluster behind a gateway, with at least one worker.

    Raises
    ------
    InputError
        If the gateway is not there or refuses us, the options are not its own, or no cluster has
        the name.
    CalibError
        If it does not start a cluster, or no worker comes in time.
    """
    import dask
    import distributed  # noqa: F401  (its defaults come before ours, or go with them)

    with dask.config.set(SETTINGS), reached(cluster) as gateway:
        if cluster.name is not None:
            with _named(gateway, cluster) as there:
                yield there
        else:
            with _new(gateway, cluster) as there:
                yield there


@contextmanager
def reached(cluster: Cluster) -> Iterator[Gateway]:
    """Yield a gateway that has answered and knows us."""
    try:
        from dask_gateway import Gateway
    except ImportError:
        raise InputError(
            "key 'cluster.kind': gateway needs the package dask-gateway; pip install"
            " 'dimucal[gateway]'"
        ) from None
    if not cluster.address:
        raise InputError(
            "key 'cluster.address' is missing; kind 'gateway' needs the one of its server, such as"
            " https://gateway.example.org"
        )
    if not cluster.address.startswith(("http://", "https://")):
        raise InputError(
            f"key 'cluster.address': found {cluster.address!r}; kind 'gateway' needs http:// or"
            " https://"
        )
    auth = authentication(cluster.auth)
    gateway = Gateway(cluster.address, proxy_address=cluster.proxy_address, auth=auth)
    try:
        asked(cluster, gateway.list_clusters)
        yield gateway
    finally:
        gateway.close()
        _is_closed(gateway)


def _is_closed(gateway: Gateway) -> None:
    """Keep it from being closed again when it is collected, which fails with a traceback."""
    with suppress(AttributeError):
        del gateway._loop_runner


def asked(cluster: Cluster, question: Any, *arguments: Any, **more: Any) -> Any:
    """Return the gateway's answer.

    Parameters
    ----------
    cluster : Cluster
        Address, authentication, and how long to wait.
    question : callable
        A method of the gateway.
    *arguments, **more
        Of the question.

    Returns
    -------
    object
        The answer.

    Raises
    ------
    InputError
        If it does not answer in time, or refuses us.
    """
    import aiohttp

    seconds = answer_s(cluster)
    try:
        return in_time(seconds, question, *arguments, **more)
    except aiohttp.ClientResponseError as error:
        if error.status in (401, 403):
            raise InputError(
                f"key 'cluster.auth': the gateway at {cluster.address} refuses"
                f" {who(cluster.auth)} ({error.status} {error.message}); correct"
                f" {secret_place(cluster.auth)}"
            ) from None
        raise InputError(
            f"key 'cluster.address': {cluster.address} answers {error.status} {error.message},"
            " which no dask-gateway does; correct the address"
        ) from None
    except TimeoutError:
        raise InputError(
            f"key 'cluster.address': {cluster.address} does not answer within {seconds:g} s; is it"
            " a dask-gateway, and up?"
        ) from None
    except (aiohttp.ClientError, OSError) as error:
        raise InputError(
            f"key 'cluster.address': no dask-gateway answers at {cluster.address}"
            f" ({' '.join(str(error).split())}); start it, or correct the address"
        ) from None


# clusters ----------------------------------------------------------------------------------------
@contextmanager
def _named(gateway: Gateway, cluster: Cluster) -> Iterator[Client]:
    """Yield a client of a cluster of others, or of before; it is left as it was."""
    running = {report.name: report for report in asked(cluster, gateway.list_clusters)}
    if cluster.name not in running:
        raise InputError(
            f"key 'cluster.name': no cluster {cluster.name!r} runs at {cluster.address} for us;"
            f" there {'are' if running else 'is'} {', '.join(running) or 'none'}; correct the"
            " name, or leave it out for a new one"
        )
    there = _started(gateway, cluster, cluster.name)
    try:
        if cluster.adaptive is not None:
            _resize(there, cluster)
        with _client(there, cluster, "scale it, or give cluster.adaptive") as found:
            yield found
    finally:
        _leave(there)


@contextmanager
def _new(gateway: Gateway, cluster: Cluster) -> Iterator[Client]:
    """Yield a client of a new cluster, which is closed in any case."""
    options = accepted(asked(cluster, gateway.cluster_options), cluster)
    name = None
    try:
        with uninterrupted():  # from here on there is something to close
            name = _submitted(gateway, cluster, options)
        there = _started(gateway, cluster, name)
        try:
            _resize(there, cluster)
            with _client(there, cluster, "ask for less, or see the logs of the gateway") as found:
                yield found
        finally:
            _leave(there)
    finally:
        if name is not None:
            _stop(gateway, cluster, name)


def _submitted(gateway: Gateway, cluster: Cluster, options: dict[str, Any]) -> str:
    from dask_gateway import GatewayClusterError, GatewayServerError

    try:
        name = asked(cluster, gateway.submit, **options)
    except (GatewayClusterError, GatewayServerError) as error:
        raise CalibError(
            f"the gateway at {cluster.address} starts no cluster: {_text(error)}; stop another one"
            " (calib cluster check CONFIG lists them), or ask for less"
        ) from None
    except ValueError as error:
        raise InputError(
            f"key 'cluster.options': the gateway at {cluster.address} refuses them:"
            f" {_text(error)}; correct them"
        ) from None
    log.info("new cluster %s at %s", name, cluster.address)
    return str(name)


def _started(gateway: Gateway, cluster: Cluster, name: str) -> GatewayCluster:
    """Return a cluster that runs, connected to its scheduler."""
    from dask_gateway import GatewayClusterError

    try:
        return in_time(cluster.patience, gateway.connect, name, shutdown_on_close=False)
    except TimeoutError:
        raise CalibError(
            f"key 'cluster.wait': cluster {name} at {cluster.address} has not started within"
            f" {cluster.patience:g} s; try later, or wait longer"
        ) from None
    except GatewayClusterError as error:
        raise CalibError(
            f"cluster {name} at {cluster.address} did not start: {_text(error)}; its logs are with"
            " the gateway's"
        ) from None


def _leave(there: GatewayCluster) -> None:
    """Let go of a cluster, without ending it."""
    there.close(shutdown=False)
    _is_closed(there.gateway)


def _resize(there: GatewayCluster, cluster: Cluster) -> None:
    """Ask for workers; what the gateway cuts off is said."""
    from dask_gateway import GatewayClusterError

    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        try:
            if cluster.adaptive is None:
                asked(cluster, there.scale, cluster.workers)
            else:
                limits = cluster.adaptive
                asked(cluster, there.adapt, minimum=limits.minimum, maximum=limits.maximum)
        except (GatewayClusterError, ValueError) as error:
            raise CalibError(
                f"the gateway at {cluster.address} gives no workers: {_text(error)}; ask for fewer"
            ) from None
    for warning in said:
        if warning.category.__name__ == "GatewayWarning":
            log.warning("key 'cluster.workers': %s", _text(warning.message))


@contextmanager
def _client(there: GatewayCluster, cluster: Cluster, remedy: str) -> Iterator[Client]:
    try:
        found = there.get_client(set_as_default=False)
    except (OSError, TimeoutError, ValueError) as error:
        raise CalibError(
            f"key 'cluster.proxy_address': the scheduler of cluster {there.name} does not answer at"
            f" {there.scheduler_address} ({_text(error)}); give the address of the gateway's proxy"
        ) from None
    with found:
        require_worker(found, cluster, f"cluster {there.name} at {cluster.address}", remedy)
        yield found


def _stop(gateway: Gateway, cluster: Cluster, name: str) -> None:
    """End a cluster; a second Ctrl-C does not keep us from it."""
    with uninterrupted():
        try:
            asked(cluster, gateway.stop_cluster, name)
        except (CalibError, ValueError) as error:
            log.warning("cluster %s at %s may still run: %s", name, cluster.address, _text(error))


# options -----------------------------------------------------------------------------------------
def accepted(known: Mapping[str, Any], cluster: Cluster) -> dict[str, Any]:
    """Return the options of the configuration, if the gateway has them.

    Parameters
    ----------
    known : mapping
        Options of the gateway, with their defaults.
    cluster : Cluster
        With the options that are wanted.

    Returns
    -------
    dict
        All of them.

    Raises
    ------
    InputError
        If it has no such option, or another value is asked for than it allows.
    """
    options = dict(known)
    for key, value in cluster.options.items():
        if key not in options:
            near = difflib.get_close_matches(key, options, n=1, cutoff=0.5)
            hint = (
                f"did you mean {near[0]!r}?"
                if near
                else (f"it has {', '.join(options) or 'no options at all'}")
            )
            raise InputError(
                f"key 'cluster.options': the gateway at {cluster.address} has no option {key!r};"
                f" {hint}"
            )
        try:
            known[key] = value  # type: ignore[index]
        except (TypeError, ValueError) as error:
            raise InputError(
                f"key 'cluster.options.{key}': found {value!r}, {_text(error)}; correct it"
            ) from None
    return dict(known)


def _text(error: object) -> str:
    return " ".join(str(error).split()) or type(error).__name__
