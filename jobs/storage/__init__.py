"""Files, locks and databases: whole or not at all, one writer at a time."""
