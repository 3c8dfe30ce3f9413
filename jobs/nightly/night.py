"""One night: new files, then each calibration step by step, then who has to know."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from calib.errors import CalibError, InputError, Interrupted
from jobs.catalog.catalog import Catalog
from jobs.console import BAD_INPUT, FAILED, NOT_PASSED, PASSED
from jobs.nightly import directories, new_runs, notifications, order, steps
from jobs.nightly.settings import Nightly, Task
from jobs.nightly.states import Progress, State, States, lock
from jobs.progress import Progress as Bar
from jobs.progress import silent
from jobs.store.store import Store

log = logging.getLogger(__name__)

MOST = 200
"""Steps of one calibration in one night: more would go round in circles."""


@dataclass(frozen=True)
class Night:
    """What came of a night."""

    number: int
    resumed: bool
    arrived: new_runs.Arrived
    calibrations: tuple[Progress, ...]
    told: tuple[dict[str, Any], ...]
    late: dict[str, tuple[int, ...]]
    page: Path

    @property
    def exit_code(self) -> int:
        """0; 3 where the gate or a verdict said no; 1 where something failed."""
        states = {p.state for p in self.calibrations}
        if State.FAILED in states:
            return FAILED
        return NOT_PASSED if states & {State.HELD, State.NOT_CONVERGED} else PASSED

    def as_dict(self) -> dict[str, Any]:
        """Return plain values, for JSON."""
        return {
            "night": self.number,
            "resumed": self.resumed,
            "arrived": asdict(self.arrived),
            "calibrations": [_plain(p) for p in self.calibrations],
            "steps": list(self.told),
            "late": {name: list(runs) for name, runs in self.late.items()},
            "page": str(self.page),
            "exit_code": self.exit_code,
        }


def _plain(progress: Progress) -> dict[str, Any]:
    found = asdict(progress)
    return {k: found[k] for k in ("calibration", "state", "why", "judged", "since", "numbers")}


def nightly(
    settings: Nightly,
    command: str,
    bar: Bar = silent,
    retry: Sequence[str] = (),
    recalibrate: int | None = None,
) -> Night:
    """Do what is to be done tonight; go on where an earlier start was stopped.

    Parameters
    ----------
    settings : Nightly
    command : str
        What others are told who come meanwhile.
    bar : callable
        Shows how far the work is.
    retry : sequence of str
        Calibrations that are held or not converged and are to be tried again.

    recalibrate : int, optional
        A judged run, whose bucket is calibrated again, with files that came late; nothing else
        is done then.

    Raises
    ------
    InputError
        If another nightly is at work on this store.
    """
    store = (
        Store.create(settings.store) if "://" not in settings.store else Store.open(settings.store)
    )
    Path(settings.directory).mkdir(parents=True, exist_ok=True)
    with lock(store.content.folder, command):
        states = States.open(store.content.folder, settings.name)
        number, resumed = states.begin()
        catalog = Catalog.open(str(settings.catalog), new=True)
        try:
            again = (retry, recalibrate)
            return _through(settings, store, states, catalog, (number, resumed), bar, again)
        except InputError:
            states.end(number, BAD_INPUT, {})
            raise
        finally:
            catalog.close()
            states.engine.dispose()


def _through(
    settings: Nightly,
    store: Store,
    states: States,
    catalog: Catalog,
    night: tuple[int, bool],
    bar: Bar,
    again: tuple[Sequence[str], int | None],
) -> Night:
    from jobs.pages.nightly_page import write_page

    (number, resumed), (retry, run) = night, again
    arrived = new_runs.take_in(settings, catalog)
    tools = steps.Tools(settings, store, catalog, bar)
    done: dict[str, Progress] = {}
    late: dict[str, tuple[int, ...]] = {}
    for position, task in enumerate(order.ordered(settings.calibrations, settings.name)):
        known = states.progress(task.name)
        if task.name in retry and known.state.needs_person:
            known = replace(known, tried="")
        before = [done[t.name] for t in order.before(settings.calibrations, task.name)]

        def keep(progress: Progress, at: int = position) -> Progress:
            return states.keep(number, at, progress)

        if run is None:
            done[task.name], late[task.name] = _one(tools, task, known, before, keep)
        else:
            done[task.name], late[task.name] = _again(tools, task, known, before, keep, run)
        directories.forget_tests(settings, task)
    page = Path(settings.directory) / "nightly.html"
    # also of before it was killed
    told = tuple(states.told_in(number))
    found = Night(
        number,
        resumed,
        arrived,
        tuple(done.values()),
        told,
        {k: v for k, v in late.items() if v},
        page,
    )
    problems = notifications.tell(settings, found.as_dict())
    states.end(
        number,
        found.exit_code,
        {
            "arrived": asdict(arrived),
            "late": found.late,
            "notifications": problems,
            "calibrations": [_plain(p) for p in found.calibrations],
        },
    )
    write_page(settings, store)
    return found


def _one(
    tools: steps.Tools, task: Task, known: Progress, before: Sequence[Progress], keep: Any
) -> tuple[Progress, tuple[int, ...]]:
    """Return where a calibration stands after the night, and its runs with late files."""
    seen: set[tuple[Any, ...]] = set()
    worked = False
    try:
        it = steps.asked(tools, task, before)
        for _ in range(MOST):
            step = steps.STEPS.get(known.state, steps.look)
            found = step(tools, it, known)
            signature = (found.state, found.first, found.last, found.judged, found.since)
            if step is steps.look:
                if found == known:
                    break
                if found.state.rests:
                    if not worked or found.since != known.since:  # else why it rests is known
                        known = keep(found)
                    break
                if signature in seen:  # it was just tried, and nothing has come of it
                    break
                seen.add(signature)
            known, worked = keep(found), worked or step is not steps.look
        return known, steps.late(it, known)
    except Interrupted:
        raise
    except Exception as error:  # the other calibrations go on
        text = str(error) if isinstance(error, CalibError) else f"{type(error).__name__}: {error}"
        log.warning("%s: %s", task.name, text)
        log.debug("where", exc_info=True)
        resume = known.resume if known.state is State.FAILED else known.state.value
        known = known.to(State.FAILED, " ".join(text.split())[:1000], resume=resume)
        return keep(known), ()


def _again(
    tools: steps.Tools, task: Task, known: Progress, before: Sequence[Progress], keep: Any, run: int
) -> tuple[Progress, tuple[int, ...]]:
    """Return where a calibration stands after the bucket of a judged run was calibrated again."""
    it = steps.asked(tools, task, before)
    known = keep(steps.recalibrate(tools, it, known, run))
    return known, steps.late(it, known)
