"""Calibration of dimuon momentum scale and mass resolution: histograms in, parameters out.

Arrays in, frozen results out; no Dask, no coffea, no command line. Heavy parts load when they are
used.
"""

from __future__ import annotations

from typing import Any

__all__ = ["load_payload"]


def __getattr__(name: str) -> Any:
    if name == "load_payload":
        from calib.payload import load_payload

        return load_payload
    raise AttributeError(f"module 'calib' has no attribute {name!r}")
