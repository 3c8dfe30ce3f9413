"""Fits: of one category, of thousands, of what they have in common, and of A, e, M."""
