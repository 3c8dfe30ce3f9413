"""Calibration of dimuon momentum scale and mass resolution: histograms in, parameters out.

Arrays in, frozen results out, without Dask, coffea or files: `fit_categories`, `extract_scale`,
`second_opinion`; a payload from arrays: `load_payload`.

For notebooks, the whole chain: `write_toys`, `open_sample`, `open_lazy`, `run`, `open_result`,
`compare`, each with an example in its help. Heavy parts load when they are used.
"""

from __future__ import annotations

import importlib
from typing import Any

from calib import compiled_cache, moved

__version__ = "0.1.0"

compiled_cache.provide()

_OWN = {
    "extract_scale": "calib.fitting.scale.extract",
    "fit_categories": "calib.fitting.many",
    "load_payload": "calib.payload.payload",
    "second_opinion": "calib.fitting.cross_check",
}
# The chain is run by the room above, jobs, which may import this one and not the other way round.
# So it is asked for by name, by who is in a notebook; nothing in this package uses it.
_INTERACTIVE = {
    name: "jobs.notebook"
    for name in ("compare", "open_lazy", "open_result", "open_sample", "run", "write_toys")
}
_WHERE = _OWN | _INTERACTIVE

__all__ = sorted(_WHERE)


def __getattr__(name: str) -> Any:
    if name in _WHERE:
        if name in _INTERACTIVE:
            from calib.rooms import require_rooms

            require_rooms()
        return getattr(importlib.import_module(_WHERE[name]), name)
    raise AttributeError(f"module 'calib' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_WHERE})


moved.install()
