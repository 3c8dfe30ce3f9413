"""Values with their covariance, as the packages of the field take them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from calib.errors import InputError
from calib.later import pandas as pd
from calib.types import AnyArray, Array


@dataclass(frozen=True, eq=False)
class Covariance:
    """Named values and their covariance: arrays of shape (n,), (n,) and (n, n), read-only."""

    names: AnyArray
    values: Array
    covariance: Array

    def __post_init__(self) -> None:
        for name in ("names", "values", "covariance"):
            own = np.array(getattr(self, name))
            own.setflags(write=False)
            object.__setattr__(self, name, own)

    def __len__(self) -> int:
        return len(self.names)

    def __iter__(self) -> Iterator[Array]:
        """Yield values and covariance: ``jacobi.propagate(function, *covariance)``."""
        yield self.values
        yield self.covariance

    @property
    def errors(self) -> Array:
        """Standard deviations, shape (n,)."""
        return np.sqrt(np.diag(self.covariance))

    @property
    def correlation(self) -> pd.DataFrame:
        """Correlations, by name; NaN where a value has no error."""
        with np.errstate(invalid="ignore", divide="ignore"):
            found = self.covariance / np.outer(self.errors, self.errors)
        return pd.DataFrame(found, index=self.names, columns=self.names)

    def to_dataframe(self) -> pd.DataFrame:
        """Return ``name, value, error``."""
        columns = {"name": self.names, "value": self.values, "error": self.errors}
        return pd.DataFrame(columns)

    def uncertainties(self) -> dict[str, Any]:
        """Return correlated numbers of the package ``uncertainties``, by name.

        Values that are not known (NaN) are left out.
        """
        try:
            from uncertainties import correlated_values
        except ImportError:
            raise InputError(
                "uncertainties is not installed; pip install 'dimucal[notebook]'"
            ) from None
        known = np.isfinite(self.values) & np.isfinite(np.diag(self.covariance))
        made = correlated_values(self.values[known], self.covariance[np.ix_(known, known)])
        return dict(zip(map(str, self.names[known]), made, strict=True))
