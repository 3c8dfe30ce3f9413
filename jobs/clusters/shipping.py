"""Our code to workers that lack it: a zip file, which Dask gives to those that come later too."""

from __future__ import annotations

import inspect
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING
from zipfile import ZIP_DEFLATED, ZipFile, ZipInfo

from calib.errors import CalibError
from jobs.clusters import fingerprint

if TYPE_CHECKING:
    from distributed import Client

    from calib.calibrations.base import Calibration

FRESH = '''"""Imported first: forgets what an earlier file, or another version, has left loaded."""

import sys

NAMES = {names!r}

for name in list(sys.modules):
    if name.split(".")[0] in NAMES:
        del sys.modules[name]
sys.path[:] = [p for p in sys.path if not ({prefix!r} in p and {own!r} not in p)]
'''
FIRST = "_dimucal_first"
"""Its module: sorts before the others, and Dask imports in that order."""


def extras(calibration: Calibration | None) -> dict[str, bytes]:
    """Return the files of a calibration of the user's own, which no worker has.

    A single file, or all of the package that it is in; empty for the ones of this package.
    """
    if calibration is None:
        return {}
    top = type(calibration).__module__.split(".")[0]
    module = inspect.getmodule(type(calibration))
    file = Path(getattr(module, "__file__", None) or "")
    if top in fingerprint.ROOMS or file.suffix != ".py":
        return {}
    depth = type(calibration).__module__.count(".") + (file.name == "__init__.py")
    if depth == 0:
        return {f"{top}.py": file.read_bytes()}
    root = file.parents[depth]
    return dict(fingerprint.sources(root, (top,)))


def send(found: Client, ours: bool, more: Mapping[str, bytes]) -> str:
    """Send code to the scheduler and to all workers, of now and of later; return its digest.

    Parameters
    ----------
    found : Client
        Of the cluster.
    ours : bool
        Whether this package is sent.
    more : mapping of file name to content
        Files beside it, from `extras`.

    Returns
    -------
    str
        Hexadecimal.

    Raises
    ------
    CalibError
        If our files are no longer those that this process runs.
    """
    from distributed.diagnostics.plugin import SchedulerUploadFile, UploadFile

    if ours and fingerprint.digest(fingerprint.sources(fingerprint.ROOT)) != fingerprint.LOADED:
        raise CalibError(
            "the code of this package has changed since this command has started; run it again"
        )
    files = dict(fingerprint.sources(fingerprint.ROOT)) if ours else {}
    files |= more
    digest = fingerprint.digest(iter(files.items()))
    kind = "dimucal-code" if ours else "dimucal-calibration"
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"{kind}-{digest}.zip"
        write_archive(path, files, f"{kind}-")
        # a plugin by name: a worker that comes later gets it before its first task
        found.register_plugin(SchedulerUploadFile(str(path)), name=f"scheduler-{path.stem}")
        found.register_plugin(UploadFile(str(path)), name=path.stem)
    return digest


def write_archive(path: Path, files: Mapping[str, bytes], prefix: str) -> None:
    """Write a zip file that Python imports from, the same to the byte for the same files.

    Parameters
    ----------
    path : Path
        The zip file.
    files : mapping of str to bytes
        By name in it.
    prefix : str
        Beginning of the names of archives that this one replaces.
    """
    names = sorted({Path(name).parts[0].removesuffix(".py") for name in files})
    first = FRESH.format(names=names, prefix=f"/{prefix}", own=path.name)
    with ZipFile(path, "w", ZIP_DEFLATED) as archive:
        for name, content in _all(files, first):
            archive.writestr(ZipInfo(name, (2000, 1, 1, 0, 0, 0)), content)


def _all(files: Mapping[str, bytes], first: str) -> Iterable[tuple[str, bytes]]:
    yield f"{FIRST}.py", first.encode()
    yield from files.items()
