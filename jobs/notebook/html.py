"""Small pieces of HTML for what a notebook shows; every word from outside is escaped."""

from __future__ import annotations

import html
from collections.abc import Sequence
from typing import Any

from calib.later import pandas as pd
from calib.quality.verdict import for_people

ROWS = 12
"""Rows of a table that are shown; the others are a `to_dataframe()` away."""

GREEN, RED = "#1a7f37", "#b42318"


def block(title: str, *parts: str) -> str:
    """Return a heading with what stands below it.

    Parameters
    ----------
    title : str
        Escaped here.
    *parts : str
        HTML.

    Returns
    -------
    str
        HTML.
    """
    return f"<div><strong>{html.escape(title)}</strong>{''.join(parts)}</div>"


def words(text: str) -> str:
    """Return a paragraph."""
    return f"<p style='margin:.3em 0'>{html.escape(text)}</p>" if text else ""


def notes(texts: Sequence[str]) -> str:
    """Return a list of remarks."""
    items = "".join(f"<li>{html.escape(text)}</li>" for text in texts)
    return f"<ul style='margin:.3em 0'>{items}</ul>" if texts else ""


def verdict(passed: bool, text: str) -> str:
    """Return the verdict in its colour, and in words: a colour alone is not for everybody.

    Parameters
    ----------
    passed : bool
        What it is.
    text : str
        Escaped here.

    Returns
    -------
    str
        HTML.
    """
    colour = GREEN if passed else RED
    word = "passed" if passed else "not passed"
    return (
        f"<p style='margin:.3em 0'><strong style='color:{colour}'>verdict: {word}</strong>"
        f" {html.escape(text)}</p>"
    )


def table(frame: pd.DataFrame, index: bool = False) -> str:
    """Return the first rows of a table, numbers in few digits.

    Parameters
    ----------
    frame : DataFrame
        Of any size.
    index : bool
        Whether its index is shown.

    Returns
    -------
    str
        HTML.
    """
    shown = frame.head(ROWS)
    text: str = shown.to_html(
        index=index, escape=True, border=0, float_format=_number, na_rep="–", max_rows=ROWS
    )
    more = len(frame) - len(shown)
    return text + (words(f"and {more} more rows, see to_dataframe()") if more > 0 else "")


def _number(value: float) -> str:
    return f"{value:.4g}"


def checks(lines: Sequence[dict[str, Any]]) -> str:
    """Return the checks of a verdict, those that are not passed first, with what to do."""
    columns = ["check", "value", "limit", "outcome", "what the value is", "what to do"]
    found = [
        (
            line["title"],
            line["value"],
            line["limit"],
            "passed" if line["passed"] else f"NOT PASSED {line['beyond']}".rstrip(),
            line["text"],
            line["advice"],
        )
        for line in for_people({"checks": lines})
    ]
    bad = sum(not line["passed"] for line in lines)
    shown = _all(pd.DataFrame(found[:bad], columns=columns)) if bad else ""
    folded = _all(pd.DataFrame(found[bad:], columns=columns).drop(columns="what to do"))
    return f"{shown}<details><summary>{len(found) - bad} checks passed</summary>{folded}</details>"


def _all(frame: pd.DataFrame) -> str:
    text: str = frame.to_html(index=False, escape=True, border=0, float_format=_number, na_rep="–")
    return text


def shown_in_cells() -> None:
    """Let a notebook draw figures that pyplot has not made."""
    import sys

    if "IPython" not in sys.modules:
        return
    from IPython.core.getipython import get_ipython
    from IPython.core.pylabtools import select_figure_formats

    shell = get_ipython()
    if shell is not None:
        select_figure_formats(shell, {"png"})
