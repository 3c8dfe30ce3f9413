"""The version of the code that the sums depend on: all of it, and not the rest."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from calib import calibrations
from calib.calibrations.base import Calibration
from jobs.run import provenance
from jobs.run.provenance import AFTER_EVENTS, EVENT_LOOP, ROOT, reach_of

HERE = Path(__file__).parent
OURS = ("mass_resolution", "momentum_scale")
NAMES = frozenset(vars(Calibration)) - AFTER_EVENTS


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Our source, to be changed."""
    folder = tmp_path_factory.mktemp("copy")
    for name in ("calib", "processors"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    return folder


def texts(name: str, root: Path) -> list[tuple[str, str]]:
    places = {n: root / n for n in ("calib", "processors")}
    reach = reach_of(calibrations.get(name), EVENT_LOOP, NAMES, places)
    assert reach is not None
    return reach.texts()


@pytest.fixture(scope="module")
def unchanged() -> dict[str, list[tuple[str, str]]]:
    return {name: texts(name, ROOT) for name in OURS}


@pytest.mark.parametrize("name", OURS)
def test_the_reduction_and_the_figures_are_not_part_of_it(
    name: str, copy: Path, unchanged: dict[str, list[tuple[str, str]]]
) -> None:
    folder = copy / "calib" / "calibrations" / name
    others = [
        copy / "calib" / "fit.py",
        copy / "calib" / "plots.py",
        folder / "sections.py",
        folder / "reduction.py",
    ]
    kept = {path: path.read_text() for path in others}
    for path, text in kept.items():
        path.write_text(f"{text}\n\nUNUSED = 1\n".replace("return", "1 / 0; return", 1))
        assert path.read_text() != text
    assert texts(name, copy) == unchanged[name]
    for path, text in kept.items():
        path.write_text(text)


@pytest.mark.parametrize("name", OURS)
@pytest.mark.parametrize(
    ("path", "old", "new"),
    [
        ("processors/fill.py", "np.diff(edges) > 0", "np.diff(edges) >= 0"),
        ("processors/selection.py", "MAX_ABS_ETA = ", "MAX_ABS_ETA = 0 * "),
        ("calib/physics/kinematics.py", "exp(eta1)", "exp(-eta1)"),
        ("calib/physics/embedding.py", "return", "1 / 0; return"),
        ("calib/calibrations/{name}/collect.py", "return", "1 / 0; return"),
        ("calib/calibrations/{name}/__init__.py", "return tuple(s for", "return list(s for"),
    ],
)
def test_whatever_makes_the_sums_is_part_of_it(
    name: str,
    path: str,
    old: str,
    new: str,
    copy: Path,
    unchanged: dict[str, list[tuple[str, str]]],
) -> None:
    file = copy / path.format(name=name)
    kept = file.read_text()
    assert old in kept
    file.write_text(kept.replace(old, new))
    assert texts(name, copy) != unchanged[name]
    file.write_text(kept)


def test_without_source_all_of_it_counts() -> None:
    made = type("Made", (calibrations.get("mass_resolution"),), {"__module__": "__main__"})
    assert reach_of(made, EVENT_LOOP, NAMES, {"calib": ROOT / "calib"}) is None
    assert provenance.code_of_events(made) == provenance.code(made)


TRACED = """
import sys
from pathlib import Path
from calib import calibrations
from calib.toys.generation import generate
from jobs import steps
from jobs.config.complete import adopt, prepare
from jobs.run.provenance import AFTER_EVENTS, EVENT_LOOP, ROOT, reach_of
from jobs.event_loop.collection import collect
from jobs.clusters import Workers
from jobs.events.toys import write_nanoaod, write_stage1
from calib.calibrations.base import Calibration
from calib.results import Pass
import numpy as np
import calib.events.vecmath, processors.readers.stage1, processors.calibration

calib.events.vecmath._bits = lambda x: int(np.float64(x).view(np.int64))
calib.events.vecmath._from_bits = lambda i: float(np.uint64(int(i) % 2**64).view(np.float64))

folder, name, resonance = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
def sample(i, kind, simulation):
    made = generate(resonance, 120, seed=i, first_event=1 + 1000 * i, simulation=simulation)
    write = write_stage1 if kind == "stage1" else write_nanoaod
    path = folder / f"{i}.{'parquet' if kind == 'stage1' else 'root'}"
    write(path, made.pairs, simulation)
    return (f"- {{name: s{i}, resonance: {resonance}, format: {kind}, files: [{path}],"
            f" simulation: {str(simulation).lower()}}}\\n")
samples = "".join(sample(i, kind, i % 2 == 0)
                  for i, kind in enumerate(("stage1", "stage1", "nanoaod", "nanoaod")))
(folder / "c.yaml").write_text(
    f"name: n\\ncalibration: {name}\\nsamples:\\n{samples}cluster: {{kind: inline}}\\n"
    + ("settings: {line_shape: embedded, compare: [simulation]}\\n" if "mass" in name else ""))
work = prepare(folder / "c.yaml", folder / "out")
adopt(work)
inspection = steps.inspect(work)
ran = set()
def trace(frame, event, argument):
    code = frame.f_code
    inside = frame
    while event == "call" and inside is not None:
        if inside.f_code is process:
            ran.add((code.co_filename, code.co_firstlineno, code.co_qualname))
            break
        inside = inside.f_back
process = processors.readers.stage1.work.__code__
sys.setprofile(trace)
with Workers(work.config.cluster) as workers:
    collect(work, inspection, Pass(), workers, steps.silent)
sys.setprofile(None)
places = {n: ROOT / n for n in ("calib", "processors")}
reach = reach_of(calibrations.get(name), EVENT_LOOP, frozenset(vars(Calibration)) - AFTER_EVENTS,
                 places)
ours = {(f, line, q) for f, line, q in ran
        if any(f.startswith(f"{p}/") for p in places.values()) and not q.endswith(
            ("<module>", "__init__")) and "<lambda>" not in q}
missed = sorted(f"{q} in {f}:{line}" for f, line, q in ours if not reach.covers(Path(f), line))
print(len(ours))
print("\\n".join(missed))
"""


@pytest.mark.parametrize(
    ("name", "resonance"), [("mass_resolution", "z"), ("momentum_scale", "jpsi")]
)
def test_whatever_runs_in_the_event_loop_is_part_of_it(
    name: str, resonance: str, tmp_path: Path
) -> None:
    """Not by reading the source, but by watching: compiled loops run as Python here."""
    found = subprocess.run(
        [sys.executable, "-c", TRACED, str(tmp_path), name, resonance],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        env={**os.environ, "NUMBA_DISABLE_JIT": "1"},
    )
    assert found.returncode == 0, found.stderr[-2000:]
    n, *missed = found.stdout.split("\n")
    assert int(n) > 60 and not any(missed), missed
