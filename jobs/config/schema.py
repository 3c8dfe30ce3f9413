"""The configuration: a schema that refuses unknown keys and names the nearest known one.

See ``calib init`` for a commented example. Addresses in ``files`` are relative to the
configuration file.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, Field, field_validator

from calib.documents import MAX_YAML, yaml_text, yaml_values
from calib.errors import InputError
from calib.schema import (
    SECRET,
    Fallback,
    Query,
    Sample,
    Selection,
    Strict,
    refuse_secrets,
    validated,
)
from jobs.config.cluster import Cluster, Security
from jobs.config.sites import with_site

__all__ = [
    "SECRET",
    "BadFiles",
    "Cluster",
    "Config",
    "Fallback",
    "Query",
    "Sample",
    "Security",
    "Selection",
    "Strict",
    "configuration",
    "dump",
    "load",
    "refuse_secrets",
    "validated",
]


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
    variations: dict[str, dict[str, Any]] = Field(
        default_factory=dict,
        description="systematic ones, by name: settings that are changed, {looser: {gates:"
        " {min_events: 100}}}; on the same sums where these serve; each becomes a syst_NAME",
    )
    payloads: tuple[str, ...] = Field(
        default=(),
        description="payload.json files of earlier calibrations, relative to this file; applied"
        " to the muons, in this order, before the selection",
    )
    cluster: Cluster = Cluster()
    bad_files: Literal["stop"] | BadFiles = Field(
        default="stop", description="stop, or {skip_up_to: 0.05}: leave out up to 5 % and say so"
    )
    duplicates: Literal["check", "first", "ignore"] = Field(
        default="check",
        description="events of data that are there again, by (run, luminosityBlock, event): check:"
        " none may be; first: each is used once, where it is selected first in the order of samples"
        " and files, and rejected as duplicate elsewhere",
    )
    chunk_size: int | Literal["auto"] = Field(
        default="auto", description="events per chunk; auto: from the files and the cores"
    )
    seed: int = Field(default=1, ge=0, lt=2**63)

    @field_validator("variations")
    @classmethod
    def _named(cls, found: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
        for name, changed in found.items():
            if not re.fullmatch(r"[a-z][a-z0-9_]{0,39}", name):
                raise ValueError(
                    f"found {name!r}, expected a name of small letters, digits and '_'"
                )
            if not changed:
                raise ValueError(f"{name!r} changes nothing; name a setting in it")
        return found

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
    """Return the configuration in plain values.

    Parameters
    ----------
    values : mapping
        As read.
    where : str
        Names the place in a refusal.
    base : Path, optional
        Folder that names of files in ``cluster`` are relative to; by default the working directory.

    Returns
    -------
    Config
        Validated.

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
    return yaml_text(config.model_dump(mode="json"), allow_unicode=True, width=100)


def is_chain(path: Path) -> bool:
    """Return whether a configuration, or that in a directory, is one of a chain."""
    try:
        values = plain_values(path / "config.yaml" if path.is_dir() else path)
    except InputError:
        return False  # whoever reads it next says why
    return isinstance(values, dict) and "chain" in values
