"""The configuration of a nightly, with a commented example; unknown keys are refused."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from calib.errors import InputError
from calib.quality.publication_gate import Limits
from calib.quality.residual_test import Tolerance
from calib.schema import Selection, Strict, refuse_secrets, validated
from jobs.config import chain
from jobs.config.schema import BadFiles, Cluster, plain_values
from jobs.config.sites import with_site

NAME = r"^[A-Za-z0-9][A-Za-z0-9_.+-]*$"
ENVIRONMENT = re.compile(r"^[A-Za-z_][A-Za-z0-9_]*$")


class NightlySample(Strict):
    """Files that belong together: fixed ones, or new ones every night."""

    name: str = Field(pattern=NAME, max_length=80)
    resonance: Literal["jpsi", "upsilon", "z", "h"]
    format: Literal["nanoaod", "stage1"]
    simulation: bool = False
    files: tuple[str, ...] | None = Field(
        default=None, description="the same every night (a simulation)"
    )
    watch: tuple[str, ...] | None = Field(
        default=None, description="globs or directories into which new files come"
    )
    query: str | None = Field(
        default=None, description="of the catalogue: what is used of this sample"
    )

    @field_validator("files", "watch")
    @classmethod
    def _without_secrets(cls, found: tuple[str, ...] | None) -> tuple[str, ...] | None:
        for address in found or ():
            refuse_secrets(address)
        return found

    @model_validator(mode="after")
    def _of_one_kind(self) -> NightlySample:
        if self.files is not None and (self.watch is not None or self.query is not None):
            raise ValueError("files are the same every night; give either them, or watch and query")
        if self.files is None and self.simulation:
            raise ValueError("a simulation does not grow; give its files")
        return self

    @property
    def grows(self) -> bool:
        """Whether new files come every night."""
        return self.files is None


class Complete(Strict):
    """When a file that is watched is whole."""

    unchanged: float = Field(
        default=300.0, ge=0, description="seconds for which size and time have not changed"
    )
    done: bool = Field(default=False, description="only with an empty FILE.done beside it")
    expected: str | None = Field(
        default=None, description="CSV of runs and their files or events; others wait until then"
    )


class BucketSettings(Strict):
    """Runs that are calibrated together."""

    minimum: float = Field(default=9.0, gt=0, description="of a full calibration")
    unit: Literal["fb-1", "events"] = Field(
        default="fb-1", description="fb-1: luminosities of the catalogue; or selected by events"
    )
    boundaries: tuple[int, ...] = Field(
        default=(), description="runs at which a new bucket begins in any case"
    )
    prescale: bool = Field(
        default=False,
        description="down to the minimum where there is more; its events are read again for that",
    )


class TestSettings(Strict):
    """The cheap test of the constants in force, on a fraction of the new events."""

    fraction: float = Field(default=0.25, gt=0, le=1, description="of the events, by their numbers")
    limit: float = Field(
        default=2e-4, gt=0, description="largest residual (relative) of good constants"
    )
    false_alarm: float = Field(
        default=1e-4, gt=0, lt=0.5, description="probability that good ones fail a test"
    )
    power: float = Field(
        default=0.5, gt=0, description="largest error of the residual, in units of the limit"
    )
    passes: int = Field(default=1, ge=1, le=5, description="over the new events")
    settings: dict[str, Any] = Field(
        default_factory=dict, description="of the calibration, for the test alone"
    )

    @property
    def tolerance(self) -> Tolerance:
        """What `calib.quality.residual_test.residual` wants."""
        return Tolerance(self.limit, self.false_alarm, self.power)


class GateSettings(Strict):
    """What new constants must pass. All relative."""

    cut: float = Field(default=1e-4, gt=0, description="least move that is published")
    max: float = Field(default=1e-2, gt=0, description="largest move that is believed")
    error_max: float = Field(default=1e-3, gt=0, description="largest error of such a move")
    significance: float | None = Field(
        default=None, gt=0, description="standard deviations; null: from false_alarm"
    )
    false_alarm: float = Field(default=1e-4, gt=0, lt=0.5, description="of one decision")
    max_held: float = Field(
        default=0.2, ge=0, le=1, description="share of quantities without a value of their own"
    )

    @model_validator(mode="after")
    def _fits_together(self) -> GateSettings:
        if self.cut >= self.max:
            raise ValueError(f"cut {self.cut:g} is not below max {self.max:g}")
        return self

    @property
    def limits(self) -> Limits:
        """What `calib.quality.publication_gate.gate` wants."""
        return Limits(**self.model_dump())


class Task(Strict):
    """One calibration of the nightly."""

    name: str = Field(pattern=NAME, max_length=40)
    calibration: str
    after: tuple[str, ...] | None = Field(
        default=None, description="names of those whose payload its events are corrected with"
    )
    samples: tuple[str, ...] | None = Field(default=None, description="names; null: all")
    selection: Selection = Selection()
    settings: dict[str, Any] = Field(default_factory=dict)
    test: TestSettings = TestSettings()
    gate: GateSettings = GateSettings()


Event = Literal["published", "bad", "held", "not_converged", "failed", "waiting", "trouble"]
"""What somebody may want to be told: states, and trouble with files, databases and the like."""


class Notification(Strict):
    """Who is told. The secret parts come from the environment."""

    command: tuple[str, ...] | None = Field(
        default=None, min_length=1, description="program and arguments; JSON on its stdin"
    )
    webhook: str | None = Field(default=None, description="address that JSON is posted to")
    webhook_env: str | None = Field(
        default=None, description="environment variable that holds such an address"
    )
    headers_env: dict[str, str] = Field(
        default_factory=dict, description="header: environment variable with its value"
    )
    on: tuple[Event, ...] = ("published", "bad", "held", "not_converged", "failed", "trouble")
    timeout: float = Field(default=30.0, gt=0, le=600, description="seconds")

    @model_validator(mode="after")
    def _one_way(self) -> Notification:
        if sum(x is not None for x in (self.command, self.webhook, self.webhook_env)) != 1:
            raise ValueError("give one of command, webhook, webhook_env")
        refuse_secrets(self.webhook or "")
        for address in filter(None, [self.webhook]):
            if not address.startswith(("http://", "https://")):
                raise ValueError(f"webhook {address!r} does not begin with https:// or http://")
        for name in [self.webhook_env or "A", *self.headers_env.values()]:
            if not ENVIRONMENT.match(name):
                raise ValueError(f"{name!r} is not the name of an environment variable")
        return self


class Nightly(Strict):
    """The configuration of a nightly."""

    name: str = Field(pattern=NAME, max_length=80)
    store: str = Field(min_length=1, description="directory or address of the store")
    tag: str = "main"
    directory: str = Field(default="nightly", description="run directories, sums, the page")
    catalog: str | None = Field(
        default=None, description="path or address; null: one in the directory"
    )
    luminosities: str | None = Field(
        default=None, description="table by run or section, read every night into the catalogue"
    )
    samples: tuple[NightlySample, ...] = Field(min_length=1)
    complete: Complete = Complete()
    buckets: BucketSettings = BucketSettings()
    calibrations: tuple[Task, ...] = Field(min_length=1)
    first: Literal["publish", "hold"] = Field(
        default="publish", description="what becomes of the first constants that pass"
    )
    validity: Literal["tested", "open"] = Field(
        default="tested",
        description="tested: up to the last run that was tested, extended night by night;"
        " open: until others take over",
    )
    keep_nights: int = Field(default=400, ge=1, description="directories of cheap tests")
    notify: tuple[Notification, ...] = ()
    bad_files: Literal["stop"] | BadFiles = Field(
        default="stop", description="stop: their run is left out; or as in a run"
    )
    cluster: Cluster = Cluster()
    seed: int = Field(default=1, ge=0, lt=2**63)
    chunk_size: int = Field(default=500_000, ge=1)

    @field_validator("store", "catalog")
    @classmethod
    def _without_secrets(cls, address: str | None) -> str | None:
        refuse_secrets(address or "")
        return address

    def sample(self, name: str) -> NightlySample:
        """Return the sample of a name."""
        return next(s for s in self.samples if s.name == name)

    def samples_of(self, task: Task) -> tuple[NightlySample, ...]:
        """Return the samples of a calibration."""
        return tuple(s for s in self.samples if task.samples is None or s.name in task.samples)


def load(path: Path) -> Nightly:
    """Return the configuration in a file; its paths are absolute.

    Raises
    ------
    InputError
        If the file cannot be read, does not fit the schema, or contradicts itself.
    """
    values = plain_values(path)
    base = path.resolve().parent
    if isinstance(values, Mapping):
        values = with_site(values, base, str(path))
    found: Nightly = validated(Nightly, values, str(path))
    _require_consistent(found, str(path))
    return _absolute(found, base)


def _require_consistent(found: Nightly, where: str) -> None:
    for key, names in (
        ("samples", [s.name for s in found.samples]),
        ("calibrations", [c.name for c in found.calibrations]),
    ):
        for name in names:
            if names.count(name) > 1:
                raise InputError(f"{where}: key {key!r}: two are named {name!r}; rename one")
    samples = [s.name for s in found.samples]
    for task in found.calibrations:
        for name in task.samples or ():
            if name not in samples:
                raise InputError(
                    f"{where}: key 'calibrations.{task.name}.samples': there is no sample"
                    f" {name!r}; known: {', '.join(samples)}"
                )
        if not any(s.grows for s in found.samples_of(task)):
            raise InputError(
                f"{where}: key 'calibrations.{task.name}.samples': none of them gets new files;"
                " give one a key 'watch' or 'query'"
            )
    kinds = [c.calibration for c in found.calibrations]
    for kind in kinds:
        if kinds.count(kind) > 1:
            raise InputError(
                f"{where}: key 'calibrations': two are {kind!r}, and the store holds one of each"
                " for a run; take two nightlies with a tag each"
            )
    ordered(found.calibrations, where)


def _absolute(found: Nightly, base: Path) -> Nightly:
    def there(address: str | None) -> str | None:
        if address is None or "://" in address:
            return address
        return str(base / Path(address).expanduser())

    samples = [
        s.model_copy(
            update={
                key: None if getattr(s, key) is None else tuple(there(a) for a in getattr(s, key))
                for key in ("files", "watch")
            }
        )
        for s in found.samples
    ]
    directory = there(found.directory)
    return found.model_copy(
        update={
            "store": there(found.store),
            "directory": directory,
            "samples": tuple(samples),
            "catalog": there(found.catalog) or str(Path(str(directory)) / "catalog.sqlite"),
            "luminosities": there(found.luminosities),
            "complete": found.complete.model_copy(
                update={"expected": there(found.complete.expected)}
            ),
        }
    )


# the order of calibrations that need each other: that of a chain ---------------------------------
def ordered(tasks: Sequence[Task], where: str) -> tuple[Task, ...]:
    """Return the calibrations so that each comes after those that it needs.

    Raises
    ------
    InputError
        If one needs what is not there, or they need each other in a circle.
    """
    steps: Any = tasks
    try:
        return chain.order(steps)  # type: ignore[return-value]
    except InputError as error:
        text = str(error).replace("key 'chain", "key 'calibrations").replace("step", "calibration")
        raise InputError(f"{where}: {text}") from None


def before(tasks: Sequence[Task], name: str) -> tuple[Task, ...]:
    """Return everything that a calibration comes after, in the order of the payloads."""
    steps: Any = tasks
    return chain.before(steps, name)  # type: ignore[return-value]
