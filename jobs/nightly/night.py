"""One night: new files, then each calibration step by step, then who has to know."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

from calib.errors import CalibError, InputError, Interrupted, Unreachable
from jobs.catalog.catalog import Catalog
from jobs.console import BAD_INPUT, FAILED, NOT_PASSED, PASSED
from jobs.nightly import directories, new_runs, notifications, steps
from jobs.nightly.settings import Nightly, Task, before, ordered
from jobs.nightly.states import Progress, State, States, lock
from jobs.progress import Progress as Bar
from jobs.progress import silent
from jobs.store.store import Store

log = logging.getLogger(__name__)

T = TypeVar("T")

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
    troubles: tuple[str, ...] = ()

    @property
    def exit_code(self) -> int:
        """0; 3 where a person must look; 1 where something failed."""
        if State.FAILED in {p.state for p in self.calibrations}:
            return FAILED
        needs = self.troubles or any(p.needs_person for p in self.calibrations)
        return NOT_PASSED if needs else PASSED

    def as_dict(self) -> dict[str, Any]:
        """Return plain values, for JSON."""
        return {
            "night": self.number,
            "resumed": self.resumed,
            "arrived": asdict(self.arrived),
            "calibrations": [_plain(p) for p in self.calibrations],
            "steps": list(self.told),
            "late": {name: list(runs) for name, runs in self.late.items()},
            "troubles": list(self.troubles),
            "page": str(self.page),
            "exit_code": self.exit_code,
        }


def _plain(progress: Progress) -> dict[str, Any]:
    found = asdict(progress)
    names = ("calibration", "state", "why", "judged", "since", "aside", "numbers")
    return {k: found[k] for k in names}


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
    try:
        store = patiently(lambda: _opened(settings))
    except CalibError as error:  # where it would be noted is not there: at least it is told
        _tell_of_end(settings, None, error)
        raise
    Path(settings.directory).mkdir(parents=True, exist_ok=True)
    with lock(store.content.folder, command):
        states = States.open(store.content.folder, settings.name)
        number, resumed = states.begin()
        try:
            catalog = patiently(lambda: Catalog.open(str(settings.catalog), new=True))
            try:
                again = (retry, recalibrate)
                return _through(settings, store, states, catalog, (number, resumed), bar, again)
            finally:
                catalog.close()
        except Interrupted:
            raise
        except CalibError as error:
            states.end(number, exit_code_of(error), {"troubles": [_sentence(error)]})
            _tell_of_end(settings, store, error)
            raise
        finally:
            states.engine.dispose()


WAITS = (5.0, 20.0, 60.0)
"""Seconds between trials to reach a database that does not answer."""


def patiently(reach: Callable[[], T]) -> T:
    """Return what a function returns, which is tried again where a server cannot be reached.

    Raises
    ------
    Unreachable
        If it cannot in the end: the night may be started again later.
    """
    for wait in WAITS:
        try:
            return reach()
        except Unreachable as error:
            log.warning("%s; tried again in %g s", error, wait)
            time.sleep(wait)
    return reach()


def exit_code_of(error: CalibError) -> int:
    """Return the exit code of a night that ended with an error."""
    return BAD_INPUT if isinstance(error, InputError) else FAILED


def _opened(settings: Nightly) -> Store:
    is_local = "://" not in settings.store
    return Store.create(settings.store) if is_local else Store.open(settings.store)


def _sentence(error: Exception) -> str:
    text = str(error) if isinstance(error, CalibError) else f"{type(error).__name__}: {error}"
    return " ".join(text.split())[:1000]


def _tell_of_end(settings: Nightly, store: Store | None, error: CalibError) -> None:
    """Tell that a night has ended before its end, and say so on the page."""
    from jobs.pages.nightly_page import write_page

    code = exit_code_of(error)
    text = f"the night ended with exit code {code}: {_sentence(error)}"
    night = {"night": None, "exit_code": code, "steps": [], "calibrations": []}
    page = Path(settings.directory) / "nightly.html"
    notifications.tell(settings, {**night, "troubles": [text], "page": str(page)})
    try:
        write_page(settings, store, text)
    except OSError as problem:
        log.warning("%s: not written (%s)", page, problem)


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
    tools = steps.Tools(settings, store, catalog, bar, states)
    done: dict[str, Progress] = {}
    late: dict[str, tuple[int, ...]] = {}
    for position, task in enumerate(ordered(settings.calibrations, settings.name)):
        known = states.progress(task.name)
        others = [done[t.name] for t in before(settings.calibrations, task.name)]

        def keep(progress: Progress, at: int = position) -> Progress:
            return states.keep(number, at, progress)

        if run is None:
            done[task.name], late[task.name] = _one(
                tools, task, known, others, keep, task.name in retry
            )
        else:
            done[task.name], late[task.name] = _again(tools, task, known, others, keep, run)
        directories.forget_tests(settings, task)
    page = Path(settings.directory) / "nightly.html"
    late = {name: runs for name, runs in late.items() if runs}
    # also of before it was killed
    told = tuple(states.told_in(number))
    found = Night(
        number,
        resumed,
        arrived,
        tuple(done.values()),
        told,
        late,
        page,
        (
            *new_runs.troubles(arrived, states.last_ended()),
            *dict.fromkeys(f"{text}; its run is left out" for text in tools.apart),
            *_said_of_late(late),
        ),
    )
    problems = notifications.tell(settings, found.as_dict())
    states.end(
        number,
        found.exit_code,
        {
            "arrived": asdict(arrived),
            "late": found.late,
            "troubles": found.troubles,
            "notifications": problems,
            "calibrations": [_plain(p) for p in found.calibrations],
        },
    )
    write_page(settings, store)
    return found


def _said_of_late(late: dict[str, tuple[int, ...]]) -> list[str]:
    return [
        f"{name}: files came late for runs {', '.join(map(str, runs[:5]))}, which were judged"
        f" without them; `calib nightly CONFIG --recalibrate {runs[0]}`"
        for name, runs in late.items()
    ]


def _one(
    tools: steps.Tools,
    task: Task,
    known: Progress,
    others: Sequence[Progress],
    keep: Any,
    retry: bool,
) -> tuple[Progress, tuple[int, ...]]:
    """Return where a calibration stands after the night, and its runs with late files."""
    seen: set[tuple[Any, ...]] = set()
    worked = False
    try:
        it = steps.asked(tools, task, others)
        if retry and known.needs_person:
            known = steps.retried(tools, it, known)
        for _ in range(MOST):
            step = steps.STEPS.get(known.state, steps.look)
            found = step(tools, it, known)
            signature = (found.state, found.first, found.last, found.judged, found.since)
            signature += (found.boundaries,)
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
        text = _sentence(error)
        samples = [s for s in tools.settings.samples_of(task) if s.grows]
        runs = new_runs.set_apart_what_failed(samples, tools.catalog, text)
        if runs:
            log.warning("%s: %s; runs %s are left out", task.name, text, ", ".join(map(str, runs)))
            tools.apart.append(text)
            back = known.to(State.WAITING, text, first=None, last=None, paused="")
            return _one(tools, task, back, others, keep, False)
        log.warning("%s: %s", task.name, text)
        log.debug("where", exc_info=True)
        resume = known.resume if known.state is State.FAILED else known.state.value
        known = known.to(State.FAILED, text, resume=resume)
        return keep(known), ()


def _again(
    tools: steps.Tools, task: Task, known: Progress, others: Sequence[Progress], keep: Any, run: int
) -> tuple[Progress, tuple[int, ...]]:
    """Return where a calibration stands after the bucket of a judged run was calibrated again."""
    it = steps.asked(tools, task, others)
    known = keep(steps.recalibrate(tools, it, known, run))
    return known, steps.late(it, known)
