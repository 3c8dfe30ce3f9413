"""The state of a run in ten lines."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import BaseModel

from jobs.config.schema import load
from jobs.console import FAILED, NOT_PASSED, PASSED
from jobs.run.summary import advice, verdict_line
from jobs.storage.files import RunDirectory
from jobs.storage.schemas import Accounting, Verdict, checked, written_json


def state(path: Path) -> dict[str, Any]:
    """Return the state of a run as plain values.

    ``exit_code`` is 0 where the verdict is passed, 3 where it is not, 1 where the run is not
    finished.
    """
    directory = RunDirectory(path)
    directory.require()
    config = load(directory / "config.yaml")
    accounting = _written(directory / "accounting.json", Accounting)
    decided = _written(directory / "verdict.json", Verdict)
    marks = {"collect": directory.marker("collect.main")}
    marks |= {name: directory.marker(name) for name in ("reduce", "closure", "report")}
    finished = bool(decided) and directory.is_finished
    code = FAILED if not finished else PASSED if decided["passed"] else NOT_PASSED
    return {
        "directory": str(path),
        "name": config.name,
        "calibration": config.calibration,
        "in_use": directory.holder(),
        "steps": {name: "done" if mark else "not done" for name, mark in marks.items()},
        "finished": finished,
        "current": finished and _is_current(directory),
        "chunks_done": len(list((path / "histograms").glob("*/chunks/*.npz"))),
        "edits": directory.edits(),
        "samples": {n: s["totals"] for n, s in accounting.get("samples", {}).items()},
        "bad_files": accounting.get("bad_files", []),
        "verdict": decided,
        "passed": bool(decided.get("passed")) and finished,
        "report": str(directory / "report.html") if (directory / "report.html").is_file() else "",
        "exit_code": code,
    }


def _written(path: Path, kind: type[BaseModel]) -> dict[str, Any]:
    """Return what is in a file of ours, empty where it is not there."""
    return checked(written_json(path), kind, path) if path.is_file() else {}


def _is_current(directory: RunDirectory) -> bool:
    """Return whether a finished run is of the sums, the edits and the code of now."""
    stamp = directory.marker("report").get("stamp")
    if stamp and stamp == directory.stamp():
        return True
    from jobs.run.run import Run  # slow to load

    return Run.resume(directory.path).is_current


def lines(found: dict[str, Any]) -> list[str]:
    """Return the state in words."""
    out = [f"[bold]{found['name']}[/bold], calibration {found['calibration']}"]
    if found["in_use"]:
        out.append(f"in use: {found['in_use']}")
    out.append("steps: " + ", ".join(f"{k} {v}" for k, v in found["steps"].items()))
    for name, totals in found["samples"].items():
        rejected = totals["events"] - totals["selected"]
        out.append(
            f"sample {name}: {totals['events']} events, {totals['selected']} selected,"
            f" {rejected} not"
        )
    for bad in found["bad_files"]:
        out.append(f"[red]bad file[/red]: {bad['path']} ({bad['error']})")
    if found["edits"]:
        out.append(f"edited categories: {', '.join(found['edits'])}")
    out.append(verdict_line(found["verdict"]) if found["verdict"] else "verdict: none yet")
    out += advice(found["verdict"])
    if not found["finished"]:
        out.append(f"not finished: [bold]calib run {found['directory']}[/bold] goes on")
    elif not found["current"]:
        out.append(
            "edits or code have changed since:"
            f" [bold]calib run {found['directory']}[/bold] does what that asks for"
        )
    out.append(f"report: {found['report'] or 'not written yet'}")
    return out
