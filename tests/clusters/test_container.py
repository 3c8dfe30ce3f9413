"""The container file: what it copies and installs is there, under the versions of constraints."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tomllib
import venv
from pathlib import Path

import pytest
from packaging.specifiers import SpecifierSet

import calib

ROOT = Path(__file__).parents[2]
FILE = ROOT / "containers" / "Containerfile"


def lines(word: str) -> list[str]:
    text = "\n".join(plain_lines()).replace("\\\n", " ")
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
    image = lines("FROM")[0].split(":")[1].removesuffix("-slim")
    assert SpecifierSet(project["requires-python"]).contains(image)
    assert f"Python {image}" in (ROOT / "constraints.txt").read_text().splitlines()[0]


def constraints() -> list[str]:
    return [n for n in (ROOT / "constraints.txt").read_text().splitlines() if "==" in n]


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name.strip()).lower()


@pytest.mark.install
def test_its_lines_run_in_a_clean_directory(tmp_path: Path) -> None:
    """In an environment of their own; over 30 s, since all libraries are installed."""
    venv.create(tmp_path / "environment", with_pip=True)
    place = tmp_path / "opt"
    place.mkdir()
    env = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
    env["PIP_NO_COMPILE"] = "1"  # half of the time
    env["PATH"] = f"{tmp_path / 'environment' / 'bin'}{os.pathsep}{env['PATH']}"
    ran = []
    for word, line in steps():
        if word == "COPY":
            *sources, target = line.split()
            for source in sources:
                if (ROOT / source).is_dir():
                    shutil.copytree(ROOT / source, place / target, dirs_exist_ok=True)
                else:
                    shutil.copy2(ROOT / source, place / target)
        elif word == "RUN" and not line.startswith("useradd"):  # that is the image's business
            done = subprocess.run(
                ["sh", "-ec", line], cwd=place, env=env, capture_output=True, text=True
            )
            assert done.returncode == 0, f"{line}: {done.stdout[-2000:]} {done.stderr[-2000:]}"
            ran.append(done.stdout.strip().splitlines()[-1])
    assert len(ran) == 2 and ran[-1] == calib.__version__


def plain_lines() -> list[str]:
    """Return the lines without comments, which may stand in the middle of a command."""
    lines_ = FILE.read_text(encoding="utf-8").splitlines()
    return [line for line in lines_ if line.strip() and not line.lstrip().startswith("#")]


def steps() -> list[tuple[str, str]]:
    """Return the lines of the file as word and arguments, in order."""
    text = "\n".join(plain_lines()).replace("\\\n", " ")
    found = [line.partition(" ") for line in text.splitlines()]
    return [(word, arguments.strip()) for word, _, arguments in found]


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
