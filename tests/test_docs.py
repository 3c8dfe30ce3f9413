"""Every command that README and help show is run, small; pages are current, links lead on."""

from __future__ import annotations

import re
import shlex
import shutil
from collections.abc import Iterator
from contextlib import chdir
from dataclasses import dataclass
from pathlib import Path

import pytest
import typer
import yaml
from typer.testing import CliRunner

from calib.toys.generation import generate, named_truth
from jobs.cli import app
from jobs.config import settings_table
from jobs.events.toys import write_stage1, write_toys

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("**/*.md"))]

ELSEWHERE = {
    "make ": "an environment of its own; CI is `make test`, the demonstration is in test_demo.py",
    "calib demo": "300 000 events; tests/jobs/test_demo.py runs fewer",
    "calib serve": "a server that runs until it is stopped; tests/serve",
    "calib store init postgresql": "needs that server; tests/store starts one",
    "calib nightly nightly.yaml": "needs nights; tests/nightly, with the same words",
    "calib status STORE": "not an example but a pattern",
}
"""Commands that are not run here, by how they begin, and why."""

MOST = {"jpsi": 40_000, "z": 20_000}
"""Toys that are enough to show that a command works."""


@dataclass(frozen=True)
class Ran:
    """A command of a page, and what became of it."""

    command: str
    exit_code: int
    output: str


# what is shown -----------------------------------------------------------------------------------
def of_readme() -> list[str]:
    """Return the commands in the blocks of README, in their order."""
    found = []
    for language, block in re.findall(r"```(\w*)\n(.*?)```", text(ROOT / "README.md"), re.DOTALL):
        if language in ("", "sh"):
            found += [without_comment(line) for line in block.splitlines() if line.strip()]
    return [c for c in found if c]


def without_comment(line: str) -> str:
    return shlex.join(shlex.split(line, comments=True)) if ">" not in line else line.split("#")[0]


def of_help() -> Iterator[tuple[str, list[str]]]:
    """Yield each command with the examples of its help."""

    def walk(command: object, path: list[str]) -> Iterator[tuple[str, list[str]]]:
        inner = getattr(command, "commands", None)
        if inner is not None:
            for name, own in inner.items():
                yield from walk(own, [*path, name])
            return
        examples = re.findall(r"\x1b\[1m(calib .*?)\x1b\[0m", command.help or "", re.DOTALL)  # type: ignore[attr-defined]
        yield " ".join(path), [without_comment(" ".join(e.split())) for e in examples]

    yield from walk(typer.main.get_command(app), ["calib"])


def text(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def elsewhere(command: str) -> bool:
    return any(command.startswith(beginning) for beginning in ELSEWHERE)


EXAMPLES = sorted({e for _, examples in of_help() for e in examples} - set(of_readme()))


# the place where they run ------------------------------------------------------------------------
def small(command: str) -> str:
    """Return the command with fewer toys."""
    found = re.search(r"--resonance (\w+).*--events (\d+)", command)
    if found is None:
        return command
    return re.sub(r"--events \d+", f"--events {MOST[found[1]]}", command)


def run(command: str) -> Ran:
    """Run a command here and now; ``> file`` is what a shell makes of it."""
    words, _, target = small(command).partition(" > ")
    before(words)
    done = CliRunner().invoke(app, shlex.split(words)[1:], env={"COLUMNS": "200"})
    if target:
        Path(target.strip()).write_text(done.stdout, encoding="utf-8")
    return Ran(command, done.exit_code, done.output + str(done.exception or ""))


def before(command: str) -> None:
    """Make what a page takes for granted."""
    if command.startswith("calib run ip.yaml"):
        sample = {"name": "jpsi", "resonance": "jpsi", "format": "stage1", "files": ["jpsi"]}
        changed("ip.yaml", samples=[sample], cluster={"kind": "inline"})
        values = yaml.safe_load(text(Path("ip.yaml")))
        values["settings"]["eta"] = [-2.4, -1.2, 0.0, 1.2, 2.4]
        Path("ip.yaml").write_text(yaml.safe_dump(values), encoding="utf-8")
    if command.startswith("calib toys"):
        shutil.rmtree(shlex.split(command)[2], ignore_errors=True)
    if command.startswith("calib init"):
        Path(shlex.split(command)[2]).unlink(missing_ok=True)
    if command.startswith("calib store init"):
        shutil.rmtree("constants")
    if command.startswith("calib cluster script"):
        changed("z-2018.yaml", cluster={"kind": "slurm", "workers": 4})
    if command.startswith("calib cluster manifest"):
        changed("z-2018.yaml", cluster={"kind": "kubernetes", "workers": 4})
    if command.startswith("calib export"):
        shutil.copytree("scale", "run", dirs_exist_ok=True)


def changed(name: str, **keys: object) -> None:
    path = Path(name)
    path.write_text(yaml.safe_dump(yaml.safe_load(text(path)) | keys), encoding="utf-8")


def configurations() -> dict[str, dict[str, object]]:
    """Return the configurations that README shows, by name."""
    blocks = re.findall(r"```yaml\n(.*?)```", text(ROOT / "README.md"), re.DOTALL)
    return {values["name"]: values for values in map(yaml.safe_load, blocks)}


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as README assumes it: events, and its configurations, made small."""
    place = tmp_path_factory.mktemp("readme")
    shown = configurations()
    z, scale = shown["z-2018"], shown["scale-2018"]
    z["cluster"] = scale["cluster"] = {"kind": "inline"}
    z["settings"] = {
        "leading_pt": [30, 45, 200],
        "line_shape": "embedded",
        "compare": [],
        "copies": 2,
        # that it passes is asked of the commands here, not of so few events
        "closure": {"tolerance": 0.2},
    }
    scale["settings"] = {"held_out": [], "eta": [-2.4, 0, 2.4], "max_passes": 2}
    (place / "z-2018.yaml").write_text(yaml.safe_dump(z))
    (place / "scale.yaml").write_text(yaml.safe_dump(scale))
    write_toys(place / "data", generate("z", 40_000, seed=1), "nanoaod", 2)
    write_toys(place / "mc", generate("z", 10_000, seed=2, simulation=True), "nanoaod")
    put_in = named_truth("momentum-scale", "z", False)
    write_toys(place / "z", generate("z", 15_000, seed=3, truth=put_in), "nanoaod")
    write_toys(place / "h", generate("h", 5000, seed=5, simulation=True), "nanoaod")
    higgs = {"name": "h", "resonance": "h", "format": "nanoaod", "files": ["h"], "simulation": True}
    (place / "h.yaml").write_text(yaml.safe_dump({**z, "name": "h", "samples": [higgs]}))
    few = generate("z", 2000, seed=4).pairs
    write_stage1(place / "z" / "pairs.parquet", few, simulation=False)
    write_stage1(place / "events.parquet", few, simulation=False)
    runs = sorted(set(few.run.tolist()))
    lines = "".join(f"{run},{20_000 / len(runs)}\n" for run in runs)
    (place / "recorded.csv").write_text(f"run,luminosity(/pb)\n{lines}")
    return place


@pytest.fixture(scope="session")
def readme(prepared: Path) -> list[Ran]:
    """What became of the commands of README, one after the other."""
    with chdir(prepared):
        return [run(command) for command in of_readme() if not elsewhere(command)]


def in_order(command: str, exit_code: int) -> bool:
    """Return whether a command did what it is for: a verdict on few events may be either."""
    judges = ("run", "reduce", "closure", "report", "status", "audit", "validate")
    return exit_code == 0 or (exit_code == 3 and command.split()[1] in judges)


@pytest.mark.slow
def test_every_command_of_readme_works(readme: list[Ran]) -> None:
    bad = [r for r in readme if not in_order(r.command, r.exit_code)]
    assert bad == []
    assert len(readme) > 15


@pytest.mark.slow
@pytest.mark.parametrize("command", EXAMPLES)
def test_every_example_of_help_works(
    command: str, prepared: Path, readme: list[Ran], constants: Path, tmp_path: Path
) -> None:
    for beginning, why in ELSEWHERE.items():
        if command.startswith(beginning):
            pytest.skip(why)
    place = tmp_path / "place"
    shutil.copytree(prepared, place)
    shutil.rmtree(place / "constants")
    if not command.startswith("calib publish"):
        shutil.copytree(constants, place / "constants")
    with chdir(place):
        afresh(command)
        done = run(command)
    assert in_order(command, done.exit_code), done.output


def afresh(command: str) -> None:
    """Make the folder one in which the example comes first, not after those of README."""
    if command.startswith(("calib apply", "calib export")):
        Path(shlex.split(command)[-1]).unlink(missing_ok=True)
    if command.startswith("calib catalog add"):
        Path("files.sqlite").unlink()
    if command.startswith("calib collect"):
        shutil.rmtree("z-2018")
    if command.startswith("calib report"):
        shutil.copytree("z-2018", "z-2017")


@pytest.fixture(scope="session")
def constants(prepared: Path, readme: list[Ran], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with twelve revisions, of which examples name some."""
    place = tmp_path_factory.mktemp("store") / "constants"
    for i in range(12):
        words = ["publish", prepared / "z-2018", "--store", place, "--since", 1000 + 10 * i]
        done = CliRunner().invoke(app, [*map(str, words), "--until", str(1009 + 10 * i)])
        assert done.exit_code == 0, done.output
    return place


# the pages ---------------------------------------------------------------------------------------
def test_each_command_has_an_example() -> None:
    shown = dict(of_help())
    assert len(shown) > 20
    assert {
        name for name, examples in shown.items() if not any(e.startswith(name) for e in examples)
    } == set()


def test_what_is_not_run_is_still_shown() -> None:
    everything = {*of_readme(), *EXAMPLES}
    unused = [b for b in ELSEWHERE if not any(c.startswith(b) for c in everything)]
    assert unused == []


def test_the_table_of_settings_is_current() -> None:
    path = ROOT / "docs" / "settings.md"
    assert text(path) == settings_table.table(), f"make it again: calib init {path} --table"


def test_the_table_has_every_kind_of_key() -> None:
    page = settings_table.table()
    keys = (
        "samples[].files",
        "selection.certified",
        "cluster.job.memory",
        "settings.fit.range",
        "settings.jpsi.window",
        "chain[].after",
        "bad_files.skip_up_to",
    )
    for key in keys:
        assert f"| `{key}` |" in page, key
    assert "| `settings.fit.range` | `[80.0, 100.0]` | list of: number | GeV |" in page


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", text(page)):
        if "://" not in target:
            assert (page.parent / target).exists(), target
    if page.name == "README.md":
        for name in re.findall(
            r"`((?:docs|calib|tests|benchmarks|notebooks)/[\w./-]*)`", text(page)
        ):
            assert (ROOT / name).exists(), name


def test_the_index_names_every_page() -> None:
    index = text(ROOT / "docs" / "index.md")
    missing = [
        str(p.relative_to(ROOT / "docs"))
        for p in PAGES
        if p.parent == ROOT / "docs" and p.name != "index.md" and p.name not in index
    ]
    assert missing == []
    assert all(path.name in index for path in (ROOT / "notebooks").glob("*.ipynb"))


@pytest.mark.slow
def test_python_of_readme_works(readme: list[Ran], prepared: Path) -> None:
    blocks = re.findall(r"```python\n(.*?)```", text(ROOT / "README.md"), re.DOTALL)
    assert len(blocks) == 2
    with chdir(prepared):  # where the run of its commands goes on
        for block in blocks:
            exec(compile(block, "README.md", "exec"), {})
