"""The configuration: a schema that refuses unknown keys and names the nearest known one.

See ``calib init`` for a commented example. Addresses in ``files`` are relative to the
configuration file.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import (
    BaseModel,
    Discriminator,
    Field,
    Tag,
    ValidationError,
    field_validator,
    model_validator,
)

from calib.cluster import Cluster, Security
from calib.documents import MAX_YAML, yaml_values
from calib.errors import InputError
from calib.schema import SECRET, Strict, refuse_secrets
from calib.sites import with_site

__all__ = [
    "SECRET", "BadFiles", "Cluster", "Config", "Fallback", "Query", "Sample", "Security",
    "Selection", "Strict", "configuration", "dump", "load", "refuse_secrets", "validated",
]  # fmt: skip


class Query(Strict):
    """Files and runs as a catalogue has them: what it gives now is the input."""

    catalog: str = Field(
        min_length=1, description="path, relative to this file, or postgresql://USER@HOST/NAME"
    )
    query: str = Field(min_length=1, description="such as run >= 315252 and quality == 'good'")

    @field_validator("catalog")
    @classmethod
    def _without_secrets(cls, address: str) -> str:
        refuse_secrets(address)
        return address


def _kind_of_files(value: Any) -> str:
    return "a query" if isinstance(value, Mapping | Query) else "a list"


Addresses = Annotated[tuple[str, ...], Field(min_length=1), Tag("a list")]
Files = Annotated[Addresses | Annotated[Query, Tag("a query")], Discriminator(_kind_of_files)]


class Sample(Strict):
    """Files that belong together."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.+-]*$", max_length=80)
    resonance: Literal["jpsi", "upsilon", "z", "h", "none"] = Field(
        description="none: of a table, which has no muons"
    )
    format: Literal["nanoaod", "stage1", "table"]
    files: Files = Field(
        description="globs, directories or addresses, relative to this file; or {catalog, query}"
    )
    simulation: bool = False
    payloads: tuple[str, ...] | None = Field(
        default=None, description="instead of the key 'payloads' of all samples; [] for none"
    )

    @model_validator(mode="before")
    @classmethod
    def _without_resonance(cls, values: Any) -> Any:
        """Let a table leave out what it has none of."""
        if isinstance(values, Mapping) and values.get("format") == "table":
            return {"resonance": "none", **values}
        return values

    @field_validator("files", "payloads")
    @classmethod
    def _without_secrets(cls, files: Any) -> Any:
        for address in files if isinstance(files, tuple) else ():
            refuse_secrets(address)
        return files


class Fallback(Strict):
    """What is asked for where files lack a branch of the selection. None: as it is there."""

    name: str = Field(min_length=1, max_length=80)
    triggers: tuple[str, ...] | None = None
    identification: Literal["none", "loose", "medium", "tight"] | None = None
    isolation: float | Literal["none"] | None = None


class Selection(Strict):
    """Which events are used. None means the default of the calibration."""

    triggers: tuple[str, ...] = Field(
        default=(), description="branches, any of which must have fired; none: no requirement"
    )
    identification: Literal["auto", "none", "loose", "medium", "tight"] = Field(
        default="auto", description="auto: medium where the input has it, else none (and says so)"
    )
    isolation: float | Literal["auto", "none"] = Field(
        default="auto", description="largest pfRelIso04_all; auto: 0.25 where the input has it"
    )
    leading_pt: float | None = Field(default=None, description="GeV, lower edge, leading muon")
    subleading_pt: float | None = Field(default=None, description="GeV, lower edge, the other")
    abs_eta: float | None = Field(default=None, description="upper edge of |eta|")
    opposite_charge: bool = True
    mass_window: tuple[float, float] | None = Field(
        default=None, description="GeV, [low, high), of the mass from the muons"
    )
    certified: str | None = Field(
        default=None, description="JSON of certified luminosity sections (collision data only)"
    )
    prescale: float = Field(
        default=1.0, ge=1, le=1e6,
        description="one selected event in this many is used, by its numbers (collision data only)",
    )  # fmt: skip
    fallbacks: tuple[Fallback, ...] = Field(
        default=(),
        description="where a branch is missing: {name: ..., triggers, identification, isolation}",
    )


class BadFiles(Strict):
    """Leave out what cannot be read, up to a share, and say so."""

    skip_up_to: float = Field(gt=0, lt=1, description="largest share of the events")


class Config(Strict):
    """The whole configuration of one run."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.+-]*$", max_length=80)
    calibration: str
    samples: tuple[Sample, ...] = Field(min_length=1)
    selection: Selection = Selection()
    settings: dict[str, Any] = Field(default_factory=dict)
    payloads: tuple[str, ...] = Field(
        default=(),
        description="payload.json files of earlier calibrations, relative to this file; applied"
        " to the muons, in this order, before the selection",
    )
    cluster: Cluster = Cluster()
    bad_files: Literal["stop"] | BadFiles = Field(
        default="stop", description="stop, or {skip_up_to: 0.05}: leave out up to 5 % and say so"
    )
    duplicates: Literal["check", "ignore"] = Field(
        default="check", description="of events by (run, luminosityBlock, event), in data"
    )
    chunk_size: int | Literal["auto"] = Field(
        default="auto", description="events per chunk; auto: from the files and the cores"
    )
    seed: int = Field(default=1, ge=0, lt=2**63)

    @field_validator("payloads")
    @classmethod
    def _without_secrets(cls, addresses: tuple[str, ...]) -> tuple[str, ...]:
        for address in addresses:
            refuse_secrets(address)
        return addresses

    def payloads_of(self, sample: Sample) -> tuple[str, ...]:
        """Return the addresses of the payloads that are applied to the events of a sample."""
        return self.payloads if sample.payloads is None else sample.payloads

    @field_validator("chunk_size", mode="before")
    @classmethod
    def _events_or_auto(cls, value: Any) -> Any:
        if value != "auto" and (not isinstance(value, int) or isinstance(value, bool) or value < 1):
            raise ValueError("expected auto, or a number of events of at least 1")
        return value

    @property
    def allowed_bad(self) -> float:
        """Largest share of the events that may be left out, 0 for none."""
        return 0.0 if self.bad_files == "stop" else self.bad_files.skip_up_to


def validated(model: type[BaseModel], values: Any, where: str) -> Any:
    """Return the model made from the values.

    Raises
    ------
    InputError
        With one sentence that names the place, the key, what was found and what to do.
    """
    if not isinstance(values, Mapping):
        raise InputError(f"{where}: found {_short(values)}, expected keys with values")
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise InputError(f"{where}: {_sentence(model, error)}") from None


_TAGS = ("literal['stop']", "BadFiles", "a list", "a query")
"""What pydantic adds to the place of a key that may be of several kinds."""


def _sentence(model: type[BaseModel], error: ValidationError) -> str:
    details = error.errors(include_url=False)
    # an unknown key is the likely cause of a missing one: name it first
    first = next((e for e in details if e["type"] == "extra_forbidden"), details[0])
    key = ".".join(str(p) for p in first["loc"] if p not in _TAGS)
    if first["type"] == "extra_forbidden":
        known = _known_keys(model, first["loc"][:-1])
        near = difflib.get_close_matches(str(first["loc"][-1]), known, n=1, cutoff=0.5)
        hint = f"did you mean {near[0]!r}?" if near else f"known keys: {', '.join(known)}"
        return f"unknown key {key!r}; {hint}"
    if first["type"] == "missing":
        return f"key {key!r} is missing; add it"
    found = first.get("input")
    if first["type"] == "value_error" and ("token in it" in first["msg"] or _is_large(found)):
        return f"key {key!r}: {_lower(first['msg'].removeprefix('Value error, '))}"
    text = _lower(first["msg"].removeprefix("Value error, "))
    return f"key {key!r}: found {_short(found)}, {text}; correct it"


def _is_large(value: Any) -> bool:
    """Return whether a value is a whole part, of which the message says what is wrong."""
    return isinstance(value, Mapping)


def _short(value: Any) -> str:
    text = " ".join(repr(value).split())
    return text if len(text) <= 200 else f"{text[:200]}..."


def _lower(text: str) -> str:
    return text[:1].lower() + text[1:]


def _known_keys(model: type[BaseModel], path: tuple[int | str, ...]) -> list[str]:
    """Return the keys that the schema knows at this place."""
    current: Any = model
    for part in path:
        if isinstance(part, int) or not hasattr(current, "model_fields"):
            continue
        field = current.model_fields.get(part)
        if field is None:
            continue
        current = _inner_model(field.annotation) or current
    return sorted(current.model_fields)


def _inner_model(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for part in getattr(annotation, "__args__", ()):
        found = _inner_model(part)
        if found is not None:
            return found
    return None


def load(path: Path) -> Config:
    """Return the configuration in a YAML file.

    Raises
    ------
    InputError
        If the file cannot be read, is not YAML, or does not fit the schema.
    """
    return configuration(plain_values(path), str(path), path.resolve().parent)


def plain_values(path: Path) -> Any:
    """Return what is in the YAML file of a configuration, whatever it is.

    Raises
    ------
    InputError
        If the file cannot be read, or is not YAML.
    """
    try:
        if path.stat().st_size > MAX_YAML:
            raise InputError(f"{path}: more than {MAX_YAML} bytes; expected a configuration")
        return yaml_values(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(
            f"{path}: there is no such file; `calib init` writes a configuration"
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read ({error}); expected a YAML file") from None
    except ValueError as error:
        text = " ".join(str(error).split())
        raise InputError(f"{path}: not valid YAML ({text}); correct it") from None


def configuration(values: Any, where: str, base: Path | None = None) -> Config:
    """Return the configuration in plain values; ``where`` names the place in a refusal.

    Names of files in ``cluster`` are relative to ``base``, else to the working directory.

    Raises
    ------
    InputError
        If they do not fit the schema.
    """
    if isinstance(values, Mapping) and "chain" in values:
        raise InputError(
            f"{where}: key 'chain': a chain of calibrations, expected a single one; `calib run`,"
            " reduce, report and status take chains, other commands one of its steps (DIR/STEP)"
        )
    values = with_site(values, base or Path.cwd(), where)
    config: Config = validated(Config, values, where)
    names = [s.name for s in config.samples]
    for name in names:
        if names.count(name) > 1:
            raise InputError(f"{where}: key 'samples': two samples are named {name!r}; rename one")
    return config


def dump(config: BaseModel) -> str:
    """Return a configuration as YAML, keys in the order of the schema."""
    return yaml.safe_dump(
        config.model_dump(mode="json"), sort_keys=False, allow_unicode=True, width=100
    )
