"""The fits on the page: a table in columns, and the pictures packed small.

A page must hold 20 000 fits below 10 MB, so a picture is some 200 bytes: whole numbers (counts
minus the model; second differences of model and background, in steps far below an error), as
zigzag integers, byte by byte, deflated in blocks. ``report.js`` unpacks a block when one of its
fits is looked at; `unpack` here does the same, for tests.
"""

from __future__ import annotations

import base64
import zlib
from collections import defaultdict, deque
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from calib.later import pandas as pd
from calib.quality.category_gates import probability
from calib.results import Closure, Curve, Reduction
from calib.types import AnyArray, Array
from jobs.pages.report_tables import as_float

BLOCK = 128
"""Pictures in a block."""

_STEP = 0.05
"""Step of model and background, in the smallest error of a bin."""

_LOG_STEP = 0.02
_LARGEST = 2.0**26


def listing(reduction: Reduction, closure: Closure | None) -> dict[str, Any]:
    """Return all fits as columns, and their pictures, as plain values for the page."""
    curves = [*reduction.curves, *(closure.curves if closure is not None else ())]
    rows = _rows(reduction, closure, curves)
    groups = list(dict.fromkeys(r["group"] for r in rows))
    statuses = list(dict.fromkeys(r["status"] for r in rows))
    return {
        "groups": groups,
        "statuses": statuses,
        "name": [r["name"] for r in rows],
        "group": [groups.index(r["group"]) for r in rows],
        "status": [statuses.index(r["status"]) for r in rows],
        "events": [_short(r["events"]) for r in rows],
        "chi2": [_short(r["chi2"]) for r in rows],
        "ndf": [_short(r["ndf"]) for r in rows],
        "probability": [_short(r["probability"]) for r in rows],
        "picture": [r["picture"] for r in rows],
        "text": [r["text"] for r in rows],
        **pack(curves),
    }


def _short(value: Any) -> float | int | None:
    x = as_float(value)
    if not np.isfinite(x):
        return None
    rounded = float(f"{x:.5g}") if abs(x) < 1e5 else round(x)
    return int(rounded) if float(rounded).is_integer() else rounded


def _rows(
    reduction: Reduction, closure: Closure | None, curves: Sequence[Curve]
) -> list[dict[str, Any]]:
    waiting: dict[tuple[str, str], deque[int]] = defaultdict(deque)
    for i, curve in enumerate(curves):
        waiting[curve.group, curve.name].append(i)
    rows = []
    fits = reduction.fits
    several = "sample" in fits and fits["sample"].nunique() > 1
    for record in fits.to_dict("records"):
        category = str(record.get("category", ""))
        name = f"{record['sample']}/{category}" if several else category
        found = waiting["categories", name] or waiting["categories", category]
        at = found.popleft() if found else -1
        text = curves[at].text if at >= 0 else ""
        reason = record.get("reason")
        if isinstance(reason, str) and reason:
            text = f"{text}\n{reason}" if text else reason
        rows.append(_row(name, "categories", record, at, text))
    records: dict[str, dict[str, dict[Any, Any]]] = {}
    for (group, name), left in waiting.items():
        if left and group not in records:
            records[group] = _records(group, reduction.tables, closure)
        for at in left:
            record = dict(records[group].get(name, {}))
            record.setdefault("n_events", float(np.sum(curves[at].counts)))
            rows.append(_row(name, group, record, at, curves[at].text))
    return rows


def _records(
    group: str, tables: Mapping[str, pd.DataFrame], closure: Closure | None
) -> dict[str, dict[Any, Any]]:
    """Return what a table named like the group, or the closure, says about its fits."""
    table = closure.table if group == "closure" and closure is not None else tables.get(group)
    found: dict[str, dict[Any, Any]] = {}
    if table is not None:
        for record in table.to_dict("records"):
            key = str(record.get("category", record.get("bin", "")))
            found[f"{key}, half {record['half']}" if "half" in record else key] = dict(record)
    return found


def _row(
    name: str, group: str, record: Mapping[Any, Any], picture: int, text: str
) -> dict[str, Any]:
    chi2, ndf = as_float(record.get("chi2")), as_float(record.get("ndf"))
    fitted = np.isfinite(chi2) and np.isfinite(ndf) and ndf > 0
    return {
        "name": name,
        "group": group,
        "status": str(record.get("status", "") or ""),
        "events": record.get("n_events"),
        "chi2": chi2 if fitted else None,
        "ndf": ndf if fitted else None,
        "probability": probability(chi2, int(ndf)) if fitted else None,
        "picture": picture,
        "text": text,
    }


# packed pictures ---------------------------------------------------------------------------------
def pack(curves: Sequence[Curve]) -> dict[str, Any]:
    """Return the pictures as plain values: what `unpack` and report.js read."""
    axes: dict[bytes, int] = {}
    edges: list[list[float]] = []
    units: list[tuple[str, str]] = []
    out: dict[str, Any] = {"axis": [], "unit": [], "steps": [], "weighted": []}
    numbers: list[AnyArray] = []
    for curve in curves:
        key = np.asarray(curve.edges, dtype=np.float64).tobytes()
        if key not in axes:
            axes[key] = len(edges)
            edges.append([float(f"{x:.9g}") for x in curve.edges])
        if (curve.observable, curve.unit) not in units:
            units.append((curve.observable, curve.unit))
        steps, parts = _whole_numbers(curve)
        out["axis"].append(axes[key])
        out["unit"].append(units.index((curve.observable, curve.unit)))
        out["steps"].append(steps)
        out["weighted"].append(int(len(parts) > 3))
        numbers.append(_zigzag(np.concatenate(parts)))
    blocks = [_squeeze(numbers[i : i + BLOCK]) for i in range(0, len(numbers), BLOCK)]
    return {"edges": edges, "units": units, **out, "block": BLOCK, "blocks": blocks}


def _whole_numbers(curve: Curve) -> tuple[list[float], list[AnyArray]]:
    """Return the steps (of counts, of model, least variance) and the numbers in these steps."""
    counts, variance, model, background = (
        np.nan_to_num(np.asarray(x, dtype=np.float64), posinf=0.0, neginf=0.0)
        for x in (curve.counts, curve.variance, curve.model, curve.background)
    )
    poisson = bool(np.array_equal(counts, variance) and np.array_equal(counts, np.rint(counts)))
    positive = variance[variance > 0]
    least = float(f"{positive.min():.3g}") if positive.size else 1.0
    highest = max(float(np.max(np.abs(x), initial=0.0)) for x in (counts, model, background))
    step = float(f"{max(_STEP * np.sqrt(least), highest / _LARGEST):.3g}")
    count_step = 1.0 if poisson and highest < _LARGEST else step
    steps_of_model = np.rint(model / step)
    expected = np.floor(steps_of_model * step / count_step + 0.5)
    parts = [
        np.diff(steps_of_model, n=2, prepend=[0.0, 0.0]),
        np.diff(np.rint(background / step), n=2, prepend=[0.0, 0.0]),
        np.rint(counts / count_step) - expected,
    ]
    if not poisson:
        with np.errstate(divide="ignore"):
            logarithm = np.maximum(np.rint(np.log(variance / least) / _LOG_STEP), 0.0) + 1
        parts.append(np.where(variance > 0, logarithm, 0.0))
    return [count_step, step, least], parts


def _zigzag(values: Array) -> AnyArray:
    whole = values.astype(np.int64)
    return ((whole << 1) ^ (whole >> 63)).astype("<u4")


def _squeeze(numbers: Sequence[AnyArray]) -> str:
    planes = np.concatenate(numbers).view(np.uint8).reshape(-1, 4).T
    return base64.b64encode(zlib.compress(np.ascontiguousarray(planes).tobytes(), 9)).decode()


def unpack(packed: Mapping[str, Any], picture: int) -> dict[str, Array]:
    """Return ``edges, counts, variance, model, background`` of one picture, as the page does."""
    size = packed["block"]
    raw = zlib.decompress(base64.b64decode(packed["blocks"][picture // size]))
    zigzag = np.frombuffer(raw, np.uint8).reshape(4, -1).T.copy().view("<u4")[:, 0].astype(np.int64)
    values = ((zigzag >> 1) ^ -(zigzag & 1)).astype(np.float64)

    def length(i: int) -> int:
        bins = len(packed["edges"][packed["axis"][i]]) - 1
        return bins * (4 if packed["weighted"][i] else 3)

    start = sum(length(i) for i in range(picture - picture % size, picture))
    rows = values[start : start + length(picture)].reshape(
        4 if packed["weighted"][picture] else 3, -1
    )
    count_step, step, least = packed["steps"][picture]
    model = np.cumsum(np.cumsum(rows[0])) * step
    counts = (rows[2] + np.floor(model / count_step + 0.5)) * count_step
    variance = counts
    if len(rows) > 3:
        variance = np.where(rows[3] != 0, least * np.exp((rows[3] - 1) * _LOG_STEP), 0.0)
    return {
        "edges": np.asarray(packed["edges"][packed["axis"][picture]]),
        "counts": counts,
        "variance": variance,
        "model": model,
        "background": np.cumsum(np.cumsum(rows[1])) * step,
    }
