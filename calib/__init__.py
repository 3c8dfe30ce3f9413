"""Calibration of dimuon momentum scale and mass resolution: histograms in, parameters out.

Arrays in, frozen results out; no Dask, no coffea, no command line. Heavy parts load when they are
used.
"""

from __future__ import annotations

from typing import Any

__all__ = ["extract_scale", "fit_categories", "load_payload", "second_opinion"]


def __getattr__(name: str) -> Any:
    if name == "load_payload":
        from calib.payload import load_payload

        return load_payload
    if name == "fit_categories":
        from calib.fit_all import fit_categories

        return fit_categories
    if name == "extract_scale":
        from calib.scale.extract import extract_scale

        return extract_scale
    if name == "second_opinion":
        from calib.opinion import second_opinion

        return second_opinion
    raise AttributeError(f"module 'calib' has no attribute {name!r}")
