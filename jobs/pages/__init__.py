"""The page of a store: read only, for people and, as JSON, for machines."""
