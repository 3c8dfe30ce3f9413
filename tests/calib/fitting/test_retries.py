"""One rule for what replaces what, for one category and for many."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from calib.fitting.minuit import Attempt, climb
from calib.fitting.retries import Rung, better
from calib.fitting.retries import climb as climb_many
from calib.results import Status
from tests.calib.fitting.test_minuit import TRUE, Gaussian, toys


@dataclass(frozen=True)
class Fits:
    converged: np.ndarray
    nll: np.ndarray


@dataclass(frozen=True)
class Standing(Fits):
    steps: np.ndarray

    def keep(self, at, found, chosen, step):
        self.converged[at], self.nll[at] = found.converged[chosen], found.nll[chosen]
        self.steps[at] = step


def test_converged_comes_first_then_the_lower_likelihood():
    cases = [  # found, standing, better
        ((True, 9.0), (False, 1.0), True),
        ((False, 1.0), (True, 9.0), False),
        ((True, 1.0), (True, 2.0), True),
        ((True, 2.0), (True, 1.0), False),
        ((False, 1.0), (False, 2.0), True),
        ((True, 1.0), (True, 1.0), False),
        ((False, np.inf), (False, np.nan), True),
    ]
    found, standing, expected = zip(*cases, strict=True)
    ok, nll = (np.array(x) for x in zip(*found, strict=True))
    stands, value = (np.array(x) for x in zip(*standing, strict=True))
    assert list(better(Fits(ok, nll), stands, value)) == list(expected)


def test_each_category_climbs_as_far_as_it_needs():
    steps = np.full(3, "none", dtype="<U8")
    standing = Standing(np.zeros(3, dtype=bool), np.full(3, np.nan), steps)
    asked = []

    def rung(step, converged, nll):
        def fit(at):
            asked.append((step, list(at)))
            return Fits(np.array(converged)[at], np.array(nll)[at])

        return Rung(step, lambda: np.flatnonzero(~standing.converged), fit)

    rungs = [
        rung("a", [True, False, False], [5.0, 5.0, 5.0]),
        rung("b", [True, True, False], [0.0, 7.0, 6.0]),
        rung("c", [True, True, False], [0.0, 0.0, 4.0]),
    ]
    climb_many(rungs, standing)
    assert asked == [("a", [0, 1, 2]), ("b", [1, 2]), ("c", [2])]
    assert list(standing.steps) == ["a", "b", "c"]
    assert list(standing.nll) == [5.0, 7.0, 4.0]


def test_one_category_climbs_from_a_start_that_leads_nowhere():
    data = next(toys(1, 11))

    class Cliff(Gaussian):
        def __call__(self, mean, sigma, background):
            if mean < 89:  # no slope there: MIGRAD cannot move
                return np.full(80, 1 / 80)
            return super().__call__(mean, sigma, background)

    stuck = Attempt("first", (85.5, 1.0, 0.1), ("sigma", "background"))
    found = climb(data, Cliff(), [stuck, Attempt("again", TRUE)])
    assert found.step == "again"
    assert found.status is Status.OK
    assert abs(found["mean"] - TRUE[0]) < 5 * found.error("mean")
    good = climb(data, Gaussian(), [Attempt("first", TRUE), Attempt("again", TRUE)])
    assert good.step == "first"
    third = Attempt("third", lambda r: r.values, ("mean",), when=lambda r: True, always=True)
    again = climb(data, Gaussian(), [Attempt("first", TRUE), third])
    assert again.step == "third" and again["mean"] == good["mean"]
