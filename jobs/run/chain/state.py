"""What became of each step of a chain, and what the chain as a whole is worth."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import Any

from calib.errors import InputError
from calib.quality.verdict import verdict
from calib.results import Check
from jobs.config.chain import Step
from jobs.config.complete import Work
from jobs.config.complete import resume as resume_run
from jobs.run import steps
from jobs.run.chain.configuration import ChainWork

PASSED, NOT_PASSED = "passed", "not passed"
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
        return self.outcome == PASSED

    @property
    def bad(self) -> tuple[str, ...]:
        """The names of the checks that it has not passed."""
        return tuple(c["name"] for c in self.decided.get("checks", ()) if not c["passed"])


def state(work: ChainWork) -> list[StepState]:
    """Return what became of each step, in their order."""
    found: dict[str, StepState] = {}
    for step in work.steps:
        found[step.name] = _state(work, step, found)
    return list(found.values())


def _state(work: ChainWork, step: Step, known: dict[str, StepState]) -> StepState:
    outcome, why, decided = _outcome(work, step)
    held = [b.name for b in work.before(step) if not known[b.name].passed]
    if outcome in (NOT_RUN, OUTDATED) and held:
        why = why or f"it waits for {', '.join(held)}"
    reads = tuple(s.name for s in work.read_by(step))
    return StepState(step.name, step.calibration, outcome, why, reads, decided)


def _outcome(work: ChainWork, step: Step) -> tuple[str, str, dict[str, Any]]:
    if not (work.folder(step) / "config.yaml").is_file():
        return NOT_RUN, "", {}
    run = resume_run(work.folder(step))
    if not steps.is_finished(run):
        return NOT_FINISHED, f"`calib run {work.directory.path}` goes on", {}
    decided = steps.written_verdict(run)
    other = _other_payload(work, step, run)
    if other:
        return OUTDATED, f"made with another payload of {other} than is there now", decided
    return (PASSED if decided["passed"] else NOT_PASSED), "", decided


def _other_payload(work: ChainWork, step: Step, run: Work) -> str:
    """Return a step whose payload is no longer the one that a run was made with, empty if none."""
    made_with = {p["sha256"] for p in run.directory.note("inputs").get("payloads", [])}
    for needed in work.read_by(step):
        # beside it, wherever the directory was moved to
        path = work.folder(needed) / "payload.json"
        if not path.is_file() or hashlib.sha256(path.read_bytes()).hexdigest() not in made_with:
            return needed.name
    return ""


def decided(found: list[StepState]) -> dict[str, Any]:
    """Return the verdict on a chain: one check a step, and whether all have passed."""
    checks = []
    for one in found:
        n_bad = float(len(one.bad)) if one.decided else float("nan")
        text = one.outcome
        if one.bad:
            text += f": {', '.join(one.bad)}"
        if one.why:
            text += f"; {one.why}"
        checks.append(Check(one.name, n_bad, 0.0, one.passed, text))
    return verdict(checks)


def named(work: ChainWork, category: str | None) -> tuple[Step, str]:
    """Return the step and the category in ``STEP/CATEGORY``.

    Raises
    ------
    InputError
        If it is none.
    """
    name, slash, rest = (category or "").partition("/")
    for step in work.steps:
        if slash and step.name == name:
            return step, rest
    steps_ = ", ".join(step.name for step in work.steps)
    raise InputError(
        f"option --category: found {category!r}, expected STEP/CATEGORY in a chain; its steps:"
        f" {steps_}"
    )
