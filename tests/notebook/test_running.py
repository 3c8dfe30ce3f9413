"""Runs from Python: progress, going on, and errors that are exceptions."""

from __future__ import annotations

import pytest
import yaml

import calib
from calib.errors import InputError
from jobs.notebook import progress


def test_what_is_done_is_not_done_again(values, result):
    marker = result.directory / ".calib" / "steps" / "reduce.json"
    before = marker.stat().st_mtime_ns
    again = calib.run(values, result.directory, progress=False)
    assert marker.stat().st_mtime_ns == before
    assert repr(again) == repr(result)


def test_another_configuration_is_refused(values, result):
    with pytest.raises(InputError, match="another configuration"):
        calib.run({**values, "seed": 5}, result.directory, progress=False)


def test_a_wrong_key_names_the_nearest(values, tmp_path):
    with pytest.raises(InputError, match=r"configuration: unknown key 'samplse'.*'samples'"):
        calib.run({**values, "samplse": []}, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_progress_is_seen_in_a_notebook(values, result, monkeypatch, tmp_path):
    """A real IPython shell with a kernel's mark; its display is what a front end would get."""
    from IPython.core.interactiveshell import InteractiveShell
    from IPython.display import HTML

    shell = InteractiveShell.instance()
    seen: list[str] = []

    def publish(data, metadata=None, *, transient=None, update=False, **_):
        seen.append(("update " if update else "first ") + data["text/html"])

    try:
        monkeypatch.setattr(shell, "kernel", object(), raising=False)
        monkeypatch.setattr(shell.display_pub, "publish", publish)
        assert progress.in_notebook() and HTML("x")
        calib.run(values, result.directory)
    finally:
        InteractiveShell.clear_instance()
    assert seen[0].startswith("first ") and seen[-1].startswith("update ")
    assert "collect main" in seen[-1] and "100&nbsp;%" in seen[-1]


def test_a_picture_of_progress():
    page = progress.picture({"collect <main>": (1, 4), "reduce": (0, 0)})
    assert "collect &lt;main&gt;" in page and "25&nbsp;%" in page
    assert "value='1' max='4'" in page


def test_a_chain_gives_the_results_of_its_steps(values, tmp_path):
    own = {k: v for k, v in values.items() if k not in ("calibration", "settings")}
    settings = {**values["settings"], "gates": {"factor_range": [5, 6]}}  # nothing is published
    steps = [
        {"name": "first", "calibration": "mass_resolution", "settings": settings},
        {"name": "second", "calibration": "mass_resolution", "settings": settings},
    ]
    path = tmp_path / "chain.yaml"
    path.write_text(yaml.safe_dump({**own, "chain": steps}))
    chain = calib.run(path, tmp_path / "run", progress=False)
    assert list(chain) == ["first"] and not chain.passed and not chain["first"].passed
    assert list(chain.to_dataframe()["step"]) == ["first", "second"]
    assert "0 of 2 steps" in chain._repr_html_()
    assert repr(calib.open_result(tmp_path / "run")["first"]) == repr(chain["first"])
    assert "first" in chain and "second" not in chain
    with pytest.raises(InputError, match="no result of a step 'second'; there are first"):
        chain["second"]
