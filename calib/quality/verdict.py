"""The verdict: every check beside its threshold, and whether all of them passed."""

from __future__ import annotations

import math
from collections.abc import Iterable
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
    return {
        "name": check.name,
        "value": _finite(check.value),
        "threshold": _finite(check.threshold),
        "passed": bool(check.passed),
        "text": check.text,
    }


def _finite(value: float) -> float | None:
    number = float(value)
    return number if math.isfinite(number) else None
