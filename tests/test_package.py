"""The package away from its source: what is built, installed and found first."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tomllib
import venv
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from typer.testing import CliRunner

import calib
from jobs.cli import app

from .test_versions import pinned

ROOT = Path(__file__).parent.parent
LIBRARIES = sysconfig.get_paths()["purelib"]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
BUILT = (
    "build",
    "*.egg-info",
    "__pycache__",
    ".venv*",
    ".git",
    ".*_cache",
    ".hypothesis",
    "calib-demo",
)


def done(*words: str | Path, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a command away from the source, without the variables of Python of this process."""
    own = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
    return subprocess.run(
        [str(word) for word in words],
        cwd=cwd,
        env=own | environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )


def worked(*words: str | Path, cwd: Path, **environment: str) -> str:
    found = done(*words, cwd=cwd, **environment)
    assert found.returncode == 0, f"{words}: {found.stdout[-2000:]} {found.stderr[-4000:]}"
    return found.stdout


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the source, in which it may be built."""
    place = tmp_path_factory.mktemp("source") / "dimucal"
    shutil.copytree(ROOT, place, ignore=shutil.ignore_patterns(*BUILT))
    return place


@pytest.fixture(scope="module")
def wheel(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("wheel")
    words = ("pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", out, source)
    worked(sys.executable, "-m", *words, cwd=out)
    (found,) = out.glob("*.whl")
    return found


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """What the wheel installs, beside the libraries of this environment."""
    place = tmp_path_factory.mktemp("installed")
    words = ("pip", "install", "-q", "--no-deps", "--target", place, wheel)
    worked(sys.executable, "-m", *words, cwd=place)
    yield place


def away(installed: Path, cwd: Path, *words: str | Path) -> str:
    """Run ``calib`` from the wheel: without ``site`` nothing leads back to this checkout."""
    path = os.pathsep.join([str(installed), LIBRARIES])
    return worked(sys.executable, "-S", "-m", "calib", *words, cwd=cwd, PYTHONPATH=path)


# what is built -----------------------------------------------------------------------------------
def test_the_version_is_one(installed: Path, tmp_path: Path) -> None:
    assert away(installed, tmp_path, "--version").strip() == calib.__version__
    assert any(p.name == f"dimucal-{calib.__version__}.dist-info" for p in installed.iterdir())
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert cited["version"] == calib.__version__ and cited["title"] == PROJECT["name"]
    assert CliRunner().invoke(app, ["--version"]).stdout.strip() == calib.__version__


def test_the_wheel_works_away_from_the_source(installed: Path, tmp_path: Path) -> None:
    """Templates of pages and files that are no modules are in it."""
    assert "calibration: mass_resolution" in away(installed, tmp_path, "init")
    toys = ("--resonance", "z", "--events", "500", "--format", "stage1")
    away(installed, tmp_path, "toys", "z", *toys)
    assert (tmp_path / "z" / "truth.json").is_file()
    code = (
        "import calib, jobs, processors, jobs.pages.report; from pathlib import Path;"
        "print(*{Path(m.__file__).parent.parent for m in (calib, jobs, processors)})"
    )
    path = os.pathsep.join([str(installed), LIBRARIES])
    assert worked(sys.executable, "-S", "-c", code, cwd=tmp_path, PYTHONPATH=path).split() == [
        str(installed)
    ]
    files = [p for room in ("calib", "processors", "jobs") for p in (ROOT / room).rglob("*.*")]
    kept = {p.relative_to(ROOT) for p in files if p.is_file() and "__pycache__" not in p.parts}
    assert not [p for p in kept if not (installed / p).is_file()]
    assert not [p for p in installed.iterdir() if p.name in ("tests", "benchmarks")]


def test_the_archive_of_the_source_has_all_tests(source: Path, tmp_path: Path) -> None:
    code = f"from setuptools import build_meta; build_meta.build_sdist({str(tmp_path)!r})"
    worked(sys.executable, "-c", code, cwd=source)
    with tarfile.open(tmp_path / f"dimucal-{calib.__version__}.tar.gz") as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    wanted = {str(p.relative_to(source)) for p in source.rglob("*") if p.is_file()}
    made = ("build/", "dimucal.egg-info/")
    assert {name for name in wanted if not name.startswith(made)} <= names


@pytest.mark.install
def test_it_installs_into_an_empty_environment(wheel: Path, tmp_path: Path) -> None:
    """Without constraints, what can be had today; over 30 s, since all libraries are installed."""
    venv.create(tmp_path / "environment", with_pip=True)
    bin_ = tmp_path / "environment" / "bin"
    words = ("-m", "pip", "install", "-q", wheel)
    worked(bin_ / "python", *words, cwd=tmp_path, PIP_NO_COMPILE="1")  # half of the time
    assert worked(bin_ / "calib", "--version", cwd=tmp_path).strip() == calib.__version__
    toys = ("--resonance", "z", "--events", "2000", "--format", "stage1")
    worked(bin_ / "calib", "toys", "z", *toys, cwd=tmp_path)
    assert (tmp_path / "z" / "truth.json").is_file()


# what it needs -----------------------------------------------------------------------------------
def test_every_requirement_is_pinned() -> None:
    versions = {name.lower().replace("_", "-"): v for name, v in pinned("constraints.txt").items()}
    extras = PROJECT["optional-dependencies"]
    wanted = [*PROJECT["dependencies"], *(r for n, rs in extras.items() if n != "lazy" for r in rs)]
    for requirement in map(Requirement, wanted):
        if requirement.name != "dimucal":
            name = requirement.name.lower().replace("_", "-")
            assert versions[name] in requirement.specifier, requirement
    lazy = {name.lower(): v for name, v in pinned("constraints-lazy.txt").items()}
    for requirement in map(Requirement, extras["lazy"]):
        assert lazy[requirement.name] in requirement.specifier


def test_dask_has_no_upper_bound() -> None:
    bounds = [r for r in PROJECT["dependencies"] if r.startswith(("dask", "distributed"))]
    assert len(bounds) == 2 and not [r for r in bounds if "<" in r or "==" in r]


# what stands before it on the path ---------------------------------------------------------------
@pytest.mark.parametrize("room", ["processors", "jobs"])
def test_a_folder_of_the_users_own_is_named(room: str, tmp_path: Path) -> None:
    """As analyses with coffea have it, in the working directory of a notebook or a script."""
    (tmp_path / room).mkdir()
    (tmp_path / room / "__init__.py").write_text("", encoding="utf-8")
    (tmp_path / room / "my_processor.py").write_text("", encoding="utf-8")
    code = (
        "import calib, calib.errors\n"
        "try: calib.open_sample('*.root')\n"
        "except calib.errors.InputError as error: print(error)"
    )
    said = worked(sys.executable, "-c", code, cwd=tmp_path, PYTHONPATH=str(ROOT))
    assert said.startswith(f"{tmp_path / room}: stands in the way of the package {room!r}")
    command = done(sys.executable, "-m", "calib", "status", "x", cwd=tmp_path, PYTHONPATH=str(ROOT))
    assert command.returncode == 2 and command.stdout == ""
    assert command.stderr == f"calib: error: {said}"


def test_a_folder_that_hides_nothing_is_no_matter(tmp_path: Path) -> None:
    """Without ``__init__.py`` ours is found."""
    (tmp_path / "processors").mkdir()
    code = "import calib; calib.open_sample; import processors.fill"
    worked(sys.executable, "-c", code, cwd=tmp_path, PYTHONPATH=str(ROOT))


# an installation that cannot be written ----------------------------------------------------------
def test_compiled_functions_are_kept_where_nothing_can_be_written(tmp_path: Path) -> None:
    """Images, cvmfs, pods: nothing can be kept beside the source, and there is no home."""
    site, temporary = tmp_path / "site", tmp_path / "temporary"
    temporary.mkdir()
    for room in ("calib", "processors"):
        shutil.copytree(ROOT / room, site / room, ignore=shutil.ignore_patterns("__pycache__"))
    for folder in [p for p in site.rglob("*") if p.is_dir()]:
        (folder / "__pycache__").touch()  # no folder of this name can be made, not even by root
    code = (
        "import calib.events.binning\nimport numba.core.config as config; print(config.CACHE_DIR)"
    )
    environment = {
        "PYTHONPATH": os.pathsep.join([str(site), LIBRARIES]),
        "HOME": "/dev/null/none",
        "XDG_CACHE_HOME": "/dev/null/none",
        "TMPDIR": str(temporary),
        "NUMBA_CACHE_DIR": "",
    }
    words = (sys.executable, "-S", "-B", "-c", code)
    folders = [worked(*words, cwd=tmp_path, **environment).strip() for _ in range(2)]
    assert folders == [str(temporary / f"dimucal-compiled-{os.getuid()}")] * 2
    # a folder of that name in which others can write is not trusted
    Path(folders[0]).chmod(0o777)
    other = worked(*words, cwd=tmp_path, **environment).strip()
    assert other != folders[0] and Path(other).parent == temporary
