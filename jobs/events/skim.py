"""Events to stage1 once, to walk over them many times: `calib skim`.

Chunks are skimmed on the cluster and kept one by one under ``.calib/parts``, so that a skim goes
on where it stopped; then they are joined, in the order of the events, into files of large row
groups. The result does not depend on the number of workers.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from calib.digests import code_version, digest
from calib.documents import yaml_text
from calib.errors import CalibError, InputError
from calib.events.pairs import Pairs
from calib.physics.kinematics import mass
from calib.schema import MappedColumn, Sample, Selection
from jobs.clusters import Workers
from jobs.config.complete import complete
from jobs.config.schema import Config, dump
from jobs.event_loop.loop import hand_out, require_whole
from jobs.events import files as datasets
from jobs.events.files import Chunk, Inspection
from jobs.events.marks import Marks, with_marks
from jobs.events.skimmed import forget_parts, is_there, remember, restore
from jobs.progress import Progress
from jobs.run import accounting as accounts
from jobs.run import provenance, selection_levels
from jobs.run.accounting import Counts
from jobs.storage.files import RunDirectory, whole, write_json, write_text
from processors.readers.mapping import pt_of
from processors.skim import OPTIONS, Kept, SkimProcessor, work

log = logging.getLogger(__name__)

ROW_GROUP = 1_000_000
GROUPS_PER_FILE = 10
WANTED = "skim.yaml"
USE = "skimmed.yaml"
ALONG = "ptErr"
"""Kept even where the calibration does without, for another one."""


@dataclass(frozen=True)
class SkimPart:
    """One chunk, with the files of its pairs and of its account."""

    chunk: Chunk
    path: Path
    excluded: None = None

    @property
    def account(self) -> Path:
        """The file that says where its events went; written last."""
        return self.path.with_suffix(".npz")

    @property
    def is_done(self) -> bool:
        """Whether its pairs and its account are there."""
        return self.account.is_file() and self.path.is_file()


def skim(config_path: Path, out: Path, command: str, progress: Progress) -> dict[str, Any]:
    """Write what a calibration would read of its samples as stage1; return skim.json.

    Parameters
    ----------
    config_path : Path
        Configuration of a run: its samples, selection, calibration and cluster count.
    out : Path
        Directory to make, or to go on in.
    command : str
        For who finds the directory in use.
    progress : callable
        Told how far it is.

    Returns
    -------
    dict
        What skim.json holds.

    Raises
    ------
    InputError
        If the directory holds something else, or the input cannot be used.
    ChunkError
        If a chunk failed twice; what was done is kept.
    """
    config, calibration = complete(config_path)
    _refuse_payloads(config, config_path)
    _refuse_tables(config, config_path)
    _require_free(out)
    directory = RunDirectory(out)
    with directory.lock(command):
        _require_same(config, out)
        write_text(out / WANTED, dump(config))
        progress("inspect", 0, 1)
        inspection = datasets.inspect(config, calibration, config_path.resolve().parent)
        progress("inspect", 1, 1)
        kept = _kept(config, calibration, inspection)
        parts = list(_parts(directory, config, inspection, kept))
        key = digest([part.path.name for part in parts])
        mark = directory.marker("skim")
        if mark.get("key") == key and not mark.get("bad") and is_there(directory):
            progress("skim", 1, 1)
            return dict(directory.note("skim"))
        directory.unmark("skim")
        watch = provenance.Stopwatch()
        restore(directory, [part.path for part in parts])
        bad = _run(config, kept, parts, progress, watch)
        done = [part for part in parts if part.is_done]
        accounting = _write_accounting(directory, inspection, done, bad)
        _require_few(accounting, config)
        accounts.require_pairs(accounting)
        found = _join(directory, config, inspection, done, accounting, progress)
        _write_provenance(directory, config, inspection, done, watch)
        remember(
            directory,
            {s.name: [p.path for p in done if p.chunk.sample == s.name] for s in config.samples},
        )
        directory.keep("skim", found)
        directory.mark("skim", {"key": key, "bad": len(bad)})
        forget_parts(_folder(directory), {part.path.stem for part in done})
    return found


# before any event ------------------------------------------------------------------------------
def _refuse_payloads(config: Config, path: Path) -> None:
    """Raise InputError where events are to be corrected: single precision would not be the same."""
    if any(config.payloads_of(sample) for sample in config.samples):
        raise InputError(
            f"{path}: key 'payloads': a skim keeps events as they were measured, and these would"
            " be corrected before the cuts; run it without a skim, or write corrected events with"
            " `calib apply`"
        )


def _refuse_tables(config: Config, path: Path) -> None:
    for sample in config.samples:
        if sample.format == "table":
            raise InputError(
                f"{path}: sample {sample.name!r} is a table, which is read fast as it is; run it"
            )


def _require_free(out: Path) -> None:
    directory = RunDirectory(out)
    if directory.exists:
        raise InputError(f"{out}: the directory of a run; choose another --out for the skim")
    directory.require_free_for("skim", WANTED)


def _require_same(config: Config, out: Path) -> None:
    """Raise InputError where the directory holds the skim of other events or other cuts."""
    if not (out / WANTED).is_file():
        return
    mine, theirs = config, complete(out / WANTED)[0]
    for key in ("calibration", "samples", "selection", "settings"):
        if getattr(mine, key) != getattr(theirs, key):
            raise InputError(
                f"{out}: holds the skim of another configuration, key {key!r} is not the same;"
                " choose another --out, or remove the directory"
            )


def _kept(config: Config, calibration: Any, inspection: Inspection) -> dict[str, Kept]:
    found = {}
    for sample in config.samples:
        needs = calibration.needs(sample)
        have = [set(f.columns) for f in inspection.files if f.sample == sample.name]
        column = "Muon_ptErr" if sample.format == "nanoaod" else "mu1_ptErr"
        wanted = ALONG in (*needs.muon, *needs.optional)
        along = () if wanted or not all(column in names for names in have) else (ALONG,)
        weighted = sample.simulation or (
            sample.format == "stage1" and all("wgt_nominal" in names for names in have)
        )
        selection = inspection.selections[sample.name]
        found[sample.name] = Kept(sample, needs, selection, along, weighted)
    return found


def _code() -> str:
    """Return the version of the code that a skim depends on: no fit is part of it."""
    return code_version([provenance.ROOT / "processors"], Pairs, mass)


def _folder(directory: RunDirectory) -> Path:
    return directory.path / ".calib" / "parts"


def _parts(
    directory: RunDirectory, config: Config, inspection: Inspection, kept: dict[str, Kept]
) -> Iterator[SkimPart]:
    code = _code()
    common = {
        name: digest(
            code,
            asdict(k.selection),
            k.needs,
            k.along,
            k.weighted,
            k.sample.format,
            k.sample.simulation,
        )
        for name, k in kept.items()
    }
    size = datasets.settled_size(directory, config, inspection)
    for chunk in datasets.chunks(inspection, size):
        key = digest(
            common[chunk.sample],
            chunk.sample,
            chunk.file.uuid,
            chunk.start,
            chunk.stop,
            chunk.file.runs,
        )
        yield SkimPart(chunk, _folder(directory) / f"{key}.parquet")


# the event loop --------------------------------------------------------------------------------
def _run(
    config: Config,
    kept: dict[str, Kept],
    parts: Sequence[SkimPart],
    progress: Progress,
    watch: provenance.Stopwatch,
) -> list[dict[str, Any]]:
    """Skim the chunks that are not done yet; return those that were set aside."""
    bad: list[dict[str, Any]] = []

    def set_aside(chunk: Chunk, error: str) -> None:
        bad.append(
            {
                "sample": chunk.sample,
                "path": chunk.file.path,
                "error": error,
                "entries": [chunk.start, chunk.stop],
                "events": chunk.stop - chunk.start,
            }
        )

    with Workers(config.cluster) as workers:
        hand_out(
            parts,
            [part for part in parts if not part.is_done],
            partial(work, processor=SkimProcessor(kept)),
            config=config,
            workers=workers,
            store=_write_part,
            set_aside=set_aside,
            progress=progress,
            text="skim",
            watch=watch,
        )
    return bad


def _write_part(part: SkimPart, result: Any) -> None:
    counts = Counts.of(result["counts"])
    require_whole(part.chunk, counts)
    with whole(part.path) as temporary:
        temporary.write_bytes(result["parquet"])
    selection_levels.write_account(part.account, counts, result["costs"])


# joining -----------------------------------------------------------------------------------------
def _join(
    directory: RunDirectory,
    config: Config,
    inspection: Inspection,
    parts: Sequence[SkimPart],
    accounting: dict[str, Any],
    progress: Progress,
) -> dict[str, Any]:
    """Write the files of each sample, and how to use them; return skim.json."""
    samples: dict[str, Any] = {}
    for i, sample in enumerate(config.samples):
        progress("join", i, len(config.samples))
        own = [part.path for part in parts if part.chunk.sample == sample.name]
        marks = dict.fromkeys(
            m for f in inspection.files if f.sample == sample.name for m in f.marks
        )
        files = _write_files(directory.path / sample.name, own, tuple(marks))
        totals = accounting["samples"][sample.name]["totals"]
        samples[sample.name] = {
            "files": [
                {
                    "path": str(f.relative_to(directory.path)),
                    "events": pq.read_metadata(f).num_rows,
                    "size": f.stat().st_size,
                }
                for f in files
            ],
            "events": totals["events"],
            "selected": totals["selected"],
            "selection": _plain(inspection.selections[sample.name]),
        }
    progress("join", 1, 1)
    use = _use(config)
    write_text(directory.path / USE, dump(use))
    found = {
        "name": config.name,
        "calibration": config.calibration,
        "samples": samples,
        "configuration": lines(use, directory.path),
    }
    write_json(directory.path / "skim.json", found)
    return found


def _write_files(folder: Path, parts: Sequence[Path], marks: Marks) -> list[Path]:
    """Join parts into files of at most `GROUPS_PER_FILE` row groups, which bear these marks."""
    tables = (with_marks(table, marks) for table in _row_groups(parts))
    written: list[Path] = []
    group = next(tables, None)
    schema = None if group is None else group.schema
    while group is not None:
        path = folder / f"{folder.name}_{len(written):04d}.parquet"
        with whole(path) as temporary, pq.ParquetWriter(temporary, schema, **OPTIONS) as writer:
            for _ in range(GROUPS_PER_FILE):
                if group is not None:
                    writer.write_table(group, row_group_size=ROW_GROUP)
                    group = next(tables, None)
        written.append(path)
    for other in folder.glob("*.parquet"):
        if other not in written:  # of an earlier skim with more events
            other.unlink()
    return written


def _row_groups(parts: Sequence[Path]) -> Iterator[pa.Table]:
    """Return the rows of all parts, `ROW_GROUP` at a time; there is at least one."""
    waiting: list[pa.Table] = []
    rows = 0
    for path in parts:
        waiting.append(pq.read_table(path, use_threads=False))
        rows += waiting[-1].num_rows
        while rows >= ROW_GROUP:
            table = pa.concat_tables(waiting)
            yield table.slice(0, ROW_GROUP)
            waiting, rows = [table.slice(ROW_GROUP)], rows - ROW_GROUP
    if rows:
        yield pa.concat_tables(waiting)


def _plain(selection: Any) -> dict[str, Any]:
    """Return a resolved selection for people: of the certified sections their number."""
    found = asdict(selection)
    certified = found.pop("certified")
    return found | {"certified_ranges": None if certified is None else len(certified)}


def _columns(sample: Sample) -> dict[str, MappedColumn]:
    """Return the key ``columns`` of a skimmed sample: a skim has our names, and says which pt."""
    pt = pt_of(sample)
    if pt is None:
        return {}
    return {f"mu{i}_pt": MappedColumn(branch=f"mu{i}_{pt}") for i in (1, 2)}


def _use(config: Config) -> Config:
    """Return the configuration that reads the skim; files are relative to it.

    What the skim has asked for and does not keep is not asked for again.
    """
    samples = tuple(
        s.model_copy(
            update={
                "format": "stage1",
                "files": (f"{s.name}/*.parquet",),
                "veto": (),
                "columns": _columns(s),
            }
        )
        for s in config.samples
    )
    done: dict[str, Any] = {
        "triggers": (),
        "identification": "none",
        "isolation": "none",
        "certified": None,
        "fallbacks": (),
        "cuts": (),
        "filters": (),
    }
    selection: Selection = config.selection.model_copy(update=done)
    return config.model_copy(update={"samples": samples, "selection": selection})


def lines(use: Config, directory: Path) -> str:
    """Return the keys of a configuration that read a skim, from anywhere.

    Parameters
    ----------
    use : Config
        With the samples of the skim.
    directory : Path
        Of the skim; files are relative to it.

    Returns
    -------
    str
        YAML.
    """
    samples = []
    for sample in use.samples:
        own = sample.model_dump(mode="json")
        own["files"] = [str(directory.resolve() / f) for f in sample.files]
        samples.append(own)
    selection = {"triggers": [], "identification": "none", "isolation": "none", "certified": None}
    if use.selection.muon_pt != "pt":
        selection["muon_pt"] = use.selection.muon_pt
    values = {"samples": samples, "selection": selection}
    return yaml_text(values, allow_unicode=True, width=100)


# accounts --------------------------------------------------------------------------------------
def _write_accounting(
    directory: RunDirectory,
    inspection: Inspection,
    parts: Sequence[SkimPart],
    bad: Sequence[dict[str, Any]],
) -> dict[str, Any]:
    files = []
    for file in inspection.files:
        own = [
            selection_levels.read_counts(part.account)
            for part in parts
            if (part.chunk.sample, part.chunk.file.path) == (file.sample, file.path)
        ]
        files.append((file.sample, file.path, file.n_events, Counts.total(own)))
    unopened = [
        {"sample": b.sample, "path": b.path, "events": None, "about": b.events, "error": b.error}
        for b in inspection.bad
    ]
    found = accounts.account(
        files,
        [*unopened, *bad],
        inspection.notes,
        {(f.sample, f.path): f.checksums for f in inspection.files},
    )
    write_json(directory.path / "accounting.json", found)
    return found


def _require_few(accounting: dict[str, Any], config: Config) -> None:
    failed = [c for c in accounts.checks(accounting, config.allowed_bad) if not c.passed]
    if failed:
        raise CalibError(
            f"{failed[0].name}: {failed[0].value:.3g} where {failed[0].threshold:g} is allowed,"
            f" {failed[0].text}; what was done is kept, run the same command again to go on"
        )


def _write_provenance(
    directory: RunDirectory,
    config: Config,
    inspection: Inspection,
    parts: Sequence[SkimPart],
    watch: provenance.Stopwatch,
) -> None:
    write_json(
        directory.path / "provenance.json",
        {
            "name": config.name,
            "calibration": config.calibration,
            "written": provenance.now(),
            "inputs": [file.summary for file in inspection.files],
            "config_hash": provenance.config_hash(config),
            "code_version": _code(),
            "git_commit": provenance.commit(),
            "packages": provenance.packages(),
            "machine": provenance.machine(),
            "steps": {"skim": watch.read()},
            "levels": {
                s.name: selection_levels.costs_of(
                    p.account for p in parts if p.chunk.sample == s.name
                )
                for s in config.samples
            },
        },
    )
