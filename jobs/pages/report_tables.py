"""DataFrames -> cells of the page: numbers rounded to their errors, statuses, links to fits."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from calib.later import pandas as pd
from calib.results import Status

MISSING = "–"
MAX_ROWS = 2000
"""Rows of one table on the page; the files hold all of them."""

LONG = 40
"""Characters of a text beyond which it may break anywhere (paths, sentences)."""

STATUSES = frozenset(s.value for s in Status)


@dataclass(frozen=True)
class Cell:
    """What stands in a cell, what it is sorted by, and how it looks."""

    text: str
    sort: str | float = ""
    kind: str = "text"
    link: str = ""


@dataclass(frozen=True)
class PageTable:
    """A table ready for the template; ``numeric`` says which columns stand to the right."""

    name: str
    columns: tuple[str, ...]
    numeric: tuple[bool, ...]
    rows: tuple[tuple[Cell, ...], ...]
    left_out: int = 0


def number(value: Any, error: Any = None) -> str:
    """Return a number in as many digits as its error allows (two of the error), or four.

    Large whole numbers get thin spaces; what is not a finite number is a dash.

    Parameters
    ----------
    value, error : object
        Numbers, or what can be taken for some.

    Returns
    -------
    str
        Rounded.
    """
    x = as_float(value)
    if math.isnan(x):
        return MISSING
    if math.isinf(x):
        return "∞" if x > 0 else "−∞"
    e = as_float(error)
    if math.isfinite(e) and e > 0:
        digits = _digits(e)
        if -3 < digits <= 7:
            return _signed(f"{x:,.{max(digits, 0)}f}")
    if x.is_integer() and abs(x) < 1e15:
        return _signed(f"{x:,.0f}")
    return _signed(f"{x:.4g}")


def with_error(value: Any, error: Any) -> str:
    """Return ``value ± error``, the error to two digits.

    Parameters
    ----------
    value, error : object
        Numbers, or what can be taken for some.

    Returns
    -------
    str
        Rounded.
    """
    x, e = as_float(value), as_float(error)
    if math.isnan(x) or not math.isfinite(e) or e < 0:
        return number(x)
    digits = _digits(e) if e > 0 else 3
    if not -3 < digits <= 7:
        return f"{number(x)} ± {_signed(f'{e:.2g}')}"
    digits = max(digits, 0)
    return f"{_signed(f'{x:,.{digits}f}')} ± {_signed(f'{e:,.{digits}f}')}"


def _digits(error: float) -> int:
    return 1 - math.floor(math.log10(error))


def _signed(text: str) -> str:
    return text.replace("-", "−").replace(",", "\u202f")


def as_float(value: Any) -> float:
    """Return a number, NaN for what is none."""
    try:
        return float(value) if value is not None else math.nan
    except (TypeError, ValueError):
        return math.nan


def words(name: str) -> str:
    """Return a column's name as words."""
    return {"n_events": "events", "chi2_probability": "probability"}.get(
        name, name.replace("_", " ")
    )


def table(name: str, frame: pd.DataFrame, fits: Collection[str] = ()) -> PageTable:
    """Return a DataFrame as cells.

    Parameters
    ----------
    name : str
        Of the table.
    frame : DataFrame
        A column ``x_err`` joins ``x``, and ``ndf`` joins ``chi2``; text columns without a word are
        left out.
    fits : collection of str
        A text that names one of them becomes a link to its picture.

    Returns
    -------
    PageTable
        Ready for the template.
    """
    errors = {c: f"{c}_err" for c in frame.columns if f"{c}_err" in frame.columns}
    if {"fitted", "error"} <= set(frame.columns):
        errors["fitted"] = "error"
    hidden = {*errors.values(), *_empty_texts(frame)}
    if {"chi2", "ndf"} <= set(frame.columns):
        hidden.add("ndf")
    names = [str(c) for c in frame.columns if c not in hidden]
    shown = frame.head(MAX_ROWS)
    rows = tuple(
        tuple(_cell(name, record, errors.get(name), fits) for name in names)
        for record in shown.to_dict("records")
    )
    return PageTable(
        name,
        tuple(_title(n, frame) for n in names),
        tuple(pd.api.types.is_numeric_dtype(frame[n]) for n in names),
        rows,
        len(frame) - len(shown),
    )


def _title(name: str, frame: pd.DataFrame) -> str:
    return "chi2 / ndf" if name == "chi2" and "ndf" in frame.columns else words(name)


def _empty_texts(frame: pd.DataFrame) -> list[str]:
    return [
        c
        for c in frame.columns
        if not pd.api.types.is_numeric_dtype(frame[c])
        and len(frame)
        and all(_is_missing(v) or v == "" for v in frame[c])
    ]


def _cell(name: str, record: Mapping[Any, Any], error: str | None, fits: Collection[str]) -> Cell:
    value = record[name]
    if isinstance(value, bool):
        return Cell("yes" if value else "no", str(value))
    if isinstance(value, str):
        text = str(getattr(value, "value", value))
        if "status" in name and text in STATUSES:
            return Cell(words(text), text, f"status {status_kind(text)}")
        half = f"{text}, half {record['half']}" if "half" in record else text
        link = next((f"#fit={quote(n)}" for n in (half, text) if n in fits), "")
        return Cell(text, text, "text" if len(text) <= LONG else "long", link)
    sort = as_float(value)
    if _is_missing(value):
        return Cell(MISSING, "", "number")
    if math.isnan(sort):
        return Cell(str(value), str(value))
    if name == "chi2" and "ndf" in record:
        ndf = as_float(record["ndf"])
        return Cell(f"{sort:.1f} / {number(ndf)}", sort / ndf if ndf > 0 else "", "number")
    if name == "pull":
        return Cell(_signed(f"{sort:+.2f}"), sort, "number")
    if name == "expected" and "error" in record:
        return Cell(number(value, record["error"]), sort, "number")
    if error is not None:
        return Cell(with_error(value, record[error]), sort, "number")
    return Cell(number(value), sort, "number")


def _is_missing(value: Any) -> bool:
    return value is None or value is pd.NA or (isinstance(value, float) and math.isnan(value))


def status_kind(status: str) -> str:
    """Return how a status looks: good, fallback or bad."""
    if status == Status.OK:
        return "good"
    return "fallback" if status in (Status.MERGED, Status.HELD) else "bad"
