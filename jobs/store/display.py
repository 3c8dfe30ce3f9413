"""What a person sees of a store: tables and lines; and files written from it."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.markup import escape

from calib.documents import json_values
from calib.errors import CalibError, InputError
from calib.later import correctionlib
from jobs.storage.files import whole
from jobs.store.revisions import Interval, Revision, Tag
from jobs.store.store import Store

if TYPE_CHECKING:
    from rich.table import Table

    from jobs.store.differences import Compared

MAX_BYTES = 512 * 1024**2
"""Of a file for all runs."""


def intervals_table(found: Iterable[Interval]) -> Table:
    """Return what holds for which runs."""
    table = _table("calibration", "runs", "revision", "verdict", "published", "by", "payload")
    for i in found:
        r = i.revision
        number = str(r.number) if i.last == r else f"{r.number}, {i.last.action} {i.last.number}"
        table.add_row(
            r.calibration,
            str(i.validity),
            number,
            verdict(r),
            r.made,
            escape(r.by),
            str(r.payload)[:12],
        )
    return table


def revisions_table(found: Iterable[Revision]) -> Table:
    """Return every revision."""
    table = _table("revision", "action", "tag", "calibration", "runs", "verdict", "made", "why")
    for r in found:
        runs = str(r.validity) if r.since is not None else "" if r.as_of is None else _taken(r)
        table.add_row(
            str(r.number),
            r.action,
            r.tag,
            r.calibration or "all",
            runs,
            verdict(r),
            r.made,
            escape(r.why),
        )
    return table


def _taken(r: Revision) -> str:
    return "empty" if r.source is None else f"as {r.source} at {r.as_of}"


def verdict(r: Revision) -> str:
    """Return the verdict of a revision in a word."""
    if r.forced:
        return "[red]forced[/red]"
    return "" if r.passed is None else "passed"


def forced_lines(found: Iterable[Revision]) -> list[str]:
    """Return a line for each publication whose verdict was not passed."""
    return [
        f"[red]revision {r.number} was forced[/red], its verdict not passed: {escape(r.why)}"
        for r in found
        if r.forced and r.action == "publish"
    ]


def tags_table(found: Iterable[Tag]) -> Table:
    """Return the tags."""
    table = _table("tag", "state", "revisions", "begun from")
    for t in found:
        begun = "" if t.source is None else f"{t.source} as of {t.as_of}"
        table.add_row(t.name, "frozen" if t.frozen else "open", str(t.revisions), begun)
    return table


def _table(*columns: str) -> Table:
    from rich.table import Table

    return Table(*columns, box=None, pad_edge=False)


# one revision ------------------------------------------------------------------------------------
def details(store: Store, revision: Revision) -> dict[str, Any]:
    """Return everything about a revision as plain values."""
    found: dict[str, Any] = {"store": store.address, **revision.as_dict()}
    if revision.origin is None:
        return found
    now = store.intervals(revision.calibration, revision.tag)
    found["holds_now"] = [
        {"since": i.validity.since, "until": i.validity.until}
        for i in now
        if i.revision.number == revision.origin
    ]
    found["forced_why"] = store.revision(revision.origin).why if revision.forced else ""
    found["verdict"] = json_values(store.file(revision, "verdict.json").decode("utf-8"))
    found["provenance"] = json_values(store.file(revision, "provenance.json").decode("utf-8"))
    found["kept"] = {name: facts["size"] for name, facts in store.files(revision).items()}
    return found


def lines(found: Mapping[str, Any]) -> list[str]:
    """Return a revision in words."""
    of = found["calibration"] or "all calibrations"
    out = [f"[bold]revision {found['number']}[/bold]: {found['action']}, {of}, tag {found['tag']}"]
    out.append(f"made {found['made']} by {escape(found['by'])}")
    if found["why"]:
        out.append(f"why: {escape(found['why'])}")
    if found["origin"] is None:
        if found["as_of"] is not None:
            out.append(f"as of revision {found['as_of']} of tag {found['source'] or '(empty)'}")
        return out
    if found["provenance"].get("of"):
        out.append(f"of {found['provenance']['of']}")
    out.append(f"runs {_span(found)}; holds now for {_spans(found['holds_now'])}")
    checks = found["verdict"].get("checks", [])
    bad = [str(c.get("name")) for c in checks if not c.get("passed")]
    if found["forced"]:
        out.append(
            f"[red]forced, the verdict was not passed[/red] ({', '.join(bad)}):"
            f" {escape(found['forced_why'])}"
        )
    else:
        out.append(f"verdict: passed, {len(checks)} checks")
    inputs = found["provenance"].get("inputs") or []
    out.append(
        f"run {escape(found['name'])}: {len(inputs)} input files, configuration"
        f" {found['config_hash']}, code {found['code_version']}"
    )
    out.append(f"payload sha256 {found['payload']}, {found['size']} bytes")
    out.append(f"kept of the run: {', '.join(found['kept'])}")
    return out


def _span(found: Mapping[str, Any]) -> str:
    return f"{found['since']} - {'open' if found['until'] is None else found['until']}"


def _spans(found: Iterable[Mapping[str, Any]]) -> str:
    return ", ".join(_span(f) for f in found) or "none"


def copy_files(store: Store, revision: Revision, folder: Path) -> list[str]:
    """Copy what was kept of a run into a new folder; return the names."""
    if folder.exists() and any(folder.iterdir()):
        raise InputError(f"option --files: {folder} has files in it; choose an empty directory")
    names = list(store.files(revision))
    for name in names:
        write_bytes(folder / name, store.file(revision, name))
    write_bytes(folder / "payload.json", store.payload(revision))
    return [*names, "payload.json"]


# payloads ------------------------------------------------------------------------------------
def for_all_runs(
    store: Store, calibration: str | None, tag: str, as_of: int | None
) -> tuple[bytes, dict[str, Any]]:
    """Return the file for all runs, and what is in it.

    Raises
    ------
    CalibError
        If correctionlib does not accept it.
    """
    found = store.intervals(calibration, tag, as_of)
    document = store.by_run(calibration, tag, as_of)
    text = json.dumps(document, separators=(",", ":"), allow_nan=False) + "\n"
    if len(text) > MAX_BYTES:
        raise InputError(
            f"{store.address}: the file for all runs would have {len(text)} bytes, more than"
            f" {MAX_BYTES}; take the payload of each run (--run R)"
        )
    try:  # by its reader alone: the parts have passed the schema, which is slow with so many
        correctionlib.CorrectionSet.from_string(text)
    except Exception as error:
        reason = " ".join(str(error).split())[:300]
        raise CalibError(f"correctionlib refuses the file for all runs ({reason})") from error
    return text.encode(), {"intervals": [i.as_dict() for i in found]}


def what(facts: Mapping[str, Any]) -> str:
    """Return in words what a payload is."""
    if "revision" in facts:
        return f"{facts['revision']['calibration']}, revision {facts['revision']['number']}"
    return f"all runs, {len(facts['intervals'])} intervals"


def write_bytes(path: Path, data: bytes) -> None:
    """Write a file, whole or not at all; compressed where its name ends with .gz."""
    if path.is_dir():
        raise InputError(f"{path}: a directory, expected the name of a file")
    if path.suffix == ".gz":
        data = gzip.compress(data, mtime=0)
    with whole(path) as temporary:
        temporary.write_bytes(data)


# differences ---------------------------------------------------------------------------------
def difference_table(compared: Compared, top: int) -> Table:
    """Return the parameters that moved furthest."""
    from rich.table import Table

    table = Table("parameter", box=None, pad_edge=False)
    for name in (str(compared.before.number), str(compared.after.number), "move", "sigma"):
        table.add_column(name, justify="right")
    for row in compared.table().head(top).itertuples():
        table.add_row(
            row.parameter,
            f"{row.before:.6g} ± {row.before_err:.2g}",
            f"{row.after:.6g} ± {row.after_err:.2g}",
            f"{row.move:+.3g}",
            f"{row.sigma:+.2f}",
        )
    return table


def difference_lines(compared: Compared) -> list[str]:
    """Return the difference in words."""
    found, a, b = compared.found, compared.before, compared.after
    known = [abs(p) for p in found.pull if p == p]
    out = [
        f"{len(known)} of {len(found.names)} parameters compared,"
        f" {sum(p > 3 for p in known)} moved by more than 3 standard deviations;"
        f" all together chi2 {found.chi2:.1f} for {found.ndf}, probability {found.probability:.2g}"
    ]
    if a.payload == b.payload:
        out.append("the payloads are the same to the byte")
    elif compared.shared:
        out.append(
            f"both were made with {compared.shared} of the same files: their errors are not"
            " independent, so the true standard deviations are smaller than those used here"
        )
    return out
