"""The catalogue: which files there are, with their runs, events, luminosity and quality."""
