"""Sums to factors: likelihood of the widths, what categories have in common, line shape, muons."""
