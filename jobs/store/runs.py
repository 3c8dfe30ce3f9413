"""A run that is about to be published: what it is, and whether it may."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from calib.documents import json_values
from calib.errors import InputError
from jobs.config.schema import load
from jobs.storage.files import RunDirectory
from jobs.storage.schemas import Verdict, checked
from jobs.store.revisions import checked_name

if TYPE_CHECKING:
    from calib.calibrations.base import Calibration


@dataclass(frozen=True)
class FinishedRun:
    """A finished run; ``failed`` names the checks of its verdict that are not passed."""

    directory: RunDirectory
    kind: type[Calibration]
    name: str
    passed: bool
    failed: str
    config_hash: str
    code_version: str

    @property
    def calibration(self) -> str:
        """The name of its calibration."""
        return self.kind.name


def finished(path: Path, calibration: str | None = None) -> FinishedRun:
    """Return the run in a directory.

    Raises
    ------
    InputError
        If it is no directory of a run, not finished, or of another calibration than asked for.
    """
    from calib import calibrations  # slow to load, and not needed to read

    directory = RunDirectory(path)
    directory.require()
    config = load(directory / "config.yaml")
    kind = calibrations.get(config.calibration)
    if calibration not in (None, kind.name, config.calibration):
        raise InputError(
            f"{path}: a run of {kind.name}, not of {calibration}; leave the option out or give"
            " another run"
        )
    if not directory.is_finished:
        raise InputError(f"{path}: not finished; `calib run {path}` goes on, publish it then")
    altered = directory.altered()
    if altered:
        raise InputError(
            f"{path / altered[0]}: not as the run has left it, so the verdict is not on it;"
            f" `calib run {path}` makes the files of the run again"
        )
    decided = checked(_json(directory / "verdict.json"), Verdict, directory / "verdict.json")
    made = _json(directory / "provenance.json")
    failed = [str(c["name"]) for c in decided["checks"] if not c["passed"]]
    return FinishedRun(
        directory,
        kind,
        config.name,
        bool(decided["passed"]) and not failed,
        ", ".join(failed[:5]) or "no check at all",
        str(made.get("config_hash", ""))[:64],
        str(made.get("code_version", ""))[:64],
    )


def require_payload_of(run: FinishedRun, document: Mapping[str, Any]) -> None:
    """Raise InputError where a payload is not one of the run's calibration."""
    checked_name(run.calibration, "calibration")
    names = {c.get("name") for c in document.get("corrections", ())}
    if run.kind.payload_names[0] not in names:
        raise InputError(
            f"{run.directory / 'payload.json'}: has no correction {run.kind.payload_names[0]!r},"
            f" so it is not of {run.calibration}; run `calib reduce {run.directory.path}`"
        )


def _json(path: Path) -> dict[str, Any]:
    try:
        found = json_values(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: not readable JSON ({error}); remove it and run again") from None
    if not isinstance(found, dict):
        raise InputError(f"{path}: found {type(found).__name__}, expected an object; remove it")
    return found
