"""Events to sums: templates, categories and rows of the closure."""
