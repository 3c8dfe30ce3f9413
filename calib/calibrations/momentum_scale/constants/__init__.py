"""Sums to A, e, M and the resolution of each eta bin."""
