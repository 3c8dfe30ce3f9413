"""The commands on a chain: what `calib run, reduce, report, status` do with one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from calib.errors import InputError
from jobs.config.edits import edited
from jobs.run.chain import running
from jobs.run.chain import state as states
from jobs.run.chain.configuration import ChainWork, prepare, resume
from jobs.run.chain.display import conclude, lines, status
from jobs.storage.files import RunDirectory

if TYPE_CHECKING:
    from jobs.console import Console


def run(
    own: Console, config: Path, out: Path | None, earlier: Path | None, command: str
) -> dict[str, Any]:
    """Run a chain; return what came out."""
    work = _work(config, out)
    _require_free(work)
    with work.directory.lock(command), own.working():
        decided = running.run(work, command, own.progress, earlier)
    return conclude(work, decided, own)


def reduce(
    own: Console,
    directory: Path,
    category: str | None,
    settings: Sequence[str],
    reset: bool,
    command: str,
) -> dict[str, Any]:
    """Fit a category of a step again; return what came out of the chain."""
    work = resume(directory)
    step, name = states.named(work, category)
    _require_free(work)
    with work.directory.lock(command), own.working():
        before = RunDirectory(work.folder(step)).edits()
        edits = edited(before, name, settings, reset)
        decided = running.reduce(work, step, edits, command, own.progress)
    return conclude(work, decided, own)


def report(own: Console, directory: Path, command: str) -> dict[str, Any]:
    """Write the pages again; return what came out."""
    work = resume(directory)
    _require_free(work)
    with work.directory.lock(command), own.working():
        decided = running.report(work, command, own.progress)
    return conclude(work, decided, own)


def show_status(own: Console, directory: Path) -> dict[str, Any]:
    """Say what became of each step; return it."""
    found = status(resume(directory))
    for line in lines(found):
        own.say(line)
    return found


def _work(config: Path, out: Path | None) -> ChainWork:
    if config.is_dir():
        if out is not None and out.resolve() != config.resolve():
            raise InputError(
                f"{config}: the directory of a chain goes on in itself; leave out --out {out}"
            )
        return resume(config)
    if out is None:
        raise InputError("option --out is missing; name the directory to make or to go on in")
    return prepare(config, out)


def _require_free(work: ChainWork) -> None:
    """Raise InputError where a step is in use on its own."""
    for step in work.steps:
        holder = RunDirectory(work.folder(step)).holder()
        if holder:
            raise InputError(
                f"{work.folder(step)}: in use by {holder}; wait until it ends, or stop it"
            )
