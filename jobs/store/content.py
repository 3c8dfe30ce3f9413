"""The files of a store: named by what is in them, written before anybody speaks of them.

``payloads/<2 hex>/<sha256>.json`` holds payloads, ``runs/<2 hex>/<sha256>/`` what is kept of a
run: its list ``files.json`` gives the folder its name. Everything is made in ``incoming/`` and
then renamed, so that a file under its own name is whole.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from calib.documents import MAX_JSON, json_values
from calib.errors import CalibError, InputError

LIST = "files.json"

KEPT = (
    "report.html",
    "verdict.json",
    "provenance.json",
    "config.yaml",
    "accounting.json",
    "edits.yaml",
    "covariance.npz",
)
"""Beside the tables (every .csv but the fits, which the report shows)."""

MAX_FILE = 512 * 1024**2
"""Bytes of one file that is kept."""

STALE_S = 24 * 3600
"""Age at which what is still incoming belongs to somebody who was killed."""

_SHA = re.compile(r"[0-9a-f]{64}")
_FILE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.+-]{0,120}")


def sha256(data: bytes) -> str:
    """Return the checksum that a content is named by."""
    return hashlib.sha256(data).hexdigest()


@dataclass(frozen=True)
class Staged:
    """What is about to be published, in a folder of its own."""

    folder: Path
    payload: str
    size: int
    files: str
    document: dict[str, Any]


@dataclass(frozen=True)
class Content:
    """The files of one store, below a folder."""

    folder: Path

    def payload_path(self, sha: str) -> Path:
        """Return where a payload is."""
        return self.folder / "payloads" / _checked(sha)[:2] / f"{sha}.json"

    def run_path(self, sha: str) -> Path:
        """Return the folder of what is kept of a run."""
        return self.folder / "runs" / _checked(sha)[:2] / sha

    # in --------------------------------------------------------------------------------------
    @contextmanager
    def staging(self, directory: Path) -> Iterator[Staged]:
        """Yield copies of the files of a run; nobody sees them until `take_in`.

        Raises
        ------
        InputError
            If the payload is none, or a file is no plain file.
        """
        folder = self.folder / "incoming" / uuid.uuid4().hex
        try:
            (folder / "run").mkdir(parents=True)
            document, raw = _payload(directory / "payload.json")
            _write(folder / "payload.json", raw)
            listed = {}
            for path in _kept(directory):
                data = _plain(path)
                _write(folder / "run" / path.name, data)
                listed[path.name] = {"sha256": sha256(data), "size": len(data)}
            text = json.dumps(listed, indent=1, sort_keys=True).encode()
            _write(folder / "run" / LIST, text)
            _sync(folder / "run")
            yield Staged(folder, sha256(raw), len(raw), sha256(text), document)
        except OSError as error:
            if error.filename is not None and Path(error.filename).is_relative_to(directory):
                raise InputError(f"{error.filename}: cannot be read ({error.strerror})") from None
            raise CalibError(
                f"{self.folder}: cannot be written ({error.strerror}); nothing was published"
            ) from None
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def take_in(self, staged: Staged) -> None:
        """Give staged files their names: what has one already is the same and stays."""
        target = self.payload_path(staged.payload)
        if not target.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            (staged.folder / "payload.json").replace(target)
            _sync(target.parent)
        target = self.run_path(staged.files)
        if not target.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            (staged.folder / "run").replace(target)
            _sync(target.parent)

    # out -------------------------------------------------------------------------------------
    def payload(self, sha: str) -> bytes:
        """Return the bytes of a payload.

        Raises
        ------
        CalibError
            If they are gone, or not what they were.
        """
        return _verified(self.payload_path(sha), sha)

    def listed(self, sha: str) -> dict[str, dict[str, Any]]:
        """Return the files kept of a run, ``{name: {sha256, size}}``."""
        path = self.run_path(sha) / LIST
        found: dict[str, dict[str, Any]] = json_values(_verified(path, sha).decode())
        for name, facts in found.items():
            if not _FILE.fullmatch(name) or not _SHA.fullmatch(str(facts.get("sha256"))):
                raise CalibError(f"{path}: {name[:100]!r} is no file of a run")
        return found

    def file(self, sha: str, name: str) -> bytes:
        """Return a file kept of a run.

        Raises
        ------
        InputError
            If there is none of this name.
        CalibError
            If it is gone, or not what it was.
        """
        listed = self.listed(sha)
        if name not in listed:
            raise InputError(
                f"file {name[:100]!r}: not kept of this run; there are {', '.join(listed)}"
            )
        return _verified(self.run_path(sha) / name, listed[name]["sha256"])

    # care ------------------------------------------------------------------------------------
    def problems(self, payloads: set[str], runs: set[str]) -> list[str]:
        """Return a sentence for each content that is gone or not what it was."""
        found = []
        for sha in sorted(payloads):
            found += _problem(lambda s=sha: self.payload(s))
        for sha in sorted(runs):
            try:
                names = list(self.listed(sha))
            except CalibError as error:
                found.append(str(error))
                continue
            for name in names:
                found += _problem(lambda s=sha, n=name: self.file(s, n))
        return found

    def orphans(self, payloads: set[str], runs: set[str]) -> list[Path]:
        """Return contents that no revision names: their publisher was killed."""
        found = [
            p for p in sorted((self.folder / "payloads").glob("??/*")) if p.stem not in payloads
        ]
        found += [p for p in sorted((self.folder / "runs").glob("??/*")) if p.name not in runs]
        return found

    def sweep_incoming(self, older_than_s: float = STALE_S) -> None:
        """Remove what killed publishers have left in incoming/."""
        limit = time.time() - older_than_s
        for path in (self.folder / "incoming").glob("*"):
            try:
                stale = path.stat().st_mtime < limit
            except FileNotFoundError:  # its publisher has just finished
                continue
            if stale:
                shutil.rmtree(path, ignore_errors=True)


def _problem(read: Any) -> list[str]:
    try:
        read()
    except CalibError as error:
        return [str(error)]
    return []


def _checked(sha: str) -> str:
    if not _SHA.fullmatch(sha):
        raise CalibError(f"{sha[:100]!r} is no checksum; the store's database is damaged")
    return sha


def _payload(path: Path) -> tuple[dict[str, Any], bytes]:
    """Return a payload and its bytes, the same that were validated."""
    from calib.payload.payload import read as read_payload  # slow to load, and not needed to read
    from calib.payload.payload import validate

    read_payload(path)  # refuses in a sentence what is none
    raw = _plain(path)
    if len(raw) > MAX_JSON:
        raise InputError(f"{path}: larger than {MAX_JSON} bytes; expected a payload")
    try:
        document = json_values(raw.decode("utf-8"))
        validate(document, raw.decode("utf-8"))
    except Exception as error:
        reason = " ".join(str(error).split())[:200]
        raise InputError(f"{path}: changed while it was read ({reason}); try again") from None
    return document, raw


def _kept(directory: Path) -> list[Path]:
    named = [directory / name for name in KEPT]
    tables = [p for p in sorted(directory.glob("*.csv")) if p.name != "fits.csv"]
    there = [p for p in named if p.exists()]
    return there + [p for p in tables if _FILE.fullmatch(p.name)]


def _plain(path: Path) -> bytes:
    """Return what is in a file; a link could make anything of the machine public."""
    if path.is_symlink() or not path.is_file():
        raise InputError(f"{path}: no plain file; put the file itself there")
    size = path.stat().st_size
    if size > MAX_FILE:
        raise InputError(f"{path}: {size} bytes, more than {MAX_FILE}; remove it from the run")
    with os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW), "rb") as file:
        return file.read(MAX_FILE + 1)


def _write(path: Path, data: bytes) -> None:
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _sync(folder: Path) -> None:
    """Make new names last through a power cut."""
    number = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)


def _verified(path: Path, sha: str) -> bytes:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise CalibError(
            f"{path}: cannot be read ({error.strerror}); restore it from a copy of the store"
        ) from None
    if sha256(data) != sha:
        raise CalibError(
            f"{path}: not what was published (its checksum differs); restore it from a copy"
        )
    return data
