"""Workers as pods, through the Dask operator (kubernetes.dask.org).

The manifest is ours, checked against the schema of the operator; dask-kubernetes hands it in and
forwards the ports. The name of a cluster that runs already is used as it is, and left running.
"""

from __future__ import annotations

import json
import logging
import uuid
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import cache
from typing import TYPE_CHECKING, Any

from calib.errors import CalibError, InputError
from jobs.clusters.settings import ONE_THREAD, SETTINGS, answer_s
from jobs.clusters.waiting import in_time, require_worker, uninterrupted
from jobs.config.cluster import Cluster, Pod

if TYPE_CHECKING:
    from distributed import Client

log = logging.getLogger(__name__)

LABELS = {"app.kubernetes.io/name": "dimucal"}

NEEDS = "key 'cluster.kind': kubernetes needs the package dask-kubernetes; pip install"
NEEDS += " 'dimucal[kubernetes]'"


@contextmanager
def at_kubernetes(cluster: Cluster) -> Iterator[Client]:
    """Yield a client of a cluster of pods, with at least one worker.

    Raises
    ------
    InputError
        If no Kubernetes is reachable, or the manifest is not what the operator accepts.
    CalibError
        If the cluster does not start, or no worker comes in time.
    """
    import dask
    from distributed import Client

    server = reached(cluster)
    with dask.config.set(SETTINGS), ExitStack() as stack:
        here = stack.enter_context(_named(cluster) if cluster.name else _new(cluster))
        found = stack.enter_context(Client(here, set_as_default=False))
        if cluster.adaptive is not None:
            here.adapt(minimum=cluster.adaptive.minimum, maximum=cluster.adaptive.maximum)
        require_worker(
            found,
            cluster,
            f"cluster {here.name} at {server}",
            f"see `kubectl get pods -l dask.org/cluster-name={here.name}`",
        )
        yield found


def reached(cluster: Cluster) -> str:
    """Return the address of the Kubernetes that answers.

    Raises
    ------
    InputError
        If there is none, or no package to reach it.
    """
    try:
        import dask_kubernetes.operator  # noqa: F401
        import kr8s
    except ImportError:
        raise InputError(NEEDS) from None

    def asked() -> str:
        api = kr8s.api()
        api.version()
        return str(api.auth.server)

    seconds = answer_s(cluster)
    try:
        return str(in_time(seconds, asked))
    except Exception as error:  # kr8s, httpx, ssl and yaml each have their own
        reason = " ".join(str(error).split()) or type(error).__name__
        raise InputError(
            f"key 'cluster.kind': no Kubernetes answers within {seconds:g} s ({reason}); check"
            " `kubectl get nodes`, KUBECONFIG and its context"
        ) from None


@contextmanager
def _named(cluster: Cluster) -> Iterator[Any]:
    from dask_kubernetes.operator import KubeCluster

    namespace = (cluster.pod or Pod()).namespace
    try:
        here = in_time(
            cluster.patience,
            KubeCluster.from_name,
            cluster.name,
            namespace=namespace,
            quiet=True,
            shutdown_on_close=False,
        )
    except Exception as error:
        raise InputError(
            f"key 'cluster.name': no DaskCluster {cluster.name!r} to connect to"
            f" ({' '.join(str(error).split())}); `kubectl get daskclusters` lists them"
        ) from None
    with here:
        yield here


@contextmanager
def _new(cluster: Cluster) -> Iterator[Any]:
    from dask_kubernetes.operator import KubeCluster

    name = f"dimucal-{uuid.uuid4().hex[:8]}"
    found = manifest(cluster, name)
    try:
        try:
            here = in_time(
                cluster.patience,
                KubeCluster,
                custom_cluster_spec=found,
                quiet=True,
                namespace=(cluster.pod or Pod()).namespace,
                create_mode="CREATE_ONLY",
                resource_timeout=int(cluster.patience),
                shutdown_on_close=False,
            )
        except Exception as error:
            reason = " ".join(str(error).split()) or f"not within {cluster.patience:g} s"
            raise CalibError(
                f"the DaskCluster {name} does not start ({reason}); is the Dask operator there,"
                " and may the pods get what they ask for? `calib cluster manifest CONFIG` shows it"
            ) from None
        with here:
            yield here
    finally:
        with uninterrupted():
            _delete(name, cluster)


def _delete(name: str, cluster: Cluster) -> None:
    """Remove a cluster by its name, however far its start has come."""
    from dask_kubernetes.operator._objects import DaskCluster
    from kr8s import NotFoundError

    async def delete() -> None:
        found = await DaskCluster.get(name, namespace=(cluster.pod or Pod()).namespace)
        await found.delete()

    def run() -> None:
        import asyncio

        asyncio.run(delete())

    try:
        in_time(answer_s(cluster), run)
    except NotFoundError:
        return
    except Exception as error:
        log.warning("the DaskCluster %s may still run (%s)", name, " ".join(str(error).split()))


# the manifest --------------------------------------------------------------------------------
def manifest(cluster: Cluster, name: str = "dimucal") -> dict[str, Any]:
    """Return the DaskCluster that a run asks for.

    Parameters
    ----------
    cluster : Cluster
        As configured.
    name : str
        Of the DaskCluster.

    Returns
    -------
    dict
        Checked against the operator's schema.

    Raises
    ------
    InputError
        If it is not what the operator accepts: a misspelt key of a pod, a wrong type.
    """
    try:
        from dask_kubernetes.operator import make_cluster_spec
    except ImportError:
        raise InputError(NEEDS) from None

    pod = cluster.pod or Pod()
    workers = cluster.adaptive.minimum if cluster.adaptive else cluster.workers
    amounts = {"cpu": pod.cpu, "memory": pod.memory}
    found: dict[str, Any] = make_cluster_spec(
        name=name,
        image=pod.image,
        n_workers=workers,
        resources={"requests": amounts, "limits": amounts},
        env=_environment(pod),
        worker_command="dask-worker --nthreads 1",
        idle_timeout=pod.idle_timeout,
    )
    found["metadata"]["labels"] = LABELS
    if pod.namespace:
        found["metadata"]["namespace"] = pod.namespace
    for part in ("worker", "scheduler"):
        spec = found["spec"][part]["spec"]
        spec |= {**_accounts(pod), **pod.spec}
        container = spec["containers"][0]
        if pod.environment_from:
            container["envFrom"] = [{"secretRef": {"name": n}} for n in pod.environment_from]
        if pod.mounts:
            container["volumeMounts"] = [dict(mount) for mount in pod.mounts]
    require_schema(found)
    return dict(json.loads(json.dumps(found)))  # no part stands for two, which YAML would show


def _environment(pod: Pod) -> dict[str, str]:
    nanny = {"MALLOC_TRIM_THRESHOLD_": None, **ONE_THREAD}
    return {"DASK_DISTRIBUTED__NANNY__PRE_SPAWN_ENVIRON": str(nanny), **pod.environment}


def _accounts(pod: Pod) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if pod.service_account:
        found["serviceAccountName"] = pod.service_account
    if pod.pull_secrets:
        found["imagePullSecrets"] = [{"name": name} for name in pod.pull_secrets]
    return found


def require_schema(found: Mapping[str, Any]) -> None:
    """Raise InputError where a manifest is not of the schema that the operator has of it."""
    from jsonschema import Draft202012Validator

    errors = sorted(Draft202012Validator(schema()).iter_errors(found), key=lambda e: len(e.path))
    for error in errors:
        place = ".".join(str(p) for p in error.absolute_path)
        raise InputError(
            f"key 'cluster.pod': {place}: {error.message[:200]}; the Dask operator does not accept"
            " it, correct it"
        )


@cache
def schema() -> dict[str, Any]:
    """Return the schema of a DaskCluster, from the operator's own package.

    Kubernetes drops keys that it does not know without a word; here they are refused.
    """
    from importlib.resources import files

    from calib.documents import yaml_values

    operator = files("dask_kubernetes.operator") / "deployment" / "helm"
    path = operator / "dask-kubernetes-operator" / "crds" / "daskcluster.yaml"
    found = yaml_values(path.read_text(encoding="utf-8"))
    kind = found["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    top = {
        "apiVersion": {"type": "string"},
        "kind": {"type": "string"},
        "metadata": {"type": "object"},
    }
    return _closed(kind | {"properties": top | kind["properties"]})


def _closed(part: Any) -> Any:
    """Return a schema in which objects have no other keys than those it names."""
    if isinstance(part, list):
        return [_closed(item) for item in part]
    if not isinstance(part, Mapping):
        return part
    found = {key: _closed(value) for key, value in part.items()}
    if found.get("type") == "object" and isinstance(found.get("properties"), Mapping):
        found.setdefault("additionalProperties", False)
    return found
