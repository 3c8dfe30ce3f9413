"""The page of a chain: the verdict, and the way to the report of each step."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from markupsafe import Markup

from calib.quality.verdict import for_people
from jobs.config.schema import dump
from jobs.pages.report import environment, template_text
from jobs.storage.files import write_text

if TYPE_CHECKING:
    from jobs.run.chain import ChainRun, StepState


@dataclass(frozen=True)
class StepLine:
    """A step on the page; ``link`` is empty where there is no report yet."""

    state: StepState
    link: str
    kind: str
    seconds: float | None
    n_passed: int
    n_checks: int
    failed: tuple[dict[str, Any], ...]


def write_page(
    work: ChainRun, found: list[StepState], decided: Mapping[str, Any], made: Mapping[str, Any]
) -> None:
    """Write report.html of a chain, self-contained.

    Parameters
    ----------
    work : ChainRun
        Whose page it is.
    found : list of StepState
        What became of each step.
    decided : mapping
        The verdict.
    made : mapping
        The provenance.
    """
    page = (
        environment()
        .get_template("chain.html")
        .render(
            name=work.chain.name,
            style=Markup(template_text("report.css")),
            passed=bool(decided["passed"]),
            lines=[_line(work, one, made["chain"][one.name]) for one in found],
            n_passed=sum(one.passed for one in found),
            made=made,
            settings=dump(work.chain),
        )
    )
    write_text(work.directory / "report.html", page)


def _line(work: ChainRun, one: StepState, made: Mapping[str, Any]) -> StepLine:
    there = (work.directory.path / one.name / "report.html").is_file()
    kind = "good" if one.passed else "bad" if one.decided else "fallback"
    times = made.get("steps")
    checks = one.decided.get("checks", ())
    return StepLine(
        one,
        f"{quote(one.name)}/report.html" if there else "",
        kind,
        sum(float(t["wall_s"]) for t in times.values()) if times else None,
        sum(bool(c["passed"]) for c in checks),
        len(checks),
        tuple(c for c in for_people(one.decided) if not c["passed"]),
    )
