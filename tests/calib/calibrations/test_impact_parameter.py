"""Impact-parameter resolution: a and b as put in, from events to payload and back to events."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import correctionlib
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import uproot
import yaml
from typer.testing import CliRunner

from calib.calibrations import build
from calib.calibrations.base import Calibration
from calib.errors import InputError
from calib.events.histograms import add
from calib.events.pairs import Muons, Pairs
from calib.physics.kinematics import p_tilde
from calib.results import Closure, Pass, Reduction, Status
from calib.schema import Sample
from calib.toys.generation import generate, named_truth
from calib.toys.impact_parameter import CM, ImpactTruth
from jobs.cli import app
from jobs.config.schema import Config
from jobs.events.toys import write_toys
from processors.fill import fill

ETA = (-2.4, -1.2, 0.0, 1.2, 2.4)
TRUTH = ImpactTruth(
    ETA,
    d0_a=(20.0, 13.0, 12.0, 18.0),
    d0_b=(80.0, 62.0, 60.0, 76.0),
    z0_a=(42.0, 30.0, 28.0, 40.0),
    z0_b=(85.0, 68.0, 65.0, 88.0),
)
SETTINGS: dict[str, Any] = {
    "eta": list(ETA),
    "p_tilde": [0.5, 1.0, 1.7, 2.5, 3.5, 5.0, 7.0, 10.0, 16.0, 40.0],
    "bins": 100,
}


def pairs_of(n: int, seed: int, simulation: bool = False, **changes: Any) -> Pairs:
    truth = named_truth("default", "jpsi", simulation)
    assert truth is not None
    truth = replace(truth, impact_parameter=replace(TRUTH, **changes))
    return generate("jpsi", n, seed=seed, truth=truth, simulation=simulation).pairs


def calibration(simulated: bool = False, **settings: Any) -> Calibration:
    def sample(name: str, simulation: bool) -> Sample:
        return Sample(
            name=name, resonance="jpsi", format="stage1", files=("-",), simulation=simulation
        )

    samples = (sample("data", False), sample("mc", True))[: 1 + simulated]
    values = {**SETTINGS, **settings}
    return build(Config(name="x", calibration="impact_parameter", samples=samples, settings=values))


def reduced(
    own: Calibration, *events: Pairs, edits: Any = None
) -> tuple[Reduction, Callable[[Reduction], Closure]]:
    """Return the reduction of the events of each sample, and what makes the closure."""

    def sums(walk: Pass) -> Any:
        return {
            s.name: fill(own.collect(e, s, walk)) for s, e in zip(own.samples, events, strict=True)
        }

    found = own.reduce(sums(Pass()), edits or {})
    return found, lambda reduction: own.closure(sums(own.closure_pass(reduction)), reduction)


def test_a_and_b_are_those_put_in() -> None:
    """With 5 % of tails: pulls of width 1, and a and b right to 0.2 um on average."""
    own, differences, pulls = calibration(), [], []
    for seed in (1, 2, 3):
        found, closure = reduced(own, pairs_of(70_000, seed))
        table = found.tables["parameters"]
        assert set(table["status"]) == {"ok"} and all(c.passed for c in found.checks)
        for what in "ab":
            true = np.concatenate([getattr(TRUTH, f"{name}_{what}") for name in ("d0", "z0")])
            differences.append(table[what] - true)
            pulls.append(differences[-1] / table[f"{what}_err"])
    d, p = np.array(differences), np.array(pulls)
    assert abs(d[0::2, :4].mean()) < 0.2 and abs(d[0::2, 4:].mean()) < 0.35  # a of d0, of z0
    assert abs(p.mean()) < 4 / np.sqrt(p.size) and 0.7 < p.std() < 1.3
    tested = closure(found)
    pull = tested.table["pull"].to_numpy()
    assert all(c.passed for c in tested.checks) and np.isfinite(pull).sum() > 50
    assert np.allclose(tested.table["expected"], 1.0)
    names, covariance = (found.arrays["covariance"][k] for k in ("names", "covariance"))
    assert list(names[:4]) == ["d0_e0_a", "d0_e0_b", "d0_e1_a", "d0_e1_b"]
    assert np.allclose(
        np.sqrt(np.diagonal(covariance))[:2], table.loc[0, ["a_err", "b_err"]].astype(float)
    )


def test_a_wrong_resolution_of_one_half_does_not_close() -> None:
    own = calibration()
    found, closure = reduced(own, pairs_of(40_000, 4))
    state = dict(found.state)
    state["z0_halves"] = state["z0_halves"] * 1.1**2
    state["z0_edited"] = state["z0_halves"]
    tested = closure(replace(found, state=state))
    verdict = {c.name: c.passed for c in tested.checks}
    assert not verdict["closure"] and verdict["closure_coverage"]


def test_chunks_add_up() -> None:
    own, events = calibration(), pairs_of(6_000, 5)
    sample = own.samples[0]
    whole = fill(own.collect(events, sample, Pass()))
    parts = add(
        fill(own.collect(events.take(np.arange(i, i + 2000)), sample, Pass()))
        for i in (0, 2000, 4000)
    )
    assert set(whole) == set(parts) and whole["d0/counts"].sum() > 11_000
    for name, values in whole.items():
        assert np.allclose(parts[name], values, rtol=1e-12, atol=0, equal_nan=True), name


def test_difference_is_free_of_the_vertex() -> None:
    """An offset of the vertex, the same for both muons of a pair, is in a of single muons."""
    events = pairs_of(100_000, 6, tail=0.0)
    random = np.random.default_rng(1)
    x, y, z = 30 * CM * random.normal(size=(3, len(events)))

    def moved(muons: Any) -> Any:
        dxy = muons.extra["dxy"] - x * np.sin(muons.phi) + y * np.cos(muons.phi)
        return replace(muons, extra={**muons.extra, "dxy": dxy, "dz": muons.extra["dz"] + z})

    events = replace(events, leading=moved(events.leading), subleading=moved(events.subleading))
    rough = {"gates": {"relative_error": 2.0, "neighbours": 100.0, "chi2_probability": 0.0}}
    points = {"p_tilde": [0.5, 1.5, 3.0, 5.0, 9.0, 40.0]}
    (single, _), (difference, _) = (
        reduced(calibration(observable=o, **rough, **points), events)
        for o in ("single", "difference")
    )
    for found, low, high in ((single, 35.0, 60.0), (difference, 15.0, 33.0)):
        table = found.tables["parameters"]
        z0 = table[table["observable"] == "z0"]["a"].to_numpy()[1:3]
        assert np.all((z0 > low) & (z0 < high)), z0


def test_simulation_beside_the_data_has_its_own() -> None:
    own = calibration(simulated=True)
    better = {
        f"{n}_{w}": tuple(0.8 * x for x in getattr(TRUTH, f"{n}_{w}"))
        for n in ("d0", "z0")
        for w in "ab"
    }
    simulated = pairs_of(40_000, 8, simulation=True, **better)
    found, closure = reduced(own, pairs_of(40_000, 7), simulated)
    assert all(c.passed for c in closure(found).checks)
    table = found.tables["parameters"].set_index(["sample", "observable"])
    ratio = table.loc[("simulation", "d0"), "a"].mean() / table.loc[("data", "d0"), "a"].mean()
    assert ratio == pytest.approx(0.8, abs=0.03)
    document = own.publish(found)
    assert all(c.passed for c in own.check_payload(document, found))
    sigma = [
        own.apply(document, p)["mu1_d0_sigma"]
        for p in (simulated, replace(simulated, gen_mass=None))
    ]
    assert np.median(sigma[0] / sigma[1]) == pytest.approx(0.8, abs=0.02)


def test_a_bin_without_events_stands_on_the_other_side() -> None:
    own, events = calibration(), pairs_of(40_000, 9)
    gone = (events.leading.eta > 1.2) | (events.subleading.eta > 1.2)
    found, _ = reduced(own, events.take(~gone))
    table = found.tables["parameters"].set_index(["observable", "bin"])
    row = table.loc[("d0", "e3")]
    assert (row["status"], row["own_status"], row["held_at"]) == (
        "merged",
        "too_few_events",
        "e0e3",
    )
    assert row["a"] == pytest.approx(table.loc[("d0", "e0"), "a"], rel=0.05)
    # an error in common is a correlation of one
    names, c = list(found.arrays["covariance"]["names"]), found.arrays["covariance"]["covariance"]
    assert c[names.index("d0_e3_a"), names.index("d0_e3_a")] > 0
    nothing, _ = reduced(own, events.take(gone & ~gone))
    assert not any(c.passed for c in nothing.checks if c.name == "bins_usable")
    assert {Status(s).usable for s in nothing.tables["parameters"]["status"]} == {False}


def test_settings_and_edits_are_checked() -> None:
    own = calibration()
    assert own.settings.names("d0")[:2] == ["d0_e0_p0", "d0_e0_p1"]  # type: ignore[attr-defined]
    for settings, said in (
        ({"eta": [1, 0]}, "settings.eta'.*not ascending"),
        ({"p_tilde": [0, 1, 2]}, "0 is not above 0"),
        ({"closure": {"pt": [2, 1]}}, "closure.pt"),
    ):
        with pytest.raises(InputError, match=said):
            calibration(**settings)
    for edits, said in (
        ({"d0_e9_p0": {}}, "does not exist"),
        ({"d0_e1_p2": {"range": 3}}, "use, reach"),
        ({"d0_e1_p2": {"reach": -3}}, "key 'reach'"),
    ):
        with pytest.raises(InputError, match=said):
            own.reduce({"data": {}}, edits)


def test_a_payload_of_the_version_before_is_read_as_it_was() -> None:
    """Written when each bin had formulas with numbers of its own.

    Of d0 it has a value in its second bin of three only (bad_chi2, ok, too_few_events), of z0 in
    the first two.
    """
    kept = json.loads(Path(__file__).with_name("impact_parameter_before.json").read_text())
    own, payload = calibration(), kept["payload"]
    pd.testing.assert_frame_equal(
        own.values(payload), pd.DataFrame(kept["values"]), check_dtype=False, rtol=1e-12
    )
    columns = {n: np.array(x) for n, x in kept["muons"].items()}
    n = len(columns["mu1_pt"])
    muons = [
        Muons(*(columns[f"{mu}_{c}"] for c in ("pt", "eta", "phi")), np.ones(n, dtype=np.int64))
        for mu in ("mu1", "mu2")
    ]
    number = np.arange(n, dtype=np.uint64)
    found = own.apply(payload, Pairs(muons[0], muons[1], np.ones(n), number, number, number))
    assert list(found) == list(kept["applied"]) and {0, 3} <= set(found["mu2_d0_status"])
    for name, values in kept["applied"].items():
        np.testing.assert_allclose(found[name], np.array(values, dtype=float), rtol=1e-12)
    reduction, _ = reduced(own, pairs_of(20_000, 10))
    (table,) = (s.tables["moved_a"] for s in own.sections(reduction, None, payload)[1:])
    assert table["bin"].tolist()[:4] == ["d0 e0", "d0 e1", "d0 e2", "d0 e3"]
    known = [False, False, True, False, True, True, True, False]
    assert np.isfinite(table["earlier"]).tolist() == known


# files and commands ----------------------------------------------------------------------------
def run(*arguments: Any) -> Any:
    return CliRunner().invoke(app, [str(a) for a in arguments])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same toys in both formats, and a run on stage1."""
    out = tmp_path_factory.mktemp("impact")
    truth = named_truth("default", "jpsi", False)
    assert truth is not None
    made = generate("jpsi", 50_000, seed=1, truth=replace(truth, impact_parameter=TRUTH))
    for format in ("stage1", "nanoaod"):
        write_toys(out / format, made, format, 2)
        values = {
            "name": "ip",
            "calibration": "impact_parameter",
            "settings": SETTINGS,
            "samples": [
                {
                    "name": "data",
                    "resonance": "jpsi",
                    "format": format,
                    "files": [str(out / format)],
                }
            ],
            "cluster": {"kind": "inline"},
            "chunk_size": 20_000,
        }
        (out / f"{format}.yaml").write_text(yaml.safe_dump(values))
    found = run("run", out / "stage1.yaml", "--out", out / "run")
    assert found.exit_code == 0, found.output
    return out


NUMBERS = (
    "fits.csv",
    "parameters.csv",
    "closure.csv",
    "payload.json",
    "covariance.npz",
    "curves.npz",
)


def test_any_format_and_workers(folder: Path, tmp_path: Path) -> None:
    values = yaml.safe_load((folder / "nanoaod.yaml").read_text())
    values["cluster"] = {"kind": "local", "workers": 2}
    (tmp_path / "two.yaml").write_text(yaml.safe_dump(values))
    found = run("collect", tmp_path / "two.yaml", "--out", tmp_path / "two")
    assert found.exit_code == 0, found.output
    sums = [x / "histograms" / "main.data.npz" for x in (folder / "run", tmp_path / "two")]
    assert sums[0].read_bytes() == sums[1].read_bytes()


def test_report_and_table(folder: Path) -> None:
    page = (folder / "run" / "report.html").read_text()
    assert "Resolution of the impact parameters" in page
    plots = {path.name for path in (folder / "run" / "plots").iterdir()}
    assert {"parameters.png", "widths_d0.svg", "widths_z0.png", "closure.png"} <= plots
    table = pd.read_csv(folder / "run" / "parameters.csv")
    assert len(table) == 8 and set(table["status"]) == {"ok"}


def test_payload_with_correctionlib_alone(folder: Path) -> None:
    path = folder / "run" / "payload.json"
    payload = correctionlib.CorrectionSet.from_file(str(path))
    values = calibration().values(json.loads(path.read_text())).set_index("name")
    assert len(values) == 16 and set(values["status"]) == {"ok"}
    assert values.loc["d0 eta [0, 1.2) phi [-3.14, 3.14) a", "value"] == pytest.approx(12, abs=1)
    table = pd.read_csv(folder / "run" / "parameters.csv").set_index(["observable", "bin"])
    for name in ("d0", "z0"):
        row, pt, eta = table.loc[(name, "e2")], 7.0, 0.6
        own, sigma = payload[f"impact_parameter_{name}"], payload[f"impact_parameter_sigma_{name}"]
        assert own.evaluate("a", eta, 0.1) == pytest.approx(row["a"])
        assert own.evaluate("status", eta, 0.1) == 0
        u = float(p_tilde(np.array([pt]), np.array([eta]), name)[0]) ** -2
        expected = np.sqrt(row["a"] ** 2 + row["b"] ** 2 * u)
        nom, up, down = (sigma.evaluate(v, eta, 0.1, pt) for v in ("nom", "up", "down"))
        assert nom == pytest.approx(expected) and up - nom == pytest.approx(nom - down)
        slope = np.array([row["a"], row["b"] * u]) / expected
        error = np.array([row["a_err"], row["b_err"]])
        correlated = np.outer(error, error) * [[1, row["correlation"]], [row["correlation"], 1]]
        assert up - nom == pytest.approx(np.sqrt(slope @ correlated @ slope), rel=1e-6)


def test_apply(folder: Path, tmp_path: Path) -> None:
    payload, source = folder / "run" / "payload.json", folder / "stage1" / "jpsi_000.parquet"
    table = pq.read_table(source).slice(0, 2000)
    # every second row with its leading muon in the second place
    odd, other = np.arange(len(table)) % 2 == 1, {"mu1": "mu2", "mu2": "mu1"}
    swapped = {
        n: np.where(odd, table.column(other.get(n[:3], n[:3]) + n[3:]), table.column(n))
        for n in table.column_names
    }
    pq.write_table(pa.table(swapped), tmp_path / "in.parquet")
    found = run("apply", payload, tmp_path / "in.parquet", tmp_path / "out.parquet")
    assert found.exit_code == 0, found.output
    made = pq.read_table(tmp_path / "out.parquet")
    out = {n: made.column(n).to_numpy() for n in made.column_names}
    parameters = pd.read_csv(folder / "run" / "parameters.csv").set_index("observable")
    for name in ("d0", "z0"):
        for mu in ("mu1", "mu2"):
            eta, pt = out[f"{mu}_eta"].astype(float), out[f"{mu}_pt"].astype(float)
            at = np.digitize(eta, ETA) - 1
            a, b = (parameters.loc[name, w].to_numpy()[at] for w in "ab")
            assert np.allclose(out[f"{mu}_{name}_sigma"], np.hypot(a, b / p_tilde(pt, eta, name)))
            assert set(out[f"{mu}_{name}_status"]) == {0}
            assert np.all(out[f"{mu}_{name}_sigma_err"] > 0)
    done = run("apply", payload, folder / "nanoaod" / "jpsi_001.root", tmp_path / "out.root")
    assert done.exit_code == 0, done.output
    with uproot.open(tmp_path / "out.root") as file:
        keys = file["Events"].keys()
        assert {"mu1_d0_sigma", "mu2_z0_sigma_err", "Muon_dxy", "Muon_dzErr"} <= set(keys)


def test_one_category_again(folder: Path, tmp_path: Path) -> None:
    import shutil

    copy = Path(shutil.copytree(folder / "run", tmp_path / "copy"))
    chunks = sorted(copy.glob("histograms/**/chunks/*"))
    times = [p.stat().st_mtime_ns for p in chunks]
    done = run("reduce", copy, "--category", "d0_e1_p3", "--set", "use=false")
    assert done.exit_code == 0, done.output
    fits = pd.read_csv(copy / "fits.csv").set_index("category")
    assert fits.loc["d0_e1_p3", "status"] == "left_out"
    before, after = (pd.read_csv(x / "parameters.csv") for x in (folder / "run", copy))
    moved = (before["a"] != after["a"]).to_numpy()
    assert moved.tolist() == [False, True] + 6 * [False]
    closure = pd.read_csv(copy / "closure.csv").set_index(["bin", "half"])
    assert closure.loc[("d0 e1", 0), "expected"] != 1 and closure.loc[("d0 e2", 0), "expected"] == 1
    assert [p.stat().st_mtime_ns for p in chunks] == times and chunks
    wrong = run("reduce", copy, "--category", "d0_e1_p99", "--set", "use=false")
    assert wrong.exit_code == 2 and "d0_e1_p99" in wrong.stderr


def test_init_and_refusals(folder: Path, tmp_path: Path, shared_data: Path) -> None:
    made = run(
        "init", tmp_path / "ip.yaml", "--calibration", "impact_parameter", "--resonance", "jpsi"
    )
    assert made.exit_code == 0 and "p_tilde" in (tmp_path / "ip.yaml").read_text()
    values = yaml.safe_load((tmp_path / "ip.yaml").read_text())
    values["samples"] = [
        {
            "name": "data",
            "resonance": "z",
            "format": "stage1",
            "files": [str(shared_data / "cms2011_zmumu.stage1.parquet")],
        }
    ]
    (tmp_path / "real.yaml").write_text(yaml.safe_dump(values))
    found = run("run", tmp_path / "real.yaml", "--out", tmp_path / "out")
    assert found.exit_code == 2 and "mu1_d0" in found.stderr and "in cm" in found.stderr
    assert not (tmp_path / "out" / "fits.csv").exists()


def test_real_nanoaod_is_read(shared_data: Path, tmp_path: Path) -> None:
    """40 events are too few for a result, and it says so."""
    values = {
        "name": "ip",
        "calibration": "impact_parameter",
        "cluster": {"kind": "inline"},
        "settings": SETTINGS,
        "samples": [
            {
                "name": "data",
                "resonance": "z",
                "format": "nanoaod",
                "files": [str(shared_data / "cms2018_dimuon.nanoaod.root")],
            }
        ],
    }
    (tmp_path / "ip.yaml").write_text(yaml.safe_dump(values))
    found = run("run", tmp_path / "ip.yaml", "--out", tmp_path / "out")
    assert found.exit_code == 3, found.output
    checks = json.loads((tmp_path / "out" / "verdict.json").read_text())["checks"]
    assert not next(c for c in checks if c["name"] == "bins_usable")["passed"]
