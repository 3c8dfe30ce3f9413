"""A reduction and a closure as a calibration of three resonances gives them, drawn at random.

The numbers are those of a detector: A about 1e-3, e a few MeV, M some 1e-5/GeV, errors that hang
together within an eta bin and between neighbours. One bin is not determined.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import chi2 as chi2_distribution

from calib.calibrations.momentum_scale.constants.tables import iterations, signed_root
from calib.fitting.scale.model import KINDS, composed
from calib.results import Check, Closure, Reduction, Status

N_ETA = 24
EDGES = np.linspace(-2.4, 2.4, N_ETA + 1)
BAD = 23
"""The eta bin whose parameters are not determined."""


def truth(eta: np.ndarray, simulation: bool = False) -> np.ndarray:
    """Return A, e, M, a2, c2 against eta, shape (5, n)."""
    turn, size = (0.7, 0.5) if simulation else (0.0, 1.0)
    return np.array(
        [
            size * 1e-3 * np.cos(2 * eta + turn) + 3e-4,
            2e-3 + size * 1.5e-3 * eta**2 / 2.4,
            size * 2e-5 * np.sin(3 * eta + turn),
            ((0.93 if simulation else 1.0) * (0.008 + 0.004 * (eta / 2.4) ** 2)) ** 2,
            ((0.92 if simulation else 1.0) * (1.2e-4 + 1e-4 * (eta / 2.4) ** 2)) ** 2,
        ]
    )


def covariance(eta: np.ndarray) -> np.ndarray:
    """Return a covariance of all A, e, M, a2, c2 with strong correlations in a bin."""
    n = len(eta)
    sizes = np.repeat([6e-5, 4e-4, 3e-6, 2e-7, 3e-11], n) * np.tile(1 + 0.5 * eta**2 / 5, 5)
    inside = np.eye(5)
    inside[0, 1] = inside[1, 0] = 0.85
    inside[3, 4] = inside[4, 3] = -0.6
    apart = np.abs(eta[:, None] - eta)
    between = np.exp(-apart / 0.25)
    correlation = np.kron(inside, between)
    found = sizes[:, None] * correlation * sizes
    return 0.5 * (found + found.T)


def reduction(seed: int = 1, simulation: bool = True, n_eta: int = N_ETA) -> Reduction:
    """Return a reduction; its parameters are the truth moved by their errors."""
    random = np.random.default_rng(seed)
    edges = np.linspace(-2.4, 2.4, n_eta + 1)
    eta = 0.5 * (edges[1:] + edges[:-1])
    tables: dict[str, pd.DataFrame] = {}
    state: dict[str, Any] = {
        "eta_edges": edges,
        "pt_range": np.array([4.2, 58.0]),
        "method": np.array("likelihood"),
        "converged": np.array(True),
        "passes": np.array(3),
    }
    for prefix in ("", "simulation_")[: 1 + simulation]:
        cov = covariance(eta)
        values = random.multivariate_normal(truth(eta, bool(prefix)).ravel(), cov)
        status = np.zeros(n_eta, dtype=np.int64)
        if not prefix and n_eta == N_ETA:
            status[BAD] = Status.NOT_DETERMINED.code
            lost = np.tile(status > 0, 5)
            cov[lost], cov[:, lost] = np.nan, np.nan
        steps = _steps(values.reshape(5, -1)[:3], random)
        total = (np.zeros(n_eta),) * 3
        for step in steps:
            total = composed(total, tuple(step))
        values = np.concatenate([*total, *values.reshape(5, -1)[3:]])
        state |= {f"{prefix}{k}": v for k, v in zip(KINDS, values.reshape(5, -1), strict=True)}
        state |= {f"{prefix}covariance": cov, f"{prefix}status": status, f"{prefix}steps": steps}
        name = "parameters_simulation" if prefix else "parameters"
        tables[name] = _parameters(edges, values, cov, status)
        if not prefix:
            tables["parameters_likelihood"] = tables[name].copy()
            tables["parameters_chi2"] = _near(tables[name], random)
    fits = _fits(edges, eta, random)
    tables |= _other_tables(fits)
    converged = Check("converged", 0.06, 0.1, True)
    return Reduction(fits, tables, {}, (), (converged,), state)


def _steps(values: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Return three corrections, each much smaller than the one before."""
    first = values * random.uniform(0.95, 1.05, values.shape)
    second = (values - first) * random.uniform(0.97, 1.03, values.shape)
    return np.array([first, second, values - first - second])


def _parameters(
    edges: np.ndarray, values: np.ndarray, cov: np.ndarray, status: np.ndarray
) -> pd.DataFrame:
    kinds = dict(zip(KINDS, values.reshape(5, -1), strict=True))
    errors = dict(zip(KINDS, np.sqrt(np.diagonal(cov)).reshape(5, -1), strict=True))
    good = status == 0
    columns: dict[str, np.ndarray] = {"eta_low": edges[:-1], "eta_high": edges[1:]}
    for k in ("A", "e", "M"):
        columns |= {k: np.where(good, kinds[k], np.nan), f"{k}_err": errors[k]}
    for name, k in (("a", "a2"), ("c", "c2")):
        root, err = signed_root(kinds[k], errors[k])
        columns |= {name: np.where(good, root, np.nan), f"{name}_err": err}
    for k in ("a2", "c2"):
        columns |= {k: np.where(good, kinds[k], np.nan), f"{k}_err": errors[k]}
    table = pd.DataFrame(columns)
    table["status"] = [list(Status)[int(code)].value for code in status]
    return table


def _near(table: pd.DataFrame, random: np.random.Generator) -> pd.DataFrame:
    """Return the same parameters moved by a fifth of their errors."""
    out = table.copy()
    for k in ("A", "e", "M", "a", "c", "a2", "c2"):
        out[k] += 0.2 * out[f"{k}_err"] * random.normal(size=len(out))
    out["status"] = "ok"
    return out


def _fits(edges: np.ndarray, eta: np.ndarray, random: np.random.Generator) -> pd.DataFrame:
    frames = []
    for name, resonance, mass, reach, ratios, angles in (
        ("data-jpsi", "jpsi", 0.0004, 0.7, (-2.3, -0.4, 0.0, 0.4, 2.3), (-0.1, 0.85, 0.93, 0.985)),
        ("data-upsilon", "upsilon", 0.001, 1.6, (-2.1, 0.0, 2.1), (-0.7, 0.0, 0.6)),
        ("data-z", "z", 0.003, 4.0, (-1.6, 0.0, 1.6), (-0.97, 0.0)),
    ):
        grid = np.array(
            [
                (p, m, r, a)
                for p in range(len(eta))
                for m in range(len(eta))
                for r in range(len(ratios))
                for a in range(len(angles))
                if abs(eta[p] - eta[m]) < reach
            ]
        )
        keep = random.random(len(grid)) < 0.35
        p, m, r, a = grid[keep].T
        n = len(p)
        events = np.round(np.exp(random.normal(7.2, 1.0, n)))
        err = mass * 40 / np.sqrt(events)
        pull = random.normal(size=n)
        ndf = np.full(n, 96)
        table = pd.DataFrame(
            {
                "sample": name,
                "category": [f"{resonance}_e{w}_e{x}_r{y}_a{z}" for w, x, y, z in grid[keep]],
                "resonance": resonance,
                "n_events": events.astype(int),
                "mu": 1 + 3e-4 + err * pull,
                "mu_err": err,
                "sigma": 0.011 + 0.003 * (eta[p] ** 2 + eta[m] ** 2) / 6,
                "sigma_err": err,
                "mu_ratio": 1 + err * pull,
                "mu_ratio_err": err,
                "residual": pull,
                "k_plus": 0.12 * np.exp(-np.array(ratios)[r] / 2),
                "k_minus": 0.12 * np.exp(np.array(ratios)[r] / 2),
                "chi2": random.chisquare(96, n),
                "ndf": ndf,
                "eta_plus": eta[p],
                "eta_minus": eta[m],
                "ratio": np.array(ratios)[r],
                "angle": np.array(angles)[a],
            }
        )
        status = np.full(n, "ok", dtype=object)
        status[random.random(n) < 0.05] = "merged"
        status[random.random(n) < 0.03] = "too_few_events"
        status[random.random(n) < 0.005] = "off_neighbours"
        table["status"] = status
        table.loc[status != "ok", "residual"] = np.nan
        frames.append(table)
    return pd.concat(frames, ignore_index=True)


def _other_tables(fits: pd.DataFrame) -> dict[str, pd.DataFrame]:
    bad = fits[~fits["status"].isin(["ok", "merged"])]
    moves = np.array([[800.0, 300, 90, 40, 30], [6.0, 3, 1, 2, 1], [0.04, 0.02, 0.01, 0.06, 0.02]])
    rows = [
        [p, kind, *(move * (0.7 if kind else 1.0))]
        for p, move in enumerate(moves, 1)
        for kind in (0, 1)
    ]
    used = int((fits["status"] == "ok").sum())
    quality = [
        (
            kind,
            method,
            chi2,
            2 * used - 117,
            chi2_distribution.sf(chi2, 2 * used - 117),
            1e-12,
            4,
            True,
            3.2e4,
            used,
            3,
        )
        for kind in ("data", "simulation")
        for method, chi2 in (("chi2", 2 * used - 90.0), ("likelihood", 96.2 * used))
    ]
    return {
        "iterations": iterations(np.array(rows)),
        "dropped": bad[["sample", "category", "n_events", "status"]]
        .rename(columns={"status": "reason"})
        .reset_index(drop=True),
        "extraction": pd.DataFrame(
            quality,
            columns=[
                "kind",
                "method",
                "chi2",
                "ndf",
                "probability",
                "edm",
                "iterations",
                "converged",
                "condition",
                "n_categories",
                "n_undetermined",
            ],
        ),
        "undetermined": pd.DataFrame(
            [
                ("data", 0, f"A_{BAD}", 0.8),
                ("data", 0, f"e_{BAD}", 0.6),
                ("data", 1, f"M_{BAD}", 1.0),
            ],
            columns=["kind", "direction", "parameter", "weight"],
        ),
    }


def closure(seed: int = 2) -> Closure:
    """Return a closure: parameters again and half against half, and the mass along three axes."""
    random = np.random.default_rng(seed)
    frames = []
    for kind, size in (("again", 0.1), ("half", 1.0)):
        error = np.repeat([6e-5, 4e-4, 3e-6, 2e-7, 3e-11], N_ETA)
        pull = size * random.normal(size=len(error))
        frames.append(
            pd.DataFrame(
                {
                    "bin": [f"{kind}_{k}_{i}" for k in KINDS for i in range(N_ETA)],
                    "expected": 0.0,
                    "fitted": pull * error,
                    "error": error,
                    "pull": pull,
                    "status": "ok",
                    "kind": kind,
                }
            )
        )
    edges = {"eta": EDGES, "phi": np.linspace(-np.pi, np.pi, 13)}
    low = np.array([4.0, 5, 6, 7, 8, 10, 13, 20, 200])
    pts = {"jpsi": low, "upsilon": low, "z": np.array([20.0, 30, 35, 40, 43, 46, 50, 60, 300])}
    for resonance, size in (("jpsi", 8e-6), ("upsilon", 4e-5), ("z", 3e-5)):
        for variable, own in (edges | {"pt": pts[resonance]}).items():
            for charge in ("plus", "minus"):
                middle = 0.5 * (own[1:] + own[:-1])
                q = 1 if charge == "plus" else -1
                values = truth(middle if variable == "eta" else np.full(len(middle), 0.3))
                pt = middle if variable == "pt" else np.full(len(middle), 8.0)
                before = 1 - 0.5 * (values[0] - values[1] / pt + q * values[2] * pt)
                error = size * random.uniform(1, 2, len(middle))
                after = 1 + error * random.normal(size=len(middle))
                frames.append(
                    pd.DataFrame(
                        {
                            "bin": [f"{resonance}_{variable}_{charge}_{x:.3g}" for x in own[:-1]],
                            "expected": 1.0,
                            "fitted": after,
                            "error": error,
                            "pull": (after - 1) / error,
                            "status": "ok",
                            "kind": "axis",
                            "sample": f"data-{resonance}",
                            "variable": variable,
                            "charge": charge,
                            "low": own[:-1],
                            "high": own[1:],
                            "before": before,
                            "before_err": error,
                        }
                    )
                )
    return Closure(pd.concat(frames, ignore_index=True), ())
