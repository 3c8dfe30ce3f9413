"""From the mass peaks of many categories to A, e, M and the resolution of each eta bin."""
