import numpy as np

from calib.events.binning import counts_of


def test_counts_are_those_of_numpy():
    edges = 3.0969 * np.linspace(0.92, 1.08, 241)
    values = np.concatenate(
        [np.random.default_rng(1).normal(3.1, 0.1, 20_000), edges[:-1], [np.nan, np.inf, -np.inf]]
    )
    expected = np.histogram(values[np.isfinite(values)], edges)[0]
    assert np.array_equal(counts_of(values, edges), expected)
    assert counts_of(edges[-1:], edges).sum() == 0  # the upper edge is outside
