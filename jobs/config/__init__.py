"""The configuration of a run: its schema, sites, chains, and a commented template."""
