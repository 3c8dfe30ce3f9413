"""A small run: toys as stage1, its configuration, and commands as processes of their own."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

from calib.toys.generation import generate
from jobs.events.toys import write_stage1


def write_events(folder: Path) -> Path:
    """Write two files of 6 000 pairs; return the folder."""
    for i in range(2):
        made = generate("z", 6000, seed=i + 1, first_event=1 + i * 6000)
        write_stage1(folder / f"z_{i}.parquet", made.pairs, simulation=False)
    return folder


def write_configuration(path: Path, events: Path, **changes: Any) -> Path:
    """Write a configuration for these events; ``calibration`` is among the changes."""
    values: dict[str, Any] = {
        "name": "test",
        "samples": [
            {
                "name": "data",
                "resonance": "z",
                "format": "stage1",
                "files": [str(events / "*.parquet")],
            }
        ],
        "cluster": {"kind": "inline"},
    }
    path.write_text(yaml.safe_dump(values | changes), encoding="utf-8")
    return path


def started(
    *arguments: str | Path, environment: Mapping[str, str] | None = None
) -> subprocess.Popen[str]:
    """Start ``calib`` in a process group of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "jobs.cli", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        start_new_session=True,
        preexec_fn=_listen,
    )


def _listen() -> None:
    """Undo an ignored Ctrl-C, which tests that run in the background inherit and pass on."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def untrue(checks: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return the checks of a verdict whose outcome is not that of value, sense and threshold.

    One without a number says nothing. A check that is not passed has advice, all have a title.
    """
    found = []
    for check in checks:
        value, limit = check["value"], check["threshold"]
        if value is not None and limit is not None:
            holds = {"<=": value <= limit, ">=": value >= limit}[check["sense"]]
            if holds is not check["passed"]:
                found.append(check["name"])
        if not check["title"] or check["passed"] is bool(check.get("advice")):
            found.append(check["name"])
    return found
