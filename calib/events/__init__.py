"""Events in memory: pairs, categories, histograms, and numbers that belong to an event."""
