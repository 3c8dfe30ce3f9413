"""Where every event went: read, selected, or rejected under one named reason."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from calib.errors import InputError
from calib.results import Check


@dataclass(frozen=True)
class Counts:
    """Events of one chunk, or of any sum of chunks."""

    read: int
    selected: int
    rejected: Mapping[str, int]

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Counts:
        """Return the counts from the plain values that the processor hands out."""
        rejected = {str(k): int(v) for k, v in values["rejected"].items()}
        return cls(int(values["read"]), int(values["selected"]), rejected)

    @classmethod
    def total(cls, parts: Iterable[Counts]) -> Counts:
        """Return the sum; reasons keep the order in which they first appear."""
        read = selected = 0
        rejected: Counter[str] = Counter()
        for part in parts:
            read, selected = read + part.read, selected + part.selected
            for reason, n in part.rejected.items():
                rejected[reason] += n
        return cls(read, selected, dict(rejected))

    @property
    def adds_up(self) -> bool:
        """Whether every event that was read is selected or rejected."""
        return self.read == self.selected + sum(self.rejected.values())

    def as_dict(self) -> dict[str, Any]:
        """Return plain values; only reasons that occurred."""
        rejected = {reason: n for reason, n in self.rejected.items() if n}
        return {"read": self.read, "selected": self.selected, "rejected": rejected}


def account(
    files: Sequence[tuple[str, str, int, Counts]],
    bad_files: Sequence[Mapping[str, Any]] = (),
    notes: Sequence[str] = (),
    checksums: Mapping[tuple[str, str], str] | None = None,
) -> dict[str, Any]:
    """Return the accounting as it is written: events = read + bad, read = selected + rejected.

    Parameters
    ----------
    files : sequence of (sample, path, events in the file, Counts)
    bad_files : sequence of {sample, path, error, events}
        ``events`` were left out; None where the file could not be opened, which is then not
        among the files, and had ``about`` so many.
    notes : sequence of str
        Remarks.
    checksums : mapping of (sample, path) to what protects the content of a file

    Returns
    -------
    dict
        ``samples, bad_files, notes``.
    """
    protected = checksums or {}
    left_out: Counter[tuple[str, str]] = Counter()
    for entry in bad_files:
        left_out[entry.get("sample", ""), entry["path"]] += entry.get("events") or 0
    samples: dict[str, Any] = {}
    for name in dict.fromkeys(sample for sample, *_ in files):
        own = [(path, events, counts) for sample, path, events, counts in files if sample == name]
        bad = {p: left_out[name, p] for p, *_ in own}
        samples[name] = {
            "files": [
                {
                    "path": p,
                    "events": n,
                    **_if_any(bad[p]),
                    **c.as_dict(),
                    **({"checksums": protected[name, p]} if protected.get((name, p)) else {}),
                }
                for p, n, c in own
            ],
            "totals": {
                "events": sum(n for _, n, _ in own),
                **_if_any(sum(bad.values())),
                **Counts.total(c for *_, c in own).as_dict(),
            },
        }
    return {"samples": samples, "bad_files": [dict(b) for b in bad_files], "notes": list(notes)}


def _if_any(bad: int) -> dict[str, int]:
    return {"bad": bad} if bad else {}


def bad_share(accounting: Mapping[str, Any]) -> float:
    """Return the share of the events that was left out.

    Files that could not be opened count by their size, as ``about`` says; where that is not
    known, as the average of the others.
    """
    files = [f for s in accounting["samples"].values() for f in s["files"]]
    events = sum(f["events"] for f in files)
    known = sum(f.get("bad", 0) for f in files)
    average = events / len(files) if files else 0.0
    unopened = [b for b in accounting["bad_files"] if b.get("events") is None]
    shut = sum(float(b.get("about") or average) for b in unopened)
    return (shut + known) / (shut + events) if shut + events else float(bool(unopened))


def checks(accounting: Mapping[str, Any], allowed: float = 0.0) -> tuple[Check, ...]:
    """Return the checks that no event was lost, left out beyond what is allowed, or doubled.

    Parameters
    ----------
    accounting : mapping
        As `account` returns it, with what `jobs.run.input_checks` adds.
    allowed : float
        Largest share of the events that may be in bad files.

    Returns
    -------
    tuple of Check
        With numbers and limits.
    """
    found = [_check_lost(accounting)]
    bad = accounting.get("bad_files", ())
    if bad:
        share = bad_share(accounting)
        first = bad[0]["path"]
        found.append(
            Check(
                "bad_files",
                share,
                allowed,
                allowed > 0 and share <= allowed,
                f"share of the events left out, in {len({b['path'] for b in bad})} files; first:"
                f" {first} ({bad[0]['error']})",
                "<=",
                "Events in bad files",
                f"copy {first} again, or take it out of 'files'; to go on without these events, set"
                f" bad_files: {{skip_up_to: {_above(share)}}}",
            )
        )
    return tuple(found)


def _check_lost(accounting: Mapping[str, Any]) -> Check:
    lost = 0
    where = ""
    for name, sample in accounting.get("samples", {}).items():
        for file in sample["files"]:
            missing = abs(file["events"] - file["read"] - file.get("bad", 0)) + abs(
                file["read"] - file["selected"] - sum(file["rejected"].values())
            )
            if missing and not where:
                where = f"; the first: sample {name}, {file['path']}, {missing}"
            lost += missing
    return Check.at_most(
        "accounting",
        lost,
        0,
        f"events neither selected, nor rejected for a reason, nor in bad files{where}",
        title="Events lost",
        advice="do not use this result: collect it again in a new directory; if events are lost"
        " again, the reader of this file is wrong",
    )


def _above(share: float) -> str:
    """Return a share of two digits that is not below another."""
    step = 10.0 ** (math.floor(math.log10(share)) - 1) if share > 0 else 0.01
    return f"{min(math.ceil(share / step) * step, 1.0):.3g}"


# files that give far less than others ----------------------------------------------------------
CHOSEN = ("other_run", "not_certified", "prescaled")
"""Reasons that were asked for: what is left out so says nothing about a file."""

LEAST_EXPECTED = 25.0
"""Pairs that a file should have given, before their lack is believed."""

FAR_LESS = 0.2
"""Of what the others give."""

UNSEEN = 0.01
"""Share of the pairs of a sample that may be missing so without failing the verdict."""


@dataclass(frozen=True)
class Poor:
    """A file that gave far less than the others of its sample."""

    sample: str
    path: str
    events: int
    selected: int
    expected: float
    reason: str

    @property
    def text(self) -> str:
        """What is said of it."""
        main = f", most of its events end under {self.reason!r}" if self.reason else ""
        return (
            f"sample {self.sample}: {self.path} gave {self.selected} pairs of {self.events} events,"
            f" where the others of the sample give {self.expected:.0f} of so many{main}"
        )


def poor_files(accounting: Mapping[str, Any]) -> list[Poor]:
    """Return the files that gave far fewer pairs of their events than others of their sample."""
    found = []
    for name, sample in accounting["samples"].items():
        rows = [(file, _asked(file)) for file in sample["files"]]
        events = sum(n for _, n in rows)
        selected = sum(file["selected"] for file, _ in rows)
        for file, n in rows:
            others = events - n
            expected = n * (selected - file["selected"]) / others if others > 0 else 0.0
            if expected >= LEAST_EXPECTED and file["selected"] < FAR_LESS * expected:
                rejected = {k: v for k, v in file["rejected"].items() if k not in CHOSEN}
                reason = max(rejected, key=lambda k: rejected[k], default="")
                found.append(Poor(name, file["path"], n, file["selected"], expected, reason))
    return found


def _asked(file: Mapping[str, Any]) -> int:
    """Return the events of a file that were to be used."""
    return int(file["read"]) - sum(int(file["rejected"].get(reason, 0)) for reason in CHOSEN)


def yield_checks(accounting: Mapping[str, Any], allowed: float = 0.0) -> tuple[Check, ...]:
    """Return the check that no files lack what the others of their sample give; none if all do.

    Parameters
    ----------
    accounting : mapping
        As `account` returns it.
    allowed : float
        Largest share of the events that may be in bad files: it holds for these as well.

    Returns
    -------
    tuple of Check
        One or none.
    """
    poor = poor_files(accounting)
    if not poor:
        return ()
    share = 0.0
    for name in dict.fromkeys(one.sample for one in poor):
        missing = sum(one.expected - one.selected for one in poor if one.sample == name)
        share = max(share, missing / (missing + accounting["samples"][name]["totals"]["selected"]))
    threshold = max(UNSEEN, allowed)
    more = f", and {len(poor) - 1} more" if len(poor) > 1 else ""
    return (
        Check.at_most(
            "file_yields",
            share,
            threshold,
            "share of the pairs of a sample missing in files that yield far less than the others:"
            f" {poor[0].text}{more}",
            title="Pairs missing in poor files",
            advice="look at these files, and take them out of 'files', or allow them by key"
            " 'bad_files.skip_up_to'",
        ),
    )


def require_pairs(accounting: Mapping[str, Any]) -> None:
    """Raise InputError where a sample has not a single selected pair."""
    for name, sample in accounting["samples"].items():
        totals = sample["totals"]
        if totals["selected"] == 0:
            reasons = ", ".join(f"{reason} {n}" for reason, n in totals["rejected"].items())
            raise InputError(
                f"sample {name}: none of its {totals['read']} events is a selected pair"
                f" ({reasons or 'no events'}); check its files and key 'selection'"
            )
