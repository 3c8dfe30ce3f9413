"""Libraries that take longer to load than most commands take to run: loaded at their first use.

``from calib.later import pandas as pd`` stands where ``import pandas as pd`` would. Reading events
needs none of them, nor does looking at a run or a store.
"""

from __future__ import annotations

from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import correctionlib as correctionlib
    import pandas as pandas
    from correctionlib import schemav2 as schemav2
    from scipy import special as special


class _Later(ModuleType):
    """Stands for a module until something of it is asked for."""

    def __getattr__(self, name: str) -> Any:
        value = getattr(import_module(self.__name__), name)
        setattr(self, name, value)
        return value


if not TYPE_CHECKING:
    correctionlib = _Later("correctionlib")
    pandas = _Later("pandas")
    schemav2 = _Later("correctionlib.schemav2")
    special = _Later("scipy.special")
