"""What a store says: revisions, and the intervals that follow from them. Values only.

Revisions are one list that only grows. What holds for a tag as of revision N is found by going
through the list up to N: a publication or an extension takes over its runs, and a rollback or a
new tag takes the state of an earlier moment. So any moment can be had again.
"""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from calib.errors import InputError
from calib.payload.validity import Validity

Action = Literal["publish", "extend", "rollback", "tag", "freeze"]

MAIN = "main"
"""The tag that every store has."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.+-]{0,79}")


def checked_name(name: str, what: str) -> str:
    """Return the name of a tag or a calibration, if it is one.

    Raises
    ------
    InputError
        If it has characters that do not belong into names.
    """
    if not _NAME.fullmatch(name):
        raise InputError(
            f"{what}: found {name[:100]!r}, expected up to 80 letters, digits, and ._+- after the"
            " first"
        )
    return name


@dataclass(frozen=True)
class Revision:
    """One line of the store, never changed.

    Parameters
    ----------
    number : int
        From 1, without gaps, in the order in which they were made.
    action : str
        ``publish``, ``extend``, ``rollback``, ``tag`` or ``freeze``.
    tag : str
    calibration : str or None
        None for ``tag`` and ``freeze``, which hold for all.
    since, until : int or None
        Runs that it takes over, of ``publish`` and ``extend``; until None: open.
    payload, size : str, int or None
        sha256 and bytes of the payload.
    files : str or None
        sha256 of the list of files kept of the run.
    origin : int or None
        The publication that an ``extend`` prolongs; of a publication its own number.
    source, as_of : str, int or None
        Of ``rollback`` and ``tag``: the tag and the revision whose state is taken.
    frozen : bool
        Whether nothing comes after it in this tag.
    passed : bool or None
        The verdict of the run.
    forced : bool
        Whether it was published although the verdict was not passed.
    why : str
        What was said about it.
    name, config_hash, code_version : str
        Of the run.
    made, by : str
        When (UTC) and by whom.
    """

    number: int
    action: Action
    tag: str
    calibration: str | None
    since: int | None
    until: int | None
    payload: str | None
    size: int | None
    files: str | None
    origin: int | None
    source: str | None
    as_of: int | None
    frozen: bool
    passed: bool | None
    forced: bool
    why: str
    name: str
    config_hash: str
    code_version: str
    made: str
    by: str

    @property
    def validity(self) -> Validity:
        """The runs that it takes over; only of ``publish`` and ``extend``."""
        if self.since is None:
            raise InputError(f"revision {self.number}: a {self.action} has no runs of its own")
        return Validity(self.since, self.until)

    def as_dict(self) -> dict[str, Any]:
        """Return plain values, for JSON."""
        return asdict(self)


@dataclass(frozen=True)
class Interval:
    """Runs for which one payload holds, as of some revision.

    ``revision`` is the publication, ``last`` the newest revision that brought runs to it (an
    extension, or the publication itself).
    """

    validity: Validity
    revision: Revision
    last: Revision

    def as_dict(self) -> dict[str, Any]:
        """Return plain values, for JSON."""
        return {
            "since": self.validity.since,
            "until": self.validity.until,
            "revision": self.revision.number,
            "last": self.last.number,
            "calibration": self.revision.calibration,
            "payload": self.revision.payload,
            "passed": self.revision.passed,
            "forced": self.revision.forced,
            "why": self.revision.why,
            "made": self.revision.made,
            "by": self.revision.by,
        }


@dataclass(frozen=True)
class Tag:
    """A named line of revisions; ``frozen``: nothing comes into it any more."""

    name: str
    frozen: bool
    revisions: int
    source: str | None = None
    as_of: int | None = None


def intervals(
    revisions: Sequence[Revision], calibration: str, tag: str = MAIN, as_of: int | None = None
) -> tuple[Interval, ...]:
    """Return which publication holds for which runs, in order of the runs.

    Parameters
    ----------
    revisions : sequence of Revision
        All of the store, in order: a tag may be made from another.
    calibration, tag : str
    as_of : int or None
        Look no further than this revision; None: all.
    """
    found: list[tuple[Validity, Revision]] = []
    for r in revisions:
        if as_of is not None and r.number > as_of:
            break
        if r.tag != tag or r.calibration not in (calibration, None):
            continue
        if r.action in ("publish", "extend"):
            _take_over(found, r.validity, r)
        elif r.source is not None:  # the state of an earlier moment
            taken = intervals(revisions, calibration, r.source, r.as_of)
            found = [(i.validity, i.last) for i in taken]
    return _joined(found, {r.number: r for r in revisions})


def _take_over(found: list[tuple[Validity, Revision]], validity: Validity, r: Revision) -> None:
    """Give runs to a revision, in a list of intervals that is in order and stays so."""
    first = bisect_left(found, validity.since, key=lambda f: f[0].last)
    after = bisect_right(found, validity.last, key=lambda f: f[0].since)
    rest = [(v, of) for old, of in found[first:after] for v in old.without(validity)]
    found[first:after] = sorted([*rest, (validity, r)], key=lambda f: f[0].since)


def _joined(
    found: Sequence[tuple[Validity, Revision]], by_number: dict[int, Revision]
) -> tuple[Interval, ...]:
    """Return intervals; an extension and what it prolongs are one."""
    out: list[Interval] = []
    for validity, r in found:
        origin = by_number[r.number if r.origin is None else r.origin]
        if out and out[-1].revision == origin and out[-1].validity.joins(validity):
            whole = Validity(out[-1].validity.since, validity.until)
            last = max(out[-1].last, r, key=lambda x: x.number)
            out[-1] = Interval(whole, origin, last)
        else:
            out.append(Interval(validity, origin, r))
    return tuple(out)


def tags(revisions: Sequence[Revision]) -> dict[str, Tag]:
    """Return the tags by name."""
    found = {MAIN: Tag(MAIN, False, 0)}
    for r in revisions:
        old = found.get(r.tag)
        count = (old.revisions if old else 0) + 1
        source, as_of = (old.source, old.as_of) if old else (r.source, r.as_of)
        found[r.tag] = Tag(r.tag, r.frozen or bool(old and old.frozen), count, source, as_of)
    return found
