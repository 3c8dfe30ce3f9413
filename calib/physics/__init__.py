"""Particles: masses, kinematics, line shapes, radiation, and generated muons from measured ones."""
