"""A run: its steps, its account, its provenance and its payloads."""
