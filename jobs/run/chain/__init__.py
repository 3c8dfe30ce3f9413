"""Chains of calibrations: one directory, in it a run for each step."""
