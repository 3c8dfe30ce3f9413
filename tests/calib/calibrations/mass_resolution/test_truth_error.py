"""The truth of simulated events has an error of its own, and says how large it is."""

from __future__ import annotations

import numpy as np

from calib.calibrations.mass_resolution import Calibration
from calib.toys.generation import generate


def test_truths_of_independent_events_scatter_by_their_errors() -> None:
    """40 sets; 36 x 40 pulls at most: their rms is known to 2 to 5 %, 15 % are allowed."""
    sets = [Calibration.truth(generate("z", 12_000, seed=7000 + i).pairs) for i in range(40)]
    pulls = []
    for name in sets[0]["truth"]:
        known = [s for s in sets if name in s["truth"]]
        if len(known) < 30:
            continue
        values = np.array([s["truth"][name] for s in known])
        errors = np.array([s["truth_err"][name] for s in known])
        assert np.all(errors > 0)
        # the mean is of the same values
        pulls.append((values - values.mean()) / errors / np.sqrt(1 - 1 / len(known)))
    found = np.concatenate(pulls)
    assert len(found) > 400
    assert abs(np.sqrt(np.mean(found**2)) - 1) < 0.15


def test_every_truth_has_an_error() -> None:
    found = Calibration.truth(generate("z", 20_000, seed=8).pairs)
    assert found is not None and set(found["truth_err"]) == set(found["truth"])
