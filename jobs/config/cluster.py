"""The key ``cluster`` of the configuration: where the work is done.

A password or a token is never a value here: the keys name the variable or the file that holds it,
because all of this is written into config.yaml.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, field_validator, model_validator

from calib.schema import Strict, refuse_secrets

Kind = Literal[
    "local", "inline", "address", "gateway", "slurm", "htcondor", "pbs", "sge", "lsf", "kubernetes"
]

BATCH = ("slurm", "htcondor", "pbs", "sge", "lsf")
"""The kinds whose workers are jobs of a batch system."""

HELD = re.compile(r"passw(or)?d|secret|token|credential|api_?key|private_?key", re.IGNORECASE)
"""Names of options and variables whose value would be a secret."""

ONLY_FOR = {
    "address": ("address", "gateway"),
    "security": ("address",),
    "proxy_address": ("gateway",),
    "auth": ("gateway",),
    "options": ("gateway",),
    "name": ("gateway", "kubernetes"),
    "adaptive": ("gateway", "kubernetes", *BATCH),
    "job": BATCH,
    "pod": ("kubernetes",),
}
"""Keys that mean nothing for other kinds."""


AMOUNT = re.compile(r"^([0-9]*\.?[0-9]+(?:[eE][0-9]+)?) *((?:[kKmMgGtTpP][iI]?)?[bB]?)$")
QUANTITY = re.compile(r"^[0-9]+(\.[0-9]+)?([KMGTPE]i|[kMGTPE])?$")
LEAST = 1_000_000
"""Bytes; less is a slip of a unit."""


def _amount(text: str) -> str:
    """Return an amount of memory as Dask reads it, if it is one."""
    found = AMOUNT.match(text.strip())
    if not found:
        raise ValueError("expected a number with a unit, such as 4 GB or 4 GiB")
    number, unit = float(found.group(1)), found.group(2).lower()
    power = "kmgtp".find(unit[:1]) + 1 if unit[:1] not in ("", "b") else 0
    if number * (1024 if "i" in unit else 1000) ** power < LEAST:
        raise ValueError(f"that is {number:g} {unit or 'bytes'}; write the unit, such as 4 GB")
    return text


def _text(value: Any) -> Any:
    """Return a plain number as text: YAML has none in quotes."""
    return f"{value:g}" if isinstance(value, int | float) and value is not True else value


def _limit(text: str) -> str:
    """Return a limit of memory: auto, 0 for none, a share of the machine, or an amount."""
    if text == "auto" or re.match(r"^[01]?\.?[0-9]*$", text) and text and float(text) <= 1:
        return text
    return _amount(text)


def _quantity(text: str) -> str:
    """Return an amount as Kubernetes reads it, if it is one."""
    if not QUANTITY.match(text) or text.isdigit() and int(text) < LEAST:
        raise ValueError("expected a number with a unit of Kubernetes, such as 4Gi or 500M")
    return text


Amount = Annotated[str, AfterValidator(_amount)]
Quantity = Annotated[str, AfterValidator(_quantity)]
Limit = Annotated[str, BeforeValidator(_text), AfterValidator(_limit)]

SCHEDULER = re.compile(
    r"^(?:(?:tcp|tls|ws|wss|ucx)://)?(?:\[[0-9a-fA-F:]+\]|[^:/\[\]]+):([0-9]+)/?$"
)


def _require_scheduler(address: str) -> None:
    """Raise ValueError where this is not the address of a Dask scheduler."""
    if address.startswith(("http://", "https://")):
        raise ValueError(
            f"address: found {address!r}, that of a web page; a Dask scheduler has one such as"
            " tcp://host:8786, and behind dask-gateway the kind is gateway"
        )
    found = SCHEDULER.match(address)
    if not found or not 0 < int(found.group(1)) < 2**16:
        raise ValueError(
            f"address: found {address!r}, expected that of a Dask scheduler with its port, such as"
            " tcp://host:8786 or tls://host:8786"
        )


class Security(Strict):
    """Files for TLS. What is None comes from Dask's own configuration or environment."""

    ca: str | None = Field(default=None, description="file of the certificate authority")
    cert: str | None = Field(default=None, description="file of our certificate")
    key: str | None = Field(default=None, description="file of our private key")


class Adaptive(Strict):
    """Workers come and go with the work."""

    minimum: int = Field(default=1, ge=1)
    maximum: int = Field(ge=1)

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.minimum > self.maximum:
            raise ValueError(f"minimum {self.minimum} is above maximum {self.maximum}")
        return self


class Auth(Strict):
    """Who we are for a gateway. Secrets stay where they are: these keys name the place."""

    kind: Literal["basic", "jupyterhub", "kerberos"] = "basic"
    user: str | None = Field(default=None, description="basic; null: the user of this session")
    password_env: str = Field(
        default="DASK_GATEWAY_PASSWORD", description="basic; variable with the password"
    )
    password_file: str | None = Field(default=None, description="basic; or a file with it")
    token_env: str = Field(
        default="JUPYTERHUB_API_TOKEN", description="jupyterhub; variable with the token"
    )
    token_file: str | None = Field(default=None, description="jupyterhub; or a file with it")


class BatchJob(Strict):
    """One job of a batch system. None: as the site's jobqueue.yaml has it."""

    cores: int = Field(default=1, ge=1, description="of one job; each is a worker of one thread")
    memory: Amount = Field(default="2 GB", description="of one job")
    disk: Amount = Field(default="1 GB", description="htcondor; of one job")
    walltime: str | None = Field(default=None, description='as the system writes it, "02:00:00"')
    queue: str | None = Field(default=None, description="slurm: partition")
    account: str | None = Field(default=None, description="slurm, pbs: account; sge, lsf: project")
    directives: tuple[str, ...] = Field(
        default=(),
        description='more lines of the header, "--constraint=el9"; htcondor "key = value"',
    )
    directives_skip: tuple[str, ...] = Field(
        default=(), description="lines of the header that the site does not want"
    )
    prologue: tuple[str, ...] = Field(
        default=(), description='commands before the worker starts, "module load python"'
    )
    python: str | None = Field(default=None, description="on the nodes; null: this one's path")
    interface: str | None = Field(default=None, description="network of the workers, ib0")
    scheduler_host: str | None = Field(
        default=None, description="address of this machine as the nodes see it"
    )
    scheduler_port: int = Field(default=0, ge=0, le=65535, description="0: any free one")
    log_directory: str | None = Field(default=None, description="of the jobs' output")
    local_directory: str | None = Field(default=None, description="scratch of the nodes")


class Pod(Strict):
    """What runs on Kubernetes, through the Dask operator."""

    image: str = Field(default="dimucal:latest", description="made from containers/Containerfile")
    namespace: str | None = Field(default=None, description="null: the one of the context")
    cpu: str = Field(
        default="1", pattern=r"^[0-9]+(\.[0-9]+)?m?$", description="request and limit of a worker"
    )
    memory: Quantity = Field(default="2Gi", description="request and limit of a worker")
    environment: dict[str, str] = Field(default_factory=dict)
    environment_from: tuple[str, ...] = Field(
        default=(), description="Secrets whose entries become variables (tokens, proxies)"
    )
    service_account: str | None = None
    pull_secrets: tuple[str, ...] = Field(default=(), description="Secrets for the registry")
    idle_timeout: int = Field(
        default=3600, ge=0, description="seconds without work after which it ends by itself"
    )
    spec: dict[str, Any] = Field(
        default_factory=dict, description="more keys of a pod: volumes, tolerations, nodeSelector"
    )
    mounts: tuple[dict[str, Any], ...] = Field(
        default=(), description="volumeMounts of the workers, for the volumes in spec"
    )

    @field_validator("environment")
    @classmethod
    def _without_secrets(cls, values: dict[str, str]) -> dict[str, str]:
        return _refuse_held(values)


class Cluster(Strict):
    """Where the work is done."""

    kind: Kind = Field(
        default="local",
        description="where it is not given, less than 2 million events are read without workers",
    )
    site: str | None = Field(
        default=None, description="a file with these keys, or its name in $DIMUCAL_SITES"
    )
    workers: int = Field(default=2, ge=1)
    adaptive: Adaptive | None = Field(
        default=None, description="{minimum: 1, maximum: 20}, instead of workers"
    )
    address: str | None = Field(
        default=None, description="kind address: of a Dask scheduler; gateway: of its server"
    )
    security: Security | None = Field(
        default=None, description="kind address: {ca: FILE, cert: FILE, key: FILE} for tls://"
    )
    proxy_address: str | None = Field(
        default=None, description="kind gateway: of its proxy, where that is another"
    )
    auth: Auth | None = Field(
        default=None,
        description="kind gateway: basic, jupyterhub, kerberos, or {kind, user, password_env, ...}",
    )
    options: dict[str, Any] = Field(
        default_factory=dict, description="kind gateway: what its server lets a user choose"
    )
    name: str | None = Field(
        default=None,
        description="kind gateway, kubernetes: a cluster that runs already, and is left running",
    )
    job: BatchJob | None = Field(default=None, description="batch systems: what a job asks for")
    pod: Pod | None = Field(default=None, description="kind kubernetes: what a pod asks for")
    wait: float | None = Field(
        default=None,
        gt=0,
        description="seconds for an answer and the first worker; null: 60, of a queue 600",
    )
    ship: Literal["auto", "always", "never"] = Field(
        default="auto", description="this package to workers that lack it; always: to all"
    )
    versions: Literal["same", "warn"] = Field(
        default="same", description="of the packages there and here; warn: go on if they differ"
    )
    memory_limit: Limit = Field(default="auto", description="per worker, as Dask writes it")
    chunk_timeout: float = Field(
        default=1800.0, gt=0, description="seconds; a worker that takes longer is started again"
    )
    host: str = Field(
        default="127.0.0.1", description="kind local: address to listen on, dashboard included"
    )

    @field_validator("address", "proxy_address")
    @classmethod
    def _without_secrets(cls, address: str | None) -> str | None:
        refuse_secrets(address or "")
        return address

    @field_validator("options")
    @classmethod
    def _options_without_secrets(cls, values: dict[str, Any]) -> dict[str, Any]:
        return _refuse_held(values)

    @field_validator("auth", mode="before")
    @classmethod
    def _short_auth(cls, value: Any) -> Any:
        return {"kind": value} if isinstance(value, str) else value

    @model_validator(mode="after")
    def _of_this_kind(self) -> Self:
        for key, kinds in ONLY_FOR.items():
            if getattr(self, key) not in (None, {}) and self.kind not in kinds:
                raise ValueError(
                    f"key {key!r} is for kind {' or '.join(kinds)}, but kind is {self.kind!r}"
                )
        if self.kind == "address" and self.address:
            _require_scheduler(self.address)
        return self

    @property
    def patience(self) -> float:
        """Seconds to wait for the first worker."""
        queued = self.kind == "kubernetes" or self.kind in BATCH
        return self.wait or (600.0 if queued else 60.0)


def _refuse_held(values: dict[str, Any]) -> dict[str, Any]:
    """Raise ValueError where a name says that its value is a secret."""
    for key, value in values.items():
        if HELD.search(key) and value is not None:
            raise ValueError(
                f"{key!r} would put a token in it, which config.yaml would show; give it to the"
                " workers as the site does (a Secret, a variable of the server)"
            )
        if isinstance(value, Mapping):
            _refuse_held(dict(value))
    return values
