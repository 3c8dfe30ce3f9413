"""Categories drawn from the model itself: J/psi-like, with known A, e, M and resolution."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

import calib
from calib.fitting.kernel import numpy_engine
from calib.fitting.kernel.problem import coefficients, problem
from calib.fitting.scale import chi2, likelihood
from calib.fitting.scale.model import KINDS, Means, mu2, sigma2

PEAK = 3.0969
EDGES = np.linspace(2.9, 3.3, 101)
GEN_EDGES = np.linspace(2.5, 3.2, 176)


@dataclass(frozen=True)
class Truth:
    """Per eta bin; a2, c2 are differences to the reference, which has ref_a2, ref_c2."""

    A: np.ndarray
    e: np.ndarray
    M: np.ndarray
    a2: np.ndarray
    c2: np.ndarray
    ref_a2: np.ndarray
    ref_c2: np.ndarray

    @property
    def n_eta(self):
        return len(self.A)

    @property
    def vector(self):
        return np.concatenate([getattr(self, kind) for kind in KINDS])


def truth(n_eta=48):
    """Return smooth functions of eta of the size of a real detector's."""
    eta = -2.4 + 4.8 * (np.arange(n_eta) + 0.5) / n_eta
    a = 0.008 + 0.012 * (np.abs(eta) / 2.4) ** 2
    c = 1e-4 + 0.6e-4 * (np.abs(eta) / 2.4)
    return Truth(
        A=1e-3 * (np.cos(1.3 * eta) - 0.4),
        e=1e-3 * (2 + 1.5 * eta**2 / 2.4 + np.sin(2 * eta)),
        M=2e-5 * np.sin(1.7 * eta + 0.5),
        a2=0.15 * a**2 * np.cos(eta),
        c2=0.1 * c**2 * np.ones(n_eta),
        ref_a2=a**2,
        ref_c2=c**2,
    )


@dataclass(frozen=True)
class Categories:
    """What is true of n categories: where their muons are, and the shape of their peak."""

    truth: Truth
    means: Means
    events: np.ndarray
    templates: np.ndarray
    mass: np.ndarray
    theta: np.ndarray
    log_mu: np.ndarray
    v: np.ndarray
    expected: np.ndarray


def categories(n, n_eta=48, seed=1, events=1_250, background=(0.05, 0.10), bins=None, pt=None):
    """Return n categories with some ``events`` on average.

    ``bins`` are the eta bins that occur (all); ``pt`` is the one pt of all muons (4 to 20 GeV).
    """
    random = np.random.default_rng(seed)
    t = truth(n_eta)
    means = _means(random, n, n_eta, bins, pt)
    size = random.lognormal(0.0, 0.6, n)
    size *= events / size.mean()
    templates, mass = _templates(random.uniform(0.2, 0.35, n))
    log_mu = 2e-4 * random.standard_normal(n)
    v = sigma2(means, t.ref_a2, t.ref_c2)
    theta = np.zeros((n, 4))
    theta[:, 0] = log_mu + 0.5 * np.log(mu2(means, t.A, t.e, t.M))
    theta[:, 1] = v + sigma2(means, t.a2, t.c2)
    theta[:, 2] = random.uniform(*background, n)
    theta[:, 3] = random.uniform(0.2, 0.8, n)
    shares = _shares(theta, templates, mass)
    return Categories(t, means, size, templates, mass, theta, log_mu, v, shares * size[:, None])


def _means(random, n, n_eta, bins, pt):
    width = 4.8 / n_eta
    allowed = np.arange(n_eta) if bins is None else np.asarray(bins)
    plus, minus, high, low = [], [], [], []
    made = 0
    while made < n:
        i, j = random.choice(allowed, 4 * n), random.choice(allowed, 4 * n)
        mean = 4.5 + random.gamma(1.5, 2.5, 4 * n)
        ratio = np.exp(random.uniform(-1.2, 1.2, 4 * n))
        first, second = mean * np.sqrt(ratio), mean / np.sqrt(ratio)
        # a J/psi: m^2 = 2 pt pt (cosh(delta eta) - cos(delta phi))
        cos = np.cosh(width * (i - j)) - PEAK**2 / (2 * mean**2)
        good = (np.abs(width * (i - j)) < 0.7) & (np.abs(cos) < 1)
        good &= (np.minimum(first, second) > 4) & (np.maximum(first, second) < 20)
        for values, new in zip((plus, minus, high, low), (i, j, first, second), strict=True):
            values.append(new[good])
        made += good.sum()
    i, j, first, second = (np.concatenate(x)[:n] for x in (plus, minus, high, low))
    spread = random.uniform(0.02, 0.15, (2, n))
    if pt is not None:
        first, second, spread = np.full(n, pt), np.full(n, pt), np.zeros((2, n))
    return Means(
        i,
        j,
        (1 + spread[0] ** 2) / first,
        (1 + spread[1] ** 2) / second,
        first,
        second,
        first**2 * (1 + spread[0] ** 2),
        second**2 * (1 + spread[1] ** 2),
    )


def _templates(tail):
    """Return generated shares (n, gen bins) of a line with a radiative tail, and their masses."""
    below = GEN_EDGES < PEAK
    cdf = np.where(below, np.exp((GEN_EDGES - PEAK) / 0.04), 1.0)
    shape = np.diff(cdf) / (1 - cdf[0])
    mass = 0.5 * (GEN_EDGES[1:] + GEN_EDGES[:-1])
    peak = np.searchsorted(GEN_EDGES, PEAK) - 1
    mass[peak] = PEAK
    templates = tail[:, None] * shape
    templates[:, peak] += 1 - tail
    return templates, mass


def _shares(theta, templates, mass):
    shared = problem(EDGES, (mass[0], mass[-1]), (0.003, 0.05), "exponential", False, (0.95, 1.05))
    out = np.empty((len(theta), len(EDGES) - 1))
    for first in range(0, len(theta), 500):
        at = slice(first, first + 500)
        g = coefficients(shared, templates[at], mass)
        out[at] = numpy_engine.evaluate(shared, g, theta[at]).t
    return out


def part(c, seed, gen_events=None, reference_events=None):
    """Return one set of data as a `likelihood.Part`.

    ``gen_events`` per event of data are in the templates (None: they are exact);
    ``reference_events`` per event of data made log_mu and v (None: exact).
    """
    random = np.random.default_rng([7, seed])
    counts = random.poisson(c.expected).astype(float)
    templates, variance = c.templates, np.zeros_like(c.templates)
    if gen_events:
        templates = random.poisson(gen_events * c.events[:, None] * c.templates).astype(float)
        variance = templates
    log_mu, v = c.log_mu, c.v
    reference = np.zeros((len(counts), 2, 2))
    if reference_events:
        size = reference_events * c.events
        reference[:, 0, 0] = 2 * c.v / size
        reference[:, 1, 1] = 6 * c.v**2 / size
        reference[:, 0, 1] = reference[:, 1, 0] = 0.3 * np.sqrt(
            reference[:, 0, 0] * reference[:, 1, 1]
        )
        shift = np.linalg.cholesky(reference) @ random.standard_normal((len(counts), 2, 1))
        log_mu, v = log_mu + shift[:, 0, 0], v + shift[:, 1, 0]
    return likelihood.Part(
        counts,
        None,
        EDGES,
        templates,
        variance,
        c.mass,
        c.means,
        "exponential",
        np.full(len(counts), 0.07),
        np.full(len(counts), 0.5),
        log_mu,
        v,
        reference,
    )


def fitted(data):
    """Return (mu2, sigma2, covariance, fits) of a part, each category fitted on its own."""
    fits = calib.fit_categories(
        data.counts,
        data.edges,
        data.templates,
        data.template_mass,
        engine="compiled",
        template_variance=data.template_variance,
    )
    n = len(fits)
    jacobian = np.zeros((n, 2, 2))
    jacobian[:, 0, 0] = 1 / fits.mu
    jacobian[:, 1, 0] = -2 * fits.sigma**2 / fits.mu**3
    jacobian[:, 1, 1] = 2 * fits.sigma / fits.mu**2
    cov = jacobian @ fits.covariance[:, :2, :2] @ jacobian.transpose(0, 2, 1)
    cov = cov + data.reference_covariance
    ratio = (fits.mu * np.exp(-data.log_mu)) ** 2
    cov[:, 0] *= 2 * ratio[:, None]
    cov[:, :, 0] *= 2 * ratio[:, None]
    cov[~fits.ok] = np.nan
    return ratio, (fits.sigma / fits.mu) ** 2 - data.v, cov, fits


def by_chi2(data, n_eta, **options):
    """Return the extraction by chi2 and the fits of the categories."""
    ratio, width, cov, fits = fitted(data)
    return chi2.extract(data.means, ratio, width, cov, n_eta=n_eta, **options), fits


def started(data, fits):
    """Return the part with the backgrounds of the fits to start from."""
    return replace(
        data,
        fraction=np.where(fits.ok, fits.background, 0.07),
        slope=np.where(fits.ok, fits.slope, 0.5),
    )


def by_likelihood(data, n_eta, **options):
    """Return both extractions, the likelihood started where the chi2 ended."""
    first, fits = by_chi2(data, n_eta)
    return likelihood.extract([started(data, fits)], n_eta, first, **options), first
