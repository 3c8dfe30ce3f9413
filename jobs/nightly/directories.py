"""Run directories of the nightly, and the sums that all of them share.

Every bucket and every test is an ordinary run directory: `calib status`, `report`, `reduce` work
on it. The sums of the first pass over the events are kept once for each calibration in ``sums/``
(hard links) under the key of what they were made from; a bucket that grows, joins another or is
cut in two finds them there, and no old event is read again. A calibration that iterates reads the
events of its bucket again from its second pass on: by nature, since they are corrected anew.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from calib import calibrations
from calib.results import MAIN
from jobs.config.complete import filled
from jobs.config.schema import configuration, dump
from jobs.nightly.new_runs import query_of
from jobs.nightly.settings import Nightly, NightlySample, Task
from jobs.run.run import Run
from jobs.storage.files import RunDirectory, write_text


@dataclass(frozen=True)
class Rooms:
    """Where the directories of one calibration are."""

    path: Path

    @property
    def sums(self) -> Path:
        """The sums that all of them share."""
        return self.path / "sums"

    def bucket(self, first: int) -> Path:
        """Return the run directory of the bucket that begins with a run."""
        return self.path / f"bucket-{first}"

    def test(self, first: int, last: int, constants: str) -> Path:
        """Return the run directory of the validity test of some runs, of one set of constants."""
        return self.path / "tests" / f"{first}-{last}-{constants[:8]}"


def rooms(settings: Nightly, task: Task) -> Rooms:
    """Return where the directories of a calibration are."""
    return Rooms(Path(settings.directory) / task.name)


def bucket_work(
    settings: Nightly, task: Task, first: int, last: int, payloads: Sequence[str], prescale: float
) -> Run:
    """Return the run of a bucket, made or grown; nothing is read yet."""
    changes = {"prescale": prescale} if prescale > 1 else {}
    return _work(
        settings, task, rooms(settings, task).bucket(first), (first, last), payloads, changes, {}
    )


def test_work(
    settings: Nightly, task: Task, first: int, last: int, payloads: Sequence[str], constants: str
) -> Run:
    """Return the run of a cheap test: a fraction of the events, with payloads applied.

    ``constants``: the checksum of those that are tested.
    """
    changes = {"prescale": 1 / task.test.fraction}
    return _work(
        settings,
        task,
        rooms(settings, task).test(first, last, constants),
        (first, last),
        payloads,
        changes,
        task.test.settings,
    )


def _work(
    settings: Nightly,
    task: Task,
    path: Path,
    runs: tuple[int, int],
    payloads: Sequence[str],
    selection: Mapping[str, Any],
    own: Mapping[str, Any],
) -> Run:
    values = {
        "name": f"{settings.name}.{task.name}.{path.name}"[:80],
        "calibration": task.calibration,
        "samples": [_sample(settings, s, runs) for s in settings.samples_of(task)],
        "selection": {**task.selection.model_dump(mode="json"), **selection},
        "settings": merged(task.settings, own),
        "payloads": list(payloads),
        "cluster": settings.cluster.model_dump(mode="json"),
        "bad_files": settings.model_dump(mode="json", include={"bad_files"})["bad_files"],
        "chunk_size": settings.chunk_size,
        "seed": settings.seed,
    }
    where = f"calibration {task.name!r} of the nightly"
    config = configuration(values, where)
    more = calibrations.build(config, where).growing()
    config = config.model_copy(update={"settings": merged(config.settings, nested(more))})
    config, calibration = filled(config, where, path)
    return Run(RunDirectory(path), config, calibration)


def _sample(settings: Nightly, sample: NightlySample, runs: tuple[int, int]) -> dict[str, Any]:
    values = {k: getattr(sample, k) for k in ("name", "resonance", "format", "simulation")}
    if not sample.grows:
        # corrected like the data, a simulation would need a payload that knows it
        return {**values, "files": list(sample.files or ())}
    files = {"catalog": settings.catalog, "query": query_of(sample, *runs)}
    return {**values, "files": files}


def merged(one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings with those of another level by level over them."""
    found = dict(one)
    for key, value in other.items():
        old = found.get(key)
        both = isinstance(old, Mapping) and isinstance(value, Mapping)
        found[key] = merged(old, value) if both else value
    return found


def nested(dotted: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``{"a": {"b": 1}}`` of ``{"a.b": 1}``."""
    found: dict[str, Any] = {}
    for key, value in dotted.items():
        for part in reversed(key.split(".")):
            value = {part: value}
        found = merged(found, value)
    return found


def adopt(work: Run, shared: Path) -> None:
    """Write the configuration into the directory, and lay the shared sums there."""
    work.directory.path.mkdir(parents=True, exist_ok=True)
    path, text = work.directory / "config.yaml", dump(work.config)
    if not path.is_file() or path.read_text(encoding="utf-8") != text:
        write_text(path, text)
    _link(shared, work.directory.chunks(MAIN))


def share(work: Run, shared: Path) -> None:
    """Keep the sums of the first pass of a directory with the shared ones."""
    _link(work.directory.chunks(MAIN), shared)


def _link(source: Path, target: Path) -> None:
    """Give every file of a folder a second name in another one."""
    if not source.is_dir():
        return
    target.mkdir(parents=True, exist_ok=True)
    there = set(os.listdir(target))
    for name in os.listdir(source):
        if name in there or name.startswith("."):
            continue
        with suppress(FileExistsError, FileNotFoundError):
            try:
                os.link(source / name, target / name)
            except OSError:  # a file system without hard links
                shutil.copy2(source / name, target / f".{name}.part")
                os.replace(target / f".{name}.part", target / name)


def forget_tests(settings: Nightly, task: Task) -> None:
    """Remove the directories of the oldest tests; their numbers are in the history."""
    folder = rooms(settings, task).path / "tests"
    if not folder.is_dir():
        return
    found = sorted(folder.iterdir(), key=lambda p: p.stat().st_mtime)
    for path in found[: -settings.keep_nights]:
        shutil.rmtree(path, ignore_errors=True)
