"""Calibrations that break the contract, each in one way, for the tests of plug-ins."""

from __future__ import annotations

import numpy as np
from mean_mass import MeanMass


class WrongShapes(MeanMass):
    """Its mask has one entry too many."""

    name = "wrong_shapes"
    payload_names = ("wrong_shapes",)

    def rejects(self, pairs, sample):
        return {"odd": np.zeros(len(pairs) + 1, dtype=bool)}


class Raising(MeanMass):
    """It cannot reduce."""

    name = "raising"
    payload_names = ("raising",)

    def reduce(self, sums, edits, walk=None):
        return sums["nothing"]


class NotANumber(MeanMass):
    """Its sums hold what is no number."""

    name = "not_a_number"
    payload_names = ("not_a_number",)

    def collect(self, pairs, sample, walk):
        return {**super().collect(pairs, sample, walk), "worst": np.full(3, np.nan)}


class NotAdding(MeanMass):
    """Its sums are means, which do not add."""

    name = "not_adding"
    payload_names = ("not_adding",)

    def collect(self, pairs, sample, walk):
        return {**super().collect(pairs, sample, walk), "mean": np.array([pairs.mass.mean()])}


class OtherName(MeanMass):
    """Its payload is called otherwise than it says."""

    name = "other_name"
    payload_names = ("other_name",)


class NoFits(MeanMass):
    """Its table of fits lacks the status."""

    name = "no_fits"
    payload_names = ("mean_mass",)

    def reduce(self, sums, edits, walk=None):
        from dataclasses import replace

        found = super().reduce(sums, edits)
        return replace(found, fits=found.fits.drop(columns=["status", "ndf"]))
