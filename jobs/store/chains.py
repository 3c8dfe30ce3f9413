"""A whole chain into a store: its steps in their order, for the same runs."""

from __future__ import annotations

from pathlib import Path

from calib.errors import InputError
from calib.payload.validity import Validity
from jobs.run.chain.configuration import resume
from jobs.run.chain.state import NOT_PASSED, PASSED, state
from jobs.store.changes import NotPublishable
from jobs.store.revisions import MAIN, Revision
from jobs.store.store import Store


def publish(
    store: Store,
    directory: Path,
    since: int,
    until: int | None = None,
    tag: str = MAIN,
    *,
    force: bool = False,
    why: str = "",
    replace: bool = False,
) -> tuple[Revision, ...]:
    """Return the revisions of all steps of a chain; the arguments are those of `Store.publish`.

    Nothing is published before all steps are known to be finished, made with the payloads of now
    and passed. Interrupted, the same again publishes what lacks.

    Raises
    ------
    NotPublishable
        If the verdict of a step is not passed.
    InputError
        If a step is not finished, or what `Store.publish` refuses.
    """
    Validity(since, until)
    work = resume(directory)
    for step in state(work):
        if step.outcome not in (PASSED, NOT_PASSED):
            raise InputError(
                f"{directory}: step {step.name!r} is {step.outcome}"
                f"{f' ({step.why})' if step.why else ''}; `calib run {directory}` goes on"
            )
        if not step.passed and not force:
            raise NotPublishable(
                f"{work.directory.path / step.name}: the verdict is not passed"
                f" ({', '.join(step.bad)}), so nothing of the chain was published; mend it, or"
                " take the responsibility with --force --why TEXT"
            )
    return tuple(
        store.publish(
            work.folder(step), None, since, until, tag, force=force, why=why, replace=replace
        )
        for step in work.steps
    )
