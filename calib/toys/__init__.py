"""Simulated dimuons with known truth: events to try a calibration on."""

from calib.toys.generation import Truth, generate, momentum_truth

__all__ = ["Truth", "generate", "momentum_truth"]
