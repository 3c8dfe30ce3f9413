"""A chain is run: step by step, each an ordinary run in a directory of its own."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from calib import calibrations
from calib.errors import InputError
from calib.payload.payload import read as read_payload
from jobs.config import complete
from jobs.config.chain import Step
from jobs.events import files as datasets
from jobs.pages.chain_page import write_page
from jobs.progress import Progress
from jobs.run import provenance, steps
from jobs.run.chain import state as states
from jobs.run.chain.configuration import ChainWork, adopt
from jobs.storage.files import RunDirectory, write_json

log = logging.getLogger(__name__)


def run(
    work: ChainWork, command: str, progress: Progress, earlier: Path | None = None
) -> dict[str, Any]:
    """Do what is not done yet; return the verdict on the chain.

    Parameters
    ----------
    work : ChainWork
    command : str
        For who finds a step's directory in use.
    progress : callable
    earlier : Path, optional
        A payload; the report of the steps of the same calibration compares with it.

    Raises
    ------
    CalibError
        If a step fails while running; what was done is kept, the page says how far it came.
    """
    adopt(work)
    _look_at_inputs(work, progress)
    try:
        for step in work.steps:
            held = _held_up(work, step)
            if held:
                log.warning("step %s: not run, since %s has not passed", step.name, held)
                continue
            _run_step(work, step, command, progress, earlier)
    finally:
        decided = conclude(work)
    return decided


def _look_at_inputs(work: ChainWork, progress: Progress) -> None:
    """Raise InputError for what is wrong with any step's files, before the first one runs."""
    for step in work.steps:
        own = work.work(step)
        if steps.is_finished(own):
            continue
        progress(f"{step.name}: inspect", 0, 1)
        # the payloads of steps before it are not there yet
        bare = own.config.model_copy(update={"payloads": ()})
        try:
            datasets.inspect(bare, own.calibration, Path.cwd())
        except InputError as error:
            raise InputError(f"step {step.name!r}: {error}") from None
        progress(f"{step.name}: inspect", 1, 1)


def _held_up(work: ChainWork, step: Step) -> str:
    """Return a step before this one that has not passed, empty where nothing holds it up."""
    if work.chain.on_failure == "continue":
        return ""
    found = {s.name: s.passed for s in states.state(work)}
    return next((b.name for b in work.before(step) if not found[b.name]), "")


def _run_step(
    work: ChainWork, step: Step, command: str, progress: Progress, earlier: Path | None
) -> None:
    def named(text: str, done: int, total: int) -> None:
        progress(f"{step.name}: {text}", done, total)

    for needed in work.read_by(step):
        if not (work.folder(needed) / "payload.json").is_file():
            raise InputError(
                f"step {step.name!r}: reads the payload of step {needed.name!r}, which has made"
                " none; see its report"
            )
    own = work.work(step)
    compared = earlier if earlier and _is_of(step, earlier) else None
    with own.directory.lock(command):
        complete.adopt(own)
        steps.run(own, named, compared)


def _is_of(step: Step, payload: Path) -> bool:
    return calibrations.of_payload(read_payload(payload)) is calibrations.get(step.calibration)


def reduce(
    work: ChainWork, step: Step, edits: steps.Edits, command: str, progress: Progress
) -> dict[str, Any]:
    """Fit one step again, without touching events; return the verdict on the chain."""
    own = complete.resume(work.folder(step))
    with own.directory.lock(command):
        steps.reduce(own, edits, progress)
    return conclude(work)


def report(work: ChainWork, command: str, progress: Progress) -> dict[str, Any]:
    """Write the pages of all steps that have been run, and that of the chain."""
    for step in work.steps:
        if (work.folder(step) / "payload.json").is_file():
            own = complete.resume(work.folder(step))
            with own.directory.lock(command):
                steps.report(own, progress)
    return conclude(work)


def conclude(work: ChainWork) -> dict[str, Any]:
    """Write verdict, provenance and page of a chain as it stands; return the verdict."""
    found = states.state(work)
    decided = states.decided(found)
    write_json(work.directory / "verdict.json", decided)
    made = _provenance(work, found)
    write_json(work.directory / "provenance.json", made)
    write_page(work, found, decided, made)
    return decided


def _provenance(work: ChainWork, found: list[states.StepState]) -> dict[str, Any]:
    own = {one.name: _of_step(RunDirectory(work.directory.path / one.name)) for one in found}
    return {
        "name": work.chain.name,
        "written": provenance.now(),
        "git_commit": provenance.commit(),
        "packages": provenance.packages(),
        "machine": provenance.machine(),
        "chain": {
            one.name: {
                "calibration": one.calibration,
                "outcome": one.outcome,
                "reads": list(one.reads),
                **own[one.name],
            }
            for one in found
        },
    }


def _of_step(directory: RunDirectory) -> Mapping[str, Any]:
    """Return what the provenance of a step says, in short; the rest is in its directory."""
    path = directory / "provenance.json"
    if not path.is_file():
        return {}
    made = steps.written_json(path)
    keys = ("written", "config_hash", "code_version", "payloads", "steps")
    return {key: made[key] for key in keys if key in made}
