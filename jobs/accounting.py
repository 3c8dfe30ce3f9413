"""Where every event went: read, selected, or rejected under one named reason."""

from __future__ import annotations

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
    bad_files: Sequence[Mapping[str, str]] = (),
    notes: Sequence[str] = (),
) -> dict[str, Any]:
    """Return the accounting as it is written.

    Parameters
    ----------
    files : sequence of (sample, path, events in the file, Counts)
    bad_files : sequence of {sample, path, error}
    notes : sequence of str
    """
    samples: dict[str, Any] = {}
    for name in dict.fromkeys(sample for sample, *_ in files):
        own = [(path, events, counts) for sample, path, events, counts in files if sample == name]
        samples[name] = {
            "files": [{"path": p, "events": n, **c.as_dict()} for p, n, c in own],
            "totals": {
                "events": sum(n for _, n, _ in own),
                **Counts.total(c for *_, c in own).as_dict(),
            },
        }
    return {"samples": samples, "bad_files": [dict(b) for b in bad_files], "notes": list(notes)}


def check(accounting: Mapping[str, Any]) -> Check:
    """Return the check that no event was lost: its value is the number of events unaccounted."""
    lost = 0
    where = ""
    for name, sample in accounting.get("samples", {}).items():
        for file in sample["files"]:
            missing = abs(file["events"] - file["read"]) + abs(
                file["read"] - file["selected"] - sum(file["rejected"].values())
            )
            if missing and not where:
                where = f"; the first: sample {name}, {file['path']}, {missing}"
            lost += missing
    bad = len(accounting.get("bad_files", ()))
    if bad:
        where += f"; {bad} bad files"
    return Check(
        name="accounting",
        value=float(lost + bad),
        threshold=0.0,
        passed=lost == 0 and bad == 0,
        text=f"events neither selected nor rejected under a reason{where}",
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
