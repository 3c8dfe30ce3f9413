"""Schemas of what we wrote and read again: somebody else may have had it in between."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from calib.documents import json_values
from calib.errors import InputError
from calib.sentences import sentence


class _Open(BaseModel):
    """More keys are welcome."""

    model_config = ConfigDict(extra="allow", strict=True)


class _Counts(_Open):
    events: int = Field(ge=0)
    read: int = Field(ge=0)
    selected: int = Field(ge=0)
    bad: int = Field(default=0, ge=0)
    rejected: dict[str, int]


class _File(_Counts):
    path: str


class _Sample(_Open):
    files: list[_File]
    totals: _Counts


class _Bad(_Open):
    path: str
    error: str
    sample: str = ""
    events: int | None = None
    about: int | None = None


class _Doubles(_Open):
    samples: list[str]
    selected: int
    duplicates: int


class _Repeated(_Open):
    sample: str
    selected: int
    repeated: int


class _Peak(_Open):
    ratio: float | None
    files_without: list[str]


class Accounting(_Open):
    """accounting.json."""

    samples: dict[str, _Sample]
    bad_files: list[_Bad]
    notes: list[str]
    duplicates: list[_Doubles] = []
    repeated: list[_Repeated] = []
    peaks: dict[str, _Peak] = {}


class _Check(_Open):
    name: str
    value: float | None = None
    threshold: float | None = None
    passed: bool
    text: str = ""
    sense: str = ""
    title: str = ""
    advice: str = ""


class Verdict(_Open):
    """verdict.json."""

    passed: bool
    checks: list[_Check]


def checked(values: dict[str, Any], model: type[BaseModel], path: Path) -> dict[str, Any]:
    """Return the values if they fit the schema.

    Parameters
    ----------
    values : dict
        As read.
    model : type
        The schema.
    path : Path
        File they are from, for the sentence of the error.

    Returns
    -------
    dict
        The same values.

    Raises
    ------
    InputError
        If they do not; with one sentence.
    """
    try:
        model.model_validate(values)
    except ValidationError as error:
        text = sentence(model, error).removesuffix("; correct it")
        raise InputError(
            f"{path}: {text}; remove the file and run `calib run {path.parent}`"
        ) from None
    return values


def written_json(path: Path) -> dict[str, Any]:
    """Return the values in a JSON file of ours."""
    try:
        found = json_values(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"{path}: not there; run `calib run {path.parent}`") from None
    except ValueError as error:
        raise InputError(f"{path}: not valid JSON ({error}); remove it and run again") from None
    if not isinstance(found, dict):
        raise InputError(f"{path}: found {type(found).__name__}, expected an object; remove it")
    return found
