"""The state of a store in ten lines: what the last night did, and what needs a person."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from rich.markup import escape

from jobs.console import BAD_INPUT, FAILED, NOT_PASSED, PASSED
from jobs.nightly import states
from jobs.store.store import Store

OVERDUE = timedelta(hours=36)
"""Since the last night has begun: somebody has switched it off, or the machine."""

LINES = 10


def standing(place: str, at: datetime | None = None) -> dict[str, Any]:
    """Return the state of a store and its nightlies as plain values.

    ``exit_code``: 1 where a nightly failed or was stopped in the middle, 3 where something is
    held or not converged, else 0.
    """
    store = Store.open(place)
    folder = store.content.folder
    at = at or datetime.now(UTC)
    nightlies = states.summary(folder, lines=3)
    busy = states.holder(folder)
    revisions = store.revisions()
    tags = [t.name for t in store.tags()]
    in_force = [
        i.as_dict() for name in store.calibrations() for i in store.intervals(name, tags[0])[-1:]
    ]
    wanted = [line for n in nightlies for line in _needs(n, busy, at)]
    for interval in in_force:
        if interval["forced"]:
            text = f"revision {interval['revision']} was forced: {interval['why']}"
            wanted.append(_need(NOT_PASSED, f"{interval['calibration']}: {text}", False))
    codes = [w["code"] for w in wanted if w["counts"]]
    code = FAILED if FAILED in codes else NOT_PASSED if codes else PASSED
    return {
        "store": place,
        "revisions": len(revisions),
        "tags": tags,
        "in_force": in_force,
        "nightlies": nightlies,
        "busy": busy,
        "needs_person": [w["text"] for w in wanted],
        "last_revision": revisions[-1].as_dict() if revisions else None,
        "exit_code": code,
    }


def _need(code: int, text: str, counts: bool = True) -> dict[str, Any]:
    return {"code": code, "text": text, "counts": counts}


def _needs(nightly: dict[str, Any], busy: str, at: datetime) -> list[dict[str, Any]]:
    found = []
    for one in nightly["calibrations"]:
        state = states.State(one["state"])
        if state.needs_person:
            code = FAILED if state is states.State.FAILED else NOT_PASSED
            found.append(
                _need(code, f"{one['name']}: {state.value.replace('_', ' ')}: {one['why']}")
            )
        for entry in one["aside"]:
            runs = f"runs {entry['first']} to {entry['last']}"
            found.append(_need(NOT_PASSED, f"{one['name']}: {runs}: {entry['why']}"))
        if not state.needs_person and one["since"] is not None:
            found.append(
                _need(
                    NOT_PASSED,
                    f"{one['name']}: runs from {one['since']} on have no good constants yet",
                    False,
                )
            )
    if nightly["nights"]:
        last = nightly["nights"][0]
        if last["ended"] is None and not busy:
            found.append(
                _need(
                    FAILED,
                    f"{nightly['nightly']}: night {last['id']} was stopped"
                    " in the middle; the next start goes on",
                )
            )
        elif at - datetime.fromisoformat(last["started"]) > OVERDUE:
            found.append(_need(FAILED, f"{nightly['nightly']}: no night since {last['started']}"))
        for text in last.get("notifications") or ():
            found.append(_need(NOT_PASSED, f"{nightly['nightly']}: nobody was told: {text}", False))
        if last["exit_code"] in (FAILED, BAD_INPUT) and last.get("troubles"):
            text = f"night {last['id']} ended with exit code {last['exit_code']}"
            found.append(_need(FAILED, f"{nightly['nightly']}: {text}: {last['troubles'][0]}"))
        else:
            found += [_need(NOT_PASSED, text) for text in last.get("troubles") or ()]
    return found


def lines(found: dict[str, Any]) -> list[str]:
    """Return the state in words, at most ten lines; what needs a person comes first."""
    head = [
        f"[bold]store {escape(found['store'])}[/bold]: {found['revisions']} revisions,"
        f" tags {', '.join(found['tags'])}"
    ]
    if found["busy"]:
        head.append(f"at work: {escape(found['busy'])}")
    needs = [f"[red]needs a person[/red]: {escape(_short(t))}" for t in found["needs_person"]]
    rest = []
    for nightly in found["nightlies"]:
        rest.append(_night(nightly))
        rest += [
            f"  {c['name']}: {c['state'].replace('_', ' ')}: {escape(_short(c['why']))}"
            for c in nightly["calibrations"]
        ]
    if not found["nightlies"]:
        rest.append("no nightly has run on this store")
    for i in found["in_force"]:
        until = "open" if i["until"] is None else i["until"]
        rest.append(
            f"in force: {i['calibration']} revision {i['revision']}, runs {i['since']} to"
            f" {until}{', [red]forced[/red]' if i['forced'] else ''}"
        )
    if not needs:
        needs = ["nothing needs a person"]
    room = LINES - len(head) - min(len(needs), 4) - min(len(rest), 4)
    return [
        *head,
        *_cut(needs, 4 + max(room, 0)),
        *_cut(rest, LINES - len(head) - len(_cut(needs, 4 + max(room, 0)))),
    ]


def _cut(found: list[str], most: int) -> list[str]:
    if len(found) <= most:
        return found
    return [*found[: most - 1], f"... and {len(found) - most + 1} more (--json has all)"]


def _night(nightly: dict[str, Any]) -> str:
    if not nightly["nights"]:
        return f"nightly {nightly['nightly']}: no night yet"
    last = nightly["nights"][0]
    ended = last["ended"] or "not ended"
    files = (last.get("arrived") or {}).get("files", 0)
    code = "" if last["exit_code"] is None else f", exit code {last['exit_code']}"
    return (
        f"nightly {nightly['nightly']}: night {last['id']}, {last['started']} to {ended},"
        f" {files} new files{code}"
    )


def _short(text: str) -> str:
    return text if len(text) <= 160 else text[:157] + "..."
