"""What each level of the selection did: events in and out, bytes and seconds."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from calib.events import histograms
from calib.events.histograms import Sums
from calib.later import pandas as pd
from jobs.run.accounting import Counts
from processors.levels import COLUMNS, LEVELS, level_of

PREFIX = "costs/"
REJECTED = "events/rejected/"


def write_account(path: Path, counts: Counts, costs: Mapping[str, Mapping[str, float]]) -> None:
    """Write where the events of a chunk went, and what that cost.

    Parameters
    ----------
    path : Path
        The file.
    counts : Counts
        Of the chunk.
    costs : mapping of level to mapping of str to float
        Bytes and seconds.
    """
    histograms.write(path, counts_as_sums(counts) | as_sums(costs))


def counts_as_sums(counts: Counts) -> Sums:
    """Return where the events of a chunk went as it stands in its file."""
    return {
        "events/read": np.asarray(counts.read),
        "events/selected": np.asarray(counts.selected),
        **{f"{REJECTED}{reason}": np.asarray(n) for reason, n in counts.rejected.items()},
    }


def read_counts(path: Path) -> Counts:
    """Return where the events of a chunk went."""
    found = histograms.read(path, only="events/")
    rejected = {
        name.removeprefix(REJECTED): int(n)
        for name, n in found.items()
        if name.startswith(REJECTED)
    }
    return Counts(int(found["events/read"]), int(found["events/selected"]), rejected)


def as_sums(costs: Mapping[str, Mapping[str, float]]) -> Sums:
    """Return the costs of a chunk as they stand in its file."""
    return {
        f"{PREFIX}{level}/{what}": np.asarray(value)
        for level, own in costs.items()
        for what, value in own.items()
    }


def costs_of(chunks: Iterable[Path]) -> dict[str, dict[str, float]]:
    """Return the sum of the costs of some chunks: bytes and seconds by level."""
    found: dict[str, dict[str, float]] = {}
    for path in chunks:
        for name, value in histograms.read(path, only=PREFIX).items():
            level, what = name.removeprefix(PREFIX).split("/")
            own = found.setdefault(level, {})
            own[what] = round(own.get(what, 0.0) + float(value), 3)
    return found


def flow(totals: Mapping[str, Any]) -> dict[str, tuple[int, int]]:
    """Return events in and out of each level, from the reasons of an accounting."""
    taken = dict.fromkeys(LEVELS, 0)
    for reason, n in (totals.get("rejected") or {}).items():
        taken[level_of(reason)] += int(n)
    left, found = int(totals.get("read", 0)), {}
    for level, n in taken.items():
        if level == "cuts" and not n:  # most runs have none of their own
            continue
        found[level] = (left, left - n)
        left -= n
    return found


def table(
    totals: Mapping[str, Any], costs: Mapping[str, Mapping[str, float]], simulated: bool
) -> pd.DataFrame:
    """Return one row a level: what goes in and out, and what it costs.

    Of a simulated sample ``efficiency`` is that of the level for its events, which are signal.

    Parameters
    ----------
    totals : mapping
        Of a sample, as in the accounting.
    costs : mapping of level to mapping of str to float
        Bytes and seconds; empty where not known.
    simulated : bool
        Whether there is an efficiency.

    Returns
    -------
    DataFrame
        ``level, in, out, rejected[, efficiency][, read_MB, seconds]``.
    """
    rows = []
    for level, (before, after) in flow(totals).items():
        share = after / before if before else float("nan")
        row: dict[str, Any] = {"level": level, "in": before, "out": after, "rejected": 1 - share}
        if simulated:
            row["efficiency"] = share
        rows.append(row | _cost(costs.get(level)))
    if COLUMNS in costs:
        rows.append({"level": "other columns of the pairs"} | _cost(costs[COLUMNS]))
    frame = pd.DataFrame(rows)
    return frame if costs else frame.drop(columns=["read_MB", "seconds"])


def _cost(cost: Mapping[str, float] | None) -> dict[str, float]:
    own = cost or {}
    return {
        "read_MB": own.get("bytes", float("nan")) / 1e6,
        "seconds": own.get("seconds", float("nan")),
    }
