"""The report's sections of the momentum scale."""
