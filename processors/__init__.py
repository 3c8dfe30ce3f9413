"""The workshop: events in, sums out. coffea lives here."""
