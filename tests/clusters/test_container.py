"""The container file: what it copies and installs is there, under the versions of constraints."""

from __future__ import annotations

import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FILE = ROOT / "containers" / "Containerfile"


def lines(word: str) -> list[str]:
    text = FILE.read_text(encoding="utf-8").replace("\\\n", " ")
    return [line.removeprefix(word).strip() for line in text.splitlines() if line.startswith(word)]


def test_what_it_copies_is_there() -> None:
    for line in lines("COPY"):
        *sources, _ = line.split()
        assert sources and all((ROOT / source).exists() for source in sources), line


def test_what_it_installs_is_constrained() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    installs = [line for line in lines("RUN") if "pip install" in line]
    extras = re.search(r"\.\[([a-z,]+)\]", installs[0])
    assert extras is not None and "--constraint constraints.txt" in installs[0]
    known = project["optional-dependencies"]
    wanted = [r for name in extras[1].split(",") for r in known[name]] + project["dependencies"]
    named = {normal(line.split("==")[0]) for line in constraints()}
    assert {normal(re.split(r"[<>=\[]", r)[0]) for r in wanted} <= named
    assert lines("FROM")[0].split(":")[1].startswith(project["requires-python"].strip(">="))


def constraints() -> list[str]:
    return [n for n in (ROOT / "constraints.txt").read_text().splitlines() if "==" in n]


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name.strip()).lower()


@pytest.mark.slow
def test_it_builds() -> None:
    tool = next((t for t in ("podman", "docker", "buildah") if shutil.which(t)), None)
    if tool is None or subprocess.run([tool, "info"], capture_output=True).returncode:
        pytest.skip("neither podman nor docker works here")
    pull = [tool, "pull", "-q", lines("FROM")[0]]
    if subprocess.run(pull, capture_output=True).returncode:
        pytest.skip("the base image cannot be fetched here")
    build = [tool, "build", "-f", str(FILE), "-t", "dimucal:test", str(ROOT)]
    done = subprocess.run(build, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
