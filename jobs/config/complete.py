"""From the user's file to the complete configuration of a run, and back from its directory."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from calib import calibrations
from calib.calibrations.base import Calibration
from calib.errors import InputError
from calib.schema import Query, Sample, Selection, validated
from jobs.config.schema import Config, dump, is_chain, load
from jobs.storage.files import RunDirectory, write_text

log = logging.getLogger(__name__)

Complete = tuple[Config, Calibration]


@dataclass(frozen=True)
class Work:
    """One run: its directory, its complete configuration, its calibration."""

    directory: RunDirectory
    config: Config
    calibration: Calibration


def complete(path: Path) -> tuple[Config, Calibration]:
    """Return the configuration in a file with every default filled in, and its calibration.

    Local paths become absolute, so that the configuration means the same in any directory.
    """
    return filled(load(path), str(path), path.resolve().parent)


def filled(config: Config, where: str, base: Path) -> tuple[Config, Calibration]:
    """Return a configuration as `complete` does; its files are relative to ``base``."""
    calibration = calibrations.build(config, where)
    samples = [s.model_copy(update=absolute_in(s, base)) for s in config.samples]
    update = {
        "payloads": tuple(absolute(p, base) for p in config.payloads),
        "samples": tuple(samples),
        "selection": _selection(config, calibration, base),
        "settings": calibration.settings.model_dump(mode="json"),
    }
    config = config.model_copy(update=update)
    return config, calibrations.build(config, where)


def absolute_in(sample: Sample, base: Path) -> dict[str, Any]:
    """Return the keys of a sample that hold local paths, absolute."""
    files: Any = sample.files
    if isinstance(files, Query):
        files = files.model_copy(update={"catalog": absolute(files.catalog, base)})
    else:
        files = tuple(absolute(f, base) for f in files)
    own = sample.payloads
    return {
        "files": files,
        "payloads": own if own is None else tuple(absolute(p, base) for p in own),
    }


def absolute(address: str, base: Path) -> str:
    """Return a local path as an absolute one, an address as it is."""
    return address if "://" in address else str(base / Path(address).expanduser())


def _selection(config: Config, calibration: Calibration, base: Path) -> Selection:
    """Return the selection, with the calibration's default where all samples have the same."""
    values = config.selection.model_dump()
    defaults = [dict(calibration.selection(sample)) for sample in config.samples]
    for key, value in values.items():
        own = [d[key] for d in defaults if key in d]
        if value is None and len(own) == len(defaults) and all(o == own[0] for o in own):
            values[key] = own[0]
    if values["certified"] is not None:
        values["certified"] = absolute(values["certified"], base)
    found: Selection = validated(Selection, values, config.name, "selection")
    return found


def prepare(config_path: Path, out: Path) -> Work:
    """Return the work of a configuration in a directory, without writing anything.

    A directory in which nothing was collected, since its first run was refused, takes any.

    Raises
    ------
    InputError
        If the directory belongs to another configuration; the sentence names the first key.
    """
    return in_directory(complete(config_path), config_path, out)


def in_directory(made: tuple[Config, Calibration], where: Path, out: Path) -> Work:
    """Return the work of a complete configuration, as `prepare` does; ``where`` is its name."""
    config, calibration = made
    directory = RunDirectory(out)
    if out.exists() and not out.is_dir():
        raise InputError(f"{out}: a file, expected a directory; choose another --out")
    if directory.exists:
        if directory.has_events or is_chain(out):  # of a chain `complete` says so
            _require_same(config, complete(directory / "config.yaml")[0], where, out)
    elif out.is_dir() and any(p.name != ".calib" for p in out.iterdir()):
        raise InputError(
            f"{out}: has files in it but no config.yaml, so it is not the directory of a run;"
            " choose another --out"
        )
    return Work(directory, config, calibration)


def adopt(work: Work) -> None:
    """Write the configuration into the directory (its lock held)."""
    path = work.directory / "config.yaml"
    if path.is_file() and work.directory.has_events:
        old = complete(path)
        _require_same(work.config, old[0], path, work.directory.path)
        _say_what_is_another((work.config, work.calibration), old, work.directory)
    text = dump(work.config)
    if path.is_file() and not work.directory.has_events and text != path.read_text("utf-8"):
        work.directory.forget("inputs")  # they are those of the configuration that is mended
        work.directory.forget_steps()
    if not path.is_file() or path.read_text(encoding="utf-8") != text:
        write_text(path, text)


def _say_what_is_another(new: Complete, old: Complete, directory: RunDirectory) -> None:
    """Say which keys are others, and what that means; forget the steps that depended on them."""
    mine, theirs = _of_sums(*new), _of_sums(*old)
    sentences = [
        f"key {key!r} was {_flat(theirs).get(key, 'absent')!r} and is"
        f" {_flat(mine).get(key, 'absent')!r} now: all events are collected again"
        for key in _different(mine, theirs)
    ]
    for sentence in sentences:
        log.warning("%s", sentence)
    for key in _different(new[0].settings, old[0].settings):
        if key not in _different(mine["settings"], theirs["settings"]):
            log.warning("key 'settings.%s' is another now; the sums over the events serve it", key)
    if sentences:
        directory.keep("changes", {**directory.note("changes"), "keys": sentences})
        directory.forget_steps()


def resume(path: Path) -> Work:
    """Return the work that a directory holds."""
    directory = RunDirectory(path)
    directory.require()
    config, calibration = complete(directory / "config.yaml")
    return Work(directory, config, calibration)


def _require_same(new: Config, old: Config, path: Path, out: Path) -> None:
    """Raise InputError where a directory holds another run, not this one with other settings."""
    mine, theirs = _of_run(new), _of_run(old)
    for key in _different(mine, theirs):
        raise InputError(
            f"{out}: holds a run of another configuration: key {key!r} is"
            f" {_flat(theirs).get(key, 'absent')!r} there and {_flat(mine).get(key, 'absent')!r}"
            f" in {path}; choose another --out, or remove the directory"
        )


def _of_run(config: Config) -> dict[str, Any]:
    """Return what makes a run this one: what it is called, and which events it is made of."""
    found = config.model_dump(mode="json", include={"name", "calibration", "seed"})
    keys = {"name", "resonance", "format", "files", "simulation"}
    return found | {"samples": [s.model_dump(mode="json", include=keys) for s in config.samples]}


def _of_sums(config: Config, calibration: Calibration) -> dict[str, Any]:
    """Return everything in a configuration that the sums over the events depend on."""
    values = config.model_dump(mode="json", exclude={"cluster", "bad_files", "duplicates"})
    return values | {"settings": dict(calibration.collect_settings())}


def _different(one: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
    """Return the dotted keys whose values are not the same."""
    mine, theirs = _flat(one), _flat(other)
    return [k for k in dict.fromkeys([*mine, *theirs]) if mine.get(k) != theirs.get(k)]


def _flat(values: Mapping[str, Any]) -> dict[str, Any]:
    return dict(_leaves(values, ()))


def _leaves(value: Any, place: tuple[str, ...]) -> Iterator[tuple[str, Any]]:
    items: Any = ()
    if isinstance(value, Mapping):
        items = value.items()
    elif isinstance(value, list) and any(isinstance(v, Mapping) for v in value):
        items = enumerate(value)
    if items:
        for key, inner in items:
            yield from _leaves(inner, (*place, str(key)))
    else:
        yield ".".join(place), value
