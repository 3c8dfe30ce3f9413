"""Broken plug-ins are named, with what is wrong, and the others work on."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from calib.toys.generation import generate
from jobs.cli import app
from jobs.events.toys import write_stage1

HERE = Path(__file__).parent
BROKEN = {
    "wrong_shapes": ("WrongShapes", "collect", "mask 'odd' is bool of shape ("),
    "raising": ("Raising", "reduce", "KeyError: 'nothing'"),
    "not_a_number": ("NotANumber", "collect", "'worst' has numbers that are not finite"),
    "not_adding": ("NotAdding", "chunks", "'mean' depend on how the events are cut"),
    "other_name": ("OtherName", "publish", "no correction 'other_name'"),
    "no_fits": ("NoFits", "reduce", "no column ndf, status"),
    "not_there": ("NotThere", "import", "'NotThere'"),
}


def run(*arguments: Any) -> Any:
    return CliRunner().invoke(app, [str(a) for a in arguments])


@pytest.fixture(autouse=True, scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The broken ones and a good one, as a package that is installed."""
    folder = tmp_path_factory.mktemp("installed")
    made = folder / "of_others-0.1.dist-info"
    made.mkdir()
    (made / "METADATA").write_text("Metadata-Version: 2.1\nName: of-others\nVersion: 0.1\n")
    lines = [f"{name} = broken:{found[0]}" for name, found in BROKEN.items()]
    lines.append("a_good_one = mean_mass:MeanMass")
    (made / "entry_points.txt").write_text("\n".join(["[dimucal.calibrations]", *lines, ""]))
    with pytest.MonkeyPatch.context() as patch:
        for path in (HERE, HERE.parent / "jobs", folder):
            patch.syspath_prepend(path)
        yield
    sys.modules.pop("broken", None)


def test_they_are_listed_with_what_is_wrong() -> None:
    found = run("plugins", *BROKEN, "a_good_one", "--json")
    assert found.exit_code == 3, found.output
    by_name = {p["name"]: p for p in json.loads(found.stdout)["plugins"]}
    assert set(by_name) == {*BROKEN, "a_good_one"}
    assert by_name["a_good_one"]["keeps_contract"]
    assert by_name["a_good_one"]["package"] == "of-others" and not by_name["a_good_one"]["ours"]
    for name, (_, check, text) in BROKEN.items():
        last = by_name[name]["checks"][-1]
        assert not by_name[name]["keeps_contract"]
        assert last["check"] == check and text in last["text"], (name, last)


def test_the_list_without_a_look(capsys: pytest.CaptureFixture[str]) -> None:
    found = run("plugins", "--no-check")
    assert found.exit_code == 0 and "of-others 0.1" in found.output
    assert "not looked at" in found.output
    found = run("plugins", "absent", "-q")
    assert found.exit_code == 2 and "there is no calibration 'absent'" in found.stderr


@pytest.mark.parametrize("name", ["wrong_shapes", "raising", "not_a_number", "not_there"])
def test_a_run_says_whose_fault_it_is(name: str, tmp_path: Path) -> None:
    write_stage1(tmp_path / "z.parquet", generate("z", 2000, seed=1).pairs, simulation=False)
    (tmp_path / "c.yaml").write_text(
        yaml.safe_dump(
            {
                "name": "x",
                "calibration": name,
                "cluster": {"kind": "inline"},
                "samples": [
                    {"name": "data", "resonance": "z", "format": "stage1", "files": ["z.parquet"]}
                ],
            }
        )
    )
    found = run("run", tmp_path / "c.yaml", "--out", tmp_path / "out", "-q")
    assert found.exit_code == (2 if name == "not_there" else 1), found.output
    assert f"calibration '{name}'" in found.stderr and BROKEN[name][2] in found.stderr
    assert not (tmp_path / "out" / "payload.json").exists()


def test_the_others_find_their_payloads(tmp_path: Path) -> None:
    from calib import calibrations

    found = calibrations.of_payload({"corrections": [{"name": "momentum_scale"}]})
    assert found.name == "momentum_scale"
