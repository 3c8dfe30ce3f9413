"""The verdict: every check beside its threshold, and whether all of them passed."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

from calib.results import Check


def verdict(checks: Iterable[Check]) -> dict[str, Any]:
    """Return the verdict as it is written: ``passed`` and the list of ``checks``.

    Without a single check nothing has been shown, so nothing has passed.
    """
    lines = [as_line(check) for check in checks]
    passed = bool(lines) and all(line["passed"] for line in lines)
    return {"passed": passed, "checks": lines}


def as_line(check: Check) -> dict[str, Any]:
    """Return one check as plain values; a number that is not finite becomes None."""
    line = {
        "name": check.name,
        "title": check.title,
        "value": _finite(check.value),
        "threshold": _finite(check.threshold),
        "sense": check.sense,
        "passed": bool(check.passed),
        "text": check.text,
    }
    if not check.passed:
        line["advice"] = check.advice or f"look at the fits and figures behind {check.title!r}"
    return line


def _finite(value: float) -> float | None:
    number = float(value)
    return number if math.isfinite(number) else None


# for people ---------------------------------------------------------------------------------------
def for_people(decided: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the checks of a verdict, the failed ones first, with all keys.

    Those of a verdict that was written before checks had a ``sense`` get the one that agrees with
    the outcome. ``limit`` is the threshold with its sense, ``beyond`` says by how much a value is
    beyond it; both are empty where there is no number.
    """
    lines = []
    for line in decided.get("checks") or ():
        value, threshold = (_number(line.get(key)) for key in ("value", "threshold"))
        passed = bool(line.get("passed"))
        check = Check(
            str(line.get("name", "")),
            value,
            threshold,
            passed,
            str(line.get("text") or ""),
            line.get("sense") or "",
            str(line.get("title") or ""),
            str(line.get("advice") or ""),
        )
        limit = f"{SIGNS[check.sense]} {threshold:.4g}" if math.isfinite(threshold) else ""
        whole = {"advice": check.advice, **as_line(check)} | {"advice": check.advice}
        lines.append({**whole, "limit": limit, "beyond": "" if passed else beyond(check)})
    return sorted(lines, key=lambda line: bool(line["passed"]))


SIGNS = {"<=": "≤", ">=": "≥"}


def beyond(check: Check) -> str:
    """Return by how much the value of a check is beyond its threshold, empty where it is not."""
    value, threshold = check.value, check.threshold
    is_beyond = value > threshold if check.sense == "<=" else value < threshold
    if not is_beyond or not math.isfinite(value):
        return ""
    way = "above" if check.sense == "<=" else "below"
    large, small = max(abs(value), abs(threshold)), min(abs(value), abs(threshold))
    if small == 0 or value * threshold < 0:
        return f"{abs(value - threshold):.3g} {way}"
    ratio = large / small
    return f"{100 * (ratio - 1):.2g} % {way}" if ratio < 2 else f"{ratio:.2g} times {way}"


def _number(value: Any) -> float:
    return math.nan if value is None else float(value)
