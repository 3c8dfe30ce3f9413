"""The report's sections of the mass resolution."""
