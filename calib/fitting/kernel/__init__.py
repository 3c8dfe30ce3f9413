"""Fits of the kernel model, template (x) Gaussian relative in mass, for many categories at once."""
