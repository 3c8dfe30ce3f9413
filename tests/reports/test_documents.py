"""YAML and JSON as people write them: a key twice, plain words, comments that are taken away."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from calib.documents import json_values, yaml_text, yaml_values
from calib.errors import InputError
from calib.payload.payload import parsed
from calib.schema import validated
from jobs.catalog.luminosities import read_table
from jobs.cli import app
from jobs.config.edits import edited
from jobs.config.schema import Cluster, configuration, load
from jobs.config.template import commented
from jobs.nightly import settings as nightly
from processors.certified import load_certified

ROOT = Path(__file__).resolve().parents[2]
CONFIG = """name: z
calibration: mass_resolution
samples:
  - {name: data, resonance: z, format: stage1, files: [data]}
cluster: {kind: inline}
"""
TWICE = [
    ("selection: {leading_pt: 35}\nselection: {subleading_pt: 22}\n", "selection", 7),
    ("selection:\n  leading_pt: 35\n  abs_eta: 2\n  leading_pt: 26\n", "leading_pt", 9),
    ("settings: {gates: {min_events: 500, min_events: 2000}}\n", "min_events", 6),
    ("settings: {compare: [{a: 1, a: 2}]}\n", "a", 6),
    ("seed: 1\n'seed': 2\n", "seed", 7),
]


@pytest.mark.parametrize(("more", "key", "line"), TWICE)
def test_a_key_twice_in_a_configuration(tmp_path: Path, more: str, key: str, line: int) -> None:
    (tmp_path / "z.yaml").write_text(CONFIG + more)
    with pytest.raises(InputError, match=rf"z.yaml.*key '{key}' in line {line} stands in line"):
        load(tmp_path / "z.yaml")


def test_a_key_twice_wherever_yaml_is_read(tmp_path: Path) -> None:
    (tmp_path / "site.yaml").write_text("kind: local\nworkers: 2\nworkers: 3\n")
    (tmp_path / "z.yaml").write_text(CONFIG.replace("kind: inline", "site: site.yaml"))
    with pytest.raises(InputError, match=r"site.yaml.*key 'workers' in line 3"):
        load(tmp_path / "z.yaml")
    (tmp_path / "n.yaml").write_text("name: a\nstore: s\nname: b\n")
    with pytest.raises(InputError, match=r"n.yaml.*key 'name' in line 3"):
        nightly.load(tmp_path / "n.yaml")
    with pytest.raises(InputError, match="option --set.*key 'a'"):
        edited({}, "one", ["fit.range={a: 1, a: 2}"])


def test_a_key_twice_wherever_json_is_read(tmp_path: Path) -> None:
    path = tmp_path / "some.json"
    path.write_text('{"315252": [[1, 5]],\n "315252": [[7, 9]]}')
    with pytest.raises(InputError, match=r"some.json.*key '315252' in line 2 stands in line 1"):
        load_certified(path)
    path.write_text('{"315252": 0.1,\n\n "315252": 0.2}')
    with pytest.raises(InputError, match=r"some.json.*key '315252' in line 3"):
        read_table(path)
    with pytest.raises(InputError, match=r"p.json.*key 'name' in line 1"):
        parsed(b'{"schema_version": 2, "corrections": [{"name": "a", "name": "b"}]}', "p.json")
    path.write_text('{"a": [1, 1, 1], "a": [2, 2, 2]}')
    out = ["toys", str(tmp_path / "t"), "--resonance", "z", "--events", "9", "--truth", str(path)]
    found = CliRunner().invoke(app, out)
    assert found.exit_code == 2 and "key 'a'" in found.stderr


def test_keys_that_are_no_duplicates() -> None:
    found = yaml_values("a: &a {x: 1, y: 2}\nb: {<<: *a, x: 3}\nc: *a\n")
    assert found["b"] == {"x": 3, "y": 2} and found["c"] == {"x": 1, "y": 2}
    assert json_values('{"a": {"b": 1}, "b": {"b": "\\"b\\": {"}}') == {
        "a": {"b": 1},
        "b": {"b": '"b": {'},
    }


def test_plain_words_are_what_they_say() -> None:
    words = "on off yes no y n On NO 02:00:00 12:30 2018-05-01 0644 = v1.2".split()
    assert yaml_values("\n".join(f"- {word}" for word in words)) == words
    assert list(yaml_values("{on: 1, no: 2}")) == ["on", "no"]
    numbers = yaml_values("[1e-3, 1.5E3, .5, -2, 1_000, 0x10, 0o17, 1.]")
    assert numbers == [1e-3, 1500.0, 0.5, -2, 1000, 16, 15, 1.0]
    assert yaml_values("[true, False, null, ~]") == [True, False, None, None]


def test_what_is_dumped_comes_back() -> None:
    values = {"on": ["no", "02:00", "1e-3", "2018-05-01", "0644", "", "null", 1e-5, 2**60, True]}
    values["y"] = "Y"
    assert '"y": "Y"' in yaml_text(values).replace("'", '"')
    assert yaml_values(yaml_text(values)) == values == yaml.safe_load(yaml_text(values))


def test_words_for_true_and_false_still_serve(tmp_path: Path) -> None:
    config = configuration(yaml_values(CONFIG + "selection: {opposite_charge: off}\n"), "z.yaml")
    assert config.selection.opposite_charge is False
    job = yaml_values("{kind: slurm, job: {walltime: 02:00:00}}")
    assert validated(Cluster, job, "c").job.walltime == "02:00:00"


# examples -------------------------------------------------------------------------------------
def uncommented(text: str) -> list[str]:
    """Return the text with each commented example made valid, one block of them at a time."""
    lines, found = text.splitlines(), []
    example = re.compile(r"^(\s*)# ((?:- |  )\S.*|- \{.*\})$")
    start = 0
    while start < len(lines):
        if not example.match(lines[start]):
            start += 1
            continue
        stop = start
        while stop < len(lines) and example.match(lines[stop]):
            stop += 1
        own = [example.sub(r"\1\2", line) for line in lines[start:stop]]
        found.append("\n".join([*lines[:start], *own, *lines[stop:]]) + "\n")
        start = stop
    return found


def test_commented_examples_of_a_nightly_are_valid(tmp_path: Path) -> None:
    shipped = (ROOT / "jobs" / "pages" / "templates" / "nightly.yaml").read_text()
    texts = uncommented(shipped.replace("notify: []", "notify:"))
    assert len(texts) == 2
    assert "on: [bad, held, failed, trouble]" in texts[1] and "webhook_env" in texts[1]
    path = tmp_path / "nightly.yaml"
    path.write_text(texts[1])
    told = nightly.load(path).notify
    assert told[0].on == ("bad", "held", "failed", "trouble") and told[1].timeout == 30
    path.write_text(uncommented(shipped)[0])
    assert [s.name for s in nightly.load(path).samples] == ["jpsi", "z", "jpsi-mc"]
    for word in ("on", "off", "yes", "no"):
        path.write_text(shipped.replace("notify: []", f"notify: {word}"))
        with pytest.raises(InputError, match=f"key 'notify': found '{word}', expected a list"):
            nightly.load(path)


@pytest.mark.parametrize("name", ["mass_resolution", "momentum_scale", "impact_parameter"])
def test_commented_examples_of_a_configuration_are_valid(tmp_path: Path, name: str) -> None:
    texts = uncommented(commented(name, None))
    assert texts
    for i, text in enumerate(texts):
        (tmp_path / f"{i}.yaml").write_text(text)
        assert load(tmp_path / f"{i}.yaml").samples[-1].simulation


def test_values_in_comments_of_sites_are_valid(tmp_path: Path) -> None:
    tried = 0
    for path in sorted((ROOT / "jobs" / "sites").glob("*.yaml")):
        text = path.read_text()
        for line in text.splitlines():
            # an empty value with a comment that begins as a value does
            for value in re.findall(r'^\s+\w+: (?:\[\]|\{\}) +# (["\w-].*)$', line):
                is_value = value.startswith(('"', "- {")) or value.startswith("volumes:")
                if not is_value:
                    continue
                shown = value.removeprefix("- ")
                key = line.split(":")[0]
                opened = f"{{{shown}}}" if shown.startswith("volumes") else f"[{shown}]"
                changed = yaml_values(text.replace(line, f"{key}: {opened}"))
                assert validated(Cluster, changed, str(path)) is not None
                tried += 1
    assert tried >= 4


def as_json(values: Any) -> bytes:
    return json.dumps(values).encode()


def test_payloads_with_words_for_infinity() -> None:
    binning: dict[str, Any] = {
        "nodetype": "binning",
        "input": "x",
        "edges": ["-inf", 0.0, "inf"],
        "content": [1.0, 2.0],
        "flow": "error",
    }
    correction = {
        "name": "a",
        "version": 1,
        "inputs": [{"name": "x", "type": "real"}],
        "output": {"name": "y", "type": "real"},
        "data": binning,
    }
    document = {"schema_version": 2, "corrections": [correction]}
    assert parsed(as_json(document), "p.json")["corrections"][0]["data"]["edges"][0] == "-inf"
    raw = as_json(document).replace(b'"inf"', b"Infinity")
    with pytest.raises(InputError, match="key 'edges' in line 1 is infinity, which JSON has not"):
        parsed(raw, "p.json")
    binning["content"] = [1.0]
    with pytest.raises(InputError) as error:
        parsed(as_json(document), "p.json")
    assert "input should" not in str(error.value).lower() and "validation error" not in str(error)
