"""Files from strangers: accepted or refused by one sentence; nothing runs, nothing fills memory."""

from __future__ import annotations

import io
import resource
import zipfile
from pathlib import Path

import numpy as np
import pytest

from calib.documents import json_values, yaml_values
from calib.errors import InputError
from calib.events import histograms
from calib.payload.payload import read as read_payload
from jobs.config.schema import Config, load
from jobs.storage.files import RunDirectory

from .conftest import LONG
from .fuzz import prepared


def test_mutations_are_accepted_or_refused(tmp_path: Path) -> None:
    counts, wrong = prepared(tmp_path).run(2_000 if LONG else 200, seed=1)
    assert not wrong, "\n".join(wrong[:5])
    # the damage is felt, and not all of it
    assert all(counts[f"{name} refused"] > 10 for name in ("configuration", "payload", "histogram"))
    assert counts["accounting accepted"] > 2 and counts["payload accepted"] > 0


def peak_memory_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def npz(header: dict[str, object], body: bytes) -> bytes:
    out, member = io.BytesIO(), io.BytesIO()
    np.lib.format.write_array_header_1_0(member, header)
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("x.npy", member.getvalue() + body)
    return out.getvalue()


@pytest.mark.parametrize(
    ("header", "body", "said"),
    [
        ({"descr": "<f8", "fortran_order": False, "shape": (10**12,)}, b"", "takes 8000000000000"),
        ({"descr": "<f8", "fortran_order": False, "shape": (-1,)}, b"", "shape"),
        ({"descr": "|O", "fortran_order": False, "shape": (1,)}, b"cos\nsystem\n.", "object"),
        ({"descr": "<f8", "fortran_order": False, "shape": (2,)}, b"12345678", "takes 16"),
    ],
)
def test_histograms_that_lie(
    tmp_path: Path, header: dict[str, object], body: bytes, said: str
) -> None:
    (tmp_path / "h.npz").write_bytes(npz(header, body))
    before = peak_memory_mb()
    with pytest.raises(InputError, match=said):
        histograms.read(tmp_path / "h.npz")
    assert peak_memory_mb() - before < 100


def test_histogram_bomb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(histograms, "MAX_BYTES", 10**8)
    bomb = npz({"descr": "<f8", "fortran_order": False, "shape": (5 * 10**7,)}, bytes(4 * 10**8))
    assert len(bomb) < 10**6
    (tmp_path / "h.npz").write_bytes(bomb)
    before = peak_memory_mb()
    with pytest.raises(InputError, match="announced, more than"):
        histograms.read(tmp_path / "h.npz")
    assert peak_memory_mb() - before < 50


def test_sums_come_back(tmp_path: Path) -> None:
    sums = {
        "a/b": np.arange(6.0).reshape(2, 3),
        "n": np.asarray(3),
        "f": np.asfortranarray(np.arange(6).reshape(2, 3)),
        "empty": np.zeros((0, 4)),
        "text": np.array(["a", "bc"]),
    }
    histograms.write(tmp_path / "h.npz", sums)
    back = histograms.read(tmp_path / "h.npz")
    assert list(back) == list(sums)
    for name, values in sums.items():
        np.testing.assert_array_equal(back[name], values)
        assert back[name].dtype == values.dtype and back[name].shape == values.shape
    assert list(histograms.read(tmp_path / "h.npz", only="a/")) == ["a/b"]


# YAML and JSON -----------------------------------------------------------------------------------
LAUGHS = "a: &a [x, x]\n" + "".join(
    f"{chr(98 + i)}: &{chr(98 + i)} [*{chr(97 + i)}, *{chr(97 + i)}]\n" for i in range(24)
)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (LAUGHS, "values with all aliases"),
        ("a: &a [*a]", "alias that holds itself"),
        ("[" * 5000, "deep"),
        ("a: " * 1000, "mapping values"),
        ("!!python/object/apply:os.system ['true']", "could not determine a constructor"),
        ("x" * (1024**2 + 1), "characters, more than"),
    ],
)
def test_yaml_that_is_refused(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        yaml_values(text)
    (tmp_path / "c.yaml").write_text(text)
    with pytest.raises(InputError, match=r"c\.yaml"):
        load(tmp_path / "c.yaml")


def test_json_that_is_refused(tmp_path: Path) -> None:
    for text in ("[" * 100_000, "NaN", "[1, Infinity]", "{"):
        with pytest.raises(ValueError):
            json_values(text)
        (tmp_path / "p.json").write_text(text)
        with pytest.raises(InputError, match=r"p\.json"):
            read_payload(tmp_path / "p.json")


# outside DIR, and secrets ------------------------------------------------------------------------
@pytest.mark.parametrize("name", ["../x", "a/b", "/etc", "..", ".hidden", "a\n", "a\x00", "x" * 81])
def test_names_stay_inside(name: str) -> None:
    sample = {"name": name, "resonance": "z", "format": "stage1", "files": ["x"]}
    with pytest.raises(ValueError, match="name"):
        Config.model_validate({"name": "ok", "calibration": "c", "samples": [sample]})
    sample["name"] = "ok"
    with pytest.raises(ValueError, match="name"):
        Config.model_validate({"name": name, "calibration": "c", "samples": [sample]})


def test_a_marker_does_not_lead_outside(tmp_path: Path) -> None:
    for name in ("../../x", "/etc/passwd", "a/b", ""):
        with pytest.raises(InputError, match="no name of a pass"):
            RunDirectory(tmp_path).load_pass(name)


@pytest.mark.parametrize(
    "address",
    [
        "https://me:hunter2@host/a.root",
        "root://host//a.root?authz=hunter2",
        "https://host/a.root?x=1&X-Amz-Signature=hunter2",
    ],
)
def test_a_secret_is_refused_and_not_repeated(tmp_path: Path, address: str) -> None:
    text = (
        "name: n\ncalibration: mass_resolution\nsamples:\n"
        f"  - {{name: a, resonance: z, format: nanoaod, files: ['{address}']}}\n"
    )
    (tmp_path / "c.yaml").write_text(text)
    with pytest.raises(InputError, match="password or a token") as refusal:
        load(tmp_path / "c.yaml")
    assert "hunter2" not in str(refusal.value)
    (tmp_path / "c.yaml").write_text(text.replace(address, "root://user@host//a=b.root"))
    assert load(tmp_path / "c.yaml").samples[0].files == ("root://user@host//a=b.root",)


def test_the_reader_of_histograms_alone(tmp_path: Path) -> None:
    """Behind the digest of the totals, which refuses all of these first."""
    from .fuzz import mutated, npz_mutated

    path = tmp_path / "h.npz"
    histograms.write(path, {"a/counts": np.arange(600).reshape(20, 30), "b": np.ones(5)})
    good, found = path.read_bytes(), {"read": 0, "refused": 0}
    for i in range(2_000 if LONG else 400):
        rng = np.random.default_rng([9, i])
        path.write_bytes(npz_mutated(good, rng) if i % 2 else mutated(good, rng))
        try:
            sums = histograms.read(path)
        except InputError as error:
            assert "\n" not in str(error)
            found["refused"] += 1
        else:
            assert all(v.dtype.kind in "biuf" for v in sums.values())
            found["read"] += 1
    assert found["refused"] > found["read"] > 0
