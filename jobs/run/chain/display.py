"""What a person or a machine is told of a chain."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from jobs.console import FAILED, NOT_PASSED, PASSED
from jobs.run.chain import state as states
from jobs.run.chain.configuration import ChainWork
from jobs.run.summary import checks_table, verdict_line

if TYPE_CHECKING:
    from jobs.console import Console


def conclude(work: ChainWork, decided: dict[str, Any], own: Console) -> dict[str, Any]:
    """Show what came out of a chain; return it as plain values."""
    own.show(checks_table(decided))
    own.say(verdict_line(decided))
    own.say(f"report: {work.directory / 'report.html'}")
    return status(work)


def status(work: ChainWork) -> dict[str, Any]:
    """Return the state of a chain as plain values; ``exit_code`` as of a single run."""
    found = states.state(work)
    finished = all(one.outcome in (states.PASSED, states.NOT_PASSED) for one in found)
    stopped = any(one.outcome == states.NOT_PASSED for one in found)
    decided = states.decided(found)
    code = PASSED if decided["passed"] else NOT_PASSED if finished or stopped else FAILED
    page = work.directory / "report.html"
    return {
        "directory": str(work.directory.path),
        "name": work.chain.name,
        "in_use": work.directory.holder(),
        "steps": {
            one.name: {
                "calibration": one.calibration,
                "outcome": one.outcome,
                "why": one.why,
                "reads": list(one.reads),
                "bad": list(one.bad),
                "directory": str(work.directory.path / one.name),
            }
            for one in found
        },
        "finished": finished,
        "verdict": decided,
        "passed": bool(decided["passed"]),
        "report": str(page) if page.is_file() else "",
        "exit_code": code,
    }


def lines(found: dict[str, Any]) -> list[str]:
    """Return the state in words."""
    out = [f"[bold]{found['name']}[/bold], a chain of {len(found['steps'])} calibrations"]
    if found["in_use"]:
        out.append(f"in use: {found['in_use']}")
    for name, step in found["steps"].items():
        text = f"step {name} ({step['calibration']}): {step['outcome']}"
        text += f": {', '.join(step['bad'])}" if step["bad"] else ""
        out.append(text + (f"; {step['why']}" if step["why"] else ""))
    out.append(verdict_line(found["verdict"]))
    if not found["finished"]:
        out.append(f"not finished: [bold]calib run {found['directory']}[/bold] goes on")
    out.append(f"report: {found['report'] or 'not written yet'}")
    return out
