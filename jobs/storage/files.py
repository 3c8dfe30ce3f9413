"""The files of a run's directory: each whole or not at all, and one writer at a time."""

from __future__ import annotations

import hashlib
import json
import re
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from enum import Enum
from pathlib import Path
from typing import Any

import numpy as np

from calib.documents import json_values, yaml_text, yaml_values
from calib.errors import InputError
from calib.events import histograms
from calib.later import pandas as pd
from calib.results import Curve, Pass
from jobs.clusters import fingerprint
from jobs.storage import locks

INSIDE = ".calib"
STORE = "store.sqlite"
"""The file that makes a directory a store."""


def is_store(place: str | Path) -> bool:
    """Return whether this is a store, or the address of a database that may hold one."""
    return "://" in str(place) or (Path(place) / STORE).is_file()


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside the file; it takes the file's name if all went well.

    Raises
    ------
    CalibError
        If there is no space for it.
    """
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        temporary.replace(path)
    except OSError as error:
        raise histograms.no_space(path, error) or error from None
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a text file, whole or not at all.

    Parameters
    ----------
    path : Path
        The file, replaced where it is there.
    text : str
        Written as UTF-8.
    """
    with whole(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file, whole or not at all.

    Parameters
    ----------
    path : Path
        The file, replaced where it is there.
    content : bytes
        What is written.
    """
    with whole(path) as temporary:
        temporary.write_bytes(content)


def write_json(path: Path, values: Any) -> None:
    """Write JSON, which has no numbers that are not finite.

    Parameters
    ----------
    path : Path
        The file, replaced where it is there.
    values : object
        Plain values.

    Raises
    ------
    ValueError
        If a number is not finite.
    """
    write_text(path, json.dumps(values, indent=1, allow_nan=False) + "\n")


def write_csv(path: Path, table: pd.DataFrame) -> None:
    """Write a table; floats are written so that they come back bit for bit.

    Parameters
    ----------
    path : Path
        The file, replaced where it is there.
    table : DataFrame
        Written without its index.
    """
    write_text(path, plain(table).to_csv(index=False, lineterminator="\n"))


def write_parquet(path: Path, table: pd.DataFrame) -> None:
    """Write a table as parquet.

    Parameters
    ----------
    path : Path
        The file, replaced where it is there.
    table : DataFrame
        Written without its index.
    """
    with whole(path) as temporary:
        plain(table).to_parquet(temporary, index=False)


def plain(table: pd.DataFrame) -> pd.DataFrame:
    """Return the table with enumerations (statuses) as plain strings."""
    out = table.copy()
    for column in out.columns:
        if out[column].dtype == object:
            out[column] = [v.value if isinstance(v, Enum) else v for v in out[column]]
    return out


def write_curves(path: Path, curves: tuple[Curve, ...]) -> None:
    """Write the pictures of all fits: a few arrays with one entry a fit, then flat arrays.

    ``edges`` holds n_bins + 1 numbers a curve, the others n_bins, in the order of the names.

    Parameters
    ----------
    path : Path
        The file, an .npz.
    curves : tuple of Curve
        In any units, which are kept.
    """
    numbers = ("edges", "counts", "variance", "model", "background")
    sums: histograms.Sums = {
        "names": np.array([c.name for c in curves], dtype=np.str_),
        "groups": np.array([c.group for c in curves], dtype=np.str_),
        "units": np.array([c.unit for c in curves], dtype=np.str_),
        "observables": np.array([c.observable for c in curves], dtype=np.str_),
        "texts": np.array([c.text for c in curves], dtype=np.str_),
        "n_bins": np.array([len(c.counts) for c in curves], dtype=np.int64),
    }
    for name in numbers:
        parts = [np.asarray(getattr(c, name), dtype=np.float64) for c in curves]
        sums[name] = np.concatenate(parts) if parts else np.zeros(0)
    histograms.write(path, sums)


class RunDirectory:
    """The directory of one run, DIR in the documentation.

    Hidden files of our own (lock, markers of the steps) are below ``.calib/``.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._inside = path / INSIDE

    def __truediv__(self, name: str) -> Path:
        return self.path / name

    @property
    def exists(self) -> bool:
        """Whether this is the directory of a run."""
        return (self.path / "config.yaml").is_file()

    @property
    def has_events(self) -> bool:
        """Whether anything was collected: before that a directory is bound to no configuration."""
        histograms_ = self.path / "histograms"
        return (self.path / "accounting.json").is_file() or any(histograms_.rglob("*.npz"))

    @property
    def is_finished(self) -> bool:
        """Whether all files of a run are there, made by one that went to its end."""
        names = ("fits.csv", "payload.json", "verdict.json", "provenance.json", "report.html")
        there = all((self.path / name).is_file() for name in names)
        return there and bool(self.marker("report").get("whole"))

    def require(self) -> None:
        """Raise InputError where this is not the directory of a run."""
        if not self.path.is_dir():
            raise InputError(
                f"{self.path}: there is no such directory; `calib run CONFIG --out DIR` makes one"
            )
        if not self.exists:
            raise InputError(
                f"{self.path}: no config.yaml in it, so it is not the directory of a run;"
                " give one that `calib run CONFIG --out DIR` has made"
            )

    def require_free_for(self, what: str, its_file: str = "config.yaml") -> None:
        """Refuse a directory with something else in the place of a run, a chain or a skim.

        Parameters
        ----------
        what : str
            ``run``, ``chain`` or ``skim``.
        its_file : str
            What such a directory has.

        Raises
        ------
        InputError
            If it has files but not this one, or is a file.
        """
        if self.path.exists() and not self.path.is_dir():
            raise InputError(f"{self.path}: a file, expected a directory; choose another --out")
        is_used = self.path.is_dir() and any(p.name != INSIDE for p in self.path.iterdir())
        if is_used and not (self.path / its_file).is_file():
            raise InputError(
                f"{self.path}: has files in it but no {its_file}, so it is not the directory of a"
                f" {what}; choose another --out"
            )

    # one writer at a time ----------------------------------------------------------------------
    @contextmanager
    def lock(self, command: str) -> Iterator[None]:
        """Hold the directory for one command.

        Raises
        ------
        InputError
            If another process holds it; the sentence says which.
        """
        if self.path.exists() and not self.path.is_dir():
            raise InputError(f"{self.path}: a file, expected a directory; choose another --out")
        try:
            self._inside.mkdir(parents=True, exist_ok=True)
            file = (self._inside / "lock").open("a+", encoding="utf-8")
        except OSError as error:
            raise InputError(
                f"{self.path}: cannot be written ({error.strerror}); choose another directory"
            ) from None
        with file, locks.held(file, command, self._busy):
            self._sweep()
            yield

    def _busy(self, holder: str) -> str:
        return f"{self.path}: in use by {holder}; wait until it ends, or stop it"

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Hold the directory as it is: many may read it, nobody writes meanwhile.

        Raises
        ------
        InputError
            If another process writes.
        """
        try:
            file = (self._inside / "lock").open("r", encoding="utf-8")
        except OSError:  # put away, or not ours to write: nobody will
            yield
            return
        with file, locks.shared(file, self._busy):
            yield

    def _sweep(self) -> None:
        """Remove what a run that was killed has left unfinished."""
        for path in self.path.rglob(".*.part"):
            path.unlink(missing_ok=True)

    def holder(self) -> str:
        """Return who holds the directory, empty where nobody does."""
        return locks.holder(self._inside / "lock")

    # what is done --------------------------------------------------------------------------------
    def marker(self, step: str) -> dict[str, Any]:
        """Return what a finished step has noted, empty where it is not done."""
        return self.note(f"steps/{step}")

    def mark(self, step: str, values: Mapping[str, Any]) -> None:
        """Note that a step is done.

        Parameters
        ----------
        step : str
            Name of the step.
        values : mapping
            Plain values, with the digest of what it depends on as ``key``.
        """
        self.keep(f"steps/{step}", values)

    def unmark(self, step: str) -> None:
        """Forget that a step is done."""
        (self._inside / "steps" / f"{step}.json").unlink(missing_ok=True)

    def forget_steps(self) -> None:
        """Forget that anything is done, and how long it took; finished chunks are kept."""
        for folder in ("steps", "time"):
            for path in (self._inside / folder).glob("*.json"):
                path.unlink()

    def note(self, name: str) -> dict[str, Any]:
        """Return plain values kept under a name, empty where there are none."""
        try:
            found = json_values((self._inside / f"{name}.json").read_text(encoding="utf-8"))
        except (FileNotFoundError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}

    def forget(self, name: str) -> None:
        """Forget the values kept under a name."""
        (self._inside / f"{name}.json").unlink(missing_ok=True)

    def keep(self, name: str, values: Mapping[str, Any]) -> None:
        """Keep plain values under a name.

        Parameters
        ----------
        name : str
            Of the note; ``/`` makes folders.
        values : mapping
            Plain values.
        """
        write_json(self._inside / f"{name}.json", dict(values))

    def digests(self) -> dict[str, str]:
        """Return the digests of what a verdict is on: payload, verdict, covariance, tables."""
        names = ("payload.json", "verdict.json", "covariance.npz")
        paths = [self.path / name for name in names] + sorted(self.path.glob("*.csv"))
        return {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in paths if p.is_file()}

    def altered(self) -> list[str]:
        """Return the names of files that are not as the run has left them; of old runs none."""
        kept = self.marker("report").get("digests") or {}
        now = self.digests()
        return sorted(name for name in kept if kept[name] != now.get(name))

    def stamp(self) -> str:
        """Return a digest of the files that say whether a finished run is of now.

        While it is the same, and the calibration is one of ours, so is all that follows from them:
        nothing that makes numbers has to be loaded.
        """
        files = {
            name: path.read_bytes()
            for name in ("config.yaml", "edits.yaml", ".calib/earlier.json")
            if (path := self.path / name).is_file()
        }
        marks = json.dumps(self.marker("collect.main"), sort_keys=True).encode()
        code = fingerprint.LOADED.encode()
        return fingerprint.digest(iter({**files, "collected": marks, "code": code}.items()))

    # passes over the events ------------------------------------------------------------------
    def chunks(self, walk: Pass) -> Path:
        """Return the folder of the finished chunks of a pass."""
        return self.path / "histograms" / walk.name / "chunks"

    def total(self, walk: Pass, sample: str) -> Path:
        """Return the file of the sums of a sample in a pass.

        Parameters
        ----------
        walk : Pass
            Which walk over the events.
        sample : str
            Name.

        Returns
        -------
        Path
            Whether it is there or not.
        """
        return self.path / "histograms" / f"{walk.name}.{sample}.npz"

    def keep_pass(self, walk: Pass) -> None:
        """Keep what a pass knows, for commands that run alone."""
        path = self._inside / "passes" / f"{walk.name}.npz"
        path.parent.mkdir(parents=True, exist_ok=True)
        histograms.write(path, {k: np.asarray(v) for k, v in walk.values.items()})

    def load_pass(self, name: str) -> Pass:
        """Return a pass that was kept, a plain one where there is none.

        Raises
        ------
        InputError
            If the name, which comes from a file, is none.
        """
        if not re.fullmatch(r"[A-Za-z0-9_-]{1,80}", name):
            raise InputError(f"{self.path}: {name!r} is no name of a pass; remove .calib/steps")
        path = self._inside / "passes" / f"{name}.npz"
        return Pass(name, histograms.read(path) if path.is_file() else {})

    # edits of single categories ------------------------------------------------------------------
    def edits(self) -> dict[str, dict[str, Any]]:
        """Return the recorded edits, ``{category: {key: value}}``."""
        path = self.path / "edits.yaml"
        if not path.is_file():
            return {}
        try:
            found = yaml_values(path.read_text(encoding="utf-8")) or {}
        except ValueError as error:
            text = " ".join(str(error).split())
            raise InputError(f"{path}: not valid YAML ({text}); correct or remove it") from None
        if not isinstance(found, dict) or not all(isinstance(v, dict) for v in found.values()):
            raise InputError(
                f"{path}: found {found!r}, expected categories with keys and values; correct it"
            )
        return found

    def write_edits(self, edits: Mapping[str, Mapping[str, Any]]) -> None:
        """Record the edits; no file where there are none."""
        path = self.path / "edits.yaml"
        if edits:
            values = {category: dict(keys) for category, keys in edits.items()}
            write_text(path, yaml_text(values, sort_keys=True, allow_unicode=True))
        else:
            path.unlink(missing_ok=True)
