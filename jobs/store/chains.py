"""A whole chain into a store: its steps in their order, for the same runs."""

from __future__ import annotations

from pathlib import Path

from calib.errors import InputError
from calib.payload.validity import Validity
from jobs.run.chain import ChainRun
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
    chain = ChainRun.resume(directory)
    for step in chain.states():
        if not step.is_finished:
            raise InputError(
                f"{directory}: step {step.name!r} is {step.outcome}"
                f"{f' ({step.why})' if step.why else ''}; `calib run {directory}` goes on"
            )
        if not step.passed and not force:
            raise NotPublishable(
                f"{chain.directory.path / step.name}: the verdict is not passed"
                f" ({', '.join(step.bad)}), so nothing of the chain was published; mend it, or"
                " take the responsibility with --force --why TEXT"
            )
    return tuple(
        store.publish(
            chain.folder(step), None, since, until, tag, force=force, why=why, replace=replace
        )
        for step in chain.steps
    )
