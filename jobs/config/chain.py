"""Chains: several calibrations in order, each reading the payloads of those before.

What the steps share stands at the top; a step may have any of it of its own. Nothing is read or
written here.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from graphlib import CycleError, TopologicalSorter
from typing import Any, Literal

from pydantic import Field, field_validator

from calib.errors import InputError
from calib.schema import Sample, Selection, Strict, validated
from jobs.config.schema import Config, configuration

NAME = r"^[A-Za-z0-9][A-Za-z0-9_.+-]*$"
SHARED = (
    "samples",
    "selection",
    "payloads",
    "cluster",
    "bad_files",
    "duplicates",
    "chunk_size",
    "seed",
)
"""Keys that stand at the top, for all steps, or in one of them."""


class Step(Strict):
    """One calibration of a chain. What is left out is that of the chain."""

    name: str = Field(pattern=NAME, max_length=80, description="of its directory as well")
    calibration: str
    after: tuple[str, ...] | None = Field(
        default=None,
        description="steps whose payloads it reads; by default the one before, [] for none",
    )
    samples: tuple[Any, ...] | None = Field(
        default=None, min_length=1, description="names of samples of the chain, or its own ones"
    )
    selection: Selection | None = None
    settings: dict[str, Any] = Field(default_factory=dict)
    payloads: tuple[str, ...] | None = Field(
        default=None, description="applied before those of the steps that it comes after"
    )
    cluster: dict[str, Any] | None = None
    bad_files: Any = None
    duplicates: Any = None
    chunk_size: Any = None
    seed: Any = None


class Chain(Strict):
    """The whole configuration of a chain."""

    name: str = Field(pattern=NAME, max_length=80)
    samples: tuple[Sample, ...] = ()
    selection: Selection = Selection()
    payloads: tuple[str, ...] = ()
    cluster: dict[str, Any] = Field(default_factory=dict)
    bad_files: Any = Config.model_fields["bad_files"].default
    duplicates: Any = Config.model_fields["duplicates"].default
    chunk_size: Any = Config.model_fields["chunk_size"].default
    seed: Any = Config.model_fields["seed"].default
    chain: tuple[Step, ...] = Field(min_length=1)
    on_failure: Literal["stop", "continue"] = Field(
        default="stop", description="whether a step runs although one before it has not passed"
    )

    @field_validator("chain")
    @classmethod
    def _named_once(cls, steps: tuple[Step, ...]) -> tuple[Step, ...]:
        names = [step.name for step in steps]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"two steps are named {name!r}")
        return steps


def chain_of(values: Any, where: str) -> Chain:
    """Return the chain in plain values, its order checked.

    Parameters
    ----------
    values : mapping
        As read.
    where : str
        What a refusal calls the configuration.

    Returns
    -------
    Chain
        Its steps in the order of the file.

    Raises
    ------
    InputError
        If they do not fit the schema, or the steps wait for each other.
    """
    chain: Chain = validated(Chain, values, where)
    try:
        order(chain.chain)
    except InputError as error:
        raise InputError(f"{where}: {error}") from None
    return chain


# the order -----------------------------------------------------------------------------------
def predecessors(steps: Sequence[Step]) -> dict[str, tuple[str, ...]]:
    """Return the names of the steps that each one comes after, directly."""
    found: dict[str, tuple[str, ...]] = {}
    for i, step in enumerate(steps):
        default = (steps[i - 1].name,) if i else ()
        found[step.name] = default if step.after is None else step.after
    return found


def order(steps: Sequence[Step]) -> tuple[Step, ...]:
    """Return the steps so that each comes after those that it reads, else as they are listed.

    Raises
    ------
    InputError
        If a step comes after one that is not there, or after itself.
    """
    after = predecessors(steps)
    for i, step in enumerate(steps):
        for name in after[step.name]:
            if name not in after:
                near = difflib.get_close_matches(name, list(after), n=1)
                hint = f"did you mean {near[0]!r}?" if near else f"steps: {', '.join(after)}"
                raise InputError(f"key 'chain.{i}.after': there is no step {name!r}; {hint}")
    sorter = TopologicalSorter(after)
    try:
        sorter.prepare()
    except CycleError as error:
        cycle = " -> ".join(reversed(error.args[1]))
        raise InputError(
            f"key 'chain': steps wait for each other: {cycle}; take one of them out of 'after'"
        ) from None
    found: list[Step] = []
    while len(found) < len(steps):
        done = {step.name for step in found}
        found.append(next(s for s in steps if s.name not in done and done >= set(after[s.name])))
    return tuple(found)


def before(steps: Sequence[Step], name: str) -> tuple[Step, ...]:
    """Return all steps that one depends on, also through others, in their order.

    Parameters
    ----------
    steps : sequence of Step
        All of the chain.
    name : str
        Of one of them.

    Returns
    -------
    tuple of Step
        Without that one.
    """
    after, wanted, todo = predecessors(steps), set[str](), [name]
    while todo:
        new = [n for n in after[todo.pop()] if n not in wanted]
        wanted |= set(new)
        todo += new
    return tuple(step for step in order(steps) if step.name in wanted)


# one step ------------------------------------------------------------------------------------
def config_of(chain: Chain, step: Step, payloads: Sequence[str], where: str) -> Config:
    """Return the configuration of a step.

    Parameters
    ----------
    chain : Chain
        What is shared.
    step : Step
        What is its own.
    payloads : sequence of str
        Those of the steps before it.
    where : str
        What a refusal calls the configuration.

    Returns
    -------
    Config
        Of a single run.

    Raises
    ------
    InputError
        If it does not fit the schema, or names a sample that is not there.
    """
    shared = chain.model_dump(mode="json", include=set(SHARED), exclude_unset=True)
    own = step.model_dump(mode="json", include=set(SHARED), exclude_unset=True)
    values = shared | {k: v for k, v in own.items() if v is not None}
    values["samples"] = _samples(chain, step, where)
    values["payloads"] = [*values.get("payloads", ()), *payloads]
    values |= {
        "name": f"{chain.name}.{step.name}"[:80],
        "calibration": step.calibration,
        "settings": step.settings,
    }
    return configuration(values, where)


def _samples(chain: Chain, step: Step, where: str) -> list[Mapping[str, Any]]:
    shared = {s.name: s.model_dump(mode="json", exclude_unset=True) for s in chain.samples}
    if step.samples is None:
        if not shared:
            raise InputError(f"{where}: key 'samples' is missing; add it, or at the top for all")
        return list(shared.values())
    found = []
    for sample in step.samples:
        if isinstance(sample, str) and sample not in shared:
            near = difflib.get_close_matches(sample, list(shared), n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"there are: {', '.join(shared)}"
            raise InputError(f"{where}: key 'samples': the chain has no sample {sample!r}; {hint}")
        found.append(shared[sample] if isinstance(sample, str) else sample)
    return found
