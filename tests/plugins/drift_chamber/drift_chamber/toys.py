"""Toy cosmic tracks with known relations."""

import numpy as np

from drift_chamber.chamber import HALF_WIDTH, HEIGHT, LONGEST, SHAPE


def truth(time, shape, angle):
    """Return the true distance in cm: faster in the middle of a cell, and with the angle."""
    u = 2 * time / LONGEST[shape] - 1
    middle, skew = 0.06 + 0.15 * angle**2, 0.05 * np.sin(3 * angle) + 0.02 * shape
    return HALF_WIDTH[shape] * ((1 + u) / 2 + (middle + skew * u) * (1 - u**2))


def tracks(n, seed=1, relation=truth):
    """Return columns of n tracks past wires that are anywhere, known to 0.012 cm; 2 % strays."""
    random = np.random.default_rng(seed)
    angle = random.uniform(-0.48, 0.48, n)
    x = random.uniform(-10, 10, n)[:, None] + np.tan(angle)[:, None] * HEIGHT
    time, side = random.uniform(0, LONGEST[SHAPE], x.shape), random.choice([-1, 1], x.shape)
    distance = relation(time, SHAPE, angle[:, None]) + random.normal(0, 0.012, x.shape)
    wire = x - side * distance / np.cos(angle)[:, None]
    time = np.where(random.random(x.shape) < 0.02, time * random.random(x.shape), time)
    found = {"angle": angle, "run": np.full(n, 7, dtype=np.uint32)}
    for i in range(8):
        found |= {f"time_{i}": time[:, i], f"wire_{i}": wire[:, i], f"side_{i}": side[:, i]}
    return found
