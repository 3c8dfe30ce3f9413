"""What a night would do and why, without doing it: everything is looked at in copies."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from calib.errors import CalibError, InputError
from jobs.catalog.catalog import Catalog
from jobs.nightly import constants, directories, new_runs, states, steps
from jobs.nightly.settings import Nightly, Task, before, ordered
from jobs.nightly.states import Progress, State
from jobs.storage import database
from jobs.storage.files import STORE
from jobs.store.store import Store


@dataclass(frozen=True)
class TaskPlan:
    """What one calibration would do, in sentences, and what it does next."""

    calibration: str
    state: str
    would: str
    sentences: tuple[str, ...]


@dataclass(frozen=True)
class Plans:
    """A whole night; ``arrived`` are the files that are new."""

    arrived: new_runs.Arrived
    calibrations: tuple[TaskPlan, ...]


def plans(settings: Nightly) -> Plans:
    """Return what a night would do now; nothing is written but in a temporary folder."""
    store = _store(settings)
    with (
        tempfile.TemporaryDirectory(prefix="calib-nightly-") as folder,
        _catalog(settings, Path(folder)) as catalog,
    ):
        arrived = new_runs.take_in(settings, catalog)
        tools = steps.Tools(settings, store, catalog)
        found: list[TaskPlan] = []
        done: dict[str, Progress] = {}
        for task in ordered(settings.calibrations, settings.name):
            known = _known(settings, store, task, Path(folder))
            others = [done[t.name] for t in before(settings.calibrations, task.name)]
            plan, done[task.name] = _plan(tools, task, known, others)
            found.append(plan)
    return Plans(arrived, tuple(found))


def _store(settings: Nightly) -> Store | None:
    if not database.is_address(settings.store):
        place = Path(settings.store)
        if not (place / STORE).is_file():
            return None
    return Store.open(settings.store)


@contextmanager
def _catalog(settings: Nightly, folder: Path) -> Iterator[Catalog]:
    place = str(settings.catalog)
    if database.is_address(place):
        if any(s.watch is not None for s in settings.samples):
            raise InputError(
                f"{place}: a dry run does not write into a database; give the catalogue as a file,"
                " or add the watched files by `calib catalog add`"
            )
    else:
        copy = folder / "catalog.sqlite"
        if Path(place).is_file():
            shutil.copy2(place, copy)
        place = str(copy)
    catalog = Catalog.open(place, new=not database.is_address(place))
    try:
        yield catalog
    finally:
        catalog.close()


def _known(settings: Nightly, store: Store | None, task: Task, folder: Path) -> Progress:
    source = None if store is None else store.content.folder / states.FILE
    if source is None or not source.is_file():
        return Progress(task.name)
    shutil.copy2(source, folder / states.FILE)
    found = states.States.open(folder, settings.name)
    try:
        return found.progress(task.name)
    finally:
        found.engine.dispose()


def _plan(
    tools: steps.Tools, task: Task, known: Progress, others: list[Progress]
) -> tuple[TaskPlan, Progress]:
    try:
        it = steps.asked(tools, task, others)
        found = known
        if known.state.rests:
            found = steps.look(tools, it, known)
    except CalibError as error:
        plan = TaskPlan(task.name, known.state.value, "nothing", (str(error),))
        return plan, known
    first, last = found.first, found.last
    if found.state is State.TESTING and first is not None and last is not None:
        said = _of_test(tools, it, first, last)
        after = replace(found, state=State.WAITING, judged=last)
        return TaskPlan(task.name, known.state.value, "test", said), after
    if found.state in (State.CALIBRATING, State.GATED):
        where = directories.rooms(tools.settings, task).path
        said = (
            f"{found.why}, in {where}; published if its verdict and the gate pass"
            f" (cut {task.gate.cut:g}, max {task.gate.max:g}), held if not",
        )
        return TaskPlan(task.name, known.state.value, "calibrate", said), found
    return TaskPlan(task.name, known.state.value, "nothing", (found.why,)), found


def _of_test(tools: steps.Tools, it: steps.Asked, first: int, last: int) -> tuple[str, ...]:
    task = it.task
    runs = [r for r in it.runs if first <= r.run <= last]
    force = constants.interval_for(tools.store, it.constants, first, tools.settings.tag)
    number = "none" if force is None else f"revision {force.revision.number}"
    unit = "events" if tools.settings.buckets.unit == "events" else "fb-1"
    amount = sum(r.luminosity for r in runs)
    return (
        f"the constants in force ({number}) are tested on {100 * task.test.fraction:g} % of the"
        f" events of {len(runs)} new runs, {first} to {last} ({amount:g} {unit})",
        f"residual within {task.test.limit:g}: their validity is extended to run {last}",
        f"outside, with less than {task.test.false_alarm:g} probability by chance: calibrated from"
        f" the run on where it begins, once there are {tools.settings.buckets.minimum:g} {unit}",
    )


def as_dict(found: Plans) -> dict[str, Any]:
    """Return plain values, for JSON."""
    return {
        "dry_run": True,
        "new_files": found.arrived.files,
        "not_whole": list(found.arrived.not_whole),
        "problems": list(found.arrived.problems),
        "calibrations": [
            {
                "calibration": p.calibration,
                "state": p.state,
                "would": p.would,
                "sentences": list(p.sentences),
            }
            for p in found.calibrations
        ],
    }
