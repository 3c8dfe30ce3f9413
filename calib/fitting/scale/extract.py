"""From mu^2 of many categories to A, e, M of each eta bin: plain arrays in, checked."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from calib.errors import InputError
from calib.fitting.scale import chi2
from calib.fitting.scale.model import Extraction, Means
from calib.fitting.scale.normal_equations import MIN_EIGENVALUE
from calib.types import AnyArray, Array


def extract_scale(
    eta_plus: npt.ArrayLike,
    eta_minus: npt.ArrayLike,
    k_plus: npt.ArrayLike,
    k_minus: npt.ArrayLike,
    inverse_k_plus: npt.ArrayLike,
    inverse_k_minus: npt.ArrayLike,
    mu2: npt.ArrayLike,
    mu2_err: npt.ArrayLike,
    *,
    n_eta: int,
    min_eigenvalue: float = MIN_EIGENVALUE,
) -> Extraction:
    """Fit mu^2 = (1 + A - e k + M/k)_plus (1 + A - e k - M/k)_minus over all categories.

    Parameters
    ----------
    eta_plus, eta_minus : int arrays, shape (n,)
        Eta bin of each muon, 0 to n_eta - 1.
    k_plus, k_minus : arrays, shape (n,)
        Mean of 1/pt over the entries of the category, 1/GeV.
    inverse_k_plus, inverse_k_minus : arrays, shape (n,)
        Mean of pt, GeV (not 1 over the mean of k).
    mu2, mu2_err : arrays, shape (n,)
        (m_reco / m_gen)^2 and its error.
    n_eta : int
    min_eigenvalue : float
        Directions whose eigenvalue in the normal matrix, scaled to a diagonal of 1, is below it
        are left out; parameters in them are NaN, and ``determined`` is False.

    Returns
    -------
    Extraction
        With ``names, values, errors, covariance, chi2, ndf`` and ``A, e, M``, each (n_eta,).

    Raises
    ------
    InputError
        If the arrays do not fit together; the sentence has their names and numbers.
    """
    bins = [_bins("eta_plus", eta_plus, n_eta), _bins("eta_minus", eta_minus, n_eta)]
    n = len(bins[0])
    measured = _numbers("mu2", mu2, n)
    err = _numbers("mu2_err", mu2_err, n, positive=True)
    given = {"k_plus": k_plus, "k_minus": k_minus}
    given |= {"inverse_k_plus": inverse_k_plus, "inverse_k_minus": inverse_k_minus}
    k = [_numbers(name, values, n, positive=True) for name, values in given.items()]
    if len(bins[1]) != n:
        raise InputError(
            f"eta_minus: found {len(bins[1])} categories, but eta_plus has {n}; give one bin of"
            " each muon per category"
        )
    none = np.zeros(n)  # the resolution is not fitted
    covariance = np.zeros((n, 2, 2))
    covariance[:, 0, 0] = err**2
    return chi2.extract(
        Means(bins[0], bins[1], k[0], k[1], k[2], k[3], none, none),
        measured,
        none,
        covariance,
        n_eta=n_eta,
        resolution=False,
        min_eigenvalue=min_eigenvalue,
    )


def _bins(name: str, values: npt.ArrayLike, n_eta: int) -> AnyArray:
    found = np.asarray(values)
    if found.ndim != 1 or not len(found) or not np.issubdtype(found.dtype, np.number):
        raise InputError(
            f"{name}: found shape {found.shape} of {found.dtype}; expected one eta bin per category"
        )
    with np.errstate(invalid="ignore"):
        bins = found.astype(np.int64)
    wrong = np.flatnonzero((bins != found) | (bins < 0) | (bins >= n_eta))
    if len(wrong):
        raise InputError(
            f"{name}: found {found[wrong[0]]} in category {wrong[0]} ({len(wrong)} such values);"
            f" expected whole numbers from 0 to {n_eta - 1} (n_eta = {n_eta}); drop what is"
            " outside the eta range"
        )
    return bins


def _numbers(name: str, values: npt.ArrayLike, n: int, positive: bool = False) -> Array:
    try:
        found = np.asarray(values, dtype=float)
    except (TypeError, ValueError):
        raise InputError(
            f"{name}: found something that is not an array of numbers; expected {n} numbers"
        ) from None
    if found.shape != (n,):
        raise InputError(
            f"{name}: found shape {found.shape}, but eta_plus has {n} categories; expected ({n},)"
        )
    wrong = np.flatnonzero(~np.isfinite(found) | (positive & (found <= 0)))
    if len(wrong):
        what = "finite numbers above 0" if positive else "finite numbers"
        raise InputError(
            f"{name}: found {found[wrong[0]]:g} in category {wrong[0]} ({len(wrong)} such values);"
            f" expected {what}; drop the categories whose fit is not ok"
        )
    return found
