"""What the factors do: the relative change of the predicted resolution, by category."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from calib.moves import Effects
from calib.results import Status


def effects(tables: Mapping[str, pd.DataFrame]) -> Effects:
    """Return ln(factor) of each category, with its error.

    Categories with the value of the same merged one share its error; one that is held has no
    value of its own, and one without any usable value is NaN.
    """
    table = tables["factors"]
    status = [Status(s) for s in table["status"]]
    usable = np.array([s.usable for s in status])
    factor = np.where(usable, table["factor"].to_numpy(dtype=np.float64), np.nan)
    error = table["factor_err"].to_numpy(dtype=np.float64)
    with np.errstate(invalid="ignore", divide="ignore"):
        value = np.where(factor > 0, np.log(factor), np.nan)
        relative = error / factor
    measured = np.array([s in (Status.OK, Status.MERGED) for s in status])
    parent = table["held_at"].fillna("").to_numpy(dtype=object)
    merged = np.array([s is Status.MERGED for s in status])
    same = (parent[:, None] == parent) & merged[:, None] & merged | np.eye(len(table), dtype=bool)
    covariance = np.where(same, np.outer(relative, relative), 0.0)
    own = measured & np.isfinite(value + relative)
    return Effects(tuple(table["category"]), value, covariance, own)
