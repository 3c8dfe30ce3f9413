"""Old names of modules that plug-ins and scripts import: they lead to where these are now.

Each use warns with the new name. Nothing in the package imports an old one.
"""

from __future__ import annotations

import importlib
import sys
import warnings
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

NOW = {
    "calib.arrays": "calib.types",
    "calib.categories": "calib.events.categories",
    "calib.closing": "calib.quality.closure",
    "calib.config": "calib.schema",
    "calib.constants": "calib.physics.constants",
    "calib.correction": "calib.payload.nodes",
    "calib.gates": "calib.quality.category_gates",
    "calib.histograms": "calib.events.histograms",
    "calib.kinematics": "calib.physics.kinematics",
    "calib.moves": "calib.quality.publication_gate",
    "calib.pairs": "calib.events.pairs",
    "calib.random": "calib.events.random",
    "calib.records": "calib.plugin",
    "calib.straight": "calib.fitting.straight_line",
    "calib.validity": "calib.payload.validity",
    "calib.widths": "calib.fitting.residual_widths",
    "jobs.nightly.standing": "jobs.nightly.overview",
    "jobs.toys": "jobs.events.toys",
}


class Moved(MetaPathFinder, Loader):
    """A finder for `sys.meta_path` that answers to old names only."""

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return how an old name is loaded.

        Parameters
        ----------
        name : str
            Of the module.
        path, target
            As of `importlib.abc.MetaPathFinder`; not used.

        Returns
        -------
        ModuleSpec or None
            None for every other name.
        """
        return ModuleSpec(name, self) if name in NOW else None

    def create_module(self, spec: ModuleSpec) -> None:
        """Leave the making of the module to Python: `exec_module` puts another in its place."""

    def exec_module(self, module: ModuleType) -> None:
        """Put the module of today where the old name is looked up."""
        name = module.__name__
        warnings.warn(f"{name} is {NOW[name]} now", DeprecationWarning, stacklevel=2)
        sys.modules[name] = importlib.import_module(NOW[name])


def install() -> None:
    """Let old names be imported; a second call changes nothing."""
    if not any(isinstance(finder, Moved) for finder in sys.meta_path):
        sys.meta_path.append(Moved())
