"""A commented configuration, made from the schemas: every setting with its default."""

from __future__ import annotations

import json
import logging
import os
import textwrap
import types
import typing
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from calib import calibrations
from calib.calibrations.base import Calibration
from calib.documents import yaml_values
from calib.errors import InputError
from calib.physics.constants import RESONANCES
from calib.schema import Sample, Selection
from jobs.config.chain import Chain
from jobs.config.schema import Cluster, Config
from jobs.events.addresses import SUFFIX, is_remote
from jobs.storage.files import write_text

if typing.TYPE_CHECKING:
    from jobs.config.first_look import FirstLook

log = logging.getLogger(__name__)

WIDTH = 100
SCHEMA = "calib-schema.json"
"""What a configuration calls the schema of its keys."""
OF_TABLE = ("certified", "prescale")
"""Keys of the selection that mean something without muons."""


def write_configuration(
    path: Path, calibration: str | None, resonance: str | None, files: Sequence[str] = ()
) -> None:
    """Write a commented configuration to a new file.

    Parameters
    ----------
    path : Path
        A new file.
    calibration : str or None
        Name; None: that to begin with on the resonance.
    resonance : str or None
        None: what is seen in the files; without files Z, or the first that the calibration takes.
    files : sequence of str
        Globs, relative to the working directory, that the samples are made from.

    Raises
    ------
    InputError
        If the file exists, or there is no such calibration or resonance, or no such files.
    """
    if path.exists():
        raise InputError(f"{path}: exists already; choose another name or remove it")
    write_text(path, commented(calibration, resonance, files, path.resolve().parent))


def commented(
    calibration: str | None = None,
    resonance: str | None = None,
    files: Sequence[str] = (),
    base: Path | None = None,
) -> str:
    """Return a configuration that loads, with a comment for every key.

    Parameters
    ----------
    calibration : str, optional
        The one to begin with on the resonance by default.
    resonance : str, optional
        What is seen in the files by default; without files Z, or the first that the calibration
        takes.
    files : sequence of str
        Globs, relative to the working directory, whose first files are looked at.
    base : Path, optional
        Folder of the configuration, to which its files are relative; by default the working
        directory.

    Returns
    -------
    str
        YAML.

    Raises
    ------
    InputError
        If there is no such calibration or resonance, or no such files.
    """
    if resonance is not None and resonance not in RESONANCES:
        raise InputError(
            f"option --resonance: found {resonance!r}; give one of {', '.join(RESONANCES)}"
        )
    looks = _looked_at(files)
    samples, about = _samples_of(looks, resonance, base or Path.cwd())
    resonance = samples[0].resonance if samples else resonance
    name = calibration or _first_of(looks, resonance or "z")
    sample = samples[0] if samples else _sample(calibrations.get(name), resonance)
    what = sample.resonance if sample.resonance in RESONANCES else sample.format
    settings = dict(calibrations.get(name).settings_for(sample.resonance))
    config = Config(
        name=f"{what}-calibration",
        calibration=name,
        samples=tuple(samples) or (sample,),
        settings=settings,
    )
    built = calibrations.build(config, "settings")
    lines = [
        f"# yaml-language-server: $schema={SCHEMA}",
        f"# (for editors: `calib init {SCHEMA} --schema` writes it beside this file)",
        "# Configuration of a calibration: `calib run THIS_FILE --out DIR`.",
        "# Every key is here with its default; what is left out has it too.",
        f"name: {config.name}",
        f"calibration: {name}  # available: {', '.join(calibrations.available())}",
        "",
        *_about_samples(sample),
        "samples:",
        *about,
        *(line for one in config.samples for line in _sample_lines(one)),
        *([] if samples else (f"  # {line[2:]}" for line in _sample_lines(_simulated(sample)))),
        "",
        "# Which events are used. null: as the calibration needs it, here",
        f"# {_defaults(built) or 'all'}.",
        "selection:",
        *_lines(Selection(), 1, only=OF_TABLE if sample.format == "table" else ()),
        "",
        f"# Of the calibration {name}.",
        *_settings(built),
        "",
        "# Where the work is done.",
        "cluster:",
        *_lines(Cluster(), 1),
        "",
        *_lines(
            config,
            0,
            only=("variations", "payloads", "bad_files", "duplicates", "chunk_size", "seed"),
        ),
    ]
    return "\n".join(lines) + "\n"


def write_json_schema(path: Path) -> None:
    """Write the JSON schema of configurations.

    Raises
    ------
    InputError
        If it is not to be a JSON file.
    """
    if path.suffix != ".json":
        raise InputError(f"{path}: a schema is JSON; name it *.json")
    write_text(path, json.dumps(json_schema(), indent=1) + "\n")


def json_schema() -> dict[str, Any]:
    """Return the JSON schema of configurations: of a run, or of a chain of calibrations.

    It describes the keys ``settings`` of each calibration that can be had here.
    """
    definitions: dict[str, Any] = {}
    places = {"run": Config, "chain": Chain}
    settings = {}
    for name in calibrations.available():
        try:
            settings[name] = calibrations.get(name).Settings
        except InputError as error:  # a plug-in that cannot be imported has no settings
            log.warning("left out of the schema: %s", error)
    for name, model in (places | {f"settings of {n}": m for n, m in settings.items()}).items():
        own = model.model_json_schema(ref_template=f"#/$defs/{name}: {{model}}")
        for inner, definition in own.pop("$defs", {}).items():
            definitions[f"{name}: {inner}"] = definition
        definitions[name] = own
    by_name = [
        {
            "if": {"properties": {"calibration": {"const": name}}, "required": ["calibration"]},
            "then": {"properties": {"settings": {"$ref": f"#/$defs/settings of {name}"}}},
        }
        for name in settings
    ]
    definitions["run"]["allOf"] = definitions["chain: Step"]["allOf"] = by_name
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Configuration of dimucal",
        "if": {"required": ["chain"]},
        "then": {"$ref": "#/$defs/chain"},
        "else": {"$ref": "#/$defs/run"},
        "$defs": definitions,
    }


def _sample(kind: type[Calibration], resonance: str | None) -> Sample:
    """Return a sample as an example, of a format and a resonance that the calibration takes."""
    format = kind.formats[0]
    if resonance is None:
        resonance = "z" if "z" in kind.resonances else kind.resonances[0]
    files = (f"data/*{SUFFIX[format]}",)
    return Sample(name="data", resonance=resonance, format=format, files=files)  # type: ignore[arg-type]


def _looked_at(files: Sequence[str]) -> list[FirstLook]:
    if not files:
        return []
    from jobs.config.first_look import first_look  # slow to load, and rarely needed

    return [first_look(one, Path.cwd()) for one in files]


def _simulated(sample: Sample) -> Sample:
    """Return an example of a simulated sample beside one of data."""
    files = tuple(str(f).replace("data", "mc") for f in sample.files)
    return sample.model_copy(update={"name": "mc", "files": files, "simulation": True})


def _sample_lines(sample: Sample) -> list[str]:
    return [
        f"  - name: {sample.name}",
        f"    resonance: {sample.resonance}",
        f"    format: {sample.format}",
        f"    files: {json.dumps(list(sample.files))}",
        f"    simulation: {'true' if sample.simulation else 'false'}",
    ]


def _samples_of(
    looks: Sequence[FirstLook], resonance: str | None, base: Path
) -> tuple[list[Sample], list[str]]:
    """Return samples of files that were looked at, and comments on what was found."""
    found: list[Sample] = []
    for look in looks:
        own = resonance or look.resonance
        if not own:
            raise InputError(
                f"option --files: {look.files}: no peak of a known resonance is seen in"
                f" {look.pairs} pairs, expected {', '.join(RESONANCES)}; name it by --resonance"
            )
        kind = "mc" if look.simulation else "data"
        number = 1 + sum(s.simulation is look.simulation for s in found)
        path = look.files if is_remote(look.files) else os.path.relpath(look.files, base)
        found.append(
            Sample(
                name=kind if number == 1 else f"{kind}{number}",
                resonance=own,  # type: ignore[arg-type]
                format=look.format,  # type: ignore[arg-type]
                files=(path,),
                simulation=look.simulation,
            )
        )
    lines = [line for look in looks for line in look.lines()]
    return found, [f"  # {part}" for line in lines for part in textwrap.wrap(line, WIDTH - 4)]


def _first_of(looks: Sequence[FirstLook], resonance: str) -> str:
    """Return the calibration to begin with, of those that the columns of the files allow."""
    if any(not look.has("ptErr") for look in looks) and resonance != "h":
        return first_for("jpsi")  # the one that needs no ptErr
    return first_for(resonance)


def _about_samples(sample: Sample) -> list[str]:
    if sample.format == "table":
        return [
            "# Samples: format table (.parquet with the columns of the calibration); files are",
            "# globs, directories or addresses, relative to this file.",
        ]
    return [
        "# Samples: format nanoaod (.root) or stage1 (.parquet, one row a pair); files are globs,",
        "# directories or addresses, relative to this file, or what a catalogue gives:",
        "# {catalog: files.sqlite, query: 'run >= 315252 and quality == \"good\"'}; resonance: "
        + ", ".join(RESONANCES)
        + ".",
    ]


def first_for(resonance: str) -> str:
    """Return the calibration that one begins with on this resonance, else the first to take it."""
    names = calibrations.available()
    sample = Sample(name="data", resonance=resonance, format="nanoaod", files=("-",))  # type: ignore[arg-type]
    found = []
    for name in names:
        try:
            settings = dict(calibrations.get(name).settings_for(resonance))
            config = Config(name="any", calibration=name, samples=(sample,), settings=settings)
            built = calibrations.build(config)
        except InputError:
            continue
        if resonance in built.begins_with:
            return name
        found.append(name)
    if found:
        return found[0]
    raise InputError(
        f"option --resonance: no calibration takes {resonance!r}; available: {', '.join(names)}"
    )


def _defaults(calibration: Calibration) -> str:
    values = calibration.selection(calibration.samples[0])
    return ", ".join(f"{k} {_short(v)}" for k, v in values.items() if v is not None)


def _short(value: Any) -> str:
    """Return a value for a comment, numbers without the digits of their rounding."""
    if isinstance(value, (tuple, list)):
        return f"[{', '.join(_short(v) for v in value)}]"
    return f"{value:.6g}" if isinstance(value, float) else on_one_line(plain(value))


def _settings(calibration: Calibration) -> list[str]:
    lines = list(_lines(calibration.settings, 1))
    return ["settings:", *lines] if lines else ["settings: {}"]


def _lines(model: BaseModel, depth: int, only: tuple[str, ...] = ()) -> Iterator[str]:
    """Yield a line for each field, with what it means and what it may be."""
    indent = "  " * depth
    for key, field in type(model).model_fields.items():
        if only and key not in only:
            continue
        value = getattr(model, key)
        comment = _comment(field)
        if isinstance(value, BaseModel):
            yield f"{indent}{key}:" + (f"  # {comment}" if comment else "")
            yield from _lines(value, depth + 1)
            continue
        line = f"{indent}{key}: {on_one_line(plain(value))}"
        if comment and len(line) + len(comment) + 4 > WIDTH:
            yield from textwrap.wrap(
                comment, WIDTH, initial_indent=f"{indent}# ", subsequent_indent=f"{indent}# "
            )
            yield line
        else:
            yield line + (f"  # {comment}" if comment else "")


def _comment(field: FieldInfo) -> str:
    parts = [field.description or "", choices(field.annotation)]
    return "; ".join(" ".join(part.split()) for part in parts if part)


def choices(annotation: Any) -> str:
    """Return the words that a key may have."""
    if typing.get_origin(annotation) is Literal:
        return " | ".join(str(word) for word in typing.get_args(annotation))
    if typing.get_origin(annotation) in (types.UnionType, typing.Union):
        return " | ".join(filter(None, (choices(part) for part in typing.get_args(annotation))))
    return ""


def plain(value: Any) -> Any:
    """Return a default of a schema as YAML writes it."""
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    if isinstance(value, (tuple, list)):
        return [plain(v) for v in value]
    return value


def on_one_line(value: Any) -> str:
    """Return a value as YAML on one line."""
    if isinstance(value, str):
        plain = value.isascii() and yaml.safe_load(value) == value == yaml_values(value)
        return value if plain else json.dumps(value)
    if value is None:
        return "null"
    text = yaml.safe_dump(value, default_flow_style=True, width=10_000, sort_keys=False)
    return text.removesuffix("...\n").strip()
