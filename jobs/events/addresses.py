"""Globs, directories and addresses to the names of single files."""

from __future__ import annotations

import glob
import os
from pathlib import Path

from calib.errors import InputError
from calib.schema import Sample

SUFFIX = {"nanoaod": ".root", "stage1": ".parquet", "table": ".parquet"}


def expand(sample: Sample, base: Path) -> list[str]:
    """Return the files of a sample, each entry's files sorted by name, in the order given.

    Parameters
    ----------
    sample : Sample
        Its ``files``, which are no query: globs (``**`` goes through folders), directories (all
        files of the format below) or addresses (``root://``, ``https://`` ...), relative to
        ``base``.
    base : Path
        Folder of the configuration.

    Returns
    -------
    list of str
        Paths and addresses.

    Raises
    ------
    InputError
        If an entry matches nothing.
    """
    assert isinstance(sample.files, tuple)
    return [path for entry in sample.files for path in _expand_one(entry, sample, base)]


def is_remote(path: str) -> bool:
    """Return whether a name is an address and not a path on this machine."""
    return "://" in path


def _expand_one(entry: str, sample: Sample, base: Path) -> list[str]:
    where = f"sample {sample.name!r}, key 'files': {entry!r}"
    if entry.startswith("file://"):
        entry = entry.removeprefix("file://")
    if is_remote(entry):
        return _expand_remote(entry, where) if glob.has_magic(entry) else [entry]
    # absolute: workers may stand in another folder
    path = os.path.abspath(base / Path(entry).expanduser())
    suffix = SUFFIX[sample.format]
    if os.path.isdir(path):
        # like a shell's glob: what is hidden is unfinished, or not meant
        pattern = os.path.join(glob.escape(path), "**", f"*{suffix}")
        found = sorted(p for p in glob.glob(pattern, recursive=True) if os.path.isfile(p))
        if not found:
            raise InputError(
                f"{where}: the directory {path} holds no *{suffix} file; correct the path or the"
                " key 'format'"
            )
        return found
    if os.path.lexists(path) and not glob.has_magic(entry):
        return [path]
    found = sorted(p for p in glob.glob(path, recursive=True) if os.path.isfile(p))
    if os.path.isfile(path) and path not in found:  # a name with brackets in it
        found = [path]
    if not found and glob.has_magic(entry):
        raise InputError(f"{where}: the glob matches no file in {base}; correct the pattern")
    if not found:
        raise InputError(f"{where}: there is no such file or directory; correct the path")
    return found


def _expand_remote(entry: str, where: str) -> list[str]:
    import fsspec

    try:
        system, _ = fsspec.core.url_to_fs(entry)
        found = sorted(system.unstrip_protocol(p) for p in system.glob(entry))
    except Exception as error:
        raise InputError(
            f"{where}: the address cannot be listed ({error}); name the files one by one"
        ) from error
    if not found:
        raise InputError(f"{where}: the glob matches no file; correct the pattern")
    return found
