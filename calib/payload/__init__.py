"""Payloads: correctionlib documents, written, read back and compared."""
