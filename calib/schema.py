"""What every configuration is made of: strict models, samples, selections, and their sentences."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Protocol, get_args, get_origin

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
from calib.events.cuts import condition_of, own_cut
from calib.sentences import sentence, short

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
    """A part of the configuration: frozen, refuses unknown keys and numbers that are none."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, validate_default=True, allow_inf_nan=False
    )

    @field_validator("*", mode="before")
    @classmethod
    def _truth_is_no_number(cls, value: Any, info: ValidationInfo) -> Any:
        field = cls.model_fields.get(info.field_name or "")
        if field is not None and _holds(value, bool) and not _may_hold(field.annotation, bool):
            raise ValueError("expected a number or text, not true or false")
        return value


def _holds(value: Any, kind: type) -> bool:
    """Return whether a value, or one in a list, is of a kind."""
    if isinstance(value, list | tuple):
        return any(_holds(one, kind) for one in value)
    return isinstance(value, kind)


def _may_hold(annotation: Any, kind: type) -> bool:
    """Return whether a key of this type may hold values of a kind, in a list as well."""
    if annotation is Any or annotation is kind or annotation is object:
        return True
    if isinstance(annotation, type) and not get_args(annotation):
        # of a model, or another class with a check of its own, that is for it to say
        return annotation not in (int, float, complex, str, bytes, type(None))
    if get_origin(annotation) is Literal:
        return any(isinstance(value, kind) for value in get_args(annotation))
    if get_origin(annotation) is Annotated:
        return _may_hold(get_args(annotation)[0], kind)
    return any(_may_hold(part, kind) for part in get_args(annotation) if part is not Ellipsis)


# kinds of keys -----------------------------------------------------------------------------------
def _ascending(edges: tuple[float, ...]) -> tuple[float, ...]:
    for low, high in zip(edges[:-1], edges[1:], strict=True):
        if low >= high:
            raise ValueError(f"not ascending: {high:g} comes after {low:g}")
    return edges


def _window(window: tuple[float, float]) -> tuple[float, float]:
    if window[0] >= window[1]:
        raise ValueError(
            f"the lower edge is not below the upper one; write [{window[1]:g}, {window[0]:g}]"
            if window[0] > window[1]
            else "the lower edge is not below the upper one"
        )
    return window


def _none_negative(values: tuple[float, ...]) -> tuple[float, ...]:
    for value in values:
        if value < 0:
            raise ValueError(f"{value:g} is below 0")
    return values


Edges = Annotated[tuple[float, ...], Field(min_length=2), AfterValidator(_ascending)]
"""Ascending edges of bins."""

PositiveEdges = Annotated[Edges, AfterValidator(_none_negative)]
"""Ascending edges, none below 0: of a momentum or of |eta|."""

Window = Annotated[tuple[float, float], AfterValidator(_window)]
"""[low, high) of anything."""

PositiveWindow = Annotated[Window, AfterValidator(_none_negative)]
"""[low, high), none below 0: of a mass or a momentum."""

Share = Annotated[float, Field(ge=0, le=1)]
Probability = Annotated[float, Field(ge=0, lt=1)]
Positive = Annotated[float, Field(gt=0)]


def _above_zero(edges: tuple[float, ...]) -> tuple[float, ...]:
    if edges[0] <= 0:
        raise ValueError(f"{edges[0]:g} is not above 0")
    return edges


EdgesAboveZero = Annotated[Edges, AfterValidator(_above_zero)]
"""Ascending edges, all above 0."""


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


ENERGY = {"GeV": 1.0, "MeV": 1e-3, "TeV": 1e3}
INVERSE = {"1/GeV": 1.0, "1/MeV": 1e3, "1/TeV": 1e-3}
LENGTH = {"cm": 1.0, "mm": 0.1, "um": 1e-4, "m": 100.0}
UNITS = {**ENERGY, **INVERSE, **LENGTH}
"""What is multiplied with to have GeV, 1/GeV or cm."""


class MappedColumn(Strict):
    """A branch that holds a quantity which has another name, unit or sign with us."""

    branch: str = Field(pattern=r"^[A-Za-z_][A-Za-z0-9_.]*$", description="its name in the files")
    unit: Literal["GeV", "MeV", "TeV", "1/GeV", "1/MeV", "1/TeV", "cm", "mm", "um", "m"] | None = (
        Field(default=None, description="of the branch; none: as ours, GeV, 1/GeV or cm")
    )
    sign: Literal[1, -1] = Field(default=1, description="what the branch is multiplied with")

    @property
    def factor(self) -> float:
        """What the branch is multiplied with."""
        return self.sign * (1.0 if self.unit is None else UNITS[self.unit])

    @model_validator(mode="before")
    @classmethod
    def _branch_alone(cls, values: Any) -> Any:
        """Let a name stand for a branch that differs in nothing else."""
        return {"branch": values} if isinstance(values, str) else values


def _columns(columns: dict[str, MappedColumn]) -> dict[str, MappedColumn]:
    for name, column in columns.items():
        quantity = re.sub(r"^(Muon|mu[12]|GenPart)_", "", name)
        units = None
        if quantity in ("pt", "ptErr", "gen_pt", "gen_dimuon_mass"):
            units = ENERGY
        elif quantity in ("curvature", "curvatureErr"):
            units = INVERSE
        elif quantity in ("dxy", "dz", "dxyErr", "dzErr", "d0", "z0", "d0_err", "z0_err"):
            units = LENGTH
        if column.unit is not None and column.unit not in (units or ()):
            expected = f"one of {', '.join(units)}" if units else "none: it has no unit"
            raise ValueError(f"unit {column.unit!r} of {name!r}, expected {expected}")
    return columns


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
    veto: tuple[str, ...] = Field(
        default=(),
        description="branches, none of which may have fired: the triggers of another sample that"
        " shares events with this one",
    )
    payloads: tuple[str, ...] | None = Field(
        default=None, description="instead of the key 'payloads' of all samples; [] for none"
    )
    columns: Annotated[dict[str, MappedColumn], AfterValidator(_columns)] = Field(
        default={},
        description="where the branches have other names than ours: {pt: Muon_bsConstrainedPt}, or"
        " {pt: {branch: mu_pt, unit: MeV}}; in stage1 {mu1_pt: lead_pt, mu2_pt: ...}; curvature"
        " (charge over pt) gives pt and charge",
    )

    @model_validator(mode="before")
    @classmethod
    def _without_resonance(cls, values: Any) -> Any:
        """Let a table leave out what it has none of."""
        if isinstance(values, Mapping) and values.get("format") == "table":
            return {"resonance": "none", **values}
        return values

    @model_validator(mode="after")
    def _without_columns(self) -> Sample:
        """Refuse what cannot be told apart, or has no meaning."""
        if self.columns and self.format == "table":
            raise ValueError("columns: a table has those that its calibration names; leave it out")
        for name in self.columns:
            owner, _, quantity = name.rpartition("curvature")
            if quantity not in ("", "Err") or not name.endswith(f"curvature{quantity}"):
                continue
            made = ("ptErr",) if quantity else ("pt", "charge")
            for other in made:
                if owner + other in self.columns:
                    raise ValueError(
                        f"columns: {owner + other!r} is given twice, {name!r} is it too"
                    )
            if quantity and f"{owner}curvature" not in self.columns:
                raise ValueError(f"columns: {name!r} needs '{owner}curvature' beside it; add it")
        return self

    @field_validator("files", "payloads")
    @classmethod
    def _without_secrets(cls, files: Any) -> Any:
        for address in files if isinstance(files, tuple) else ():
            refuse_secrets(address)
        return files


"""GeV; far larger ones are MeV."""


Name = Annotated[str, Field(min_length=1)]
Isolation = Annotated[float, Field(gt=0)]
Momentum = Annotated[float, Field(ge=0, lt=10_000)]


def _condition(text: str) -> str:
    condition_of(own_cut(text).text)
    return text


Condition = Annotated[str, AfterValidator(_condition)]
"""A cut in the language of `calib.events.cuts`."""

Branch = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]


def _none_twice(values: tuple[str, ...]) -> tuple[str, ...]:
    plain = [" ".join(value.split()) for value in values]
    for value in plain:
        if plain.count(value) > 1:
            raise ValueError(f"{value!r} is there twice; give it once")
    return values


class Fallback(Strict):
    """What is asked for where files lack a branch of the selection. None: as it is there."""

    name: str = Field(min_length=1, max_length=80)
    triggers: tuple[Name, ...] | None = None
    identification: Literal["none", "loose", "medium", "tight"] | None = None
    isolation: Isolation | Literal["none"] | None = None


class Selection(Strict):
    """Which events are used. None means the default of the calibration."""

    triggers: tuple[Name, ...] = Field(
        default=(),
        description="branches, any of which must have fired, of those that a file has; none: no"
        " requirement",
    )
    identification: Literal["auto", "none", "loose", "medium", "tight"] = Field(
        default="auto", description="auto: medium where the input has it, else none (and says so)"
    )
    isolation: Isolation | Literal["auto", "none"] = Field(
        default="auto", description="largest pfRelIso04_all; auto: 0.25 where the input has it"
    )
    leading_pt: Momentum | None = Field(default=None, description="GeV, lower edge, leading muon")
    subleading_pt: Momentum | None = Field(default=None, description="GeV, lower edge, the other")
    abs_eta: float | None = Field(default=None, gt=0, description="upper edge of |eta|")
    opposite_charge: bool = True
    muon_pt: str = Field(
        default="pt",
        pattern=r"^[A-Za-z][A-Za-z0-9_]*$",
        description="column of the muons that is their pt (corrected elsewhere, say), with pt where"
        " it is not above 0; bsConstrainedPt (and its error) is that of the beam-spot constraint",
    )
    mass_window: PositiveWindow | None = Field(
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
    cuts: Annotated[tuple[Condition, ...], AfterValidator(_none_twice)] = Field(
        default=(),
        description="own ones, all to be passed: Muon_nTrackerLayers > 5 of each muon (in stage1 of"
        " mu1_ and mu2_), MET_pt < 100 of the event; + - * /, abs(), comparisons, and, or, not",
    )
    filters: Annotated[tuple[Branch, ...], AfterValidator(_none_twice)] = Field(
        default=(), description="branches that all have to be true, such as Flag_goodVertices"
    )
    fallbacks: tuple[Fallback, ...] = Field(
        default=(),
        description="where a branch is missing: {name: ..., triggers, identification, isolation}",
    )


def validated(model: type[BaseModel], values: Any, where: str, section: str = "") -> Any:
    """Return the model made from some values.

    Parameters
    ----------
    model : type
        A pydantic model.
    values : mapping
        As read.
    where : str
        File, or where the values come from.
    section : str
        Key below which the values stand, if any.

    Returns
    -------
    model
        An instance.

    Raises
    ------
    InputError
        With one sentence that names the place, the key, what was found and what to do.
    """
    if not isinstance(values, Mapping):
        named = f"{where}: key {section!r}" if section else where
        raise InputError(f"{named}: found {short(values)}, expected keys with values; correct it")
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise InputError(f"{where}: {sentence(model, error, section)}") from None


class Configured(Protocol):
    """What of a configuration makes a calibration."""

    calibration: str
    settings: dict[str, Any]
    samples: tuple[Sample, ...]
    seed: int
    selection: Selection
