"""What made the numbers: inputs, configuration, code, packages, machine, seconds per step."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import time
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import calib.errors
from calib.calibrations.base import Calibration
from calib.digests import code_version, digest
from jobs.config.schema import Config

ROOT = Path(calib.errors.__file__).parent.parent
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
    ours = [ROOT / "calib", ROOT / "processors"]
    return code_version([*ours, *sorted(_packages_of(kind) - set(ours))], kind)


def _packages_of(kind: type[Calibration]) -> set[Path]:
    """Return the folders of the packages that a class and its bases come from."""
    tops = {c.__module__.partition(".")[0] for c in kind.__mro__ if issubclass(c, Calibration)}
    files = [Path(getattr(sys.modules.get(top), "__file__", None) or "") for top in tops]
    return {file.parent for file in files if file.name == "__init__.py"}


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
