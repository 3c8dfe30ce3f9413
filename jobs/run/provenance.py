"""What made the numbers: inputs, configuration, code, packages, machine, seconds per step."""

from __future__ import annotations

import ast
import os
import platform
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import calib.errors
from calib.calibrations.base import Calibration
from calib.digests import code_version, digest
from calib.source import Reach, members
from jobs.config.schema import Config

ROOT = Path(calib.errors.__file__).parent.parent
EVENT_LOOP = (
    ("processors.calibration", "CalibrationProcessor"),
    ("processors.readers.stage1", "work"),
    ("processors.input_checks", "*"),
)
"""Where the event loop begins; it reaches all readers and the selection."""
APPLY = frozenset({"corrects", "apply", "apply_muons", "apply_pairs"})
AFTER_EVENTS = APPLY | {
    "reduce",
    "next_pass",
    "closure_pass",
    "closure",
    "publish",
    "check_payload",
    "sections",
    "export",
    "truth",
    "quality",
    "values",
    "layout",
    "payload_names",
    "layouts",
}
"""Members of a calibration that are not called for the sums; any new one is taken to be."""
PACKAGES = (
    "awkward",
    "boost-histogram",
    "coffea",
    "correctionlib",
    "dask",
    "dask-awkward",
    "distributed",
    "hist",
    "iminuit",
    "matplotlib",
    "numba",
    "numpy",
    "pandas",
    "pyarrow",
    "pydantic",
    "scipy",
    "typer",
    "uproot",
)


@cache
def code(kind: type[Calibration]) -> str:
    """Return the version of the code that makes numbers: calib, processors, the plug-in."""
    return code_version([ROOT / "calib", ROOT / "processors"], kind)


@cache
def code_of_events(kind: type[Calibration]) -> str:
    """Return the version of the code that makes the sums of a calibration of the events.

    It follows what the event loop reaches by name: a change of the reduction, of figures or of
    the report leaves it as it is.
    """
    return _code_of(kind, EVENT_LOOP, frozenset(vars(Calibration)) - AFTER_EVENTS)


@cache
def code_of_corrections(kind: type[Calibration]) -> str:
    """Return the version of the code that applies a calibration's payload to events."""
    return _code_of(kind, (), frozenset(vars(Calibration)) & APPLY)


def _code_of(
    kind: type[Calibration], starts: Iterable[tuple[str, str]], names: frozenset[str]
) -> str:
    reach = reach_of(kind, starts, names, {n: ROOT / n for n in ("calib", "processors")})
    return digest(reach.texts()) if reach else code(kind)


def reach_of(
    kind: type[Calibration],
    starts: Iterable[tuple[str, str]],
    names: frozenset[str],
    places: Mapping[str, Path],
) -> Reach | None:
    """Return the source that some members of a calibration lead to, None where it has none.

    Parameters
    ----------
    kind : type of Calibration
    starts : iterable of (module, name)
        Where to begin beside the calibration.
    names : frozenset of str
        The members of the calibration that are called.
    places : mapping of package to folder
        Of our own; those of the calibration and its bases are added.
    """
    classes = [c for c in kind.__mro__ if issubclass(c, Calibration)]
    places = dict(places)
    for c in classes:
        top = c.__module__.split(".")[0]
        file = getattr(sys.modules.get(top), "__file__", None)
        if top == "__main__" or not file or Path(file).suffix != ".py":
            return None
        place = Path(file)
        places.setdefault(top, place.parent if place.name == "__init__.py" else place)
    reach = Reach(places, known=frozenset({("calib.calibrations", "get")}))
    nodes = {}
    for c in classes:
        module = reach.module(c.__module__)
        found = None if module is None else module.statements.get(c.__name__)
        if found is None or not isinstance(found[0], ast.ClassDef):
            return None
        nodes[c.__module__, c.__name__] = found[0]
    kept = members(nodes.values(), names)
    reach.methods.update(dict.fromkeys(nodes, kept))
    for name, what in (*starts, *nodes):
        reach.follow(name, what)
    return reach


@cache
def code_of_jobs() -> str:
    """Return the version of the code that writes the files and the page."""
    return code_version([ROOT / "jobs"])


def config_hash(config: Config) -> str:
    """Return a digest of the settings; where the work is done is not among them."""
    return digest(config.model_dump(mode="json", exclude={"cluster"}))


def packages() -> dict[str, str]:
    """Return the installed versions of the packages that matter."""
    found = {"python": platform.python_version(), "dimucal": calib.__version__}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def machine() -> dict[str, Any]:
    """Return what the numbers were made on."""
    return {
        "host": platform.node(),
        "system": platform.platform(),
        "processor": platform.machine(),
        "cores": os.cpu_count(),
    }


@cache
def commit() -> str | None:
    """Return the git commit of the source tree (``+`` where it has changes), None outside one."""
    if not (ROOT / ".git").exists():
        return None
    try:
        head = _git("rev-parse", "HEAD")
        return head + ("+" if _git("status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.SubprocessError):
        return None


def _git(*arguments: str) -> str:
    return subprocess.run(
        ["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True, timeout=10
    ).stdout.strip()


def now() -> str:
    """Return the time as it is written into files."""
    return datetime.now(UTC).isoformat(timespec="seconds")


class Stopwatch:
    """Wall and CPU seconds; ``cpu_s`` of other processes is added by hand."""

    def __init__(self) -> None:
        self._wall, self._cpu = time.perf_counter(), time.process_time()
        self.elsewhere = 0.0

    def read(self) -> dict[str, float]:
        """Return the seconds since the start."""
        cpu = time.process_time() - self._cpu + self.elsewhere
        return {"wall_s": round(time.perf_counter() - self._wall, 3), "cpu_s": round(cpu, 3)}
