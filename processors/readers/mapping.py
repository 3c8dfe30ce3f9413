"""Columns under other names, units or signs (key ``columns`` of a sample), as if they were ours.

Whoever reads asks for our names; a sample without the key is read as it is, by the readers alone.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from calib.errors import InputError
from calib.schema import Sample
from calib.types import AnyArray, BoolArray, IntArray
from processors.readers.columns import GEN_WEIGHT, IDENTITY, N_MUONS, STAGE1, muon_columns

OF_EVENTS = (*IDENTITY, N_MUONS, GEN_WEIGHT["nanoaod"])
PREFIXES = ("Muon_", "GenPart_", "HLT_", "Flag_")
"""What begins a whole name of NanoAOD; any other key is a quantity of the muons."""


@dataclass(frozen=True)
class Recipe:
    """How a column of ours is made of branches, and which key says so.

    ``quantity`` is empty for a branch that is multiplied with a factor, or what is made of a
    curvature: ``pt``, ``charge`` or ``ptErr``.
    """

    key: str
    branches: tuple[str, ...]
    factors: tuple[float, ...]
    quantity: str = ""

    def made(self, values: tuple[AnyArray, ...]) -> AnyArray:
        """Return the column of the values of its branches."""
        if not self.quantity:
            (factor,), (content,) = self.factors, values
            # a factor of one leaves whole numbers as they are: those of events need 64 bits
            return content if factor == 1.0 else np.asarray(content, dtype=np.float64) * factor
        curvature, *error = (
            np.asarray(v, dtype=np.float64) * f for v, f in zip(values, self.factors, strict=True)
        )
        if self.quantity == "charge":
            return np.sign(curvature)
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            pt = 1.0 / np.abs(curvature)
            return pt if self.quantity == "pt" else np.abs(error[0]) * pt * pt


Recipes = Mapping[str, Recipe]
"""By the name of the column with us."""


def recipes_of(sample: Sample) -> dict[str, Recipe]:
    """Return how the columns of a sample are made that have other names than ours."""
    found: dict[str, Recipe] = {}
    for key, column in sample.columns.items():
        name = _our_name(sample.format, key)
        factor = column.factor
        if name.endswith("_curvature"):
            owner = name.removesuffix("curvature")
            for made in ("pt", "charge"):
                found[owner + made] = Recipe(key, (column.branch,), (factor,), made)
        elif name.endswith("_curvatureErr"):
            other = sample.columns[key.removesuffix("Err")]
            branches, factors = (other.branch, column.branch), (other.factor, factor)
            found[name.replace("curvatureErr", "ptErr")] = Recipe(key, branches, factors, "ptErr")
        else:
            found[name] = Recipe(key, (column.branch,), (factor,))
    return found


def _our_name(format: str, key: str) -> str:
    if format == "nanoaod":
        whole = key in OF_EVENTS or key.startswith(PREFIXES)
        return key if whole else muon_columns(format, key)[0]
    owner, _, quantity = key.partition("_")
    return f"{owner}_{STAGE1.get(quantity, quantity)}" if owner in ("mu1", "mu2") else key


def branches_of(names: Iterable[str], recipes: Recipes) -> tuple[str, ...]:
    """Return the branches that columns are, or are made of.

    Parameters
    ----------
    names : iterable of str
        Ours.
    recipes : mapping of str to Recipe
        Of the sample.

    Returns
    -------
    tuple of str
        Each once.
    """
    found = (b for n in names for b in (recipes[n].branches if n in recipes else (n,)))
    return tuple(dict.fromkeys(found))


def our_names(have: Collection[str], recipes: Recipes) -> frozenset[str]:
    """Return the names with us of the columns there are.

    Parameters
    ----------
    have : collection of str
        Branches.
    recipes : mapping of str to Recipe
        Of the sample.

    Returns
    -------
    frozenset of str
        A column whose recipe lacks a branch is not there, though the file has one of its name.
    """
    made = {name for name, recipe in recipes.items() if set(recipe.branches) <= set(have)}
    found = (set(have) - set(recipes)) | made
    others = [b for n, r in recipes.items() if n.startswith("Muon_") for b in r.branches]
    if N_MUONS not in recipes and not all(b.startswith("Muon_") for b in others):
        found.discard(N_MUONS)  # of another collection
    return frozenset(found)


def missing_branches(have: Collection[str], recipes: Recipes) -> dict[str, str]:
    """Return the branches that are not there, each with the key of ``columns`` that names it.

    Parameters
    ----------
    have : collection of str
        Branches.
    recipes : mapping of str to Recipe
        Of the sample.

    Returns
    -------
    dict of str to str
        In the order of the configuration.
    """
    found: dict[str, str] = {}
    for recipe in recipes.values():
        for branch in recipe.branches:
            if branch not in have:
                found.setdefault(branch, recipe.key)
    return found


def pt_of(sample: Sample) -> str | None:
    """Return the branch that is the pt of the muons of a sample, None where it is ``pt``."""
    recipe = recipes_of(sample).get(muon_columns(sample.format, "pt")[0])
    if recipe is None:
        return None
    return recipe.branches[0].removeprefix("Muon_").removeprefix("mu1_")


class MappedColumns:
    """Columns under our names, of others.

    Parameters
    ----------
    columns : EventColumns, RowColumns or Columns
        Under the names of their file.
    recipes : mapping of str to Recipe
        What has another name there.
    """

    def __init__(self, columns: Any, recipes: Recipes) -> None:
        self._columns, self._recipes = columns, recipes
        self.names = our_names(columns.names, recipes)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):  # not while it is unpickled
            raise AttributeError(name)
        return getattr(self._columns, name)

    def flat(self, name: str) -> AnyArray:
        """Return a column of one number an event."""
        if name not in self._recipes:
            return np.asarray(self._columns.flat(name))
        recipe = self._recipes[name]
        return recipe.made(tuple(self._columns.flat(b) for b in recipe.branches))

    def jagged(self, name: str) -> tuple[AnyArray, AnyArray]:
        """Return (offsets, content), offsets from 0.

        Raises
        ------
        InputError
            If the branches of a column have other numbers of muons.
        """
        if name not in self._recipes:
            offsets, content = self._columns.jagged(name)
            return offsets, content
        recipe = self._recipes[name]
        parts = [self._columns.jagged(branch) for branch in recipe.branches]
        offsets = parts[0][0]
        for branch, (own, _) in zip(recipe.branches, parts, strict=True):
            if not np.array_equal(own, offsets):
                raise InputError(
                    f"{self._columns.where}: {branch} has other numbers of muons per event than"
                    f" {recipe.branches[0]}; {self._columns.advice}"
                )
        return offsets, recipe.made(tuple(content for _, content in parts))

    def take(self, kept: BoolArray | IntArray) -> MappedColumns:
        """Return fewer of the events.

        Parameters
        ----------
        kept : bool array, shape (length,), or int array
            Mask or positions.

        Returns
        -------
        MappedColumns
            Of these events.
        """
        fewer = self._columns.take(kept)
        return self if fewer is self._columns else MappedColumns(fewer, self._recipes)

    def load(self, names: Iterable[str]) -> None:
        """Read columns together, which is cheaper than one by one."""
        self._columns.load(branches_of(names, self._recipes))


def mapped(columns: Any, recipes: Recipes) -> Any:
    """Return columns under our names: themselves where nothing has another one.

    Parameters
    ----------
    columns : EventColumns, RowColumns or Columns
        Under the names of their file.
    recipes : mapping of str to Recipe
        Of the sample.

    Returns
    -------
    EventColumns, RowColumns or Columns
        Of the same events.
    """
    return MappedColumns(columns, recipes) if recipes else columns
