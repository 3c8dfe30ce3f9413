"""Events to sums: muons to categories, the reference, and the passes over the events."""
