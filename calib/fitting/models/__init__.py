"""Shapes of a mass peak and of its background, one a file."""
