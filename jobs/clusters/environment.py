"""What runs on workers elsewhere is what runs here: the versions, and our own code.

Asked of all workers and of the scheduler (which reads the tasks) before the first event; and by
each chunk again, since workers come later too.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from types import FunctionType
from typing import TYPE_CHECKING, Any

from calib.errors import CalibError, InputError
from jobs.clusters import fingerprint
from jobs.config.cluster import Cluster

if TYPE_CHECKING:
    from distributed import Client

    from calib.calibrations.base import Calibration

log = logging.getLogger(__name__)

CODE = "jobs.clusters.fingerprint"
"""Stands for this package among the versions."""

MISSING = "missing"
"""In place of the identity of our code where it is not there."""

DASK = ("dask", "distributed", "cloudpickle", "msgpack", "tornado", "toolz")
"""What the two ends must have in common to understand each other."""

PACKAGES = ("coffea", "awkward", "uproot", "numpy", "numba", "pyarrow")
"""What the sums are made with."""

Versions = dict[str, str | None]


@dataclass(frozen=True)
class AllVersions:
    """The versions here, of the scheduler and of each worker."""

    here: Versions
    scheduler: Versions
    workers: Mapping[str, Versions]

    @property
    def places(self) -> dict[str, Versions]:
        """Versions by place: ``scheduler``, and the addresses of the workers."""
        return {"scheduler": self.scheduler, **self.workers}


def equip(found: Client, cluster: Cluster, calibration: Calibration | None = None) -> AllVersions:
    """Check versions and code of all workers, send them what they lack, and check again.

    Raises
    ------
    InputError
        If versions differ, or the code does and must not be sent; says which, there and here.
    CalibError
        If the code that was sent did not arrive.
    """
    from jobs.clusters.shipping import extras, send

    asked = ask(found, (*PACKAGES, CODE))
    require_same(asked, cluster)
    lacking = where_code_differs(asked)
    require_may_send(lacking, asked, cluster, others_there(found) if lacking else [])
    more = extras(calibration)
    if lacking or more:
        send(found, bool(lacking), more)
    if lacking:
        asked = ask(found, (*PACKAGES, CODE))
        left = where_code_differs(asked)
        if left:
            raise CalibError(
                f"this package was sent to the workers, but {_named(left)} still have"
                f" {_code(asked.places[left[0]])} (here {_code(asked.here)}); start the cluster"
                " again, or install the package there"
            )
        log.info("this package was sent to the scheduler and %d workers", len(asked.workers))
    return asked


def ask(found: Client, packages: tuple[str, ...]) -> AllVersions:
    """Return what is installed here and there: Python, Dask, and these packages.

    Raises
    ------
    InputError
        If another Python runs there, which could not read what is sent.
    """
    answer = found.get_versions()
    dask = AllVersions(
        _flat(answer["client"]),
        _flat(answer["scheduler"]),
        {k: _flat(v) for k, v in answer["workers"].items() if isinstance(v, Mapping)},
    )
    if not packages:
        return dask
    # compiled code is sent: only where the same Python runs
    require_python(dask)
    function = by_value(installed)
    scheduler = found.run_on_scheduler(function, packages)
    workers = found.run(function, packages, on_error="return")
    return AllVersions(
        dask.here | here(packages),
        dask.scheduler | scheduler,
        {
            place: versions | _answered(workers[place], packages)
            for place, versions in dask.workers.items()
            if place in workers and not isinstance(workers[place], OSError)
        },
    )


def installed(packages: Iterable[str]) -> dict[str, str | None]:
    """Return the versions of packages in the process that runs it, without loading them.

    It is sent by value, to where this package may be lacking: it uses nothing of this module.
    A name with a dot is a module of ours, which is loaded and says itself which code it is; it
    is never None. A package of which nothing is known but that it is there is loaded, too.
    """
    from importlib import import_module, metadata

    found: dict[str, str | None] = {}
    for name in packages:
        ours = "." in name
        try:
            found[name] = import_module(name).__version__ if ours else metadata.version(name)
            continue
        except ModuleNotFoundError:  # as is PackageNotFoundError
            found[name] = "missing" if ours else None
        except Exception as error:
            found[name] = f"not to be read ({type(error).__name__}: {error})"
        if not ours:
            try:
                found[name] = str(import_module(name).__version__)
            except Exception:
                found[name] = None
    return found


def by_value(function: FunctionType) -> FunctionType:
    """Return a copy of a function that travels with its code, not by the name of its module.

    That is what becomes of functions of ``__main__``. It must use nothing of its module.
    """
    globals_ = {"__builtins__": __builtins__}
    copy = FunctionType(function.__code__, globals_, function.__name__, function.__defaults__)
    copy.__module__ = "__main__"
    return copy


def here(packages: Iterable[str]) -> AllVersions:
    """Return the versions of packages in this process; of our code the one that is loaded."""
    names = [name for name in packages if name != CODE]
    return {**installed(names), CODE: fingerprint.__version__}


def _answered(answer: Any, packages: Iterable[str]) -> AllVersions:
    """Return the versions that a worker has given, or why there are none in place of each."""
    if isinstance(answer, Mapping):
        return dict(answer)
    return dict.fromkeys(packages, f"not to be read ({type(answer).__name__}: {answer})")


def _flat(answer: Mapping[str, Any]) -> AllVersions:
    found = dict(answer["packages"])
    return found | {"python": ".".join(str(found["python"]).split(".")[:2])}


# versions ----------------------------------------------------------------------------------------
def differences(here: Versions, there: Versions, names: tuple[str, ...]) -> list[str]:
    """Return what differs, in words: ``numpy 2.3.0 (here 2.4.6)``."""
    return [
        f"{name} {there.get(name) or 'missing'} (here {here.get(name)})"
        for name in names
        if here.get(name) != there.get(name)
    ]


def require_python(found: AllVersions) -> None:
    """Raise InputError where another Python runs: nothing that is sent can be read there."""
    for place, versions in found.places.items():
        other = differences(found.here, versions, ("python",))
        if other:
            raise InputError(
                f"key 'cluster': {_place(place)} has {other[0]}; use an environment of the same"
                " Python on both sides (constraints.txt has the versions)"
            )


def require_same(found: AllVersions, cluster: Cluster) -> None:
    """Raise InputError where packages are missing or other ones; only a warning if so asked."""
    by_difference: dict[tuple[str, ...], list[str]] = {}
    for place, versions in found.places.items():
        other = tuple(differences(found.here, versions, DASK + PACKAGES))
        if other:
            by_difference.setdefault(other, []).append(place)
    if not by_difference:
        return
    text = "; ".join(f"{_named(who)}: {', '.join(d)}" for d, who in by_difference.items())
    missing = any(" missing (" in words for other in by_difference for words in other)
    if cluster.versions == "warn" and not missing:
        log.warning("other versions on the cluster: %s", text)
        return
    hint = "" if missing else ", or set cluster.versions: warn"
    raise InputError(
        f"key 'cluster': other versions on the cluster: {text}; install the same there"
        f" (constraints.txt){hint}"
    )


# our code ----------------------------------------------------------------------------------------
def where_code_differs(found: AllVersions) -> list[str]:
    """Return the places whose code of this package is another, or missing."""
    here = _code(found.here)
    return [place for place, versions in found.places.items() if _code(versions) != here]


def others_there(found: Client) -> list[str]:
    """Return the names of other clients that are connected to the scheduler."""
    return list(found.run_on_scheduler(by_value(_clients), found.id))


def _clients(own: str, dask_scheduler: Any = None) -> list[str]:
    """Return the clients beside our own; it is sent by value, as `installed`."""
    known = (str(name) for name in dask_scheduler.clients)
    apart = ("fire-and-forget", own)
    return sorted(n for n in known if n not in apart and not n.startswith("Client-worker-"))


def require_may_send(
    lacking: list[str], found: AllVersions, cluster: Cluster, others: Sequence[str] = ()
) -> None:
    """Raise InputError where our code would have to be sent and must not.

    What was sent for an earlier run is replaced, unless ``others`` are connected, whose run it may
    be; what is installed is not, unless asked for.
    """
    in_use = [p for p in lacking if (found.places[p].get(CODE) or "").endswith(" sent")]
    if in_use and others and cluster.ship != "never":
        raise InputError(
            f"key 'cluster': {_named(in_use)} have another dimucal, code"
            f" {_code(found.places[in_use[0]])} (here {_code(found.here)}), sent by somebody who is"
            f" connected ({', '.join(others[:3])}); wait until that ends, take the same version, or"
            " a cluster of your own"
        )
    ours = [p for p in lacking if _is_ours_to_replace(found.places[p])]
    refused = lacking if cluster.ship == "never" else [p for p in lacking if p not in ours]
    if not refused or cluster.ship == "always":
        return
    raise InputError(
        f"key 'cluster.ship': {_named(refused)} have another dimucal, code"
        f" {_code(found.places[refused[0]])} (here {_code(found.here)}); install the same there,"
        " or set cluster.ship: always to send this one"
    )


def _is_ours_to_replace(versions: Versions) -> bool:
    """Return whether there is no code of this package, or one that was sent."""
    return _code(versions) == MISSING or (versions.get(CODE) or "").endswith(" sent")


def _code(versions: Versions) -> str:
    return (versions.get(CODE) or MISSING).removesuffix(" sent")


def _named(places: list[str]) -> str:
    workers = [p for p in places if p != "scheduler"]
    named = ["the scheduler"] if "scheduler" in places else []
    if workers:
        named.append(f"{len(workers)} worker{'s' * (len(workers) > 1)} ({workers[0]})")
    return " and ".join(named)


def _place(place: str) -> str:
    return "the scheduler" if place == "scheduler" else f"worker {place}"


# by each chunk -----------------------------------------------------------------------------------
@dataclass(frozen=True)
class Checked:
    """A function that refuses to run where the code or the packages are not those of here.

    Workers come and go: those that were not there at the beginning are checked by this.
    """

    function: Callable[[Any], Any]
    expected: tuple[tuple[str, str | None], ...]

    @classmethod
    def of(cls, function: Callable[[Any], Any], cluster: Cluster) -> Checked:
        """Return the function with what it expects of a worker of this cluster."""
        names = (CODE,) if cluster.versions == "warn" else (*PACKAGES, CODE)
        here = {**versions_here(), CODE: _code(versions_here())}
        return cls(function, tuple((name, here[name]) for name in names))

    def __call__(self, item: Any) -> Any:
        """Return what the function returns.

        Raises
        ------
        InputError
            If this process has other versions.
        """
        there = {**versions_here(), CODE: _code(versions_here())}
        expected = dict(self.expected)
        other = differences(expected, there, tuple(expected))
        if other:
            raise InputError(
                f"key 'cluster': a worker that came later has other versions: {', '.join(other)};"
                " install the same there, and run the same command again to go on"
            )
        return self.function(item)


@cache
def versions_here() -> AllVersions:
    """Return the versions of this process."""
    return here(PACKAGES)
