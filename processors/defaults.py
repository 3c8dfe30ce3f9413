"""The selection of a sample with its defaults filled in, from what its files have."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import Any

from calib.errors import InputError
from calib.events.cuts import Cut, event_filter, own_cut
from calib.schema import Fallback, Sample, Selection
from processors.certified import Sections
from processors.readers.columns import ISOLATION, any_of, identification_column, muon_columns
from processors.readers.mapping import pt_of
from processors.selection import ResolvedSelection

DEFAULT_IDENTIFICATION = "medium"
DEFAULT_ISOLATION = 0.25

Have = Mapping[str, frozenset[str]]
"""The names of the columns of each file of a sample."""


def resolve(
    sample: Sample,
    selection: Selection,
    defaults: Mapping[str, Any],
    have: Have,
    sections: Sections | None,
) -> tuple[ResolvedSelection, list[str]]:
    """Return the selection of a sample, and notes on what it had to do without.

    Parameters
    ----------
    sample : Sample
        Whose files these are.
    selection : Selection
        As configured; None, ``auto`` and no triggers leave a key open.
    defaults : mapping
        Of the calibration, for the keys left open.
    have : mapping of path to column names
        Of all files.
    sections : certified sections, or None
        None: not required.

    Returns
    -------
    ResolvedSelection
        Plain values.
    list of str
        Notes.

    Raises
    ------
    InputError
        If the files lack what is asked for, or differ in what ``auto`` looks for.
    """
    if sample.format == "table":
        return _of_table(sample, selection, have, sections), []
    values = {**selection.model_dump(), **_left_open(selection, defaults)}
    values, notes = _fallen_back(sample, values, selection.fallbacks, have)
    identification, isolation = values["identification"], values["isolation"]
    if identification == "auto":
        column = identification_column(DEFAULT_IDENTIFICATION)
        found = _in_all("identification", column, sample, have)
        identification = DEFAULT_IDENTIFICATION if found else "none"
        if not found:
            notes.append(_degraded(sample, column, "identification"))
    if isolation == "auto":
        found = _in_all("isolation", ISOLATION, sample, have)
        isolation = DEFAULT_ISOLATION if found else "none"
        if not found:
            notes.append(_degraded(sample, ISOLATION, "isolation"))
    _require_no_veto_of_itself(sample, values)
    if values["muon_pt"] != "pt" and pt_of(sample) is not None:
        raise InputError(
            f"sample {sample.name!r}: its key 'columns' says what pt of the muons is, and so does"
            f" key 'selection.muon_pt' ({values['muon_pt']}); leave one of them out"
        )
    window = values["mass_window"]
    resolved = ResolvedSelection(
        triggers=tuple(values["triggers"]),
        identification=None if identification == "none" else str(identification),
        isolation=None if isolation == "none" else float(isolation),
        leading_pt=values["leading_pt"],
        subleading_pt=values["subleading_pt"],
        abs_eta=values["abs_eta"],
        opposite_charge=values["opposite_charge"],
        mass_window=None if window is None else (float(window[0]), float(window[1])),
        certified=None if sample.simulation else sections,
        prescale=1.0 if sample.simulation else float(values["prescale"]),
        veto=sample.veto,
        muon_pt=str(values["muon_pt"]),
        cuts=cuts_of(selection),
    )
    if resolved.certified is not None:
        _require_sections(sample, have)
    return resolved, notes


def cuts_of(selection: Selection) -> tuple[Cut, ...]:
    """Return the event filters and the own cuts of a selection, in their order."""
    return (*map(event_filter, selection.filters), *map(own_cut, selection.cuts))


def _of_table(
    sample: Sample, selection: Selection, have: Have, sections: Sections | None
) -> ResolvedSelection:
    """Return what may be asked of rows that are no pairs of muons."""
    if sample.veto:
        raise InputError(
            f"sample {sample.name!r}: key 'veto': a table has no triggers to look at; leave it out"
        )
    allowed = {"certified", "prescale"}
    for key in sorted(selection.model_fields_set - allowed):
        if getattr(selection, key) != Selection.model_fields[key].default:
            raise InputError(
                f"sample {sample.name!r}: key 'selection.{key}': a table has no muons to select;"
                " leave it out"
            )
    certified = None if sample.simulation else sections
    resolved = ResolvedSelection(certified=certified, prescale=selection.prescale)
    if certified is not None:
        _require_sections(sample, have)
    return resolved


def _require_no_veto_of_itself(sample: Sample, values: Mapping[str, Any]) -> None:
    both = [name for name in sample.veto if name in values["triggers"]]
    if both and set(values["triggers"]) <= set(sample.veto):
        raise InputError(
            f"sample {sample.name!r}: key 'veto': every trigger of key 'selection.triggers' is in"
            " it, so no event can be selected; name the triggers of the other sample alone"
        )


def lacking(sample: Sample, selection: ResolvedSelection, have: Have) -> list[str]:
    """Return notes on the triggers that some files of a sample lack.

    Parameters
    ----------
    sample : Sample
        Whose files these are.
    selection : ResolvedSelection
        Its triggers and vetos.
    have : mapping of path to column names
        Of all files.

    Returns
    -------
    list of str
        One for each trigger that is not everywhere.
    """
    notes = []
    for key, branches in any_of(sample, selection).items():
        for name in branches:
            without = [path for path, columns in have.items() if name not in columns]
            if not without:
                continue
            near = dict.fromkeys(m for path in without for m in near_matches(name, have[path]))
            hint = ""
            if near and len(without) == len(have):
                hint = f" (did you mean {' or '.join(near)}?)"
            notes.append(
                f"sample {sample.name}: no {name} in {len(without)} of its {len(have)} files{hint},"
                f" where the others of {key} decide; the first: {without[0]}"
            )
    return notes


def _left_open(selection: Selection, defaults: Mapping[str, Any]) -> dict[str, Any]:
    unknown = sorted(set(defaults) - set(Selection.model_fields))
    if unknown:
        raise ValueError(f"a calibration gives defaults for {unknown}, which no selection has")
    return {
        key: value
        for key, value in defaults.items()
        if getattr(selection, key) in (None, "auto", ()) and value is not None
    }


def has_fallback(sample: Sample, selection: Selection, have: Have) -> bool:
    """Return whether files lack a branch of the selection, and a fallback does without it.

    Parameters
    ----------
    sample : Sample
        Whose files these are.
    selection : Selection
        As configured, with its fallbacks.
    have : mapping of path to column names
        Of all files.

    Returns
    -------
    bool
        True where a fallback is taken.
    """
    _, notes = _fallen_back(sample, selection.model_dump(), selection.fallbacks, have)
    return bool(notes)


def _fallen_back(
    sample: Sample, values: dict[str, Any], fallbacks: Iterable[Fallback], have: Have
) -> tuple[dict[str, Any], list[str]]:
    """Return the values of the first fallback that the files have all branches of, and a note.

    Without one that fits the values stay; what is missing is said where columns are required.
    """
    missing = _missing(sample, values, have)
    if missing is None:
        return values, []
    path, column = missing
    for fallback in fallbacks:
        given = fallback.model_dump(exclude={"name"}, exclude_none=True)
        if _missing(sample, {**values, **given}, have) is None:
            keys = ", ".join(given) or "nothing"
            note = (
                f"sample {sample.name}: no {column} in {path}, fallback {fallback.name!r} is used"
                f" for all its files, with its own {keys} (degraded)"
            )
            return {**values, **given}, [note]
    return values, []


def _missing(sample: Sample, values: Mapping[str, Any], have: Have) -> tuple[str, str] | None:
    """Return the first file without a branch that a selection names, and the branch."""
    triggers = values["triggers"]
    for path, columns in have.items():
        if triggers and not columns & set(triggers):
            return path, triggers[0]
    wanted: list[str] = []
    if values["identification"] not in (None, "auto", "none"):
        wanted += muon_columns(sample.format, identification_column(values["identification"]))
    if values["isolation"] not in (None, "auto", "none"):
        wanted += muon_columns(sample.format, ISOLATION)
    lacking = ((path, c) for c in wanted for path, columns in have.items() if c not in columns)
    return next(lacking, None)


def _in_all(key: str, name: str, sample: Sample, have: Have) -> bool:
    """Return whether all files have a column of the muons; some with and some without is wrong."""
    wanted = set(muon_columns(sample.format, name))
    without = [path for path, columns in have.items() if not wanted <= columns]
    if without and len(without) < len(have):
        column = muon_columns(sample.format, name)[0]
        raise InputError(
            f"{without[0]}: no column {column!r}, which other files of sample {sample.name!r}"
            f" have; set key 'selection.{key}', or make two samples of them"
        )
    return not without


def _degraded(sample: Sample, name: str, what: str) -> str:
    column = muon_columns(sample.format, name)[0]
    if sample.format == "stage1":
        return f"sample {sample.name}: no {column}, {what} is as in the files, not asked for again"
    return f"sample {sample.name}: no {column}, {what} is not required (degraded)"


def _require_sections(sample: Sample, have: Have) -> None:
    wanted = {"run", "luminosityBlock"}
    for path, columns in have.items():
        missing = sorted(wanted - columns)
        if missing:
            raise InputError(
                f"{path}: no column {missing[0]!r} in sample {sample.name!r}, which key"
                " 'selection.certified' needs; remove that key or give files that have it"
            )


def near_matches(name: str, columns: Iterable[str], n: int = 3, cutoff: float = 0.6) -> list[str]:
    """Return the columns whose names are nearest to this one.

    Parameters
    ----------
    name : str
        The one that is not there.
    columns : iterable of str
        Those that are.
    n : int
        How many at most.
    cutoff : float
        Least likeness, from 0 to 1.

    Returns
    -------
    list of str
        The nearest one first.
    """
    return difflib.get_close_matches(name, list(columns), n=n, cutoff=cutoff)
