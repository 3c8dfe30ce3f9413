"""Files to the events of a chunk, in each of the formats."""
