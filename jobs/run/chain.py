"""A chain and its life: a list of runs, each in a directory of its own, one after the other."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from calib import calibrations
from calib.calibrations.capabilities import corrects
from calib.errors import InputError
from calib.payload.payload import read as read_payload
from calib.quality.verdict import verdict
from calib.results import Check
from jobs.config import complete
from jobs.config.chain import Chain, Step, before, config_of, order
from jobs.config.schema import dump, is_chain
from jobs.console import FAILED, NOT_PASSED, PASSED
from jobs.events import files as datasets
from jobs.pages.chain_page import write_page
from jobs.progress import Progress, silent
from jobs.run import provenance
from jobs.run.run import Run
from jobs.run.summary import advice, checks_table, verdict_line
from jobs.storage.files import RunDirectory, write_json, write_text
from jobs.storage.schemas import written_json

if TYPE_CHECKING:
    from jobs.console import Console

log = logging.getLogger(__name__)

HAS_PASSED, HAS_NOT_PASSED = "passed", "not passed"
NOT_FINISHED, OUTDATED, NOT_RUN = "not finished", "outdated", "not run"


@dataclass(frozen=True)
class StepState:
    """What became of one step.

    ``outcome`` is one of the words above, ``why`` a sentence where it is not plain from that;
    ``decided`` is the verdict of its run, empty without one.
    """

    name: str
    calibration: str
    outcome: str
    why: str = ""
    reads: tuple[str, ...] = ()
    decided: dict[str, Any] = field(default_factory=dict)

    @property
    def passed(self) -> bool:
        """Whether its result may be used."""
        return self.outcome == HAS_PASSED

    @property
    def is_finished(self) -> bool:
        """Whether it has been run to its end, with the payloads of now."""
        return self.outcome in (HAS_PASSED, HAS_NOT_PASSED)

    @property
    def bad(self) -> tuple[str, ...]:
        """The names of the checks that it has not passed."""
        return tuple(c["name"] for c in self.decided.get("checks", ()) if not c["passed"])


@dataclass(frozen=True)
class ChainRun:
    """A chain in its directory, with the life of a run; its paths are absolute."""

    directory: RunDirectory
    chain: Chain
    word: ClassVar[str] = "chain"

    # opened ------------------------------------------------------------------------------------
    @classmethod
    def prepare(cls, path: Path, out: Path) -> ChainRun:
        """Return the chain of a configuration in a directory, without writing anything.

        Parameters
        ----------
        path : Path
            Configuration.
        out : Path
            Directory.

        Returns
        -------
        ChainRun
            With absolute paths.

        Raises
        ------
        InputError
            If it is wrong, or the directory holds something else; each step is looked at.
        """
        chain = complete.complete_chain(path)
        directory = RunDirectory(out)
        directory.require_free_for(cls.word)
        if directory.exists:
            if not is_chain(out):
                raise InputError(
                    f"{out}: the directory of a single run, not of a chain; choose another --out"
                )
            there = complete.complete_chain(directory / "config.yaml")
            _require_same(chain, there, path, out)
        return cls(directory, chain)

    @classmethod
    def resume(cls, path: Path) -> ChainRun:
        """Return the chain that a directory holds."""
        directory = RunDirectory(path)
        directory.require()
        return cls(directory, complete.complete_chain(directory / "config.yaml"))

    @contextmanager
    def held(self, command: str) -> Iterator[None]:
        """Hold the directory for one command.

        Raises
        ------
        InputError
            If another process holds it or that of a step; the sentence says which.
        """
        for step in self.steps:
            holder = RunDirectory(self.folder(step)).holder()
            if holder:
                raise InputError(
                    f"{self.folder(step)}: in use by {holder}; wait until it ends, or stop it"
                )
        with self.directory.lock(command):
            yield

    # its runs ------------------------------------------------------------------------------------
    @property
    def steps(self) -> tuple[Step, ...]:
        """The steps in the order in which they run."""
        return order(self.chain.chain)

    def folder(self, step: Step) -> Path:
        """Return the directory of a step, that of an ordinary run."""
        return self.directory.path / step.name

    def before(self, step: Step) -> tuple[Step, ...]:
        """Return the steps that one depends on."""
        return before(self.chain.chain, step.name)

    def read_by(self, step: Step) -> tuple[Step, ...]:
        """Return the steps whose payloads one reads: those that correct muons or pairs."""
        own = self.before(step)
        return tuple(s for s in own if corrects(calibrations.get(s.calibration)) != "nothing")

    def run_of(self, step: Step) -> Run:
        """Return the run of a step, without writing anything.

        Raises
        ------
        InputError
            If its configuration is wrong, or its directory holds another run.
        """
        payloads = [str(self.folder(s).resolve() / "payload.json") for s in self.read_by(step)]
        path = self.directory / "config.yaml"
        where = f"{path}: step {step.name!r}"
        config = config_of(self.chain, step, payloads, where)
        return Run.of(complete.filled(config, where, Path.cwd()), path, self.folder(step))

    # its life ------------------------------------------------------------------------------------
    def execute(self, progress: Progress = silent, earlier: Path | None = None) -> dict[str, Any]:
        """Do what is not done yet; return the verdict on the chain.

        Parameters
        ----------
        progress : callable
            Told how far it is.
        earlier : Path, optional
            A payload; the report of the steps of the same calibration compares with it.

        Returns
        -------
        dict
            As in verdict.json.

        Raises
        ------
        CalibError
            If a step fails while running; what was done is kept, the page says how far it came.
        """
        path, text = self.directory / "config.yaml", dump(self.chain)
        if not path.is_file() or path.read_text(encoding="utf-8") != text:
            write_text(path, text)
        self._look_at_inputs(progress)
        try:
            for step in self.steps:
                held = self._held_up(step)
                if held:
                    log.warning("step %s: not run, since %s has not passed", step.name, held)
                    continue
                self._execute_step(step, progress, earlier)
        finally:
            decided = self.write_state()
        return decided

    def refit(
        self, category: str | None, settings: Sequence[str], reset: bool, progress: Progress
    ) -> None:
        """Fit a category of a step again, without touching events.

        Parameters
        ----------
        category : str or None
            ``STEP/CATEGORY``.
        settings : sequence of str
            ``key=value``.
        reset : bool
            Whether the category's earlier edits are taken back first.
        progress : callable
            Told how far it is.
        """
        step, name = self.named(category)
        run = Run.resume(self.folder(step))
        with run.held(self._command):
            run.refit(name, settings, reset, progress)
        self.write_state()

    def report(self, progress: Progress = silent, earlier: Path | None = None) -> None:
        """Write the pages of all steps that have been run, and that of the chain.

        Parameters
        ----------
        progress : callable
            Told how far it is.
        earlier : Path, optional
            A payload; the steps of the same calibration compare with it.
        """
        for step in self.steps:
            if (self.folder(step) / "payload.json").is_file():
                run = Run.resume(self.folder(step))
                with run.held(self._command):
                    run.report(progress, earlier if earlier and _is_of(step, earlier) else None)
        self.write_state()

    def write_state(self) -> dict[str, Any]:
        """Write verdict, provenance and page of the chain as it stands; return the verdict."""
        states = self.states()
        decided = verdict_on(states)
        write_json(self.directory / "verdict.json", decided)
        made = self._provenance(states)
        write_json(self.directory / "provenance.json", made)
        write_page(self, states, decided, made)
        return decided

    def conclude(self, own: Console) -> dict[str, Any]:
        """Show what came out; return it as plain values."""
        found = self.status()
        own.show(checks_table(found["verdict"]))
        own.say(verdict_line(found["verdict"]))
        for line in advice(found["verdict"]):
            own.say(line)
        own.say(f"report: {self.directory / 'report.html'}")
        return found

    # what is there -----------------------------------------------------------------------------
    def states(self) -> list[StepState]:
        """Return what became of each step, in their order."""
        found: dict[str, StepState] = {}
        for step in self.steps:
            found[step.name] = self._state(step, found)
        return list(found.values())

    def status(self) -> dict[str, Any]:
        """Return the state of the chain as plain values; ``exit_code`` as of a single run."""
        states = self.states()
        finished = all(one.is_finished for one in states)
        stopped = any(one.outcome == HAS_NOT_PASSED for one in states)
        decided = verdict_on(states)
        code = PASSED if decided["passed"] else NOT_PASSED if finished or stopped else FAILED
        page = self.directory / "report.html"
        return {
            "directory": str(self.directory.path),
            "name": self.chain.name,
            "in_use": self.directory.holder(),
            "steps": {
                one.name: {
                    "calibration": one.calibration,
                    "outcome": one.outcome,
                    "why": one.why,
                    "reads": list(one.reads),
                    "bad": list(one.bad),
                    "directory": str(self.directory.path / one.name),
                }
                for one in states
            },
            "finished": finished,
            "verdict": decided,
            "passed": bool(decided["passed"]),
            "report": str(page) if page.is_file() else "",
            "exit_code": code,
        }

    def named(self, category: str | None) -> tuple[Step, str]:
        """Return the step and the category in ``STEP/CATEGORY``.

        Raises
        ------
        InputError
            If it is none.
        """
        name, slash, rest = (category or "").partition("/")
        for step in self.steps:
            if slash and step.name == name:
                return step, rest
        raise InputError(
            f"option --category: found {category!r}, expected STEP/CATEGORY in a chain; its steps:"
            f" {', '.join(step.name for step in self.steps)}"
        )

    # inside --------------------------------------------------------------------------------------
    @property
    def _command(self) -> str:
        """Who holds the directory of a step, for those who find it in use."""
        return f"calib run {self.directory.path}"

    def _look_at_inputs(self, progress: Progress) -> None:
        """Raise InputError for what is wrong with any step's files, before the first one runs."""
        for step in self.steps:
            run = self.run_of(step)
            if run.directory.is_finished:
                continue
            progress(f"{step.name}: inspect", 0, 1)
            # the payloads of steps before it are not there yet
            bare = run.config.model_copy(update={"payloads": ()})
            try:
                datasets.inspect(bare, run.calibration, Path.cwd())
            except InputError as error:
                raise InputError(f"step {step.name!r}: {error}") from None
            progress(f"{step.name}: inspect", 1, 1)

    def _held_up(self, step: Step) -> str:
        """Return a step before this one that has not passed, empty where nothing holds it up."""
        if self.chain.on_failure == "continue":
            return ""
        passed = {one.name: one.passed for one in self.states()}
        return next((b.name for b in self.before(step) if not passed[b.name]), "")

    def _execute_step(self, step: Step, progress: Progress, earlier: Path | None) -> None:
        def named(text: str, done: int, total: int) -> None:
            progress(f"{step.name}: {text}", done, total)

        for needed in self.read_by(step):
            if not (self.folder(needed) / "payload.json").is_file():
                raise InputError(
                    f"step {step.name!r}: reads the payload of step {needed.name!r}, which has made"
                    " none; see its report"
                )
        run = self.run_of(step)
        with run.held(self._command):
            run.execute(named, earlier if earlier and _is_of(step, earlier) else None)

    def _state(self, step: Step, known: Mapping[str, StepState]) -> StepState:
        outcome, why, decided = self._outcome(step)
        held = [b.name for b in self.before(step) if not known[b.name].passed]
        if outcome in (NOT_RUN, OUTDATED) and held:
            why = why or f"it waits for {', '.join(held)}"
        reads = tuple(s.name for s in self.read_by(step))
        return StepState(step.name, step.calibration, outcome, why, reads, decided)

    def _outcome(self, step: Step) -> tuple[str, str, dict[str, Any]]:
        if not RunDirectory(self.folder(step)).exists:
            return NOT_RUN, "", {}
        run = Run.resume(self.folder(step))
        if not run.directory.is_finished:
            return NOT_FINISHED, f"`calib run {self.directory.path}` goes on", {}
        decided = run.verdict()
        other = self._other_payload(step, run)
        if other:
            return OUTDATED, f"made with another payload of {other} than is there now", decided
        return (HAS_PASSED if decided["passed"] else HAS_NOT_PASSED), "", decided

    def _other_payload(self, step: Step, run: Run) -> str:
        """Return a step whose payload is no longer the one a run was made with, empty if none."""
        made_with = {p["sha256"] for p in run.directory.note("inputs").get("payloads", [])}
        for needed in self.read_by(step):
            # beside it, wherever the directory was moved to
            path = self.folder(needed) / "payload.json"
            if not path.is_file() or _sha256(path) not in made_with:
                return needed.name
        return ""

    def _provenance(self, states: Sequence[StepState]) -> dict[str, Any]:
        return {
            "name": self.chain.name,
            "written": provenance.now(),
            "git_commit": provenance.commit(),
            "packages": provenance.packages(),
            "machine": provenance.machine(),
            "chain": {
                one.name: {
                    "calibration": one.calibration,
                    "outcome": one.outcome,
                    "reads": list(one.reads),
                    **_provenance_of(self.directory.path / one.name / "provenance.json"),
                }
                for one in states
            },
        }


def verdict_on(states: Sequence[StepState]) -> dict[str, Any]:
    """Return the verdict on a chain: one check a step, and whether all have passed."""
    checks = []
    for one in states:
        n_bad = float(len(one.bad)) if one.decided else float("nan")
        text = one.outcome
        if one.bad:
            text += f": {', '.join(one.bad)}"
        if one.why:
            text += f"; {one.why}"
        advice = f"read {one.name}/report.html: {_first_advice(one)}".removesuffix(": ")
        checks.append(
            Check(one.name, n_bad, 0.0, one.passed, text, "<=", f"Step {one.name}", advice)
        )
    return verdict(checks)


def _first_advice(one: StepState) -> str:
    return next((c["advice"] for c in one.decided.get("checks", ()) if c.get("advice")), one.why)


def lines(found: Mapping[str, Any]) -> list[str]:
    """Return the state of a chain in words."""
    out = [f"[bold]{found['name']}[/bold], a chain of {len(found['steps'])} calibrations"]
    if found["in_use"]:
        out.append(f"in use: {found['in_use']}")
    for name, step in found["steps"].items():
        text = f"step {name} ({step['calibration']}): {step['outcome']}"
        text += f": {', '.join(step['bad'])}" if step["bad"] else ""
        out.append(text + (f"; {step['why']}" if step["why"] else ""))
    out.append(verdict_line(found["verdict"]))
    out += advice(found["verdict"])
    if not found["finished"]:
        out.append(f"not finished: [bold]calib run {found['directory']}[/bold] goes on")
    out.append(f"report: {found['report'] or 'not written yet'}")
    return out


def _provenance_of(path: Path) -> dict[str, Any]:
    """Return what the provenance of a step says, in short; the rest is in its directory."""
    if not path.is_file():
        return {}
    made = written_json(path)
    keys = ("written", "config_hash", "code_version", "payloads", "steps")
    return {key: made[key] for key in keys if key in made}


def _is_of(step: Step, payload: Path) -> bool:
    return calibrations.of_payload(read_payload(payload)) is calibrations.get(step.calibration)


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _require_same(new: Chain, old: Chain, path: Path, out: Path) -> None:
    """Raise InputError where a directory holds another chain; steps are compared as they run."""
    for key, mine, theirs in (
        ("name", new.name, old.name),
        ("chain", _outline(new), _outline(old)),
    ):
        if mine != theirs:
            raise InputError(
                f"{out}: holds another chain: key {key!r} is {theirs!r} there and {mine!r} in"
                f" {path}; choose another --out, or remove the directory"
            )


def _outline(chain: Chain) -> str:
    return ", ".join(
        f"{s.name} ({s.calibration}) after {[b.name for b in before(chain.chain, s.name)]}"
        for s in order(chain.chain)
    )
