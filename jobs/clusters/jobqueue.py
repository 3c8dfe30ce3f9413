"""Workers that are jobs of a batch system: SLURM, HTCondor, PBS, SGE, LSF.

The scheduler runs here, so the nodes must reach this machine: ``cluster.job.scheduler_host``.
"""

from __future__ import annotations

import importlib
import logging
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

from calib.errors import CalibError, InputError
from jobs.clusters.local import given_up_if_interrupted
from jobs.clusters.settings import ONE_THREAD, SETTINGS
from jobs.clusters.waiting import require_worker, uninterrupted
from jobs.config.cluster import BatchJob, Cluster

if TYPE_CHECKING:
    from distributed import Client

log = logging.getLogger(__name__)

SYSTEMS = {
    "slurm": ("SLURMCluster", "sbatch"),
    "htcondor": ("HTCondorCluster", "condor_submit"),
    "pbs": ("PBSCluster", "qsub"),
    "sge": ("SGECluster", "qsub"),
    "lsf": ("LSFCluster", "bsub"),
}
"""The class of dask-jobqueue, and the command that hands a job in."""


@contextmanager
def at_batch_system(cluster: Cluster) -> Iterator[Client]:
    """Yield a client whose workers are jobs; they end with the block.

    Raises
    ------
    InputError
        If there is no such batch system here, or it refuses the job.
    CalibError
        If no job has started in time.
    """
    import dask
    from distributed import Client

    submit_command(cluster)
    refused: list[str] = []

    def require_accepted() -> None:
        if refused:
            raise CalibError(
                f"key 'cluster.job': {cluster.kind} does not take the job ({refused[0]}); correct"
                " what it asks for (calib cluster script CONFIG shows it)"
            )

    with dask.config.set(SETTINGS), _without_traces(), ExitStack() as stack:
        with given_up_if_interrupted():
            here = stack.enter_context(_closed(_started(cluster, refused)))
        found = stack.enter_context(Client(here, set_as_default=False))
        _resize(here, cluster)
        require_worker(
            found,
            cluster,
            f"{cluster.kind}, asked for {_asked_for(cluster)},",
            f"see what became of the jobs ({_queue(cluster)}), or give cluster.wait more seconds",
            require_accepted,
        )
        yield found


def submit_command(cluster: Cluster) -> str:
    """Return the path of the command that hands a job in.

    Raises
    ------
    InputError
        If it is not here.
    """
    name = SYSTEMS[cluster.kind][1]
    path = shutil.which(name)
    if path is None:
        raise InputError(
            f"key 'cluster.kind': {cluster.kind} needs the command {name}, which is not here; run"
            " on a machine that submits jobs, or choose another kind"
        )
    return path


def job_script(cluster: Cluster) -> str:
    """Return the script of one job, as it would be handed in.

    Raises
    ------
    InputError
        If dask-jobqueue does not accept the settings.
    """
    kind, arguments = _class(cluster), job_arguments(cluster)
    job = kind.job_cls
    scheduler = cluster.job.scheduler_host if cluster.job else None
    address = f"tcp://{scheduler or 'ADDRESS_OF_THIS_MACHINE'}:PORT"
    options = {k: v for k, v in arguments.items() if k not in ("scheduler_options", "silence_logs")}
    with _refusal(cluster):
        return str(job(address, name=f"{cluster.kind}-0", **options).job_script())


def job_arguments(cluster: Cluster) -> dict[str, Any]:
    """Return what dask-jobqueue is given; keys that are None are left to its own files."""
    job = cluster.job or BatchJob()
    found: dict[str, Any] = {
        "cores": job.cores,
        "processes": job.cores,  # each of one thread, as everywhere
        "memory": job.memory,
        "death_timeout": max(60, int(cluster.patience)),
        "job_script_prologue": [*environment_lines(), *job.prologue],
        "job_extra_directives": _directives(cluster, job),
        "job_directives_skip": list(job.directives_skip),
        "scheduler_options": {"port": job.scheduler_port, "dashboard_address": "127.0.0.1:0"},
        "silence_logs": logging.CRITICAL,
    }
    optional = {
        "python": job.python,
        "interface": job.interface,
        "log_directory": job.log_directory,
        "local_directory": job.local_directory,
        "disk": job.disk if cluster.kind == "htcondor" else None,
    }
    if cluster.kind != "htcondor":
        account = "account" if cluster.kind in ("slurm", "pbs") else "project"
        optional |= {"walltime": job.walltime, "queue": job.queue, account: job.account}
    if job.scheduler_host:
        found["scheduler_options"]["host"] = job.scheduler_host
    return found | {key: value for key, value in optional.items() if value is not None}


def environment_lines() -> list[str]:
    """Return the lines that make workers fast: one thread each, and the allocator left alone."""
    nanny = {"MALLOC_TRIM_THRESHOLD_": None, **{k: int(v) for k, v in ONE_THREAD.items()}}
    return [f'export DASK_DISTRIBUTED__NANNY__PRE_SPAWN_ENVIRON="{nanny}"']


def _directives(cluster: Cluster, job: BatchJob) -> list[str] | dict[str, str]:
    if cluster.kind != "htcondor":
        return list(job.directives)
    pairs = {}
    for line in job.directives:
        key, equals, value = line.partition("=")
        if not equals:
            raise InputError(
                f"key 'cluster.job.directives': found {line!r}; htcondor needs 'key = value'"
            )
        pairs[key.strip()] = value.strip()
    return pairs


def _class(cluster: Cluster) -> Any:
    try:
        return getattr(importlib.import_module("dask_jobqueue"), SYSTEMS[cluster.kind][0])
    except ImportError:
        raise InputError(
            f"key 'cluster.kind': {cluster.kind} needs the package dask-jobqueue; pip install"
            " 'dimucal[slurm]'"
        ) from None


@contextmanager
def _refusal(cluster: Cluster) -> Iterator[None]:
    try:
        yield
    except (TypeError, ValueError, KeyError) as error:
        raise InputError(f"key 'cluster.job': {' '.join(str(error).split())}; correct it") from None


def _started(cluster: Cluster, refused: list[str]) -> Any:
    kind = _class(cluster)
    with _refusal(cluster):
        return kind(job_cls=noting(kind.job_cls, refused), **job_arguments(cluster))


@contextmanager
def _closed(here: Any) -> Iterator[Any]:
    """Yield a cluster whose jobs are taken back at the end, whatever comes in between."""
    try:
        yield here
    finally:
        with uninterrupted():
            here.close(timeout=30)


def _resize(here: Any, cluster: Cluster) -> None:
    """Hand in as many jobs as the workers need."""
    if cluster.adaptive is None:
        here.scale(cluster.workers)
    else:
        here.adapt(minimum=cluster.adaptive.minimum, maximum=cluster.adaptive.maximum)


def noting(kind: Any, refused: list[str]) -> Any:
    """Return a class of jobs that notes what the batch system says when it does not take one.

    Otherwise it ends in a log, while we wait for a worker that cannot come.

    Parameters
    ----------
    kind : type
        A class of jobs of dask-jobqueue.
    refused : list of str
        Gets what the batch system says.

    Returns
    -------
    type
        Derived from it.
    """
    from distributed.core import Status

    class Job(kind):  # type: ignore[misc]
        async def _submit_job(self, script_filename: str) -> str:
            try:
                return str(await super()._submit_job(script_filename))
            except (OSError, RuntimeError, ValueError) as error:
                _, _, said = str(error).partition("stderr:")
                refused.append(" ".join((said or str(error)).split()))
                self.status = Status.failed  # which is how a cluster expects it when it closes
                raise

    return Job


@contextmanager
def _without_traces() -> Iterator[None]:
    """Keep the event loop from telling of a refused job in its own way: it is told in ours."""
    loggers = [logging.getLogger(name) for name in ("asyncio", "tornado.application")]
    before = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        for logger, level in zip(loggers, before, strict=True):
            logger.setLevel(level)


def _asked_for(cluster: Cluster) -> str:
    job = cluster.job or BatchJob()
    where = f" in {job.queue}" if job.queue else ""
    return f"{job.cores} cores and {job.memory} a job{where}"


def _queue(cluster: Cluster) -> str:
    return {"slurm": "squeue", "htcondor": "condor_q", "lsf": "bjobs"}.get(cluster.kind, "qstat")
