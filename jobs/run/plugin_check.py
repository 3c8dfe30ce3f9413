"""Whether a calibration keeps the contract: it is run on a few toys, in a directory that goes."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import BaseModel

from calib import calibrations
from calib.calibrations import Plugin
from calib.calibrations.base import Calibration
from calib.calibrations.capabilities import AddsColumns, following_pass
from calib.errors import CalibError
from calib.payload.payload import read as read_payload
from calib.physics.constants import RESONANCES
from calib.quality.contract import blaming
from calib.results import Pass
from calib.schema import Sample
from calib.toys.generation import generate, named_truth
from jobs.clusters import Workers
from jobs.config.complete import filled
from jobs.config.schema import Config
from jobs.event_loop import collection
from jobs.events.toys import write_stage1
from jobs.progress import silent
from jobs.run.run import Run
from jobs.storage.files import RunDirectory

EVENTS = 40_000
"""Toys: enough to be sorted into bins, not for good fits."""

PASSES = 2
"""Walks over them, at most: that it goes on is seen, that it ends is not."""


@dataclass(frozen=True)
class Finding:
    """What was looked at, whether it is as it should be, and a sentence where it is not."""

    check: str
    passed: bool
    text: str = ""


@dataclass(frozen=True)
class Judged:
    """A calibration with what was found."""

    plugin: Plugin
    findings: tuple[Finding, ...]

    @property
    def keeps(self) -> bool:
        """Whether it keeps the contract, as far as that was looked at."""
        return all(f.passed for f in self.findings)


def judged(plugin: Plugin, seed: int = 1) -> Judged:
    """Return what is found when a calibration is run on toys; nothing of it is kept."""
    found: list[Finding] = []
    with tempfile.TemporaryDirectory() as folder:
        try:
            for name in _checks(plugin, Path(folder), seed):
                found.append(Finding(name, True))
        except Exception as error:  # of others, so of any kind
            text = " ".join(str(error).split())[:500]
            known = isinstance(error, CalibError)
            sentence = text if known else f"{type(error).__name__}: {text}"
            found.append(Finding(ORDER[len(found)], False, sentence))
    return Judged(plugin, tuple(found))


ORDER = (
    "import",
    "class",
    "settings",
    "toys",
    "collect",
    "chunks",
    "reduce",
    "publish",
    "closure",
    "report",
    "apply",
)
"""What is looked at, in this order; the first that is not as it should be ends it."""


def _checks(plugin: Plugin, folder: Path, seed: int) -> Iterator[str]:
    """Yield the name of each check that was passed."""
    kind = calibrations.get(plugin.name)
    yield "import"
    _require_class(kind)
    yield "class"
    sample = _sample(kind, folder)
    config = Config(
        name="toys",
        calibration=plugin.name,
        samples=(sample,),
        seed=seed,
        cluster={"kind": "inline"},
        chunk_size=EVENTS,
    )  # type: ignore[arg-type]
    with blaming(kind, "settings"):
        made = filled(config, "defaults", folder)
    yield "settings"
    with blaming(kind, "toys"):
        _write_toys(kind, made[1], sample, folder / "toys", seed)
    yield "toys"
    run = Run(RunDirectory(folder / "whole"), *made)
    walk_over = _walks(run)
    walk_over(Pass())
    yield "collect"
    small = made[0].model_copy(update={"chunk_size": EVENTS // 3})
    _require_equal_sums(run, replace(run, directory=RunDirectory(folder / "cut"), config=small))
    yield "chunks"
    reduced = run.reduced(Pass(), {})
    for _ in range(PASSES - 1):
        with blaming(kind, "next_pass"):
            following = following_pass(run.calibration, reduced.reduction, reduced.walk)
        if following is None:
            break
        walk_over(following)
        reduced = run.reduced(following, {})
    yield "reduce"
    run.write_reduction(reduced)
    document = read_payload(run.directory / "payload.json")
    with blaming(kind, "check_payload"):
        run.calibration.check_payload(document, reduced.reduction)
    yield "publish"
    tested = run.test(reduced, walk_over)
    yield "closure"
    with blaming(kind, "sections"):
        run.calibration.sections(reduced.reduction, tested)
    yield "report"
    _apply(kind, sample, folder, document)
    yield "apply"


def _require_class(kind: type[Calibration]) -> None:
    for name, wanted in (("name", str), ("payload_names", tuple), ("formats", tuple)):
        if not isinstance(getattr(kind, name, None), wanted) or not getattr(kind, name):
            found = getattr(kind, name, None)
            raise CalibError(f"{name} is {found!r}, expected a {wanted.__name__} that says it")
    if not (isinstance(kind.Settings, type) and issubclass(kind.Settings, BaseModel)):
        raise CalibError("Settings is no pydantic model; derive it from calib.schema.Strict")
    if kind.Settings.model_config.get("extra") != "forbid":
        raise CalibError(
            "Settings takes unknown keys, so that a misspelt one is not noticed; derive it from"
            " calib.schema.Strict"
        )
    if getattr(kind, "__abstractmethods__", None):
        missing = ", ".join(sorted(kind.__abstractmethods__))
        raise CalibError(f"has no {missing}, which a calibration must have")


def _sample(kind: type[Calibration], folder: Path) -> Sample:
    resonance = "z" if "z" in kind.resonances else kind.resonances[0]
    format = "stage1" if "stage1" in kind.formats else kind.formats[0]
    files = (str(folder / "toys" / "*.parquet"),)
    return Sample(name="toys", resonance=resonance, format=format, files=files)  # type: ignore[arg-type]


def _write_toys(
    kind: type[Calibration], calibration: Calibration, sample: Sample, folder: Path, seed: int
) -> None:
    folder.mkdir()
    own = kind.toys(sample, EVENTS, seed)
    if own is not None:
        pq.write_table(pa.table(dict(own)), folder / "toys.parquet", write_page_checksum=True)
        return
    if sample.resonance not in RESONANCES:
        raise CalibError(
            "a calibration of a table has to bring toys to be tried on: a classmethod toys(sample,"
            " n, seed) that returns columns by name"
        )
    truth = named_truth("impact-parameter", sample.resonance, sample.simulation)
    made = generate(sample.resonance, EVENTS, seed=seed, truth=truth)
    write_stage1(folder / "toys.parquet", made.pairs, sample.simulation)


def _walks(run: Run) -> Any:
    with run.held("calib plugins"):
        run.adopt()
        inspection = run.inspect()

    def walk_over(walk: Pass) -> None:
        with Workers(run.config.cluster, run.calibration) as workers:
            collection.collect(run, inspection, walk, workers, silent)

    return walk_over


def _require_equal_sums(whole: Run, cut: Run) -> None:
    """Raise CalibError where the sums are others when the events come in other chunks."""
    _walks(cut)(Pass())
    one, other = (run.sums(Pass())["toys"] for run in (whole, cut))
    for name in {**one, **other}:
        if name not in one or name not in other or one[name].shape != other[name].shape:
            raise CalibError(f"sums {name!r} have other shapes when the chunks are others")
        a, b = (np.asarray(x[name], dtype=np.float64) for x in (one, other))
        if not np.allclose(
            a, b, rtol=1e-9, atol=1e-9 * max(1.0, float(np.max(np.abs(a), initial=0)))
        ):
            raise CalibError(
                f"sums {name!r} depend on how the events are cut into chunks; what collect returns"
                " must be sums, which add"
            )


def _apply(kind: type[Calibration], sample: Sample, folder: Path, document: Any) -> None:
    """Apply the payload to the toys, where the calibration has anything to say of events."""
    from jobs.events.apply import apply_payload

    if not issubclass(kind, AddsColumns):
        return
    path = folder / "whole" / "payload.json"
    if calibrations.of_payload(document) is not kind:
        raise CalibError("its payload is taken for that of another calibration; rename it")
    with blaming(kind, "apply"):
        apply_payload(path, folder / "toys" / "toys.parquet", folder / "out.parquet", silent)


def as_values(found: Judged) -> dict[str, Any]:
    """Return what was found as plain values."""
    plugin = found.plugin
    return {
        "name": plugin.name,
        "target": plugin.target,
        "package": plugin.package,
        "version": plugin.version,
        "ours": plugin.ours,
        "keeps_contract": found.keeps if found.findings else None,
        "checks": [vars(f) for f in found.findings],
    }
