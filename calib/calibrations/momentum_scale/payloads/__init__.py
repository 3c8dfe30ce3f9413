"""The payload of the momentum scale: written, read, applied, exported."""
