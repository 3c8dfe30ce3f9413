"""What may be added to a store, given everything that is in it. One writer at a time."""

from __future__ import annotations

import difflib
from bisect import bisect_left
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection

from calib.errors import CalibError, InputError
from calib.payload.description import origin_of
from calib.payload.validity import Validity
from jobs.store.content import Staged
from jobs.store.revisions import Interval, Revision, checked_name, intervals, tags
from jobs.store.rows import append, next_number
from jobs.store.runs import FinishedRun

Revisions = tuple[Revision, ...]

MAX_WHY = 2000
"""Characters of a reason."""


class NotPublishable(CalibError):
    """The verdict of a run is not passed, and nobody took the responsibility (exit code 3)."""


# what is asked for ------------------------------------------------------------------------------
def numbered(found: Revisions, number: int) -> Revision:
    """Return the revision of a number."""
    at = bisect_left(found, number, key=lambda r: r.number)
    if at == len(found) or found[at].number != number:
        raise InputError(f"revision {number}: there is none; the store has {len(found)} of them")
    return found[at]


def calibrations(found: Revisions) -> tuple[str, ...]:
    """Return the calibrations of which something was published."""
    return tuple(sorted({r.calibration for r in found if r.calibration is not None}))


def chosen(found: Revisions, calibration: str | None) -> str:
    """Return a calibration that is in the store; None: the only one.

    Raises
    ------
    InputError
        If it is not there, or none is named of several.
    """
    known = calibrations(found)
    if calibration is None and len(known) == 1:
        return known[0]
    if not known:
        raise InputError("the store is empty; `calib publish DIR --store S --since RUN` fills it")
    if calibration is None:
        raise InputError(f"option --calibration is missing: the store has {', '.join(known)}")
    if calibration not in known:
        raise InputError(
            f"calibration {calibration[:80]!r}: nothing of it is in the store;"
            f" {_nearest(calibration, known)}"
        )
    return calibration


def reason(why: str) -> str:
    """Return what was said about a revision, as one line of printable characters.

    Raises
    ------
    InputError
        If it is longer than `MAX_WHY`.
    """
    line = " ".join("".join(c if c.isprintable() else " " for c in why).split())
    if len(line) > MAX_WHY:
        raise InputError(f"option --why: {len(line)} characters, more than {MAX_WHY}; be brief")
    return line


def require_tag(found: Revisions, tag: str) -> None:
    """Raise InputError where there is no such tag."""
    known = tags(found)
    if tag not in known:
        raise InputError(
            f"tag {tag[:80]!r}: there is none; {_nearest(tag, tuple(known))}, or make it by"
            " `calib store tag`"
        )


def require_open(found: Revisions, tag: str) -> None:
    """Raise InputError where nothing may come into a tag."""
    require_tag(found, tag)
    if tags(found)[tag].frozen:
        raise InputError(f"tag {tag!r}: frozen; use another one, or make one from it")


def _nearest(name: str, known: tuple[str, ...]) -> str:
    near = difflib.get_close_matches(name, known, n=1)
    return f"did you mean {near[0]!r}?" if near else f"there are {', '.join(known)}"


def published(revision: Revision, sha: str | None) -> str:
    """Return the checksum of a content, if a revision has one."""
    if sha is None:
        raise InputError(
            f"revision {revision.number}: a {revision.action} has no payload of its own;"
            " `calib store list` has those that do"
        )
    return sha


# publish ----------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Publication:
    """What somebody wants to publish."""

    run: FinishedRun
    staged: Staged
    validity: Validity
    tag: str
    why: str
    replace: bool


def require_publishable(run: FinishedRun, force: bool) -> None:
    """Raise NotPublishable where the verdict is not passed and nobody insists."""
    if not run.passed and not force:
        path = run.directory.path
        raise NotPublishable(
            f"{path}: the verdict is not passed ({run.failed}), so nothing was published; mend"
            " it, or take the responsibility with --force --why TEXT"
        )


def already(found: Revisions, wanted: Publication) -> Revision | None:
    """Return the revision that says the same already, None if the runs are free to be taken.

    Raises
    ------
    InputError
        If the tag is frozen or unknown, or the runs belong to another one.
    """
    require_open(found, wanted.tag)
    validity = wanted.validity
    now = intervals(found, wanted.run.calibration, wanted.tag)
    taken = [i for i in now if i.validity.overlaps(validity)]
    if not taken:
        return None
    first = taken[0]
    if len(taken) == 1 and first.validity == validity and _says_the_same(first, wanted):
        return first.revision
    follows = first.validity.is_open and validity.is_open and first.validity.since < validity.since
    if wanted.replace or (follows and len(taken) == 1):
        return None
    others = f" and {len(taken) - 1} more" if len(taken) > 1 else ""
    raise InputError(
        f"runs {validity}: taken in tag {wanted.tag!r} by revision {first.revision.number} (runs"
        f" {first.validity}){others}; give other runs, or --replace, by which the new payload"
        " takes over"
    )


def require_same_origin(
    found: Revisions, wanted: Publication, document: Callable[[Revision], Mapping[str, Any]]
) -> None:
    """Raise InputError where constants of simulation would come over those of data, or these over.

    Parameters
    ----------
    found : Revisions
    wanted : Publication
    document : callable
        Returns the payload of a revision.
    """
    new = origin_of(wanted.staged.document)
    for one in intervals(found, wanted.run.calibration, wanted.tag):
        if not one.validity.overlaps(wanted.validity):
            continue
        old = origin_of(document(one.revision))
        if new and old and new != old:
            raise InputError(
                f"{wanted.run.directory.path}: its constants are of {new}, but those of revision"
                f" {one.revision.number}, which hold for runs {one.validity} in tag"
                f" {wanted.tag!r}, are of {old}; publish into a tag of its own (--tag), or for"
                " other runs"
            )


def _says_the_same(interval: Interval, wanted: Publication) -> bool:
    mine = (wanted.staged.payload, wanted.staged.files)
    return (interval.revision.payload, interval.revision.files) == mine


def publish(connection: Connection, found: Revisions, wanted: Publication) -> Revision:
    """Add a publication; its files have their names already."""
    run, staged = wanted.run, wanted.staged
    return append(
        connection,
        found,
        action="publish",
        tag=wanted.tag,
        calibration=run.calibration,
        since=wanted.validity.since,
        until=wanted.validity.until,
        payload=staged.payload,
        size=staged.size,
        files=staged.files,
        origin=next_number(found),
        passed=run.passed,
        forced=not run.passed,
        why=wanted.why,
        name=run.name,
        config_hash=run.config_hash,
        code_version=run.code_version,
    )


# the others -------------------------------------------------------------------------------------
def extend(
    connection: Connection, found: Revisions, revision: int, until: int | None, why: str
) -> Revision:
    """Add an extension, or return the revision by which it holds so far already."""
    old = numbered(found, revision)
    published(old, old.payload)
    require_open(found, old.tag)
    now = intervals(found, str(old.calibration), old.tag)
    own = [i for i in now if i.revision.number == old.origin]
    if not own:
        raise InputError(f"revision {revision}: it holds for no run now; publish it anew")
    validity = own[-1].validity
    if validity.until == until:
        return own[-1].last
    if validity.is_open or (until is not None and until < validity.last):
        raise InputError(
            f"until: found run {until}, but revision {revision} holds for runs {validity}"
            " already; give a later run"
        )
    more = Validity(validity.last + 1, until)
    for other in now:
        if other.validity.overlaps(more):
            raise InputError(
                f"runs {more}: taken in tag {old.tag!r} by revision {other.revision.number} (runs"
                f" {other.validity}); give an earlier last run"
            )
    values = {"action": "extend", "since": more.since, "until": until, "why": why}
    return append(connection, found, **(old.as_dict() | values))


def again(
    connection: Connection, found: Revisions, revision: int, validity: Validity, tag: str, why: str
) -> Revision:
    """Add the publication of what an earlier revision has published, for other runs."""
    old = numbered(found, revision)
    published(old, old.payload)
    require_open(found, tag)
    for interval in intervals(found, str(old.calibration), tag):
        if interval.validity == validity and interval.revision.payload == old.payload:
            return interval.revision
        if interval.validity.overlaps(validity) and not interval.validity.is_open:
            raise InputError(
                f"runs {validity}: taken in tag {tag!r} by revision {interval.revision.number}"
                f" (runs {interval.validity}); give other runs"
            )
    values = {"action": "publish", "tag": tag, "since": validity.since, "until": validity.until}
    values |= {"origin": next_number(found), "why": why}
    return append(connection, found, **(old.as_dict() | values))


def rollback(
    connection: Connection, found: Revisions, to: int, calibration: str | None, tag: str, why: str
) -> Revision:
    """Add a rollback to the state as of a revision."""
    if not why:
        raise InputError("option --why is missing: say why the constants are taken back")
    require_open(found, tag)
    name = chosen(found, calibration)
    if to != 0:
        numbered(found, to)
    now, then = (_state(found, name, tag, n) for n in (None, to))
    if now == then:
        raise InputError(f"revision {to}: what holds now is what held then; nothing to take back")
    return append(
        connection,
        found,
        action="rollback",
        tag=tag,
        calibration=name,
        source=tag,
        as_of=to,
        why=why,
    )


def _state(
    found: Revisions, calibration: str, tag: str, as_of: int | None
) -> list[tuple[Validity, int]]:
    return [(i.validity, i.revision.number) for i in intervals(found, calibration, tag, as_of)]


def tag(
    connection: Connection,
    found: Revisions,
    name: str,
    of: str | None,
    as_of: int | None,
    frozen: bool,
    why: str,
) -> Revision:
    """Add a new tag, or the end of an open one."""
    there = tags(found).get(checked_name(name, "tag"))
    if there is not None and there.frozen:
        raise InputError(f"tag {name!r}: frozen, and that is for ever; make another one from it")
    if there is not None and not frozen:
        raise InputError(f"tag {name!r}: there already; choose another name, or --frozen to end it")
    if there is not None:
        return append(connection, found, action="freeze", tag=name, frozen=True, why=why)
    if of is not None:
        require_tag(found, of)
    if as_of is not None:
        numbered(found, as_of)
    moment = next_number(found) - 1 if as_of is None else as_of
    return append(
        connection, found, action="tag", tag=name, source=of, as_of=moment, frozen=frozen, why=why
    )
