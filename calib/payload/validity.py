"""Intervals of validity: the runs for which a constant holds. See daf_butler's `certify`.

Both ends belong to the interval; one without an end holds until something later takes over.
"""

from __future__ import annotations

from dataclasses import dataclass

from calib.errors import InputError

LAST = 2**32 - 1
"""Largest run number: NanoAOD's is an unsigned integer of 32 bits."""


@dataclass(frozen=True, order=True)
class Validity:
    """Runs from ``since`` to ``until``, both included; None: open.

    Raises
    ------
    InputError
        If the ends are no run numbers, or in the wrong order.
    """

    since: int
    until: int | None = None

    def __post_init__(self) -> None:
        for name, run in (("since", self.since), ("until", self.until)):
            if run is None and name == "until":
                continue
            if isinstance(run, bool) or not isinstance(run, int) or not 0 <= run <= LAST:
                raise InputError(f"{name}: found {run!r}, expected a run number from 0 to {LAST}")
        if self.until is not None and self.until < self.since:
            raise InputError(
                f"until: found run {self.until}, before the first run {self.since}; give the last"
                " run for which the constants hold, or none"
            )

    @property
    def last(self) -> int:
        """The last run; `LAST` where the interval is open."""
        return LAST if self.until is None else self.until

    @property
    def is_open(self) -> bool:
        """Whether it has no end."""
        return self.until is None

    def contains(self, run: int) -> bool:
        """Return whether the constants hold for a run."""
        return self.since <= run <= self.last

    def overlaps(self, other: Validity) -> bool:
        """Return whether a run belongs to both."""
        return self.since <= other.last and other.since <= self.last

    def without(self, other: Validity) -> tuple[Validity, ...]:
        """Return what is left of it, in order, where ``other`` takes over its own runs."""
        if not self.overlaps(other):
            return (self,)
        left = []
        if self.since < other.since:
            left.append(Validity(self.since, other.since - 1))
        if other.last < self.last:
            left.append(Validity(other.last + 1, self.until))
        return tuple(left)

    def joins(self, other: Validity) -> bool:
        """Return whether ``other`` begins at the run after the last one."""
        return self.last < LAST and other.since == self.last + 1

    def __str__(self) -> str:
        if self.until is None:
            return f"{self.since} - open"
        return f"{self.since} - {self.until}"
