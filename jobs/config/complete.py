"""From the user's file to the complete configuration of a run; one beside another."""

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
from jobs.config.chain import Chain, Step, chain_of, config_of
from jobs.config.schema import Config, load, plain_values
from jobs.config.sites import with_site
from jobs.storage.files import RunDirectory

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
    """Return a configuration as `complete` does.

    Parameters
    ----------
    config : Config
        Of the user.
    where : str
        What a refusal calls it.
    base : Path
        Folder that its files are relative to.

    Returns
    -------
    Config
        With all defaults, and absolute paths.
    Calibration
        Made from it.
    """
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
    """Return the keys of a sample that hold local paths, absolute.

    Parameters
    ----------
    sample : Sample
        With paths relative to ``base``.
    base : Path
        Folder.

    Returns
    -------
    dict
        ``files, payloads``.
    """
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
    """Return a local path as an absolute one.

    Parameters
    ----------
    address : str
        Path or address.
    base : Path
        Folder that paths are relative to.

    Returns
    -------
    str
        An address as it is.
    """
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


def complete_chain(path: Path) -> Chain:
    """Return the chain in a file with every default filled in and absolute paths."""
    base, where = path.resolve().parent, str(path)
    values = with_site(plain_values(path), base, where)
    if isinstance(values, dict) and isinstance(values.get("chain"), list):
        values["chain"] = [with_site(step, base, where) for step in values["chain"]]
    chain = chain_of(values, where)
    _refuse_names(chain, where)
    steps = []
    for step in chain.chain:
        config = config_of(chain, step, (), f"{where}: step {step.name!r}")
        config, calibration = filled(config, f"{where}: step {step.name!r}", base)
        steps.append(step.model_copy(update=_filled_step(step, config, calibration)))
    samples = tuple(s.model_copy(update=absolute_in(s, base)) for s in chain.samples)
    payloads = tuple(absolute(p, base) for p in chain.payloads)
    update = {"chain": tuple(steps), "samples": samples, "payloads": payloads}
    return chain.model_copy(update=update)


def _filled_step(step: Step, config: Config, calibration: Calibration) -> dict[str, Any]:
    """Return the keys of a step with defaults and absolute paths, where it has its own."""
    found: dict[str, Any] = {"settings": calibration.settings.model_dump(mode="json")}
    if step.payloads is not None:
        found["payloads"] = config.payloads
    if step.samples is not None:
        own = {s.name: s.model_dump(mode="json", exclude_unset=True) for s in config.samples}
        found["samples"] = tuple(
            s if isinstance(s, str) else own[config.samples[i].name]
            for i, s in enumerate(step.samples)
        )
    return found


def _refuse_names(chain: Chain, where: str) -> None:
    """Raise InputError for steps whose directories would not be theirs alone."""
    taken = {"plots", "report.html", "verdict.json", "provenance.json", "config.yaml"}
    for step in chain.chain:
        if step.name in taken:
            raise InputError(f"{where}: step {step.name!r} is named as a file of ours; rename it")


def say_what_is_another(new: Complete, old: Complete, directory: RunDirectory) -> None:
    """Say which keys are others, and what that means; forget the steps that depended on them.

    Parameters
    ----------
    new, old : (Config, Calibration)
        Of now, and as the directory has it.
    directory : RunDirectory
        Of the run.
    """
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


def require_same(new: Config, old: Config, path: Path, out: Path) -> None:
    """Refuse a directory that holds another run, not this one with other settings.

    Parameters
    ----------
    new, old : Config
        Of now, and as the directory has it.
    path, out : Path
        Configuration and directory, for the sentence of the error.

    Raises
    ------
    InputError
        If it is another run; the sentence names the first key.
    """
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
    values = config.model_dump(
        mode="json", exclude={"cluster", "bad_files", "duplicates", "variations"}
    )
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
