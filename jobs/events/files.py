"""Names to files: every input file opened once, before any event is read.

What is wrong with an input is found here and said in one sentence; what can be done without is
noted.
"""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from calib.calibrations.base import Calibration, Needs
from calib.errors import InputError
from calib.events.cuts import OF_MUONS
from calib.schema import Query, Sample
from jobs.catalog.answers import Wanted, answer
from jobs.config.schema import Config
from jobs.event_loop.outcome import stamp
from jobs.events.addresses import expand, is_remote
from jobs.events.checksums import NONE
from jobs.events.facts import Facts
from jobs.events.guard import crashing
from jobs.events.marks import Marks, kind_of
from jobs.events.parquet import inspect_parquet
from jobs.events.root import TREE, inspect_root
from jobs.run import payloads
from jobs.storage.files import RunDirectory
from processors.certified import load_certified
from processors.corrections import Correction, with_reads
from processors.defaults import cuts_of, has_fallback, lacking, near_matches, resolve
from processors.readers import columns
from processors.readers.mapping import Recipes, branches_of, missing_branches, our_names, recipes_of
from processors.selection import ResolvedSelection

NEARLY = 0.87
"""Likeness of two names of one column, such as mu1_ptErr and muon1_ptErr."""

WHOLE_GROUP = 2
"""A row group or cluster is split only if it holds more than this many chunks: a part of it
costs the reading of all of it."""


@dataclass(frozen=True)
class InputFile:
    """One file of a sample, as it was found.

    ``uuid`` is that of a ROOT file, and of parquet a digest of its content; ``boundaries`` are
    the first entries of its row groups or clusters, and its end; ``stamp`` is size and time of
    change of a local file; ``runs`` are those that are used, None for all; ``checksum`` is what
    a catalogue knows; ``checksums`` says what protects the content (`jobs.events.checksums`);
    ``marks`` are the payloads that have corrected the events.
    """

    sample: str
    path: str
    format: str
    n_events: int
    size: int
    uuid: str
    treename: str | None
    boundaries: tuple[int, ...]
    columns: tuple[str, ...]
    stamp: tuple[int, int] | None = None
    runs: tuple[int, ...] | None = None
    checksum: str | None = None
    checksums: str = ""
    marks: Marks = ()

    @property
    def summary(self) -> dict[str, Any]:
        """What the provenance says of it; of a catalogue's file its checksum and the runs used."""
        found = {"sample": self.sample, "path": self.path, "size": self.size, "uuid": self.uuid}
        more = {"sha256": self.checksum, "runs": self.runs and list(self.runs)}
        return {**found, "events": self.n_events, **{k: v for k, v in more.items() if v}}


@dataclass(frozen=True)
class BadFile:
    """A file that cannot be used, the sentence that says why, and about how many events it had."""

    sample: str
    path: str
    error: str
    events: int = 0


@dataclass(frozen=True)
class Inspection:
    """All files of a run, the selection of each sample with its defaults, and remarks.

    ``bad`` are left out: there are some only where the configuration allows it. ``corrections``
    are the payloads that are applied to the events of each sample; ``queries`` what the samples
    asked of a catalogue, and what it gave.
    """

    files: tuple[InputFile, ...]
    selections: Mapping[str, ResolvedSelection]
    notes: tuple[str, ...]
    bad: tuple[BadFile, ...] = ()
    corrections: Mapping[str, tuple[Correction, ...]] = field(default_factory=dict)
    queries: tuple[Mapping[str, Any], ...] = ()


@dataclass(frozen=True)
class Chunk:
    """Entries start to stop of one file."""

    sample: str
    file: InputFile
    start: int
    stop: int


def inspect(config: Config, calibration: Calibration, base: Path) -> Inspection:
    """Return what the files of a configuration are.

    Parameters
    ----------
    config : Config
        Its samples, selection and payloads.
    calibration : Calibration
        Says which columns are needed.
    base : Path
        Folder of the configuration; its files are relative to it.

    Returns
    -------
    Inspection
        With notes on what can be done without.

    Raises
    ------
    InputError
        If a file is missing, damaged, of another format, named twice, or lacks a column, or a
        sample has no events at all.
    """
    corrections = payloads.corrections_of(config, base)
    sections = None
    if config.selection.certified is not None:
        sections = load_certified(base / config.selection.certified)
    files: list[InputFile] = []
    selections: dict[str, ResolvedSelection] = {}
    notes: list[str] = []
    bad: list[BadFile] = []
    places: dict[object, InputFile] = {}
    queries: list[Mapping[str, Any]] = []
    for sample in config.samples:
        wanted, asked = _wanted(sample, base)
        needs = with_reads(calibration.needs(sample), corrections[sample.name], sample.simulation)
        queries += asked
        facts, broken = _facts(sample, config, needs, wanted)
        bad += _with_events(broken, facts)
        by_path = {file.path: file for file in wanted}
        found = [_input_file(sample, by_path[path], fact) for path, fact in facts]
        for file in found:
            if file.n_events:
                _refuse_twice(file, places)
        notes += _without_events(sample, facts)
        facts = [(path, fact) for path, fact in facts if fact.n_events]
        have = {path: frozenset(fact.columns) for path, fact in facts}
        selection, remarks = resolve(
            sample, config.selection, calibration.selection(sample), have, sections
        )
        _require(sample, needs, selection, facts)
        files += found
        selections[sample.name] = selection
        remarks += _corrected(sample, facts, corrections[sample.name])
        remarks += lacking(sample, selection, have)
        notes += [*remarks, *_remarks(sample, needs, selection, facts)]
        notes += [
            f"sample {sample.name}: corrected by the {c.kind.name} payload {c.address}"
            f" (sha256 {c.sha256[:12]})"
            for c in corrections[sample.name]
        ]
    _require_few(bad, files, config.allowed_bad)
    return Inspection(
        tuple(files), selections, tuple(notes), tuple(bad), corrections, tuple(queries)
    )


SMALLEST, LARGEST = 50_000, 500_000
"""Events of a chunk: fewer take less than handing them out, more a GB of a worker's memory."""

PER_CORE = 6
"""Chunks for each core, at least: the last one to end leaves the others idle."""

MOST_CHUNKS = 20_000
"""Chunks of a run, about: their sums are added one after the other."""

MOST_BYTES = 2 * 1024**3
"""Of the files, for a chunk."""


def chunk_size(config: Config, inspection: Inspection) -> int:
    """Return the size of a chunk: as configured, or from the files and the cores.

    Parameters
    ----------
    config : Config
        With the key ``chunk_size``.
    inspection : Inspection
        Events and sizes of the files.

    Returns
    -------
    int
        Events.
    """
    if config.chunk_size != "auto":
        return config.chunk_size
    events = sum(file.n_events for file in inspection.files)
    size = sum(file.size for file in inspection.files)
    asked = events // (PER_CORE * _cores(config)) + 1
    most = max(LARGEST, min(events // MOST_CHUNKS, 4 * LARGEST))
    fitting = int(MOST_BYTES * events / size) if size else most
    return max(min(asked, most, max(fitting, 1)), min(SMALLEST, fitting), 1)


def settled_size(directory: RunDirectory, config: Config, inspection: Inspection) -> int:
    """Return the size of a chunk; what was chosen once stays, so that a run goes on elsewhere.

    Parameters
    ----------
    directory : RunDirectory
        Keeps it.
    config : Config
        With the key ``chunk_size``.
    inspection : Inspection
        Events and sizes of the files.

    Returns
    -------
    int
        Events.
    """
    if config.chunk_size != "auto":
        return config.chunk_size
    kept = directory.note("chunk_size").get("events")
    if isinstance(kept, int) and kept > 0:
        return kept
    found = chunk_size(config, inspection)
    directory.keep("chunk_size", {"events": found})
    return found


def _cores(config: Config) -> int:
    cluster = config.cluster
    if cluster.kind == "inline":
        return 1
    return cluster.adaptive.maximum if cluster.adaptive else cluster.workers


def chunks(inspection: Inspection, chunk_size: int) -> list[Chunk]:
    """Return the chunks of all files.

    Parameters
    ----------
    inspection : Inspection
        What the files are.
    chunk_size : int
        Events of a chunk, about.

    Returns
    -------
    list of Chunk
        In the order of the files.
    """
    return [
        Chunk(file.sample, file, start, stop)
        for file in inspection.files
        for start, stop in _cuts(file, chunk_size)
    ]


def _cuts(file: InputFile, chunk_size: int) -> Iterator[tuple[int, int]]:
    edges = file.boundaries or (0, file.n_events)
    start = edges[0]
    for low, high in zip(edges[:-1], edges[1:], strict=True):
        if high - start > chunk_size and low > start:
            yield start, low
            start = low
        if high - low > WHOLE_GROUP * chunk_size:
            parts = math.ceil((high - low) / chunk_size)
            inner = [low + (high - low) * i // parts for i in range(parts + 1)]
            yield from zip(inner[:-1], inner[1:], strict=True)
            start = high
    if start < edges[-1]:
        yield start, edges[-1]


def _wanted(sample: Sample, base: Path) -> tuple[list[Wanted], list[Mapping[str, Any]]]:
    """Return the files of a sample, and what was asked of a catalogue."""
    if isinstance(sample.files, Query):
        given = answer(sample)
        return list(given.files), [given.asked]
    return [Wanted(path) for path in expand(sample, base)], []


def _facts(
    sample: Sample, config: Config, needs: Needs, files: Sequence[Wanted]
) -> tuple[list[tuple[str, Facts]], list[BadFile]]:
    """Return what each file of a sample says of itself, and the files that cannot be used."""
    look = inspect_root if sample.format == "nanoaod" else inspect_parquet
    # identification and isolation are not resolved yet; they do not matter for clusters
    own_cuts = () if sample.format == "table" else cuts_of(config.selection)
    open_selection = ResolvedSelection(
        triggers=config.selection.triggers, veto=sample.veto, cuts=own_cuts
    )
    recipes = recipes_of(sample)
    wanted = branches_of(columns.read(sample, needs, open_selection), recipes)
    found: list[tuple[str, Facts]] = []
    bad: list[BadFile] = []
    paths = [file.path for file in files]
    known = {file.path: file.uuid for file in files}
    deadly = {}
    if sample.format != "nanoaod":
        local = [path for path in paths if not is_remote(path)]
        deadly = crashing(local, lambda path: look(path, wanted))
    for path in paths:
        try:
            if path in deadly:
                raise InputError(
                    f"{path}: damaged so that its reader crashes ({deadly[path]}); copy it again or"
                    " leave it out"
                )
            fact = _under_our_names(sample, path, look(path, wanted), recipes)
            if known[path] not in (None, fact.uuid):
                raise InputError(
                    f"{path}: changed since it was added to the catalogue of sample"
                    f" {sample.name!r}; `calib catalog add --update` enters it again"
                )
            found.append((path, fact))
        except InputError as error:
            if config.bad_files == "stop":
                raise
            bad.append(BadFile(sample.name, path, str(error).removeprefix(f"{path}: ")))
    if not found:
        raise InputError(
            f"sample {sample.name!r}: none of its {len(bad)} files can be used; the first:"
            f" {bad[0].path}: {bad[0].error}"
        )
    if config.bad_files != "stop":
        empty = [(path, fact) for path, fact in found if not fact.n_events]
        found = [(path, fact) for path, fact in found if fact.n_events]
        for selection in (ResolvedSelection(), open_selection):
            if selection.triggers and _falls_back(sample, config, found):
                continue  # for all files, those that have the triggers included
            required = [(name,) for name in columns.required(sample, needs, selection)]
            required += columns.any_of(sample, selection).values()
            found, odd = _of_one_schema(sample.name, found, required)
            bad += odd
        found += empty
    return found, bad


def _under_our_names(sample: Sample, path: str, fact: Facts, recipes: Recipes) -> Facts:
    """Return what a file says of itself, with its columns under our names.

    Raises
    ------
    InputError
        If it lacks a branch that the key ``columns`` names.
    """
    for branch, key in missing_branches(fact.columns, recipes).items():
        near = near_matches(branch, [n for n in fact.columns if n not in fact.stand_ins])
        hint = f"did you mean {' or '.join(near)}?" if near else "name one that it has"
        raise InputError(
            f"{path}: no branch {branch!r}, which key 'columns.{key}' of sample {sample.name!r}"
            f" names; {hint}"
        )
    if not recipes:
        return fact
    have = our_names(fact.columns, recipes)
    kinds = {n: fact.columns[recipes[n].branches[0] if n in recipes else n] for n in have}
    stand_ins = {n: made for n, made in fact.stand_ins.items() if n not in recipes}
    return replace(fact, columns=kinds, stand_ins=stand_ins)


def _falls_back(sample: Sample, config: Config, facts: Sequence[tuple[str, Facts]]) -> bool:
    """Return whether a named fallback makes up for the triggers that some files lack."""
    have = {path: frozenset(fact.columns) for path, fact in facts}
    return has_fallback(sample, config.selection, have)


def _of_one_schema(
    sample: str, facts: list[tuple[str, Facts]], required: Sequence[tuple[str, ...]]
) -> tuple[list[tuple[str, Facts]], list[BadFile]]:
    """Return the files that have what others of the sample have, and those that do not.

    Of each group in ``required`` one column is enough.
    """
    common = [g for g in required if any(set(g) & fact.columns.keys() for _, fact in facts)]
    found, bad = [], []
    for path, fact in facts:
        missing = [g for g in common if not set(g) & fact.columns.keys()]
        if missing:
            named = " or ".join(map(repr, missing[0]))
            text = f"no {named}, which other files of sample {sample!r} have"
            bad.append(BadFile(sample, path, text, fact.n_events))
        else:
            found.append((path, fact))
    return found, bad


def _with_events(bad: Sequence[BadFile], good: Sequence[tuple[str, Facts]]) -> list[BadFile]:
    """Return bad files with about the events that they had.

    By their sizes beside those of others, where they could not be opened. Of one of which no byte
    is left, or whose size is not known, as many as in the average file.
    """
    events = sum(fact.n_events for _, fact in good)
    size = sum(fact.size for _, fact in good)
    found = []
    for one in bad:
        own = _size(one.path)
        estimate = events * own / size if own and size else events / len(good)
        found.append(replace(one, events=one.events or max(1, round(estimate))))
    return found


def _size(path: str) -> int:
    """Return the bytes of a local file, 0 where that cannot be said."""
    try:
        return 0 if is_remote(path) else os.stat(path).st_size
    except OSError:
        return 0


def _require_few(bad: Sequence[BadFile], good: Sequence[InputFile], allowed: float) -> None:
    lost = sum(file.events for file in bad)
    share = lost / (lost + sum(file.n_events for file in good)) if bad else 0.0
    if share > allowed:
        raise InputError(
            f"{len(bad)} of {len(bad) + len(good)} files cannot be used, with about {share:.1%} of"
            f" the events (by their sizes), more than key 'bad_files.skip_up_to' {allowed:g}"
            f" allows; the first: {bad[0].path}: {bad[0].error}"
        )


def _without_events(sample: Sample, facts: Sequence[tuple[str, Facts]]) -> list[str]:
    """Return the remark on files that hold no events: they are whole, and have none to lose.

    Raises
    ------
    InputError
        If all of them are such.
    """
    none = [path for path, fact in facts if not fact.n_events]
    if len(none) == len(facts):
        raise InputError(
            f"sample {sample.name!r}: 0 events in its {len(none)} files, the first: {none[0]}; give"
            " files with events in the key 'files'"
        )
    if not none:
        return []
    return [
        f"sample {sample.name}: {len(none)} of {len(facts)} files hold no events; the first:"
        f" {none[0]}"
    ]


def _input_file(sample: Sample, wanted: Wanted, facts: Facts) -> InputFile:
    path = wanted.path
    return InputFile(
        sample=sample.name,
        path=path,
        format=sample.format,
        n_events=facts.n_events,
        size=facts.size,
        uuid=facts.uuid,
        treename=TREE if sample.format == "nanoaod" else None,
        boundaries=facts.boundaries,
        columns=tuple(name for name in facts.columns if name not in facts.stand_ins),
        stamp=None if is_remote(path) else stamp(path),
        runs=wanted.runs,
        checksum=wanted.checksum,
        checksums=facts.checksums,
        marks=facts.marks,
    )


def _refuse_twice(file: InputFile, places: dict[object, InputFile]) -> None:
    """Raise InputError if these events are there already, under this name or another."""
    identities: list[object] = [file.uuid]
    if not is_remote(file.path):
        status = os.stat(file.path)
        identities.append((status.st_dev, status.st_ino))
    for identity in identities:
        other = places.setdefault(identity, file)
        if other is file:
            continue
        same_name = "again" if other.path == file.path else f"the same events as {other.path}"
        where = f"sample {other.sample!r}"
        if other.sample != file.sample:
            where = f"samples {other.sample!r} and {file.sample!r}"
        raise InputError(
            f"{file.path}: found {same_name} in {where}, key 'files', which would count them"
            " twice; name the file once"
        )


def _require(
    sample: Sample, needs: Needs, selection: ResolvedSelection, facts: Sequence[tuple[str, Facts]]
) -> None:
    """Raise InputError where a column is missing, is no number, or is in some files only."""
    wanted = columns.required(sample, needs, selection)
    for path, fact in facts:
        missing = {n: why for n, why in wanted.items() if n not in fact.columns}
        for key, group in columns.any_of(sample, selection).items():
            if not set(group) & fact.columns.keys():
                missing |= dict.fromkeys(group, key)
        if missing:
            raise InputError(_missing_sentence(sample, needs, path, missing, fact))
        _require_of_event(path, fact, selection)
        _require_kind(sample, path, fact, columns.read(sample, needs, selection))
    if sample.simulation and sample.format == "stage1":
        _require_generated(sample, facts)
    for group in columns.optional(sample, needs):
        _require_alike(sample, group, facts)
    for name in columns.read(sample, needs, selection):
        made = [path for path, fact in facts if name in fact.stand_ins]
        if made and len(made) < len(facts):
            raise InputError(
                f"{made[0]}: no column {name!r}, which other files of sample {sample.name!r} have;"
                " make two samples of them"
            )


def _require_of_event(path: str, fact: Facts, selection: ResolvedSelection) -> None:
    """Raise InputError where a cut is on a list of numbers that are none of muons."""
    for name, why in columns.of_cuts(selection).items():
        if not name.startswith(OF_MUONS) and fact.columns[name].kind != "flat":
            raise InputError(
                f"{path}: column {name!r}, needed by {why}, is of type {fact.columns[name].type},"
                " expected one number an event, or one a muon (Muon_...); cut on such a column"
            )


ANY_OF = ("key 'selection.triggers'", "key 'veto'")
"""What asks for one of several branches."""


def _missing_sentence(
    sample: Sample, needs: Needs, path: str, missing: Mapping[str, str], fact: Facts
) -> str:
    reasons = dict.fromkeys(missing.values())
    what = "branch" if sample.format == "nanoaod" else "column"
    plural = {"column": "columns", "branch": "branches"}[what] if len(missing) > 1 else what
    named = ", ".join(repr(name) for name in missing)
    near = dict.fromkeys(m for name in missing for m in near_matches(name, fact.columns))
    hints = dict.fromkeys(
        hint
        for name, hint in (needs.why or {}).items()
        if {name, *columns.muon_columns(sample.format, name)} & set(missing)
    )
    if any(n > 1 and key.startswith(ANY_OF) for key, n in Counter(missing.values()).items()):
        hints[
            "one of them is enough, but the file has none: make two samples of such files and the"
            " others, or name a fallback in key 'selection.fallbacks'"
        ] = None
    # a column that is there under a nearly equal name needs no hint how to do without it
    renamed = [name for name in missing if near_matches(name, fact.columns, n=1, cutoff=NEARLY)]
    if hints and not set(_explained(sample, needs)) & set(renamed):
        advice = list(hints)
    else:
        advice = ["give files that have them or correct the configuration"]
        if near:
            shown = " or ".join(list(near)[:6])
            advice.insert(0, f"did you mean {shown}? Columns are found by their names")
    return (
        f"{path}: no {plural} {named} (sample {sample.name!r}), needed by"
        f" {' and '.join(reasons)}; {'; '.join(advice)}"
    )


def _explained(sample: Sample, needs: Needs) -> list[str]:
    """Return the columns whose lack a calibration has advice for."""
    format = sample.format
    return [c for name in needs.why or {} for c in (name, *columns.muon_columns(format, name))]


def _require_kind(sample: Sample, path: str, fact: Facts, wanted: Sequence[str]) -> None:
    for name in wanted:
        if name not in fact.columns:
            continue
        column = fact.columns[name]
        jagged = sample.format == "nanoaod" and name.startswith(("Muon_", "GenPart_"))
        if column.kind != ("jagged" if jagged else "flat"):
            expected = "a list of numbers for each event" if jagged else "numbers"
            raise InputError(
                f"{path}: column {name!r} (sample {sample.name!r}) is of type {column.type},"
                f" expected {expected}; write the file again with numbers in it"
            )


def _require_generated(sample: Sample, facts: Sequence[tuple[str, Facts]]) -> None:
    for path, fact in facts:
        have = set(fact.columns)
        if columns.GEN_MASS not in have and not set(columns.gen_kinematics()) <= have:
            raise InputError(
                f"{path}: no column {columns.GEN_MASS!r} (sample {sample.name!r} with"
                " simulation: true); give files that have it, or set simulation: false"
            )


def _require_alike(
    sample: Sample, group: tuple[str, ...], facts: Sequence[tuple[str, Facts]]
) -> None:
    """Raise InputError where some files of a sample have an optional column and others not."""
    without = [path for path, fact in facts if not set(group) <= fact.columns.keys()]
    if without and len(without) < len(facts):
        raise InputError(
            f"{without[0]}: no column {group[0]!r}, which other files of sample {sample.name!r}"
            " have; make two samples of them"
        )


def _corrected(
    sample: Sample, facts: Sequence[tuple[str, Facts]], corrections: Sequence[Correction]
) -> list[str]:
    """Return notes on the payloads that have corrected the events of a sample already.

    Raises
    ------
    InputError
        If one of them would be applied again, or only some of the files are corrected.
    """
    marked = [(path, mark) for path, fact in facts for mark in fact.marks if mark.replaced]
    with_one = {path for path, _ in marked}
    for path, mark in marked:
        again = [c.address for c in corrections if c.sha256 == mark.sha256]
        if again:
            raise InputError(
                f"{path}: its {', '.join(mark.replaced)} have been corrected already, by {mark};"
                f" key 'payloads' of sample {sample.name!r} would do it a second time: leave"
                f" {again[0]} out, or give the files as measured"
            )
    others = [path for path, _ in facts if path not in with_one]
    if marked and others:
        raise InputError(
            f"{others[0]}: measured as it is, while other files of sample {sample.name!r} have been"
            f" corrected, by {marked[0][1]} ({marked[0][0]}); give either kind alone"
        )
    return [
        f"sample {sample.name}: {', '.join(mark.replaced)} in {n} of its {len(facts)} files"
        f" have been corrected already, by {mark}, as {kind_of(mark)}:"
        " what is measured here is what that left over"
        for mark, n in Counter(mark for _, mark in marked).items()
    ]


def _by_source(made: Mapping[str, tuple[str, ...]]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name, sources in made.items():
        found.setdefault(sources[0], []).append(name)
    return found


def _remarks(
    sample: Sample, needs: Needs, selection: ResolvedSelection, facts: Sequence[tuple[str, Facts]]
) -> list[str]:
    """Return what the files do not have, and what stands in for it."""
    _, fact = facts[0]
    have, name = fact.columns.keys(), f"sample {sample.name}"
    notes = []
    stand_in = {
        "run": "a number made from the uuid of the file",
        "luminosityBlock": "0",
        "event": "the entry number in the file",
    }
    for column, instead in stand_in.items():
        if column not in have:
            notes.append(f"{name}: no {column}, {instead} is used instead")
    weight = columns.GEN_WEIGHT.get(sample.format, columns.WEIGHT)
    if sample.simulation and weight not in have:
        notes.append(f"{name}: no {weight}, all weights are 1")
    for optional in needs.optional:
        table = sample.format == "table"
        column = optional if table else columns.muon_columns(sample.format, optional)[0]
        if column not in have:
            notes.append(f"{name}: no {column}, the calibration does without")
    if sample.format == "stage1":
        wanted = columns.read(sample, needs, selection)
        made = {column: fact.stand_ins[column] for column in wanted if column in fact.stand_ins}
        for source, names in _by_source(made).items():
            shares = "" if source in columns.ALIASES.values() else ", in equal shares of both muons"
            notes.append(f"{name}: no {' and '.join(names)}, made from {source}{shares}")
        if "mu1_pt_raw" in have and selection.muon_pt == "pt":
            notes.append(
                f"{name}: mu1_pt_raw is there beside mu1_pt, which may be corrected already and is"
                " what is calibrated; selection.muon_pt: pt_raw takes the other"
            )
    open_to_damage = [path for path, fact in facts if fact.checksums == NONE]
    if open_to_damage:
        notes.append(
            f"{name}: {len(open_to_damage)} of {len(facts)} files have no checksums, so damage to"
            f" their content may be taken for data; the first: {open_to_damage[0]}"
        )
    return notes
