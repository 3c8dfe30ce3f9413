"""J/psi-like categories with known truth."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

EDGES = np.linspace(2.9, 3.3, 101)


@dataclass(frozen=True)
class Toys:
    counts: np.ndarray
    edges: np.ndarray
    templates: np.ndarray
    mass: np.ndarray
    mu: np.ndarray
    sigma: np.ndarray
    background: np.ndarray

    @property
    def arrays(self):
        return self.counts, self.edges, self.templates, self.mass


def generated(random, n, peak=3.0969, tail=0.3, width=0.0):
    """Return generated masses: a peak with a radiative tail."""
    mass = peak - np.where(random.random(n) < tail, random.exponential(0.03, n), 0.0)
    return mass + width * random.standard_cauchy(n) if width else mass


def histogram(mass, low=2.6, high=3.5, bins=225):
    """Return counts and mean masses of a gen axis of 4 MeV (by default)."""
    edges = np.linspace(low, high, bins + 1)
    counts = np.histogram(mass, edges)[0].astype(float)
    sums = np.histogram(mass, edges, weights=mass)[0]
    centres = 0.5 * (edges[1:] + edges[:-1])
    return counts, np.where(counts > 0, sums / np.maximum(counts, 1), centres)


def toys(
    n,
    seed,
    events=(500, 20_000),
    sigma=(0.008, 0.02),
    background=(0.05, 0.1),
    spread=0.002,
    edges=EDGES,
    slope=0.5,
):
    """Return n categories; the numbers in a range are drawn flat in its logarithm (events)."""
    random = np.random.default_rng(seed)
    pool = generated(random, 400_000)
    template, mass = histogram(pool)
    pool = pool[(pool > 2.6) & (pool < 3.5)]
    total = np.exp(random.uniform(*np.log(events), n)).astype(int)
    s = random.uniform(*sigma, n)
    mu = 1 + random.uniform(-spread, spread, n) * np.sqrt(3)
    f = random.uniform(*background, n)
    counts = np.zeros((n, len(edges) - 1))
    for i in range(n):
        n_background = random.binomial(total[i], f[i])
        wanted = total[i] - n_background
        drawn = random.choice(pool, int(1.5 * wanted) + 50)
        reco = drawn * (mu[i] + s[i] * random.standard_normal(len(drawn)))
        reco = reco[(reco >= edges[0]) & (reco < edges[-1])][:wanted]
        t = -np.log1p(random.random(n_background) * np.expm1(-slope)) / slope
        reco = np.concatenate([reco, edges[0] + t * (edges[-1] - edges[0])])
        counts[i] = np.histogram(reco, edges)[0]
    return Toys(counts, edges, np.tile(template, (n, 1)), mass, mu, s, f)
