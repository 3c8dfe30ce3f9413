"""What every configuration is made of: strict models, samples, selections, and their sentences."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from itertools import pairwise
from typing import Annotated, Any, Literal, Protocol

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from calib.errors import InputError

SECRET = re.compile(
    r"^[a-z0-9+.-]+://[^/@]*:[^/@]*@"
    r"|[?&](authz|access_token|token|password|passwd|secret|key|sig|signature|"
    r"x-amz-[a-z-]*(signature|credential|token))=",
    re.IGNORECASE,
)


def refuse_secrets(address: str) -> None:
    """Raise ValueError for an address with a password or a token in it.

    Addresses are written into config.yaml, provenance.json, logs and the report.
    """
    if SECRET.search(address):
        raise ValueError(
            "an address with a password or a token in it, which every file of the run would show;"
            " give it in the environment (BEARER_TOKEN, AWS_..., FSSPEC_...)"
        )


class Strict(BaseModel):
    """A part of the configuration: frozen, refuses unknown keys."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)


def _ascending(edges: tuple[float, ...], info: ValidationInfo) -> tuple[float, ...]:
    if any(b <= a for a, b in pairwise(edges)):
        raise ValueError(f"edges of {info.field_name} are not ascending")
    return edges


def _above_zero(edges: tuple[float, ...], info: ValidationInfo) -> tuple[float, ...]:
    if edges[0] <= 0:
        raise ValueError(f"{info.field_name} begins at or below 0")
    return edges


Edges = Annotated[tuple[float, ...], Field(min_length=2), AfterValidator(_ascending)]
"""Edges of bins, in ascending order."""

PositiveEdges = Annotated[Edges, AfterValidator(_above_zero)]
"""Edges of bins, the first one above 0."""


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
        default=1.0,
        ge=1,
        le=1e6,
        description="one selected event in this many is used, by its numbers (collision data only)",
    )
    fallbacks: tuple[Fallback, ...] = Field(
        default=(),
        description="where a branch is missing: {name: ..., triggers, identification, isolation}",
    )


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


class Configured(Protocol):
    """What of a configuration makes a calibration."""

    calibration: str
    settings: dict[str, Any]
    samples: tuple[Sample, ...]
    seed: int
    selection: Selection
